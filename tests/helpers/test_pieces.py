"""A list that is cut while it comes is cut as one that is there."""

from __future__ import annotations

import json

import pytest

from sockproxy_helpers.calls import pieces
from sockproxy_helpers.calls.pieces import Pieces
from sockproxy_helpers.errors import Unavailable

TEXT = 'x]},{"[\\u20ac\u20ac\U0001f600' * 9
ITEMS = [{"Name": f"a{number}", "Own": number % 3 == 0, "Text": TEXT} for number in range(40)]


def cut(body: bytes) -> bytes:
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise Unavailable("malformed") from error
    return json.dumps([item for item in answer if item["Own"]]).encode() + b"\n"


@pytest.mark.parametrize("step", [1, 7, 500, 100_000])
@pytest.mark.parametrize("piece", [1, 100, 4000, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
def test_however_it_comes(step: int, piece: int, indent: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", piece)
    for items in (ITEMS, ITEMS[1:3], ITEMS[:1], []):
        body = json.dumps(items, ensure_ascii=False, indent=indent).encode() + b"\n"
        received, one, shorter, most = bytearray(), Pieces(cut), 0, 0
        for start in range(0, len(body), step):
            received += body[start : start + step]
            shorter += one.take(received)
            most = max(most, len(received))
        assert shorter + len(received) == len(body)
        assert json.loads(one.end(bytes(received))) == [item for item in items if item["Own"]]
        assert most <= 2 * piece + 2 * step + 1000


def test_what_is_no_list_is_cut_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 1)
    for body in (b'{"a": [1, 2]}', b"", b" [1]"):
        received = bytearray(body)
        one = Pieces(bytes)
        assert (one.take(received), one.end(bytes(received))) == (0, body)


def test_what_breaks_off_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 1)
    received, one = bytearray(json.dumps(ITEMS).encode()[:-300]), Pieces(cut)
    assert one.take(received) > 0
    assert one.size(received) > len(received)
    with pytest.raises(Unavailable):
        one.end(bytes(received))
