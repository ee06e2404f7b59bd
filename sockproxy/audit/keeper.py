"""Keep the record: what is written when, what is on the disk, what happens when the disk is full.

An acknowledgement is a promise. For a record that asked for it (`sync`: the intent of a change) it means: on the disk.
For all others: written, and on the disk within SYNC_WITHIN.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import sys
import threading
import time

from sockproxy.audit import segments
from sockproxy.audit.chain import Entry, encode
from sockproxy.audit.commit import Committer
from sockproxy.audit.log import Log, LogError, gap
from sockproxy.audit.seal import Sealer

SYNC_WITHIN = 1.0  # seconds
SEAL_WITHIN, SEAL_EVERY = 60.0, 1000  # seconds, records
RETRY = 2.0  # seconds until a full disk is looked at again
ON_FULL = ("refuse", "refuse-all", "continue")
NO_ROOM = "the disk of the record is full"
_compressing = threading.Lock()


class Slot:
    """Hold what a record's sender is answered; None while that is open."""

    __slots__ = ("answer", "sync")

    def __init__(self, sync: bool) -> None:
        self.sync = sync
        self.answer: bytes | None = None


class Keeper:
    """Write records and say when they may be acknowledged.

    Attributes:
        on_full: what happens when there is no room: `refuse` what changes something; or all; or go on, unrecorded.

    Invariant: whatever was not written is counted, and the count is the first thing to be written when there is room.
    """

    def __init__(self, log: Log, sealer: Sealer | None = None, on_full: str = "refuse") -> None:
        self.on_full = on_full
        self._log, self._sealer = log, sealer
        self._committer = Committer()
        self.done = self._committer.done
        self._open: list[tuple[Slot, bytes]] = []  # written, and to be synced
        self._committing: list[tuple[Slot, bytes]] = []
        self._unsynced = self._unsealed = self._alarmed = 0.0  # since when; 0: not
        self._sealed_seq = log.seq
        self._sealing = sealer.open if sealer else None  # a seal that is not known to be on the disk
        self._tried = self._forgotten = False  # the running job is to bring the open seal to its end, and has
        self._retry_seal = 0.0
        self._unclosed, self._retry_closing = "", 0.0  # why the file could not be closed
        self._lost: dict[str, int] = {}  # events that were not written, by kind
        self._fresh = sealer is not None and sealer.fresh  # its key is not stored, or not announced: there are no seals
        self._check_room()

    def write(self, records: list[tuple[Slot, dict[str, object], int, int]]) -> None:
        """Write records; fill the slots of those that are settled at once.

        Args:
            records: each with its slot, which those of one message share, and the uid and pid of its sender.
        """
        self._check_room()
        refused = self._alarmed and self.on_full != "continue"
        entries = []
        for slot, record, uid, pid in records:
            if refused and record.get("ev") == "intent" and (slot.sync or self.on_full == "refuse-all"):
                record = {**record, "ev": "deny", "error": NO_ROOM}
                slot.answer, slot.sync = encode({"error": NO_ROOM}), False
            entries.append(Entry(encode(record), uid, pid))
        written = self._append(entries)
        first = self._log.seq - written + 1
        for index, (slot, record, _, _) in enumerate(records):
            if index >= written:
                self._not_written(slot, str(record.get("ev")))
            elif slot.sync:
                self._open.append((slot, b'{"seq":%d}' % (first + index)))
            elif slot.answer is None:
                slot.answer = b'{"seq":%d}' % (first + index)
        self._seal_if_due()
        self._commit()

    def _append(self, entries: list[Entry]) -> int:
        """Write entries, behind the count of those that could not be; tell how many are written."""
        counted = self._lost
        if counted:
            why = "no room: these were not written"
            entries = [gap(why, os.getuid(), os.getpid(), lost=counted), *entries]
        written = self._log.append(entries)
        if self._log.error:
            self._alarm(self._log.error)
        if counted and written:
            self._lost = {}
            written -= 1
        if written:
            self._unsynced = self._unsynced or time.monotonic()
            self._unsealed = self._unsealed or time.monotonic()
        return written

    def _not_written(self, slot: Slot, event: str) -> None:
        """Settle a record for which there is no room, by the policy; count it. Others may have the same slot."""
        refused = self.on_full == "refuse-all" or (self.on_full == "refuse" and slot.sync)
        if slot.answer is None or (refused and not slot.answer.startswith(b'{"error"')):
            slot.answer = encode({"error": self._log.error or NO_ROOM} if refused else {"seq": 0})
        kind = "refused" if slot.answer.startswith(b'{"error"') else event
        self._lost[kind] = self._lost.get(kind, 0) + 1

    def _check_room(self) -> None:
        if not self._alarmed or time.monotonic() - self._alarmed > RETRY:
            self._alarm(self._announce() or self._log.reserve())

    def _announce(self) -> str:
        """Have a fresh key stored, and written down: only then may it seal; tell why it may not."""
        if self._sealer and self._fresh:
            if why := self._sealer.begin():
                return why
            self._fresh = not self._append([self._sealer.announcement()])
            return self._log.error
        return ""

    def _alarm(self, why: str) -> None:
        """Note whether there is room, and say so when that changes."""
        was, self._alarmed = self._alarmed, time.monotonic() if why else 0.0
        if bool(was) != bool(why):
            self._tell(f"no room for the record: {why} (on_full: {self.on_full})" if why else "there is room again")

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):  # perhaps that is on the same disk
            print(text, file=sys.stderr)
        if self._sealer:
            self._sealer.tell(text)

    def _seal_if_due(self) -> None:
        if self._sealer and not self._sealing and time.monotonic() >= self._retry_seal:
            late = self._unsealed and time.monotonic() - self._unsealed >= SEAL_WITHIN
            if late or self._log.seq - self._sealed_seq >= SEAL_EVERY:
                self._seal()

    def _seal(self) -> None:
        assert self._sealer
        if not self._fresh and self._append([self._sealer.seal()]):
            self._sealing = (self._log.seq, self._log.head)
            self._sealed_seq, self._unsealed, self._retry_seal = self._log.seq, 0.0, 0.0
        else:
            self._retry_seal = time.monotonic() + RETRY

    def _commit(self) -> None:
        """Begin to sync what waits for it, unless that is under way."""
        now = time.monotonic()
        late = self._unsynced and now - self._unsynced >= SYNC_WITHIN
        if self._committer.busy or not (self._open or late or (self._sealing and now >= self._retry_seal)):
            return
        self._committing, self._open, self._unsynced = self._open, [], 0.0
        fd, sealing, sealer = self._log.fd, self._sealing, self._sealer
        self._tried, self._forgotten = sealing is not None, False

        def sync() -> None:
            os.fdatasync(fd)
            if sealing and sealer:
                self._forgotten = sealer.forget(*sealing)

        self._committer.start(sync)

    def committed(self) -> None:
        """Settle what is on the disk now, or is not; begin with what has come meanwhile."""
        error, settled, self._committing = self._committer.finish(), self._committing, []
        self._settle(settled, error)
        if self._forgotten:
            self._sealing = None
        self._retry_seal = time.monotonic() + RETRY if self._tried and not self._forgotten else 0.0
        if not error:
            self._rotate_if_due()
            self._commit()

    def _settle(self, waiting: list[tuple[Slot, bytes]], error: str) -> None:
        for slot, answer in waiting:
            slot.answer = encode({"error": error}) if error else answer
        if error:  # the kernel may have dropped what it could not write (fsync(2)): nobody can tell which
            self._alarm(error)
            self._append([gap(f"the disk failed: {error}", os.getuid(), os.getpid(), refused=len(waiting))])

    def _rotate_if_due(self) -> None:
        """Close a file that is large or old, with a seal at its end. This alone waits for the disk: it is rare.

        Where no other can be begun it goes on: that alone is no reason to refuse anything.
        """
        if self._sealing or time.monotonic() < self._retry_closing or not self._log.due():
            return
        self._retry_closing = time.monotonic() + RETRY
        if self._sealer and self._sealed_seq != self._log.seq:
            self._seal()
        error, name, settled, self._open = "", "", self._open, []
        try:
            os.fdatasync(self._log.fd)
        except OSError as failure:
            error = failure.strerror or "the disk failed"
        self._settle(settled, error)
        if error:
            return
        try:
            name = self._log.rotate()
        except (OSError, LogError) as failure:
            error = getattr(failure, "strerror", None) or str(failure)
        if error != self._unclosed:
            self._tell(f"no new file for the record: {error}; this one goes on" if error else "a new file was begun")
        self._unclosed = error
        if error:
            return
        self._retry_closing = 0.0
        if self._sealer and self._sealing and self._sealer.forget(*self._sealing):
            self._sealing = None
        self._unsynced, self._unsealed = 0.0, time.monotonic()
        try:
            threading.Thread(
                target=pack_all, args=(os.path.dirname(self._log.path),), name="compress", daemon=True
            ).start()
        except RuntimeError as error:  # no memory, or too many processes: with the next one
            print(f"{name} stays as it is: {error}", file=sys.stderr)

    def tick(self) -> float:
        """Do what time brings; give the seconds until there is more of it."""
        if self._alarmed:
            self._check_room()
            if self._lost and not self._alarmed:
                self._append([])
        self._seal_if_due()
        self._commit()
        if not self._committer.busy:
            self._rotate_if_due()
        now = time.monotonic()
        ends = [self._unsynced + SYNC_WITHIN if self._unsynced else 0.0]
        unsealed = self._unsealed and self._sealer and not self._sealing
        ends += [max(self._unsealed + SEAL_WITHIN, self._retry_seal) if unsealed else 0.0]
        ends += [self._alarmed + RETRY if self._alarmed else 0.0, self._retry_seal if self._sealing else 0.0]
        ends += [self._retry_closing if self._retry_closing > now else 0.0]
        return max(0.01, min([end - now for end in ends if end], default=SEAL_WITHIN))

    def close(self) -> None:
        """Settle and seal all."""
        while self._committer.busy:
            self.committed()
        if self._sealer and self._unsealed and not self._sealing:
            self._seal()
        if self._unsynced:
            self._unsynced = -SYNC_WITHIN  # as if long ago
        self._commit()
        while self._committer.busy:
            self.committed()
        self._committer.close()


def compress(folder: str, name: str) -> None:
    """Compress a closed file; it goes when the compressed one is on the disk."""
    path = os.path.join(folder, name)
    draft = f"{path}.gz.new"
    try:
        with _compressing, open(path, "rb") as source:
            with open(draft, "wb") as sink:
                with gzip.GzipFile(filename="", mode="wb", fileobj=sink, compresslevel=3, mtime=0) as packed:
                    shutil.copyfileobj(source, packed, 1 << 20)
                sink.flush()
                os.fchmod(sink.fileno(), 0o640)
                os.fsync(sink.fileno())
            os.rename(draft, f"{path}.gz")
            os.unlink(path)
    except FileNotFoundError:
        pass  # it has been, meanwhile
    except OSError as error:
        print(f"{name} stays as it is: {error.strerror}", file=sys.stderr)


def pack_all(folder: str) -> None:
    """Compress the closed files that are not yet."""
    for name in segments.closed(folder):
        if not name.endswith(".gz"):
            compress(folder, name)
