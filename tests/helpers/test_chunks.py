"""The scanner that finds the end of a chunked body."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy_helpers.stream.chunks import Chunks

GOOD = [
    b"0\r\n\r\n",
    b"000\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"A\r\n0123456789\r\na\r\n0\r\n\r\n0\r\n\r\n\r\n00\r\n\r\n",
    b"1\r\n\r\r\n1\r\n\n\r\n2\r\n\r\n\r\n0\r\n\r\n",
    b"00000000000000f\r\n" + b"x" * 15 + b"\r\n0\r\n\r\n",
]
BAD = [
    b"\r\n",
    b"\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"5\r\nhello\rX",
    b"5\r\nhello\r\r\n5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n5 \r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0000000000000005\r\nhello\r\n0\r\n\r\n",
    b"4\r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5_0\r\n",
    b"g\r\n",
    b"\xd9\xa5\r\n",
    b"5;name=value\r\nhello\r\n0\r\n\r\n",
    b"5;\r\nhello\r\n0\r\n\r\n",
    b"0;x\r\n\r\n",
    b"0\r\nTrailer: x\r\n\r\n",
    b"0\r\n\n",
    b"0\r\nX",
    b"0\n\r\n",
    b"0\r\r\n\r\n",
    b"5\r\r\nhello",
    b"ffffffffffffffff\r\n",
    b"0000000000000005\r\n",
    b"x" * 100,
    b"5" * 100,
    b"\x00\r\n",
    b"5\r\nhello\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
]


def feed(pieces: list[bytes]) -> tuple[int, bool]:
    """Feed the pieces; tell how many bytes belong to the body, and whether it ended."""
    chunks, taken = Chunks(), 0
    for piece in pieces:
        if chunks.done:
            break
        used = chunks.feed(memoryview(piece))
        assert used == len(piece) or chunks.done
        taken += used
    return taken, chunks.done


def each_byte(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


@pytest.mark.parametrize("body", GOOD)
@pytest.mark.parametrize("behind", [b"", b"\r\n", b"GET / HTTP/1.1\r\n", b"0\r\n\r\n"])
def test_whole_and_byte_by_byte(body, behind):
    assert feed([body + behind]) == (len(body), True)
    assert feed(each_byte(body + behind)) == (len(body), True)


@pytest.mark.parametrize("body", GOOD)
def test_not_done_before_its_last_byte(body):
    for end in range(len(body)):
        assert feed([body[:end]]) == (end, False)


@pytest.mark.parametrize("body", BAD)
def test_malformed(body):
    for pieces in ([body], each_byte(body), [body[:2], body[2:]]):
        with pytest.raises(ValueError, match=r"chunk|trailer"):
            feed(pieces)


def test_refused_as_soon_as_it_can_be_known():
    """Bounded: no line grows while its end is awaited."""
    chunks = Chunks()
    with pytest.raises(ValueError, match="size"):
        chunks.feed(memoryview(b"5" * 17))
    assert len(chunks._line) <= 17


bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
cuts = st.lists(st.integers(0, 400), max_size=8)


@settings(max_examples=200, deadline=None)
@given(bodies, cuts, st.binary(max_size=20), st.booleans())
def test_random_bodies_in_random_pieces(parts, places, behind, upper):
    sizes = (f"{len(part):X}" if upper else f"{len(part):x}" for part in parts)
    body = b"".join(size.encode() + b"\r\n" + part + b"\r\n" for size, part in zip(sizes, parts, strict=True))
    body += b"0\r\n\r\n"
    data = body + behind
    ends = sorted({min(place, len(data)) for place in places} | {len(data)})
    pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert feed(pieces) == (len(body), True)


@settings(max_examples=300, deadline=None)
@given(st.text("0159afAF \r\n;:xX", max_size=30), cuts)
def test_any_bytes_in_any_pieces_end_alike(text, places):
    """Pieces may not change the judgement: what is accepted, refused and taken is the same."""
    data = text.encode()
    ends = sorted({min(place, len(data)) for place in places} | {len(data)})
    results = []
    for pieces in ([data], each_byte(data), [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]):
        try:
            results.append(feed(pieces))
        except ValueError:
            results.append("malformed")
    assert results[0] == results[1] == results[2]
