"""The lines of a recording: frames taken apart wherever they are cut, nothing lost of them, and the bound."""

from __future__ import annotations

import json
import random

import pytest

from sockproxy_helpers.cast import REST, Cast

LIMIT = 1000


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def told(cast: Cast, pieces: list[bytes]) -> tuple[str, list[str]]:
    """Feed pieces; give the text and the kinds of the events."""
    head, *events = map(json.loads, b"".join(cast.feed(piece, 1.5) for piece in pieces).splitlines())
    assert head == {"version": 2, "width": 80, "height": 24, "timestamp": 7}
    assert all(at == 1.5 for at, _, _ in events)
    return "".join(text for _, kind, text in events if kind == "o"), [kind for _, kind, _ in events]


STREAM = frame(1, "naïve €".encode()) + frame(2, b"err\x1b[2J\n") + frame(1, b"") + frame(3, "日本".encode())


@pytest.mark.parametrize("seed", range(8))
def test_frames_cut_anywhere(seed: int) -> None:
    chooser = random.Random(seed)
    cuts = sorted(chooser.sample(range(1, len(STREAM)), seed * 6)) if seed < 7 else list(range(1, len(STREAM)))
    pieces = [STREAM[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]
    cast = Cast(False, LIMIT, 7)
    text, kinds = told(cast, pieces)
    assert (text, set(kinds)) == ("naïve €err\x1b[2J\n日本", {"o"})
    assert (cast.passed, cast.left_out) == (len(STREAM) - 4 * 8, 0)


def test_a_terminals_stream_has_no_frames() -> None:
    assert told(Cast(True, LIMIT, 7), [frame(1, b"x")])[0] == "\x01\0\0\0\0\0\0\1x"


@pytest.mark.parametrize("junk", [b"\x04\0\0\0\0\0\0\1x", b"\1\0\7\0\0\0\0\1x"])
def test_what_is_no_frame_is_recorded_as_it_is(junk: bytes) -> None:
    text, _ = told(Cast(False, LIMIT, 7), [frame(1, b"fine "), junk, frame(1, b"more")])
    assert text == "fine " + (junk + frame(1, b"more")).decode()


def test_the_bound_is_told_and_what_is_left_out_counted() -> None:
    cast = Cast(True, 10, 7)
    text, kinds = told(cast, [b"123456", b"789012", b"x" * 100])
    assert (text, kinds, cast.left_out) == ("1234567890", ["o", "o", "m"], 102)
    assert json.loads(Cast(True, 0, 7).feed(b"x", 0).splitlines()[-1])[2] == REST


def test_sizes() -> None:
    cast = Cast(True, LIMIT, 7)
    assert cast.resize(132, 50, 0.1) == b""  # before there is anything to see
    assert b'"width": 132, "height": 50' in cast.feed(b"x", 0.2)
    assert json.loads(cast.resize(90, 20, 0.3)) == [0.3, "r", "90x20"]
