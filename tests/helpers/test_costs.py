"""No input costs much more to read than to send: a helper serves nobody else meanwhile.

CPU time, and bounds that are far from what is needed: without a limit each of these takes minutes, or all memory.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable

import pytest

from sockproxy.errors import RequestError
from sockproxy.http.body import MAX_BODY, Chunked
from sockproxy_helpers.api import strict
from sockproxy_helpers.content import dockerfile
from sockproxy_helpers.errors import Malformed, Refused
from tests.support.judging import judge

MOST = 2.0  # seconds of CPU; half a second on an idle machine


def create(body: dict[str, object]) -> Callable[[], object]:
    text = json.dumps({"Image": "busybox", **body}).encode()
    return lambda: judge("ContainerCreate", strict.parse(text))


def pairs(count: int) -> bytes:
    return b",".join(b'"k%d":"v"' % number for number in range(count))


def build(text: str) -> Callable[[], object]:
    return lambda: dockerfile.references(text, {})


def chunked(body: bytes) -> Callable[[], object]:
    def feed() -> None:
        reader = Chunked()
        for at in range(0, len(body), 65536):
            reader.feed(body[at : at + 65536])

    return feed


DOUBLED = "".join(f"ARG A{number + 1}=$A{number}$A{number}\n" for number in range(60))
COSTS = {
    "a key twice, at the end": lambda: strict.parse(b"{" + pairs(40_000) + b',"k39999":1}'),
    "labels": create({"Labels": {f"k{number}": "v" for number in range(MAX_BODY // 16)}}),
    "empty objects": create({"Nonsense": [{}] * (MAX_BODY // 4)}),
    "mounts": create({"HostConfig": {"Mounts": [{"Type": "volume", "Target": f"/{n}"} for n in range(30_000)]}}),
    "variables that double": build(f"ARG A0=xxxxxxxx\n{DOUBLED}FROM $A60\n"),
    "many arguments": build("ARG " + "a=b " * 10_000 + "\\\n" + "a " * 10_000 + "\\\n" + "c " * 10_000 + "\nFROM a\n"),
    "many stages": build("".join(f"FROM a AS s{number}\n" for number in range(20_000))),
    "a long Dockerfile": build("FROM a\n" + "RUN x\n" * 600_000),
    "chunks of a byte": chunked(b"1\r\nx\r\n" * MAX_BODY),
}


@pytest.mark.parametrize("name", COSTS)
def test_cost(name: str) -> None:
    begun = time.process_time()
    with contextlib.suppress(Malformed, Refused, RequestError):
        COSTS[name]()
    assert time.process_time() - begun < MOST
