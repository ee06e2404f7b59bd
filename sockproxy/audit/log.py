"""Keep the file of records: JSON Lines, appended to and never cut.

Standard library only. Here is the one place where lines are formed and written.
Invariant: `seq` counts lines that are completely in the file. What a full disk or a power failure left of a line stays
where it is, ended by a newline and followed by a `gap` record.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import mmap
import os
import re
import stat
from typing import NamedTuple

NAME = "audit.jsonl"
RESERVED = frozenset(("seq", "ts", "peer", "h"))  # the writer's own words; `h` is the chain's, of a later version
_ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))
_LINE = re.compile(rb'\{"seq":([1-9][0-9]{0,17}),.*\}')


class LogError(Exception):
    """Say why the file can't be continued."""


class Entry(NamedTuple):
    """Hold a record that is to be written.

    Attributes:
        record: one JSON object, encoded; not empty and without RESERVED keys.
        uid, pid: who sent it, from the kernel.
    """

    record: bytes
    uid: int
    pid: int


def encode(record: dict[str, object]) -> bytes:
    """Encode a record in one line of ASCII, so that no byte of it can end the line or reach a reader's terminal.

    Raises:
        ValueError: a number that JSON does not have.
    """
    return _ENCODER.encode(record).encode("ascii")


def gap(why: str, uid: int, pid: int) -> Entry:
    """Form the record of something that should be here and is not."""
    return Entry(encode({"v": 1, "ev": "gap", "why": why}), uid, pid)


class Log:
    """Append records to the file of a folder.

    Attributes:
        seq: of the last line.
        error: why the last write failed, "" if it did not.
    """

    def __init__(self, folder: str) -> None:
        """Open the file, and find out where it ends.

        Raises:
            LogError: another writer has it, or it holds no record to go on from.
            OSError: it can't be opened.
        """
        path = os.path.join(folder, NAME)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._fd = os.open(path, flags, 0o640)
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise LogError(f"{path} is no regular file")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LogError(f"another audit writer has {path}") from None
        self.error = ""
        self.seq, self._torn, self._unended = self._end(path)

    def _end(self, path: str) -> tuple[int, bool, bool]:
        """Give the last record's number, whether something else follows it, and whether the end is no newline."""
        size = os.fstat(self._fd).st_size
        if not size:
            return 0, False, False
        with mmap.mmap(self._fd, size, prot=mmap.PROT_READ) as content:
            end, unended = size, content[-1] != ord("\n")
            while end > 0:
                start = content.rfind(b"\n", 0, end - 1) + 1
                if found := _LINE.fullmatch(content[start:end].removesuffix(b"\n")):
                    return int(found[1]), unended or end < size, unended
                end = start
            if unended and content.find(b"\n") < 0:
                return 0, True, True  # the first record ever was torn
        raise LogError(f"{path} holds no record to go on from: move it away, and find out who damaged it")

    def append(self, entries: list[Entry]) -> int:
        """Write entries, with one write(2).

        Returns:
            How many of them, from the first on, are in the file; the last of these has the number `seq`.
        """
        repair = self._torn
        if repair:
            entries = [gap("a line before this one was not written to its end", os.getuid(), os.getpid()), *entries]
        lines = self._form(entries)
        if self._unended:
            lines[0] = b"\n" + lines[0]
        return max(0, self._count(lines, self._write(b"".join(lines))) - repair)

    def _form(self, entries: list[Entry]) -> list[bytes]:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
        return [
            b'{"seq":%d,"ts":"%s","peer":{"uid":%d,"pid":%d},%s\n' % (seq, now, entry.uid, entry.pid, entry.record[1:])
            for seq, entry in enumerate(entries, self.seq + 1)
        ]

    def _write(self, data: bytes) -> int:
        """Write as much as fits and tell how much; a full tmpfs takes a part, ext4 nothing (both measured)."""
        view = memoryview(data)
        self.error = ""
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except OSError as error:
                self.error = error.strerror or "the write failed"
                break
        return len(data) - len(view)

    def _count(self, lines: list[bytes], written: int) -> int:
        """Count the lines that are in the file. One that lacks but its newline is: the next write adds it."""
        if not written:
            return 0
        whole = 0
        for line in lines:
            if written < len(line) - 1:
                break
            written -= len(line)
            whole += 1
        self.seq += whole
        self._torn = self._unended = written != 0
        return whole

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)
