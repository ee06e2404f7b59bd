"""Make the system calls that Python has no functions for: paths walked with another's rights, mounts as descriptors.

The numbers from 424 on are the same on every architecture; for the credentials the C library's functions serve, since
whoever calls them here has one thread. Each call raises OSError.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE, AT_EACCESS = -100, 0x1000, 0x8000, 0x200
RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH = 0x02, 0x08
OPEN_TREE_CLONE = 1
RDONLY, NOSUID, NODEV, NOEXEC, IDMAP = 0x1, 0x2, 0x4, 0x8, 0x100000  # MOUNT_ATTR_*
MOVE_MOUNT_F_EMPTY_PATH = 0x4
UMOUNT = 0x2 | 0x8  # MNT_DETACH | UMOUNT_NOFOLLOW: never through a link
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE, MS_SLAVE = 0x4000, 1 << 18, 1 << 19
_RESTRICT = 0x20 | 0x1000 | 0x1 | 0x2 | 0x4  # MS_REMOUNT | MS_BIND, and MS_RDONLY | MS_NOSUID | MS_NODEV
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38

_OPEN_TREE, _MOVE_MOUNT, _OPENAT2, _FACCESSAT2, _MOUNT_SETATTR = 428, 429, 437, 439, 442

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _syscall(number: int, *arguments: int | bytes) -> int:
    """Make a system call; integers go as C longs, as the kernel takes them."""
    given = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *given))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def openat2(folder: int, path: str, flags: int, resolve: int) -> int:
    """Open a path, resolved as `resolve` allows (openat2(2))."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return _syscall(_OPENAT2, folder, os.fsencode(path), how, len(how))


def may(fd: int, mode: int) -> None:
    """See that what an O_PATH descriptor stands for may be used so (os.R_OK, os.W_OK), by the file system's IDs."""
    _syscall(_FACCESSAT2, fd, b"", mode, AT_EACCESS | AT_EMPTY_PATH)


def clone_tree(fd: int, recursive: bool) -> int:
    """Make a detached copy of the mount below a descriptor; whoever closes it ends it (open_tree(2))."""
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    return _syscall(_OPEN_TREE, fd, b"", flags)


def set_attributes(tree: int, attributes: int, recursive: bool, userns: int = 0) -> None:
    """Set a detached mount's attributes, and make it private (mount_setattr(2))."""
    change = struct.pack("QQQQ", attributes, 0, MS_PRIVATE, userns)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _syscall(_MOUNT_SETATTR, tree, b"", flags, change, len(change))


def sets_attributes() -> bool:
    """Tell whether attributes can be set on detached mounts: from Linux 5.12 on; any doubt counts as no."""
    try:
        _syscall(_MOUNT_SETATTR, -1, b"", AT_EMPTY_PATH, b"", 0)
    except OSError as error:
        return error.errno == errno.EINVAL  # too small a structure: the call itself is there
    return False


def restrict(path: str) -> None:
    """Make an attached mount read-only, without setuid and devices, and private: before Linux 5.12 in no other way."""
    for flags in (_RESTRICT, MS_PRIVATE):
        _checked(_libc.mount(None, ctypes.c_char_p(os.fsencode(path)), None, ctypes.c_ulong(flags), None))


def attach(tree: int, path: str) -> None:
    """Attach a detached mount (move_mount(2))."""
    _syscall(_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(path), MOVE_MOUNT_F_EMPTY_PATH)


def detach(path: str) -> None:
    """Detach the mount on a path, never through a link; who has it open keeps it."""
    _checked(_libc.umount2(ctypes.c_char_p(os.fsencode(path)), ctypes.c_int(UMOUNT)))


def walk_as(uid: int, gid: int, groups: list[int]) -> None:
    """Have this process's walks in the file system checked as another user's.

    Only the file system's IDs change: the process can't be signalled or traced by that user.
    """
    os.setgroups(groups)
    _libc.setfsgid(ctypes.c_uint(gid))
    _libc.setfsuid(ctypes.c_uint(uid))
    now = _libc.setfsuid(ctypes.c_uint(0xFFFFFFFF)) & 0xFFFFFFFF, _libc.setfsgid(ctypes.c_uint(0xFFFFFFFF)) & 0xFFFFFFFF
    if now != (uid, gid):  # these two calls tell of no failure
        raise PermissionError(f"cannot act as uid {uid}")


def unshare(flags: int) -> None:
    """Leave namespaces (unshare(2))."""
    _checked(_libc.unshare(ctypes.c_int(flags)))


def follow_the_hosts_mounts() -> None:
    """Take a mount namespace of one's own, into which the host's mounts come and from which none go out."""
    unshare(CLONE_NEWNS)
    _checked(_libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None))


def be_dumpable() -> None:
    """Let our own kind write this process's ID maps: the files in its /proc folder are root's otherwise."""
    _checked(_libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
