"""Learn from the kernel who is at the other end of a client's connection.

SECURITY: what is decided here is decided from the kernel's own record of the peer (`peer.py`: the credentials at the
time of connect, and where its process runs) and from the host's account database, never from a word of the front's.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import time

from . import peer
from .peer import Peer

PEERCRED = peer.PEERCRED
CACHE_SECONDS = 5.0  # a person put in a group gets in within seconds; a directory server is not asked for every call
CACHE_ENTRIES = 4096

# 65534 stands for every uid that has no number in our user namespace (/proc/sys/fs/overflowuid), and 2**32-1 for none:
# neither tells people apart, so neither is anybody.
NOBODY = (65534, 0xFFFFFFFF)

IN_CONTAINER = "the process that connected runs in a container"

_accounts: dict[int, tuple[float, str, tuple[str, ...], str]] = {}


class Container:
    """Hold what the daemon tells of the container that a caller's process runs in.

    Attributes:
        owner: uid; None when it was made past sockproxy.
        trouble: why it says nothing about who asks.
    """

    __slots__ = ("id", "image", "labels", "name", "owner", "trouble")

    def __init__(
        self, identity: str, name: str, image: str, labels: dict[str, object], owner: int | None, trouble: str
    ) -> None:
        self.id, self.name, self.image, self.labels = identity, name, image, labels
        self.owner, self.trouble = owner, trouble


class Caller:
    """Name the person behind a connection.

    Invariant: `user` is "" for a uid that no account has, and where there is `trouble`; then `groups` is empty and
    `home` is "".

    Attributes:
        via: how the person is known: "peer", the kernel's word about an ordinary process of the host; "container", the
            daemon's about the container that the process runs in; "password" or "token", the auth process's.
        assertion: that word of the auth process's, for a sibling helper; "" for none.
        process: what connected; None for a caller who is only spoken of (`sockproxy explain`).
        container: in which it runs.
        trouble: why nobody can tell who it is; "" when it is known.
        unasked: that is only so because who could tell does not answer: no fault of the caller's, and over soon.
    """

    __slots__ = (
        "assertion", "container", "gid", "groups", "home", "pid", "process", "trouble", "uid", "unasked", "user", "via",
    )  # fmt: skip

    def __init__(self, uid: int, gid: int, pid: int, user: str, groups: list[str], home: str) -> None:
        self.uid, self.gid, self.pid = uid, gid, pid
        self.user, self.groups, self.home = user, groups, home
        self.via, self.trouble, self.assertion = "peer", "", ""
        self.unasked = False
        self.process: Peer | None = None
        self.container: Container | None = None

    def record(self) -> dict[str, object]:
        """Form what a record says of the caller, and of the process and the login behind it."""
        found: dict[str, object] = {"uid": self.uid, "user": self.user, "gid": self.gid, "groups": self.groups}
        found |= {"pid": self.pid, "via": self.via}
        if self.process:
            login = self.process.loginuid
            found |= {"peer_uid": self.process.uid, "comm": self.process.comm, "loginuid": login}
            found["login"] = "" if login is None else account(login)[0]
            if self.assertion:
                found["peer_user"] = from_process(self.process).user
        if self.container:
            found["container"] = {"id": self.container.id, "name": self.container.name}
        return found


def from_socket(sock: socket.socket) -> Caller:
    """Identify the peer of a connected AF_UNIX socket, as far as the kernel can tell.

    The `gid` and `pid` are the process's; `groups` are those of the account (primary and supplementary, as the host's
    NSS has them now), since a long-lived process keeps groups that the person lost.

    A process in a container is nobody yet, whatever its uid: see `origin.py`.

    Raises:
        OSError: not a socket.
    """
    return from_process(peer.of(sock))


def from_process(process: Peer) -> Caller:
    """Identify a process; see `from_socket`."""
    if process.containers and not process.trouble:
        return of_container(process, Container("", "", "", {}, None, IN_CONTAINER))
    user, groups, home = ("", (), "") if process.trouble else account(process.uid)
    who = Caller(process.uid, process.gid, process.pid, user, list(groups), home)
    who.process, who.trouble = process, process.trouble
    return who


def of_container(process: Peer, container: Container) -> Caller:
    """Identify a process by its container: it is the owner, unless that is root; then it is nobody."""
    who = Caller(NOBODY[0], NOBODY[0], process.pid, "", [], "")
    if container.owner and not container.trouble:
        user, groups, home = account(container.owner)
        gid = _primary_group(container.owner) if user else NOBODY[0]
        who = Caller(container.owner, gid, process.pid, user, list(groups), home)
    who.via, who.trouble = "container", container.trouble
    who.process, who.container = process, container
    return who


def vouched(process: Peer, uid: int, via: str, assertion: str) -> Caller:
    """Identify a process by what it presented: it is that user, whatever else it is."""
    user, groups, home = account(uid)
    who = Caller(uid, _primary_group(uid) if user else NOBODY[0], process.pid, user, list(groups), home)
    who.via, who.process, who.assertion = via, process, assertion
    return who


def again(who: Caller) -> Caller:
    """Identify a caller anew, by what the host's accounts say now."""
    if who.process is None:
        return who
    if who.assertion:
        return vouched(who.process, who.uid, who.via, who.assertion)
    return of_container(who.process, who.container) if who.container else from_process(who.process)


def person(uid: int) -> Caller:
    """Form the caller that somebody would be who does not call now."""
    user, groups, home = account(uid)
    return Caller(uid, uid, 0, user, list(groups), home)


def _primary_group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:  # removed this moment
        return NOBODY[0]


def account(uid: int) -> tuple[str, tuple[str, ...], str]:
    """Look up name, groups and home of a uid, at most every `CACHE_SECONDS`."""
    now = time.monotonic()
    known = _accounts.get(uid)
    if known is None or known[0] <= now:
        if len(_accounts) >= CACHE_ENTRIES:
            _accounts.clear()
        known = _accounts[uid] = (now + CACHE_SECONDS, *_look_up(uid))
    return known[1:]


def _look_up(uid: int) -> tuple[str, tuple[str, ...], str]:
    if uid in NOBODY:
        return "", (), ""
    try:
        entry = pwd.getpwuid(uid)
        gids = os.getgrouplist(entry.pw_name, entry.pw_gid)
    except (KeyError, OSError):  # no such account, or the directory does not answer: unknown, therefore without access
        return "", (), ""
    groups = [name for name in map(_group_name, gids) if name]
    return entry.pw_name, tuple(dict.fromkeys(groups)), entry.pw_dir


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OSError):
        return ""
