"""Keep the files of the record: JSON Lines, appended to and never cut.

Here is the one place where lines are written. A file that is large or old is closed: it gets a name of its own, and the
next one begins with a `segment` record that says what came before, so the chain of hashes goes on.
Invariant: `seq` counts lines that are completely in the file, `head` is the hash of the last of them. What a full disk
or a power failure left of a line stays where it is, ended by a newline and followed by a `gap` record with its hash.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import errno
import fcntl
import hashlib
import mmap
import os
import re
import stat
import time

from sockproxy.audit import chain, segments
from sockproxy.audit.chain import START, VERSION, Entry, encode
from sockproxy.audit.segments import LIVE as NAME

__all__ = ["NAME", "Entry", "Log", "LogError", "encode", "gap"]

RESERVE = (
    8 << 20
)  # bytes of the disk that are ours before they are needed: an early alarm, and room for what is refused
SEGMENT = 64 << 20  # bytes of a file before it is closed
AGE = 86_400.0  # seconds
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE: blocks beyond the file's end
_FIRST = re.compile(rb'\{"seq":([1-9][0-9]{0,17}),"ts":"([^"]+)"')
_libc = ctypes.CDLL(None, use_errno=True)


class LogError(Exception):
    """Say why the file can't be continued."""


def gap(why: str, uid: int, pid: int, **more: object) -> Entry:
    """Form the record of something that should be here and is not."""
    return Entry(encode({"v": VERSION, "ev": "gap", "why": why, **more}), uid, pid)


class Log:
    """Append records to the files of a folder.

    Attributes:
        seq, head: number and hash of the last line.
        error: why the last write failed, "" if it did not.
        path: of the file that is written.
    """

    def __init__(self, folder: str, segment: int = SEGMENT) -> None:
        """Open the file, and find out where it ends.

        Args:
            segment: bytes of a file before `due` says to close it.

        Raises:
            LogError: another writer has it, or it holds no record to go on from.
            OSError: it can't be opened.
        """
        self._folder, self._segment = folder, segment
        self.path = os.path.join(folder, NAME)
        self.error = ""
        self.fd = self._open(self.path)
        self._torn = b""
        self._unended = self._repair = False
        self._reserved = self._size = os.fstat(self.fd).st_size
        self.seq, self.head = self._end() if self._size else self._end_of_closed()
        self._first, self._opened = self._begin()

    def _open(self, path: str, more: int = 0) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | more
        fd = os.open(path, flags, 0o640)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise LogError(f"{path} is no regular file")
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise LogError(f"another audit writer has {path}") from None
        except LogError:
            os.close(fd)
            raise
        return fd

    def _end(self) -> tuple[int, bytes]:
        """Find the last whole record, and keep what else follows it."""
        with mmap.mmap(self.fd, self._size, prot=mmap.PROT_READ) as content:
            end, self._unended = self._size, content[-1] != ord("\n")
            while end > 0:
                start = content.rfind(b"\n", 0, end - 1) + 1
                if found := chain.parse(content[start:end].removesuffix(b"\n")):
                    self._torn = content[end : self._size]
                    self._repair = bool(self._torn) or self._unended
                    return found
                end = start
            if self._unended and content.find(b"\n") < 0:  # the first record of a file was torn
                self._torn, self._repair = content[:], True
                return self._end_of_closed()
        raise LogError(f"{self.path} holds no record to go on from: move it away, and find out who damaged it")

    def _end_of_closed(self) -> tuple[int, bytes]:
        """Find the last record of the newest closed file: it was closed, and the next one not begun."""
        names = segments.closed(self._folder)
        last = b""
        if names:
            with segments.open_file(self._folder, names[-1]) as file:
                for line in file:
                    last = line
            if not (found := chain.parse(last.removesuffix(b"\n"))):
                raise LogError(f"{names[-1]} does not end with a record")
            return found
        return 0, START

    def _begin(self) -> tuple[int, float]:
        """Read number and time of the file's first line; those of the next line if there is none."""
        if found := _FIRST.match(os.pread(self.fd, 64, 0)):
            return int(found[1]), datetime.datetime.fromisoformat(found[2].decode()).timestamp()
        return self.seq + 1, time.time()

    def append(self, entries: list[Entry]) -> int:
        """Write entries, with one write(2).

        Returns:
            How many of them, from the first on, are in the file; the last of these has the number `seq`.
        """
        repair = self._repair
        if repair:
            found = {"bytes": len(self._torn), "sha256": hashlib.sha256(self._torn.removesuffix(b"\n")).hexdigest()}
            why = "a line before this one was not written to its end"
            entries = [gap(why, os.getuid(), os.getpid(), torn=found), *entries]
        lines, head = [], self.head
        now = _now()
        for seq, entry in enumerate(entries, self.seq + 1):
            line, head = chain.form(entry, seq, now, head)
            lines.append((line, head))
        data = b"".join(line for line, _ in lines)
        if self._unended:
            data = b"\n" + data
        return max(0, self._count(lines, data, self._write(data)) - repair)

    def _write(self, data: bytes) -> int:
        """Write as much as fits and tell how much; a full tmpfs takes a part, ext4 nothing (both measured)."""
        view = memoryview(data)
        self.error = ""
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except OSError as error:
                self.error = error.strerror or "the write failed"
                break
        written = len(data) - len(view)
        self._size += written
        return written

    def _count(self, lines: list[tuple[bytes, bytes]], data: bytes, written: int) -> int:
        """Count the lines that are in the file. One that lacks but its newline is: the next write adds it."""
        if not written:
            return 0
        new, whole = data[:written], 0
        rest = new.removeprefix(b"\n") if self._unended else new
        for line, head in lines:
            if len(rest) < len(line) - 1:
                break
            rest = rest[len(line) :]
            whole += 1
            self.seq, self.head = self.seq + 1, head
        if whole:
            self._torn = rest
        else:  # the first newline ended what was torn; or it was all that the last record lacked
            self._torn += new if self._torn else rest
        self._unended = not new.endswith(b"\n")
        self._repair = bool(self._torn) or self._unended
        return whole

    def reserve(self) -> str:
        """Make sure that RESERVE bytes more will fit; tell why they may not."""
        wanted = self._size + RESERVE
        if wanted - self._reserved < RESERVE // 2:
            return ""
        length = ctypes.c_int64(wanted - self._size)
        if _libc.fallocate(self.fd, _KEEP_SIZE, ctypes.c_int64(self._size), length) < 0:
            if (error := ctypes.get_errno()) not in (95, 38):  # EOPNOTSUPP, ENOSYS: some filesystems can't
                return os.strerror(error)
            status = os.fstatvfs(self.fd)
            return "" if status.f_bavail * status.f_frsize >= RESERVE else "the disk is nearly full"
        self._reserved = wanted
        return ""

    def due(self) -> bool:
        """Tell whether the file is to be closed: it is large, or old."""
        full = self._size >= self._segment or time.time() - self._opened >= AGE
        return full and self._size > 0 and not self._repair

    def rotate(self) -> str:
        """Close the file and begin the next; give the closed one's name.

        The next one has its first line before it gets its name, and is the one that is written only then: whatever
        fails, there is a file to go on with.

        Raises:
            OSError: it could not be, and what there was goes on; or that is not known to be on the disk.
        """
        name, draft = segments.closed_name(self._first), f"{self.path}.new"
        begin = {"v": VERSION, "ev": "segment", "previous": name, "last": self.seq, "head": self.head.decode()}
        entry = Entry(encode(begin), os.getuid(), os.getpid())
        line, head = chain.form(entry, self.seq + 1, _now(), self.head)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = self._open(draft, os.O_TRUNC)
            try:
                if os.write(fd, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(fd)
                os.ftruncate(self.fd, self._size)  # gives back what was reserved and not used
                self._reserved = self._size
                os.fsync(self.fd)
                self._change_names(os.path.join(self._folder, name), draft)
            except OSError:
                os.close(fd)
                with contextlib.suppress(OSError):
                    os.unlink(draft)
                raise
            os.close(self.fd)
            self.fd, self._size, self._reserved = fd, len(line), len(line)
            self._first, self._opened = self.seq + 1, time.time()
            self.seq, self.head = self.seq + 1, head
            os.fsync(folder)
        finally:
            os.close(folder)
        return name

    def _change_names(self, closed: str, draft: str) -> None:
        os.rename(self.path, closed)
        try:
            os.rename(draft, self.path)
        except OSError:
            os.rename(closed, self.path)
            raise

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.fd)


def _now() -> bytes:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
