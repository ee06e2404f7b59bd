"""Frame the messages between the front and the helpers, and between the helpers.

A channel is an AF_UNIX SOCK_SEQPACKET socket with one call in flight: the kernel keeps message bounds, the end of the
channel cancels the call, and there are no request numbers to confuse. A message is one line of compact JSON, then raw
payload bytes. A message over `INLINE` goes in a sealed memfd, announced by an empty datagram that carries it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import struct

INLINE = 60_000  # below glibc's mmap threshold: recv of a larger buffer costs 17 us instead of 2 (measured)
LARGEST = 8 << 20  # head limit 1 MiB, JSON-escaped; body limit 1.5 MiB; answers that are cut
MAX_FDS = 3
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))
_DECODER = json.JSONDecoder()
_FD = struct.Struct("i")
_SPACE = socket.CMSG_SPACE(MAX_FDS * _FD.size)
_CUT, _CUT_FDS = int(socket.MSG_TRUNC), int(socket.MSG_CTRUNC)  # as numbers: an enum's `&` takes 2 us (measured)


class WireError(Exception):
    """Report that the peer broke the framing: nothing it says can be believed any more, so the channel is closed."""


def pack(header: dict[str, object], payload: bytes = b"") -> bytes:
    """Form a message."""
    return _ENCODER.encode(header).encode("ascii") + b"\n" + payload


def unpack(untrusted_message: bytes) -> tuple[dict[str, object], bytes]:
    """Take a message apart.

    Raises:
        WireError: no JSON object in the first line.
    """
    line, newline, payload = untrusted_message.partition(b"\n")
    try:
        header = _DECODER.decode(line.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise WireError("no JSON") from error
    if not newline or not isinstance(header, dict):
        raise WireError("no JSON object")
    return header, payload


def send(channel: socket.socket, message: bytes, fds: list[int]) -> None:
    """Send one message with descriptors.

    Raises:
        OSError: the channel is broken, or (BlockingIOError) full: one message a turn never fills it.
    """
    if len(message) <= INLINE:
        _send(channel, message, fds)
        return
    memfd = os.memfd_create("sockproxy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(message)
        while view:
            view = view[os.write(memfd, view) :]
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, SEALS)
        _send(channel, b"\n", [*fds, memfd])
    finally:
        os.close(memfd)


def _send(channel: socket.socket, data: bytes, fds: list[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(map(_FD.pack, fds)))] if fds else []
    channel.sendmsg([data], rights)


def receive(channel: socket.socket, most: int = 1) -> tuple[bytes, list[int]]:
    """Receive one message (non-blocking) and its descriptors, `most` of them, which the caller then owns.

    Returns:
        The message, empty at the end of the channel.

    Raises:
        WireError: too long, no message but descriptors, too many of them, or a memfd that is not sealed.
        OSError: the channel is broken, or (EMFILE) this process can't take the descriptors: nobody's fault.
        BlockingIOError: nothing there yet.
    """
    data, ancillary, flags, _ = channel.recvmsg(INLINE + 1, _SPACE, socket.MSG_CMSG_CLOEXEC)
    fds = [
        fd
        for level, kind, rights in ancillary
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS
        for (fd,) in _FD.iter_unpack(rights[: len(rights) // _FD.size * _FD.size])
    ]
    try:
        if flags & _CUT_FDS and len(fds) < MAX_FDS:  # not for want of room in our buffer
            raise OSError(errno.EMFILE, "no descriptors are left for those of a message")
        if flags & (_CUT | _CUT_FDS):
            raise WireError("message too long")
        if fds and not data:
            raise WireError("descriptors without a message")  # not the end of the channel, which carries none
        if data == b"\n":
            data = _read_memfd(fds.pop() if fds else -1)
        if len(fds) > most:
            raise WireError("too many descriptors")
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return data, fds


def _read_memfd(fd: int) -> bytes:
    """Read a sealed memfd and close it. Unsealed, its owner could change it while it is read."""
    if fd < 0:
        raise WireError("no memfd")
    try:
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS != SEALS:
            raise WireError("memfd not sealed")
        size = os.fstat(fd).st_size
        if not 0 < size <= LARGEST:
            raise WireError("memfd too large")
        return os.pread(fd, size, 0)
    except OSError as error:
        raise WireError("not a memfd") from error
    finally:
        os.close(fd)
