"""Read what the kernel tells of the process at the other end of a connection.

SECURITY: `uid`, `gid` and `pid` are the kernel's record of who called connect() (SO_PEERCRED). All else is read from
/proc while a pidfd of that very process is held, and is taken only if the process was alive after the last read: so it
is not said of another process that got the same number. What a caller can make up:
 - `comm`: any process names itself;
 - `loginuid`: a process that has none (a service's, a container's) may set it once, to any number. It tells whom to ask
   about root's doings, and never who may do something;
 - a cgroup that is called like a container's, in a part of the tree that it was given. So `containers` are names to ask
   the daemon about, not yet an answer; see `origin.py`.
What it can not: leave the cgroups of its container (moving out needs write access to where it would go), or be in no
namespace of its own while it is in one. A process that is gone is in an unknown place, and so is one that is not shown.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import struct

from . import cgroups

PEERCRED = struct.Struct("iII")  # struct ucred of unix(7): pid, uid, gid
SO_PEERPIDFD, SO_COOKIE = 77, 57  # the same on every architecture that Docker runs on; Python has no names for them
SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # of descriptors or memory: the next look may see more
UNSET = 0xFFFFFFFF  # the loginuid of who never logged in
REMEMBERED = 8192  # connections; some 300 bytes each here, in the front and in each helper
READ = 8192  # bytes at a time of a file in /proc, of which most have some hundred
WHOLE = 2048  # who gives less has no more: the kernel gathers lines in a page at least before it gives any (seq_file)
_PROC = "/proc"
_NO_PATHS, _NOWHERE = dict[str, str](), list[str]()  # one for all who have none: what a peer has is replaced as a whole
_SHOWN = re.compile(rb"[^\x21-\x7e]")
_STATUS = re.compile(rb"Name:\t(.*)\n(?s:.*?)\nNSpid:\t(.*)\n")  # a name has no newline: the kernel writes it as \\n

GONE = "the process that connected is gone, so nobody can tell where it ran"
HIDDEN = "/proc does not show the process that connected (another pid namespace, or a hidepid mount option)"
FOREIGN = "the process that connected runs in a namespace that is not the host's, and in no container of the daemon's"


class Peer:
    """Hold what is known of a process, as of the first time that its connection was looked at.

    Attributes:
        uid, gid, pid: when it connected, as numbers of our own namespaces; pid 0 is a process outside of them.
        loginuid: who logged in to what became this process; None for nobody.
        cgroups: path by hierarchy ("" is that of cgroup v2); kept only where they name a container.
        containers: IDs in those paths, from the outermost inwards.
        container: what the daemon told of it, kept here by who asked (`origin.py`).
        trouble: why nobody can tell where it runs; "" when it is known.
    """

    __slots__ = ("cgroups", "comm", "container", "containers", "gid", "loginuid", "pid", "trouble", "uid")

    def __init__(self, pid: int, uid: int, gid: int) -> None:
        self.pid, self.uid, self.gid, self.comm, self.trouble = pid, uid, gid, "", ""
        self.loginuid: int | None = None
        self.cgroups, self.containers = _NO_PATHS, _NOWHERE
        self.container: object = None


_known: dict[int, Peer] = {}


def of(sock: socket.socket) -> Peer:
    """Tell who is at the other end of a connected AF_UNIX socket.

    A connection has one peer for ever: what was found is kept under the socket's cookie, which no other gets.

    Raises:
        OSError: not a socket, or no descriptors are left to look with, which says nothing about the peer.
    """
    cookie = cookie_of(sock)
    peer = _known.get(cookie)
    if peer is None:
        peer = Peer(*PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEERCRED.size)))
        _read_process(sock, peer)
        if len(_known) >= REMEMBERED:
            del _known[next(iter(_known))]
        _known[cookie] = peer
    return peer


def cookie_of(sock: socket.socket) -> int:
    """Give the number that the kernel has for this socket alone, until the next boot."""
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")


def _read_process(sock: socket.socket, peer: Peer) -> None:
    try:
        pidfd = _pidfd(sock, peer.pid)
    except OSError as error:
        if error.errno in SHORT:
            raise
        peer.trouble = GONE if peer.pid > 0 else HIDDEN
        return
    try:
        try:
            _read(peer)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in SHORT:
                raise
            peer.trouble = HIDDEN
        if not _is_alive(pidfd):
            peer.trouble = GONE
    finally:
        os.close(pidfd)
    if peer.trouble in (GONE, HIDDEN):  # what was read may be another's
        peer.comm, peer.loginuid, peer.cgroups, peer.containers = "", None, _NO_PATHS, _NOWHERE


def _pidfd(sock: socket.socket, pid: int) -> int:
    """Hold the process that connected.

    Kernels before 6.5 tell its number only: there, one that ended is not known from one that got its number since.
    """
    if pid <= 0:
        raise ProcessLookupError
    try:
        return sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return os.pidfd_open(pid)


def _is_alive(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)


def _read(peer: Peer) -> None:
    """Read what /proc tells; OSError or ValueError where it does not."""
    status = _STATUS.match(_file(peer.pid, "status"))
    if not status:
        raise ValueError("status")
    peer.comm = _SHOWN.sub(b"?", status[1]).decode("ascii")
    paths = cgroups.parse(_lines(peer.pid, "cgroup"))
    peer.containers = [one for one in cgroups.containers(paths) if one not in _SURROUNDINGS] or _NOWHERE
    peer.cgroups = paths if peer.containers else peer.cgroups
    foreign = len(status[2].split()) > 1 or _file(peer.pid, "uid_map") != _USER_NAMESPACE
    if foreign and not peer.containers:
        peer.trouble = FOREIGN
    peer.loginuid = _login(peer.pid)


def _file(pid: int | str, name: str) -> bytes:
    fd = os.open(f"{_PROC}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, READ)
        more = len(text) >= WHOLE
        while more and (piece := os.read(fd, READ)):
            text += piece
    finally:
        os.close(fd)
    return text


def _lines(pid: int | str, name: str) -> list[str]:
    """Give lines as the kernel ends them: names that are chosen have what ends a line elsewhere (str.splitlines)."""
    return _file(pid, name).decode("utf-8", "surrogateescape").split("\n")[:-1]


def _login(pid: int) -> int | None:
    try:
        login = int(_file(pid, "loginuid"))
    except OSError:  # a kernel without audit
        return None
    return None if login == UNSET else login


def read_cgroups(pid: int) -> dict[str, str]:
    """Read the cgroups of a process; none when there is no such process."""
    try:
        return cgroups.parse(_lines(pid, "cgroup"))
    except (OSError, ValueError):
        return {}


# sockproxy may run in a container itself: what we share with a peer tells nothing about it.
_SURROUNDINGS = cgroups.containers(cgroups.parse(_lines("self", "cgroup")))
_USER_NAMESPACE = _file("self", "uid_map")
