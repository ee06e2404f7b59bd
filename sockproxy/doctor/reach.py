"""Tell who can open a socket: by the modes and access control lists of it and of the folders above it."""

from __future__ import annotations

import os

from sockproxy.doctor.machine import Machine

_PASS, _CONNECT = 0o1, 0o2  # a folder is passed with x; connecting takes w (unix(7))


def openers(machine: Machine, path: str) -> set[str] | None:
    """Name the users but root who can connect to a socket; None for everybody."""
    path = os.path.realpath(machine.path(path))[len(machine.path("")) :] or "/"
    found = _allowed(machine, path, _CONNECT)
    while path != "/":
        path = os.path.dirname(path)
        through = _allowed(machine, path, _PASS)
        if through is not None:
            found = through if found is None else found & through
    return found


def _allowed(machine: Machine, path: str, bit: int) -> set[str] | None:
    status = machine.status(path)
    if status is None:
        return set()
    if status.st_mode & bit:
        return None
    names: set[str] = set()
    if status.st_uid != 0 and status.st_mode & bit << 6:
        names.add(machine.user(status.st_uid))
    if status.st_mode & bit << 3:  # with an access control list these bits are the mask of all but the owner
        named = machine.acl(path)
        if status.st_gid != 0 or not named:
            names |= machine.members(status.st_gid)
        for of_user, who, bits in named:
            if bits & bit:
                names |= {machine.user(who)} if of_user else machine.members(who)
    return names - {"root"}


def words(names: set[str] | None, most: int = 8) -> str:
    """Write down who they are."""
    if names is None:
        return "everybody on this machine"
    listed = sorted(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
