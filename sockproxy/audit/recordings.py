"""Keep the recordings of sessions: a file each, in a folder of the record's, written by a thread each.

Who forms a recording is a helper, whose lines come over a connection of their own and are kept as they come. So a slow
disk holds up that session alone. What is answered at the end is what the file has, for the session's outcome.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import socket
import threading

from sockproxy.audit.log import RESERVE

FOLDER = "sessions"
LIMIT = 64 * 1024  # bytes of a message
MOST = 1024  # at a time: each is a thread
STACK = 256 << 10  # bytes, of each
LEFT = 4 * RESERVE  # bytes of the disk that are left to the record itself
RID = re.compile(r"[0-9a-f]{16}")


def path_of(folder: str, rid: str) -> str:
    """Give the path of a request's recording."""
    return os.path.join(folder, FOLDER, f"{rid}.cast")


class Recordings:
    """Keep those under way."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._room = threading.Semaphore(MOST)

    def begin(self, sock: socket.socket, rid: object) -> None:
        """Take a connection over: what comes on it until its end is a recording."""
        sock.setblocking(True)
        if isinstance(rid, str) and RID.fullmatch(rid) and self._room.acquire(blocking=False):
            try:
                threading.Thread(target=self._keep, args=(sock, rid), name="recording", daemon=True).start()
                return
            except RuntimeError:  # no memory, or too many processes
                self._room.release()
        with sock, contextlib.suppress(OSError):
            sock.send(b'{"error":"no room for one more recording"}')

    def _keep(self, sock: socket.socket, rid: str) -> None:
        with sock, contextlib.suppress(OSError):
            try:
                answer = self._record(sock, rid)
            except OSError as error:
                answer = {"error": error.strerror or "the disk failed"}
            finally:
                self._room.release()
            sock.send(json.dumps(answer).encode())

    def _record(self, sock: socket.socket, rid: str) -> dict[str, object]:
        """Write what comes, as long as there is room, and tell what there is."""
        path = path_of(self._folder, rid)
        os.makedirs(os.path.dirname(path), 0o750, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        fcntl.flock(fd, fcntl.LOCK_EX)  # until the session's end: what is locked is not pruned
        sha256, size, trouble = hashlib.sha256(), 0, ""
        with open(fd, "wb", buffering=0):
            sock.send(b'{"seq":0}')
            while data := _receive(sock):
                try:
                    if _left(fd) < LEFT:
                        raise OSError(0, "the disk of the record is nearly full")
                    _write(fd, data)
                except OSError as error:
                    trouble = error.strerror or "the disk failed"
                    os.ftruncate(fd, size)
                    break
                sha256.update(data)
                size += len(data)
            os.fsync(fd)
        if not size:
            os.unlink(path)
        return {"bytes": size, "sha256": sha256.hexdigest(), **({"error": trouble} if trouble else {})}


def _receive(sock: socket.socket) -> bytes:
    """Take a message; a helper that is gone has ended the recording, too."""
    try:
        return sock.recv(LIMIT)
    except OSError:
        return b""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _left(fd: int) -> int:
    status = os.fstatvfs(fd)
    return status.f_bavail * status.f_frsize
