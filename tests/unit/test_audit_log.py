"""The file of records: numbered, continued, repaired, never cut."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockproxy.audit import segments
from sockproxy.audit.keeper import compress
from sockproxy.audit.log import NAME, RESERVE, Entry, Log, LogError, encode
from sockproxy.review.verify import verify


def entry(**record: object) -> Entry:
    return Entry(encode(record), 7, 8)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Log]:
    log = Log(str(folder))
    try:
        yield log
    finally:
        log.close()


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let files grow to this size and no further: a short write, then an error, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_sound(folder: Path) -> None:
    assert verify(str(folder)).findings == []


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / NAME).read_text().splitlines()]


def test_lines_are_numbered_dated_and_say_who(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        assert log.append([entry(ev="a"), entry(ev="b")]) == 2
        assert log.seq == 2
    first, second = lines(tmp_path)
    assert list(first) == ["seq", "ts", "peer", "ev", "h"]
    assert (first["seq"], first["peer"], first["ev"]) == (1, {"uid": 7, "pid": 8}, "a")
    assert second["seq"] == 2
    text = str(first["ts"])
    assert len(text) == len("2026-01-01T00:00:00.000000Z")
    assert text.endswith("Z")


def test_the_file_is_for_its_owner_and_group(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    with opened(tmp_path):
        os.umask(umask)
        assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o640


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    for _ in range(3):
        with opened(tmp_path) as log:
            log.append([entry(ev="x")])
    assert [line["seq"] for line in lines(tmp_path)] == [1, 2, 3]
    assert_sound(tmp_path)


def test_text_can_neither_end_a_line_nor_reach_a_terminal(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append([entry(name="a\n\x1b[2J\u202e\u2028")])
    raw = (tmp_path / NAME).read_bytes()
    assert raw.count(b"\n") == 1
    assert raw.isascii()
    assert b"\x1b" not in raw


@pytest.mark.parametrize("torn", [b'{"seq":2,"ts":"20', b"\0" * 5000, b"garbage", b"{}\n[]"])
def test_a_torn_end_is_kept_and_named(tmp_path: Path, torn: bytes) -> None:
    with opened(tmp_path) as log:
        log.append([entry(ev="x")])
    path = tmp_path / NAME
    before = path.read_bytes() + torn
    path.write_bytes(before)
    with opened(tmp_path) as log:
        assert log.append([entry(ev="y")]) == 1
        assert log.seq == 3
    after = path.read_bytes()
    assert after.startswith(before + b"\n")
    gap, last = (json.loads(line) for line in after[len(before) + 1 :].splitlines())
    assert (gap["seq"], gap["ev"], last["seq"], last["ev"]) == (2, "gap", 3, "y")
    assert_sound(tmp_path)


def test_a_line_that_lacks_only_its_newline_counts(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append([entry(ev="x"), entry(ev="y")])
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-1])
    with opened(tmp_path) as log:
        log.append([entry(ev="z")])
    assert [(line["seq"], line["ev"]) for line in lines(tmp_path)] == [(1, "x"), (2, "y"), (3, "gap"), (4, "z")]


def test_a_torn_first_record_is_no_end_of_everything(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b'{"seq":1,')
    with opened(tmp_path) as log:
        assert log.append([entry(ev="x")]) == 1
        assert log.seq == 2


def test_a_file_without_any_record_is_not_continued(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"something\nelse\n")
    with pytest.raises(LogError, match="no record to go on from"):
        Log(str(tmp_path))


def test_two_writers_do_not_share_a_file(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(LogError, match="another audit writer"):
        Log(str(tmp_path))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to("/dev/null")
    with pytest.raises(OSError, match="symbolic link"):
        Log(str(tmp_path))
    (tmp_path / NAME).unlink()
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(LogError, match="no regular file"):
        Log(str(tmp_path))


def test_nothing_is_promised_of_what_did_not_fit(tmp_path: Path) -> None:
    """Cut a batch of three at every possible byte: what is acknowledged is in the file, and the file can go on."""
    with opened(tmp_path) as log:
        log.append([entry(ev="x")])
        size = os.path.getsize(tmp_path / NAME)
    for room in range(3 * size + 1):
        folder = tmp_path / str(room)
        folder.mkdir()
        with opened(folder) as log:
            log.append([entry(ev="x")])
            with room_for(size + room):
                written = log.append([entry(ev=name) for name in "abc"])
                assert (log.error == "") == (written == 3 and room == 3 * size)
                assert log.seq == 1 + written
            assert log.append([entry(ev="z")]) == 1
        parsed = []
        for line in (folder / NAME).read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                parsed.append(json.loads(line))
        assert [line["seq"] for line in parsed] == list(range(1, len(parsed) + 1))
        names = "".join(line["ev"] for line in parsed)
        assert names.replace("gap", "") == "x" + "abc"[:written] + "z"
        assert ("gap" in names) == (room not in (0, size, 2 * size, 3 * size))
        assert_sound(folder)


def test_a_second_write_that_is_cut_off_is_accounted_for_too(tmp_path: Path) -> None:
    for first, second in itertools.product((1, 40, 150), (1, 2, 60, 400)):
        folder = tmp_path / f"{first}-{second}"
        folder.mkdir()
        with opened(folder) as log:
            log.append([entry(ev="x")])
            for room in (first, second):
                with room_for(os.path.getsize(folder / NAME) + room):
                    log.append([entry(ev="a"), entry(ev="b")])
        with opened(folder) as log:
            log.append([entry(ev="z")])
        assert_sound(folder)


def test_files_are_closed_and_the_chain_goes_on(tmp_path: Path) -> None:
    for _ in range(3):
        log = Log(str(tmp_path), segment=1000)
        for _ in range(20):
            log.append([entry(ev="x")])
            if log.due():
                log.rotate()
        log.close()
    names = segments.closed(str(tmp_path))
    assert len(names) > 5
    for name in names[:3]:
        compress(str(tmp_path), name)
    assert segments.closed(str(tmp_path))[:3] == [f"{name}.gz" for name in names[:3]]
    assert_sound(tmp_path)
    found = verify(str(tmp_path))
    assert found.last == found.records == 60 + len(names)


def test_a_file_that_was_closed_and_not_followed_is_gone_on_from(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append([entry(ev="x")])
    (tmp_path / NAME).rename(tmp_path / segments.closed_name(1))
    with opened(tmp_path) as log:
        assert log.append([entry(ev="y")]) == 1
        assert log.seq == 2
    assert_sound(tmp_path)


def test_room_is_reserved_ahead_and_given_back(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append([entry(ev="x")])
        assert log.reserve() == ""
        status = (tmp_path / NAME).stat()
        if status.st_blocks * 512 < RESERVE:
            pytest.skip("this filesystem can't reserve")
        assert status.st_size < 1000
        name = log.rotate()
        assert (tmp_path / name).stat().st_blocks * 512 < RESERVE
