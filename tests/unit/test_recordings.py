"""Recordings: what the writer keeps of them, and how they are read so that they can do no harm."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockproxy.audit import recordings as kept
from sockproxy.audit.log import Entry, Log, encode
from sockproxy.review.recordings import Screen, forsaken, lines_of, remove
from tests.support.proxy import eventually

RID = "0123456789abcdef"
LINES = [b'{"version": 2}\n', b'[0.1, "o", "one"]\n']


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(10)
    kept.Recordings(str(tmp_path)).begin(theirs, RID)
    yield ours
    ours.close()


def said(sock: socket.socket) -> dict[str, object]:
    answer = json.loads(sock.recv(4096))
    assert isinstance(answer, dict)
    return answer


def test_what_comes_is_kept_and_told(begin: socket.socket, tmp_path: Path) -> None:
    assert said(begin) == {"seq": 0}
    for line in LINES:
        begin.send(line)
    begin.shutdown(socket.SHUT_WR)
    whole = b"".join(LINES)
    assert said(begin) == {"bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
    path = tmp_path / "sessions" / f"{RID}.cast"
    assert path.read_bytes() == whole
    assert path.stat().st_mode & 0o137 == 0
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        kept.Recordings(str(tmp_path)).begin(theirs, RID)  # a second one of that name
        assert said(ours) == {"error": "File exists"}
    assert path.read_bytes() == whole


def test_nothing_was_printed(begin: socket.socket, tmp_path: Path) -> None:
    assert said(begin) == {"seq": 0}
    begin.shutdown(socket.SHUT_WR)
    assert said(begin)["bytes"] == 0
    assert list((tmp_path / "sessions").iterdir()) == []


def test_a_full_disk_ends_it_with_whole_lines(
    begin: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(begin) == {"seq": 0}
    begin.send(LINES[0])
    path = tmp_path / "sessions" / f"{RID}.cast"
    while not path.exists() or path.read_bytes() != LINES[0]:
        pass

    def full(fd: int, data: bytes) -> None:
        kept.os.write(fd, data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "_write", full)
    begin.send(LINES[1])
    answer = said(begin)
    assert (answer["bytes"], answer["error"]) == (len(LINES[0]), "No space left on device")
    assert path.read_bytes() == LINES[0]


@pytest.mark.parametrize("rid", ["../../etc/passwd", "0123456789abcdef0", 7, None, "0123456789ABCDEF"])
def test_what_is_no_request_names_no_file(tmp_path: Path, rid: object) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        kept.Recordings(str(tmp_path)).begin(theirs, rid)
        assert "error" in said(ours)
    assert list(tmp_path.iterdir()) == []


def test_not_more_than_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 1)
    recordings = kept.Recordings(str(tmp_path))
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    for index, (_, theirs) in enumerate(pairs):
        recordings.begin(theirs, f"{index:016x}")
    assert [said(ours).get("seq") for ours, _ in pairs] == [0, None]
    for ours, _ in pairs:
        ours.close()


def test_lines_show_everything() -> None:
    output = ["a\tb\r\n\x1b]0;title\x07", "\x1b[31mred\u202e\nlast"]
    assert list(lines_of(iter(output))) == ["a\tb", r"\x1b]0;title\x07\x1b[31mred\u202e", "last"]


DRAWN = [
    ("plain \x1b[1;31mred\x1b[0m\r\n", "plain \x1b[1;31mred\x1b[0m\r\n"),
    ("\x1b[2J\x1b[H\x1b[?25l\x1b[?1049h", "\x1b[2J\x1b[H\x1b[?25l\x1b[?1049h"),
    ("\x1b]52;c;aGk=\x07x", "x"),  # the clipboard
    ("\x1b]0;title\x1b\\x", "x"),
    ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x1b[6n\x1b[c\x1b[>c\x1b[21t\x1b[5nx", "x"),  # the terminal would answer, as if somebody typed
    ("\x1bP+q544e\x1b\\\x1bPq#0\x1b\\x", "x"),
    ("\x1b_Gf=100;\x1b\\\x1b^x\x1b\\y", "y"),
    ("\x1b[?1000h\x1b[?2004hx", "x"),  # reports of the mouse; brackets around what is pasted
    ("\x1b[>4;1mx\x1b[!px", "xx"),  # keys; a reset of settings
    ("\x1bZ\x1b#8x\x05", "x"),
    ("\x9b6nx\x9d52;\x07", "6nx52;\x07"),
    ("\u202eevil\u200b", r"\u202eevil\u200b"),
    ("\x1b[" + "9" * 5000 + "nx", None),
    ("\x1b]" + "9" * 5000, None),
]


@pytest.mark.parametrize(("text", "drawn"), DRAWN)
def test_a_screen_draws_and_does_nothing_else(text: str, drawn: str | None) -> None:
    whole = Screen().feed(text)
    byte_by_byte = Screen()
    pieces = "".join(byte_by_byte.feed(letter) for letter in text)
    if drawn is None:
        assert "\x1b" not in whole + pieces
    else:
        assert (whole, pieces) == (drawn, drawn)


def test_only_what_helpers_say_is_removed(tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions" / f"{RID}.cast").write_text("x")
    line = b'{"ev":"outcome","rid":"%s","recording":{"bytes":1},"peer":{"uid":%d}}'.replace(
        b'"rid":"%s"', b'"rid":"' + RID.encode() + b'"'
    )
    assert remove(str(tmp_path), iter([line % 998])) == 0
    assert remove(str(tmp_path), iter([line % 0])) == 1
    assert list((tmp_path / "sessions").iterdir()) == []


def test_what_no_outcome_names_goes_by_its_own_age(begin: socket.socket, tmp_path: Path) -> None:
    """Its helper, or the writer, died; one that is being written stays, however old."""
    assert said(begin) == {"seq": 0}
    begin.send(LINES[0])
    live = tmp_path / "sessions" / f"{RID}.cast"
    named, dead, young = (live.with_name(f"{number:016x}.cast") for number in (1, 2, 3))
    for path in (named, dead, young):
        path.write_text("x")
    line = {"ev": "outcome", "rid": named.stem, "recording": {"bytes": 1}}
    with contextlib.closing(Log(str(tmp_path))) as log:
        log.append([Entry(encode(line), 0, 1)])
    for path in (live, named, dead):
        os.utime(path, (1, 1))
    assert forsaken(str(tmp_path), "2001") == [str(dead)]
    begin.close()
    eventually(lambda: str(live) in forsaken(str(tmp_path), "9999"), "unlocked")


def test_no_thread_for_one_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(kept, "MOST", 1)
    recordings = kept.Recordings(str(tmp_path))
    for expected in ("error", "error", "seq"):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, monkeypatch.context() as patch:
            if expected == "error":
                patch.setattr("threading.Thread.start", refuse)
            recordings.begin(theirs, RID)
            assert expected in said(ours)
