"""The lines of a recording: frames taken apart wherever they are cut, nothing lost of them, and the bound."""

from __future__ import annotations

import base64
import itertools
import json
import random

import pytest

from sockproxy_helpers.audit.cast import REST, Cast

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
    cast.resize(132, 50)  # before there is anything to see
    assert b'"width": 132, "height": 50' in cast.feed(b"x", 0.2)
    for width in range(1, 1000):  # a flood leaves what was the size when something was printed
        cast.resize(width, 20)
    assert [*map(json.loads, cast.feed(b"x", 0.3).splitlines())] == [[0.3, "r", "999x20"], [0.3, "o", "x"]]
    assert [*map(json.loads, cast.feed(b"x", 0.4).splitlines())] == [[0.4, "o", "x"]]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_bytes_that_are_no_text_are_kept(size: int) -> None:
    """Whole where text is not: a letter that is cut, one of another encoding, a control character of eight bits."""
    output = "gr\xfc\xdf \x9b31m\xff".encode("latin-1") + "naïve €".encode()[:-1]
    cast, events = Cast(True, LIMIT, 7), list[list[object]]()
    for begin in range(0, len(output), size):
        events += map(json.loads, cast.feed(output[begin : begin + size], 1.5).splitlines())
    events += map(json.loads, cast.end(1.6).splitlines())
    shown = [event for event in events if isinstance(event, list)]
    assert "".join(str(text) for _, kind, text in shown if kind == "o") == output.decode(errors="replace")
    kept = b""
    for (_, kind, text), (_, following, whole) in itertools.pairwise([*shown, [0, "", ""]]):
        assert isinstance(text, str)
        if kind == "o":
            kept += base64.b64decode(str(whole)) if following == "b" else text.encode()
    assert kept == output
    assert all(
        following == "b"
        for (_, kind, text), (_, following, _) in itertools.pairwise([*shown, [0, "", ""]])
        if kind == "o" and "\ufffd" in str(text)
    )
    assert cast.end(1.7) == b""
