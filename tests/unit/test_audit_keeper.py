"""What is written when, what a full disk does, seals and their keys."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import resource
import select
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sockproxy.audit import keeper as module
from sockproxy.audit import segments
from sockproxy.audit.keeper import NO_ROOM, Keeper, Slot
from sockproxy.audit.log import NAME, Log
from sockproxy.audit.seal import KEY, Sealer
from sockproxy.review.verify import Anchors, read_anchors, verify
from tests.support.proxy import eventually

Open = Callable[..., "Kept"]


class Kept:
    """Play the writer's loop before a keeper."""

    def __init__(self, folder: Path, on_full: str = "refuse", segment: int = 1 << 20) -> None:
        self.log = Log(str(folder), segment)
        self.keeper = Keeper(self.log, Sealer(str(folder), str(folder / "syslog")), on_full)

    def write(self, *records: dict[str, object], wait: bool = True) -> list[dict[str, object] | None]:
        slots = [Slot(bool(record.pop("sync", False))) for record in records]
        self.keeper.write([(slot, record, 0, 1) for slot, record in zip(slots, records, strict=True)])
        while wait and any(slot.answer is None for slot in slots):
            assert select.select([self.keeper.done], [], [], 10)[0]
            self.keeper.committed()
        return [json.loads(slot.answer) if slot.answer else None for slot in slots]

    def settle(self) -> None:
        while self.keeper._committer.busy:
            assert select.select([self.keeper.done], [], [], 10)[0]
            self.keeper.committed()

    def close(self) -> None:
        self.keeper.close()
        self.log.close()


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Open]:
    opened: list[Kept] = []

    def make(**options: object) -> Kept:
        opened.append(Kept(tmp_path, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for one in opened:
        with contextlib.suppress(OSError):
            one.close()


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "syslog"))
        sock.setblocking(False)
        yield sock


def heard(syslog: socket.socket) -> str:
    lines = []
    with contextlib.suppress(BlockingIOError):
        while True:
            lines.append(syslog.recv(4096).decode())
    return "\n".join(lines)


def records(folder: Path) -> list[dict[str, object]]:
    found = []
    for line in (folder / NAME).read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


@contextlib.contextmanager
def no_more_room(folder: Path, more: int = 0) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / NAME).stat().st_size + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def no_file_grows() -> Iterator[None]:
    """Let no byte be written to any file, as on a disk without any."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_message_of_which_one_record_finds_no_room_is_not_acknowledged(keep: Open, tmp_path: Path) -> None:
    kept = keep(on_full="refuse-all")
    kept.write({"ev": "x"})
    slot = Slot(False)
    with no_more_room(tmp_path, 500):
        kept.keeper.write([(slot, {"ev": "x"}, 0, 1), (slot, {"ev": "x", "pad": "x" * 1000}, 0, 1)])
    assert slot.answer is not None
    assert "error" in json.loads(slot.answer)


def test_seals_come_with_number_and_time_and_tell_syslog(
    keep: Open, tmp_path: Path, syslog: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep()
    monkeypatch.setattr(module, "SEAL_EVERY", 50)
    said = ""
    for number in range(500):
        kept.write({"ev": "x", "n": number, "sync": number % 10 == 0})
        if number % 100 == 0:
            said += heard(syslog)  # the kernel keeps ten
    kept.settle()
    monkeypatch.setattr(module, "SEAL_WITHIN", 0.0)
    kept.write({"ev": "x"})
    kept.keeper.tick()
    kept.settle()
    seals = [record for record in records(tmp_path) if record["ev"] == "seal"]
    assert 9 <= len(seals) <= 12
    assert records(tmp_path)[-1]["ev"] == "seal"
    assert [seal["key"] for seal in seals[1:]] == [seal["next"] for seal in seals[:-1]]
    anchors = read_anchors(said + heard(syslog))
    assert sorted(anchors.heads) == [seal["seq"] for seal in seals]
    found = verify(str(tmp_path), anchors)
    assert found.findings == []
    assert (found.seals, found.matched, found.sealed) == (len(seals), len(seals), seals[-1]["seq"])


def test_nothing_new_no_seal(keep: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep()
    monkeypatch.setattr(module, "SEAL_WITHIN", 0.0)
    kept.write({"ev": "x"})
    for _ in range(5):
        kept.keeper.tick()
        kept.settle()
    assert [record["ev"] for record in records(tmp_path)] == ["key", "x", "seal"]


def test_the_key_is_nobody_elses_and_goes(keep: Open, tmp_path: Path) -> None:
    kept = keep()
    before = (tmp_path / KEY).read_text()
    kept.write({"ev": "x"})
    kept.close()
    after = (tmp_path / KEY).read_text()
    assert stat.S_IMODE((tmp_path / KEY).stat().st_mode) == 0o600
    assert json.loads(before)[1] == json.loads(after)[0]
    assert json.loads(before)[0] not in after


@pytest.mark.parametrize("sealed", [False, True])
def test_a_writer_that_died_comes_back_on_a_full_disk(
    keep: Open, tmp_path: Path, syslog: socket.socket, sealed: bool
) -> None:
    """Also where it died between a seal and its key, which is forgotten when there is room, and its seal told."""
    kept = keep()
    kept.write({"ev": "x"})
    kept.settle()
    if sealed:
        kept.keeper._seal()
    kept.log.close()
    key, content = (tmp_path / KEY).read_text(), (tmp_path / NAME).read_bytes()
    with no_file_grows():
        kept = keep()
        assert kept.write({"ev": "intent", "sync": True})[0] == {"error": "File too large"}
        kept.keeper._alarmed = 0.0
        assert kept.write({"ev": "intent", "sync": True})[0] == {"error": "File too large"}
        kept.settle()
        assert ((tmp_path / KEY).read_text(), (tmp_path / NAME).read_bytes()) == (key, content)
        assert "seal seq" not in heard(syslog)
    kept.keeper._alarmed, kept.keeper._retry_seal = -100.0, 0.0
    assert "seq" in (kept.write({"ev": "intent", "sync": True})[0] or {})
    kept.settle()
    assert ("seal seq=3" in heard(syslog)) == sealed
    assert ((tmp_path / KEY).read_text() == key) != sealed
    kept.close()
    found = verify(str(tmp_path))
    assert (found.findings, found.sealed) == ([], found.last)


@pytest.mark.parametrize("stored", [True, False])
def test_a_death_between_seal_and_key_loses_neither(
    keep: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    kept = keep()
    kept.write({"ev": "x"})
    if not stored:
        monkeypatch.setattr(Sealer, "forget", lambda *_: None)
    kept.keeper._seal()
    kept.keeper._commit()
    kept.settle()
    kept.log.close()
    monkeypatch.undo()
    kept = keep()
    kept.write({"ev": "y"})
    kept.close()
    assert [record["ev"] for record in records(tmp_path)] == ["key", "x", "seal", "y", "seal"]
    assert verify(str(tmp_path)).findings == []


def test_a_key_that_is_lost_is_told(keep: Open, tmp_path: Path) -> None:
    keep().close()
    (tmp_path / KEY).unlink()
    keep().close()
    (finding,) = verify(str(tmp_path)).findings
    assert (finding.word, "new key" in finding.text) == ("FORGED", True)
    keys = frozenset(str(record["key"]) for record in records(tmp_path) if record["ev"] == "key")
    assert verify(str(tmp_path), Anchors({}, keys)).findings == []


@pytest.mark.parametrize(
    ("on_full", "change", "read"), [("refuse", False, True), ("refuse-all", False, False), ("continue", True, True)]
)
def test_a_full_disk(keep: Open, tmp_path: Path, syslog: socket.socket, on_full: str, change: bool, read: bool) -> None:
    kept = keep(on_full=on_full)
    kept.write({"ev": "x"})
    with no_more_room(tmp_path, 100):
        for _ in range(3):
            answers = kept.write({"ev": "intent", "sync": True}, {"ev": "intent"}, {"ev": "outcome"})
            assert [answer is not None and "seq" in answer for answer in answers] == [
                change,
                read,
                on_full != "refuse-all",
            ]
    assert "no room for the record" in heard(syslog)
    kept.keeper._alarmed = -100.0
    assert "seq" in (kept.write({"ev": "intent", "sync": True})[0] or {})
    assert "there is room again" in heard(syslog)
    kept.close()
    lost = [record["lost"] for record in records(tmp_path) if "lost" in record]
    kinds = {
        "refuse": {"refused": 3, "intent": 3, "outcome": 3},
        "refuse-all": {"refused": 9},
        "continue": {"intent": 6, "outcome": 3},
    }
    assert lost == [kinds[on_full]]
    found = verify(str(tmp_path))
    assert (found.findings, found.lost) == ([], 9)


def test_a_key_that_can_not_be_stored_waits_for_room(
    keep: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep()
    monkeypatch.setattr(module, "RETRY", 0.0)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    kept.write({"ev": "x"})
    monkeypatch.setattr(Sealer, "_store", fail)
    kept.keeper._seal()
    for _ in range(3):
        assert kept.write({"ev": "intent", "sync": True}) != [{"error": "No space left on device"}]
        kept.keeper.tick()
    monkeypatch.undo()
    kept.write({"ev": "y", "sync": True})
    kept.settle()
    kept.close()
    assert [record["ev"] for record in records(tmp_path)].count("seal") == 2
    assert verify(str(tmp_path)).findings == []


def test_refusals_are_written_into_what_was_reserved(
    keep: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep()
    kept.write({"ev": "x"})
    monkeypatch.setattr(Log, "reserve", lambda _: "No space left on device")
    answers = kept.write({"ev": "intent", "rid": "a", "sync": True}, {"ev": "intent", "rid": "b"})
    assert answers[0] == {"error": NO_ROOM}
    assert answers[1] == {"seq": 4}
    denied = next(record for record in records(tmp_path) if record.get("rid") == "a")
    assert (denied["ev"], denied["error"]) == ("deny", NO_ROOM)


def test_a_disk_that_fails_is_no_acknowledgement(keep: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep()

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module.os, "fdatasync", fail)
    assert kept.write({"ev": "intent", "sync": True}) == [{"error": "Input/output error"}]
    monkeypatch.undo()
    assert "seq" in (kept.write({"ev": "intent", "sync": True})[0] or {}) or kept.keeper._alarmed
    kept.keeper._alarmed = -100.0
    assert "seq" in (kept.write({"ev": "intent", "sync": True})[0] or {})
    kept.close()
    assert any("the disk failed" in str(record.get("why")) for record in records(tmp_path))
    assert verify(str(tmp_path)).findings == []


def test_files_are_closed_by_size_and_end_with_a_seal(
    keep: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "compress", lambda *_: None)
    kept = keep(segment=5000)
    for number in range(200):
        kept.write({"ev": "x", "n": number, "sync": True})
    kept.close()
    names = segments.closed(str(tmp_path))
    assert len(names) >= 5
    for name in names:
        assert json.loads((tmp_path / name).read_bytes().splitlines()[-1])["ev"] == "seal"
    found = verify(str(tmp_path))
    assert found.findings == []
    assert found.last - found.sealed == 0
    assert os.listdir(tmp_path)


def test_a_file_that_no_thread_compresses_is_with_the_next(
    keep: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    kept = keep()
    for refused in (True, False):
        kept.write({"ev": "x"})
        kept.settle()
        kept.log._opened -= 90_000
        with monkeypatch.context() as patch:
            if refused:
                patch.setattr("threading.Thread.start", refuse)
            kept.keeper.tick()
            kept.settle()
    eventually(lambda: [name.endswith(".gz") for name in segments.closed(str(tmp_path))] == [True, True], "compressed")


def test_files_are_closed_by_age(keep: Open, tmp_path: Path) -> None:
    kept = keep()
    kept.write({"ev": "x"})
    kept.settle()
    kept.log._opened -= 90_000
    kept.keeper.tick()
    assert len(segments.closed(str(tmp_path))) == 1
    assert [record["ev"] for record in records(tmp_path)] == ["segment"]


ROTATION = ("open", "write", "fdatasync", "fsync", "ftruncate", "rename")  # what it takes


class _Dies(BaseException):
    """Stand for the end of the process."""


@contextlib.contextmanager
def failing_from(step: int, error: BaseException, times: int = 1) -> Iterator[list[str]]:
    """Let so many of these calls fail, from one on; give those that were made."""
    made: list[str] = []

    def counted(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*given: object, **more: object) -> object:
            made.append(name)
            if step <= len(made) - 1 < step + times:
                raise error
            return real(*given, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ROTATION:
            patch.setattr(os, name, counted(name))
        yield made


def about_to_close(keep: Open) -> tuple[Kept, Slot]:
    """Have a keeper whose file is due, and a record in it that waits for the disk."""
    kept = keep()
    kept.write({"ev": "x"}, {"ev": "x", "sync": True})
    kept.settle()
    kept.log._opened -= 90_000
    slot = Slot(True)
    kept.keeper._committer.busy = True  # what comes while something is synced
    kept.keeper.write([(slot, {"ev": "intent"}, 0, 1)])
    kept.keeper._committer.busy = False
    return kept, slot


def goes_on(kept: Kept, folder: Path) -> None:
    """See that it writes, and closes its file when that can be done; that nothing is lost or there twice."""
    kept.keeper._alarmed = -100.0 if kept.keeper._alarmed else 0.0
    assert "seq" in (kept.write({"ev": "y", "sync": True})[0] or {})
    kept.settle()
    kept.keeper._retry_closing, kept.log._opened = 0.0, kept.log._opened - 90_000
    kept.keeper.tick()
    kept.settle()
    assert segments.closed(str(folder))
    kept.close()
    found = verify(str(folder))
    assert (found.findings, found.sealed) == ([], found.last)
    events = [str(json.loads(line)["ev"]) for _, file in segments.snapshot(str(folder)) for line in file]
    assert (events.count("x"), events.count("intent"), events.count("y")) == (2, 1, 1)
    assert len(events) == found.last
    assert {*os.listdir(folder)} - {"syslog"} == {NAME, KEY, *segments.closed(str(folder))}


STEPS = 12  # the seal is written, and synced; the folder is opened, the new file is, and its line written and synced …


def test_the_steps_of_closing_a_file(keep: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pack_all", lambda _: None)
    kept, _ = about_to_close(keep)
    with failing_from(99, OSError()) as made:
        kept.keeper._rotate_if_due()
    expected = "write fdatasync open open write fsync ftruncate fsync rename rename fsync open"
    assert made[:STEPS] == expected.split()
    goes_on(kept, tmp_path)


@pytest.mark.parametrize(
    ("step", "number"), [*zip(range(STEPS), (errno.ENOSPC, errno.EMFILE, errno.EACCES, errno.EIO) * 3, strict=True)]
)
def test_a_file_that_can_not_be_closed_goes_on(
    keep: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, number: int
) -> None:
    """Whatever fails. Only a record that may not be on the disk is refused."""
    monkeypatch.setattr(module, "pack_all", lambda _: None)
    kept, slot = about_to_close(keep)
    with failing_from(step, OSError(number, os.strerror(number))) as made:
        kept.keeper._rotate_if_due()
    assert len(made) > step
    assert slot.answer is not None
    assert (b"error" in slot.answer) == (made[step] == "fdatasync")
    assert bool(kept.keeper._alarmed) == (step < 2)
    goes_on(kept, tmp_path)


@pytest.mark.parametrize("step", range(STEPS))
def test_a_writer_that_dies_while_it_closes_a_file(
    keep: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(module, "pack_all", lambda _: None)
    kept, _ = about_to_close(keep)
    fds = set(os.listdir("/proc/self/fd"))
    with failing_from(step, _Dies(), 99), pytest.raises(_Dies):
        kept.keeper._rotate_if_due()
    for fd in {str(kept.log.fd), *os.listdir("/proc/self/fd")} - (fds - {str(kept.log.fd)}):
        with contextlib.suppress(OSError):
            os.close(int(fd))
    goes_on(keep(), tmp_path)


def test_a_file_that_can_not_be_closed_is_told_once(
    keep: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syslog: socket.socket
) -> None:
    """And tried again from time to time, not at each turn."""
    kept, _ = about_to_close(keep)
    tried: list[Log] = []

    def fail(log: Log) -> str:
        tried.append(log)
        raise OSError(errno.EMFILE, "Too many open files")

    heard(syslog)
    with monkeypatch.context() as patch:
        patch.setattr(Log, "rotate", fail)
        for count in range(1, 4):
            for _ in range(20):
                kept.keeper.tick()
                kept.settle()
            assert len(tried) == count
            kept.keeper._retry_closing = 0.0
    assert heard(syslog).count("no new file for the record: Too many open files; this one goes on") == 1
    goes_on(kept, tmp_path)
    assert "a new file was begun" in heard(syslog)


@pytest.mark.parametrize(
    ("on_full", "change", "read"), [("refuse", False, True), ("refuse-all", False, False), ("continue", True, True)]
)
@pytest.mark.parametrize("known", [False, True])
def test_a_writer_without_its_key_comes_up_on_a_full_disk(
    keep: Open, tmp_path: Path, syslog: socket.socket, on_full: str, change: bool, read: bool, known: bool
) -> None:
    """It refuses what the policy says, makes no seal that it could not go on from, and begins when there is room."""
    if known:
        keep().close()
        (tmp_path / KEY).unlink()
    with no_file_grows():
        kept = keep(on_full=on_full)
        answers = kept.write({"ev": "intent", "sync": True}, {"ev": "intent"})
        assert [answer is not None and "seq" in answer for answer in answers] == [change, read]
        kept.keeper._unsealed = -1000.0
        assert kept.keeper.tick() > 1
    said = heard(syslog)
    assert f"no room for the record: {KEY}: File too large" in said
    kept.keeper._alarmed = -100.0
    assert "seq" in (kept.write({"ev": "intent", "sync": True})[0] or {})
    said += heard(syslog)
    assert "there is room again" in said
    kept.close()
    found = verify(str(tmp_path), read_anchors(said))
    assert (found.findings, found.sealed, found.lost) == ([], found.last, 2)


def test_a_key_that_was_not_announced_seals_nothing(keep: Open, tmp_path: Path) -> None:
    with no_file_grows():
        kept = keep()
        kept.keeper._seal()
    with no_more_room(tmp_path, 200):  # its key fits, and its announcement does not
        kept.keeper._alarmed = -100.0
        kept.keeper.tick()
    kept.close()
    assert "seal" not in [record["ev"] for record in records(tmp_path)]


def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At some moment: what was synced is there, of the rest any beginning, and the writer goes on from that."""
    for seed in range(40):
        chooser, folder = random.Random(seed), tmp_path / str(seed)
        folder.mkdir()
        monkeypatch.setattr(module, "SEAL_EVERY", 7)
        durable = {"size": 0}

        def sync(fd: int, durable: dict[str, int] = durable) -> None:
            durable["size"] = max(durable["size"], os.fstat(fd).st_size)

        monkeypatch.setattr(module.os, "fdatasync", sync)
        kept, acknowledged = Kept(folder), []
        for number in range(chooser.randrange(5, 60)):
            sync_it = chooser.random() < 0.5
            answers = kept.write({"ev": "intent", "n": number, "sync": sync_it}, wait=chooser.random() < 0.7)
            if sync_it and answers[0]:
                acknowledged.append(number)
        key = b""
        while key != (folder / KEY).read_bytes():  # all of one moment
            key, size, content = (folder / KEY).read_bytes(), durable["size"], (folder / NAME).read_bytes()
        kept.close()
        monkeypatch.undo()
        (folder / NAME).write_bytes(content[: chooser.randint(size, len(content))])
        (folder / KEY).write_bytes(key)
        again = Kept(folder)
        again.write({"ev": "after", "sync": True})
        again.close()
        assert verify(str(folder)).findings == []
        assert set(acknowledged) <= {record.get("n") for record in records(folder)}
