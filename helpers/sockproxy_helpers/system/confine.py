"""Give up for ever what neither helpers nor front need: writing and making files, mounts, programs, TCP, signals.

Capabilities and new privileges are gone before Python starts (see the process table of `sockproxy up`, or the unit).
But uid 0 owns the system's files, and needs no capability to write what it owns: Landlock takes that away too
(landlock(7)). Opening the daemon's socket, reading the account database and loading its modules stay possible; so does
keeping plain files in the folders that a process is given.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1  # flag: tell the ABI
_PATH_BENEATH = 1
_SET_NO_NEW_PRIVS = 38
_LET = "let this container, or unit, call landlock_create_ruleset, landlock_add_rule and landlock_restrict_self"

# Bits of LANDLOCK_ACCESS_FS_*: all but READ_FILE and READ_DIR, as many as the ABI knows.
_EXECUTE, _WRITE = 1 << 0, 1 << 1
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE, _IOCTL_DEV = (2, 1 << 13), (3, 1 << 14), (5, 1 << 15)
WRITE, MAKE_FOLDERS = _WRITE, 1 << 7
_KEEP_FILES = _WRITE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8  # remove folders and files, make folders and files
_TCP = (4, 0b11)  # bind and connect
_SCOPES = (6, 0b10)  # signals to processes outside; abstract sockets stay: a notify socket may be one


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("fs", ctypes.c_uint64), ("parent", ctypes.c_int32))


def confine(writable: tuple[str, ...] = (), may: Mapping[str, int] | None = None) -> int:
    """Confine this process; nothing of what the ruleset handles is allowed, but keeping files in `writable`.

    Args:
        writable: folders below which files and folders may be made, written, renamed and removed; no links, sockets or
            devices.
        may: what else may be done below which folders: WRITE, MAKE_FOLDERS.

    Returns:
        The kernel's Landlock ABI; 0 where it has none (before 5.13, or switched off) and nothing was confined.

    Raises:
        OSError: the kernel has it and refused.
        SystemExit: somebody keeps us from asking for it, as an old filter of system calls around a container does.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    abi: int = libc.syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    if abi < 1:
        if ctypes.get_errno() in (errno.ENOSYS, errno.EOPNOTSUPP):  # landlock_create_ruleset(2)
            return 0
        raise SystemExit(f"Landlock is refused ({os.strerror(ctypes.get_errno())}): {_LET}")
    fs = (
        _EXECUTE
        | _WRITE
        | _REMOVE_AND_MAKE
        | sum(bits for since, bits in (_REFER, _TRUNCATE, _IOCTL_DEV) if abi >= since)
    )
    ruleset = _Ruleset(fs, _TCP[1] if abi >= _TCP[0] else 0, _SCOPES[1] if abi >= _SCOPES[0] else 0)
    size = 24 if abi >= _SCOPES[0] else 16 if abi >= _TCP[0] else 8
    fd = libc.syscall(ctypes.c_long(_CREATE_RULESET), ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
    _check(fd)
    try:
        keep_files = _KEEP_FILES | (_TRUNCATE[1] if abi >= _TRUNCATE[0] else 0)
        for folder, access in [*((folder, keep_files) for folder in writable), *(may or {}).items()]:
            _allow(libc, fd, folder, access)
        _check(libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _check(libc.syscall(ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(fd), ctypes.c_uint32(0)))
    finally:
        os.close(fd)
    return abi


def _allow(libc: ctypes.CDLL, ruleset: int, folder: str, access: int) -> None:
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        rule = _Beneath(access, fd)
        arguments = ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0)
        _check(libc.syscall(ctypes.c_long(_ADD_RULE), *arguments))
    finally:
        os.close(fd)


def _check(result: int) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
