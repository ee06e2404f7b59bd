"""A moment of fuzzing in each run of the tests: all seeds, and inputs made of them. The long run is `tests.fuzz`."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.targets import TARGETS, seeds

# About a second each; a policy takes 12 ms to compile, a connection 5 to be read twice; what has a file less of one.
INPUTS = dict.fromkeys(TARGETS, 5000) | {"policy": 150, "frames": 200, "archive": 300}
INPUTS |= {"ending": 1500, "names": 1000, "uids": 1000, "tokens": 300}
INTERESTING = [b"\r\n", b"\n", b"\0", b"\xff", b" ", b"0", b"-1", b"9" * 20, b'"', b"{", b"[", b"\\u017f", b"%2f", b":"]


def mutate(chance: random.Random, found: list[bytes]) -> bytes:
    """Make an input of others: cut, repeat, join, flip, put in."""
    data = bytearray(chance.choice(found))
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(data))
        end = min(len(data), start + chance.randint(0, 16))
        kind = chance.randint(0, 4)
        if kind == 0:
            del data[start:end]
        elif kind == 1:
            data[start:start] = data[start:end]
        elif kind == 2:
            data[start:start] = chance.choice(INTERESTING)
        elif kind == 3 and start < len(data):
            data[start] ^= 1 << chance.randint(0, 7)
        else:
            other = chance.choice(found)
            data[start:] = other[chance.randint(0, len(other)) :]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_moment(name: str) -> None:
    found, chance = seeds(name), random.Random(name)  # the same inputs in each run: what fails can be run again
    assert found
    for data in found:
        TARGETS[name](data)
    for _ in range(INPUTS[name]):
        data = mutate(chance, found)
        try:
            TARGETS[name](data)
        except BaseException as error:
            raise AssertionError(f"{name}: {data!r}") from error
