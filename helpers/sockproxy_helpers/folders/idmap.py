"""Map IDs between a bound folder's disk and a container: the container's user is the caller, others are the caller's
subordinate IDs (subuid(5)), nobody else's are anything.
"""

from __future__ import annotations

import os
import socket
import struct

from sockproxy_helpers.system import kernel

Extent = tuple[int, int, int]  # on disk, in the container, how many (user_namespaces(7))
HIGHEST = 65536  # IDs above are in no image
LONGEST = 300  # extents of a map: the kernel takes 340, and one page of text
_FD = struct.Struct("i")


def subordinate(path: str, user: str, uid: int) -> list[tuple[int, int]]:
    """Read the ranges that /etc/subuid or /etc/subgid gives to a user, by name or by number."""
    ranges = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                who, _, rest = line.strip().partition(":")
                first, _, count = rest.partition(":")
                if who in (user, str(uid)) and all(text.isascii() and text.isdecimal() for text in (first, count)):
                    ranges.append((int(first), int(count)))
    except FileNotFoundError:
        pass
    return ranges


def extents(main: int, caller: int, ranges: list[tuple[int, int]], same: list[int]) -> list[Extent]:
    """Form a map.

    The Nth subordinate ID stands for N in the container, whatever the container's user is: what one container leaves,
    another of the same person finds.

    Args:
        main: the container's user, who is the caller on disk.
        ranges: the caller's subordinate IDs.
        same: IDs that are the same at both places: the caller's groups.
    """
    found = [(caller, main, 1)]
    taken = {main}
    for number in same:
        if number not in taken and number != caller:
            found.append((number, number, 1))
            taken.add(number)
    own = {on_disk for on_disk, _, _ in found}
    inside = 0
    for first, count in ranges:
        count = min(count, HIGHEST - inside)
        # The subordinate IDs would contain the caller's own only if somebody set them up so: then there is no map.
        if count > 0 and not any(first <= number < first + count for number in own):
            found += _around(first, inside, count, taken)
            inside += count
    return found[:LONGEST]


def _around(first: int, inside: int, count: int, taken: set[int]) -> list[Extent]:
    """Map a range, but for what is taken in the container."""
    found, start = [], inside
    for stop in [*sorted(number for number in taken if inside <= number < inside + count), inside + count]:
        if stop > start:
            found.append((first + start - inside, start, stop - start))
        start = stop + 1
    return found


def shifted(found: list[Extent], root: int) -> list[Extent]:
    """Give a map for containers whose IDs are others on the host, from `root` on (dockerd's --userns-remap)."""
    return [(on_disk, root + inside, count) for on_disk, inside, count in found]


def holds(found: list[Extent], on_disk: int) -> bool:
    """Tell whether an ID on disk is anybody in the container."""
    return any(first <= on_disk < first + count for first, _, count in found)


def namespace(uids: list[Extent], gids: list[Extent]) -> int:
    """Make a user namespace that holds a map, and nothing else: its one process has ended; give its descriptor."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            kernel.be_dumpable()
            kernel.unshare(kernel.CLONE_NEWUSER)
            fd = os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            theirs.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _FD.pack(fd))])
            theirs.recv(1)  # until the maps are written: they are, through this process
        finally:
            os._exit(0)
    theirs.close()
    try:
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(_FD.size), socket.MSG_CMSG_CLOEXEC)
        if not ancillary:
            raise OSError("the kernel gives no user namespace")
        (fd,) = _FD.unpack(ancillary[0][2])
        for name, lines in (("uid_map", uids), ("gid_map", gids)):
            file = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)  # one write is all that the kernel takes
            os.write(file, "".join(f"{on_disk} {inside} {count}\n" for on_disk, inside, count in lines).encode())
            os.close(file)
        return int(fd)
    finally:
        ours.close()
        os.waitpid(pid, 0)
