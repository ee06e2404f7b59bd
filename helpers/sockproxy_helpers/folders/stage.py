"""Open a bind's source with its owner's rights, and make the mount that a container may have of it.

SECURITY: runs in a process of its own for one bind, with the binds helper's capabilities and, for the walk, the
owner's file system IDs: so a path leads where its owner could go, whoever changes it meanwhile, and what counts is what
was opened. A hanging file system hangs this process only. The clone can't bring anything of the host's to life:
setuid bits and devices are dead on it, and by the map nobody's IDs but the owner's exist on it.
"""

from __future__ import annotations

import errno
import os
import stat

from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.judge.places import Place, allowed, join, split
from sockproxy_helpers.system import kernel
from .bindledger import Bind
from .idmap import Extent, holds

_NEW_FOLDER = 0o755  # as the daemon makes it
_MAPPABLE = "ext4, xfs, btrfs, tmpfs"
_TRIES = 8  # EAGAIN: something was renamed meanwhile (openat2(2))


class Owner:
    """Hold whose rights count."""

    __slots__ = ("gid", "groups", "uid", "user")

    def __init__(self, user: str, uid: int, gid: int) -> None:
        self.user, self.uid, self.gid = user, uid, gid
        self.groups = os.getgrouplist(user, gid)


def source(bind: Bind, owner: Owner, among: list[Place], uids: list[Extent], gids: list[Extent]) -> int:
    """Open a bind's source as its owner, at or below one of the role's places.

    This process walks as the owner from here on.

    Args:
        uids, gids: the owner's map. What belongs to subordinate IDs is the owner's: a database's container has given
            its folder away to itself, closed to the owner, and will want it again.

    Returns:
        An O_PATH descriptor of a folder or a regular file.

    Raises:
        Refused, Malformed: with words for the owner.
    """
    kernel.walk_as(owner.uid, owner.gid, owner.groups)
    fd = _open(bind, among)
    found = os.fstat(fd)
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        raise Refused(bind.field, f"{bind.source} is neither a folder nor a file")
    if holds(uids, found.st_uid) and holds(gids, found.st_gid):
        return fd
    for wanted, word in ((os.R_OK, "read"), (os.W_OK, "write to")):
        try:
            if wanted == os.R_OK or bind.writable:
                kernel.may(fd, wanted)
        except OSError as error:
            hint = " (allowed: read-only, :ro)" if wanted == os.W_OK else ""
            raise Refused(bind.field, f"{owner.user} may not {word} {bind.source}{hint}") from error
    return fd


def _open(bind: Bind, among: list[Place]) -> int:
    """Open below a place; a link out of it is followed only to where the text of its target is allowed, too."""
    path = bind.source
    for follow in (True, False):
        for place in allowed(split(path), bind.writable, among):
            try:
                return _below(place[0], split(path)[len(place[0]) :], bind.made)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise _words(error, bind) from error
        if follow:
            path = os.path.realpath(bind.source)
            among = [(split(os.path.realpath(join(place))), mode) for place, mode in among]
    where = ", ".join(f"{join(place)} {mode}" for place, mode in among) or "none"
    raise Refused(bind.field, f"{bind.source} leads to {path} (allowed: {where})", "binds")


def _below(place: list[str], parts: list[str], made: bool) -> int:
    """Open a path below a place so that nothing on the way can lead out of it."""
    top = _openat2(kernel.AT_FDCWD, join(place), os.O_PATH | os.O_DIRECTORY if parts else os.O_PATH, 0)
    if not parts:
        return top
    for count in range(1, len(parts) + 1) if made else ():
        _make(top, parts[:count])
    return _openat2(top, "/".join(parts), os.O_PATH, kernel.RESOLVE_BENEATH)


def _make(top: int, parts: list[str]) -> None:
    """Make a folder where there is nothing, as its owner would."""
    try:
        os.close(_openat2(top, "/".join(parts), os.O_PATH, kernel.RESOLVE_BENEATH))
    except FileNotFoundError:
        flags = os.O_PATH | os.O_DIRECTORY
        parent = _openat2(top, "/".join(parts[:-1]) or ".", flags, kernel.RESOLVE_BENEATH)
        try:
            os.mkdir(parts[-1], _NEW_FOLDER, dir_fd=parent)
        except FileExistsError:
            pass  # made meanwhile; or a link that leads nowhere, which opening it will tell
        finally:
            os.close(parent)


def _openat2(folder: int, path: str, flags: int, resolve: int) -> int:
    for _ in range(_TRIES):
        try:
            return kernel.openat2(folder, path, flags, resolve | kernel.RESOLVE_NO_MAGICLINKS)
        except BlockingIOError:
            pass
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _words(error: OSError, bind: Bind) -> Refused | Malformed:
    if isinstance(error, FileNotFoundError):  # the daemon's own words
        return Malformed(f'invalid mount config for type "bind": bind source path does not exist: {bind.source}')
    return Refused(bind.field, f"{bind.user} cannot open {bind.source}: {error.strerror}")


def own_socket(path: str) -> int:
    """Make the mount of the users' socket, for a container that asked for the daemon's.

    Who connects there is told from all others by the container that it runs in (see `origin`). Read-only, so that root
    in the container can't change the owner or mode of the one file that all users share; connecting needs no more.
    """
    fd = kernel.openat2(kernel.AT_FDCWD, path, os.O_PATH | os.O_NOFOLLOW, kernel.RESOLVE_NO_MAGICLINKS)
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    tree = kernel.clone_tree(fd, False)
    try:
        kernel.set_attributes(tree, kernel.RDONLY | kernel.NOSUID | kernel.NODEV | kernel.NOEXEC, False)
    except OSError as error:
        if error.errno != errno.ENOSYS:  # then the attacher does, of what it attaches
            raise
    return tree


def clone(fd: int, bind: Bind, userns: int, unmapped: bool) -> int:
    """Make the mount.

    Args:
        userns: the map.
        unmapped: the role may read without one.

    Raises:
        Refused: this file system can't be mapped.
    """
    tree = kernel.clone_tree(fd, bind.recursive)
    attributes = kernel.NOSUID | kernel.NODEV | (0 if bind.writable else kernel.RDONLY)
    try:
        kernel.set_attributes(tree, attributes | kernel.IDMAP, bind.recursive, userns)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
            raise
        old = error.errno == errno.ENOSYS
        if not unmapped or bind.writable:
            raise Refused(bind.field, _unmappable(fd, bind, userns, old, unmapped), "unmapped_binds") from error
        if old:  # nothing can be set on a clone: the attacher does, of what it attaches, and of that mount alone
            return kernel.clone_tree(fd, False)
        kernel.set_attributes(tree, attributes, bind.recursive)
    return tree


def _unmappable(fd: int, bind: Bind, userns: int, old: bool, unmapped: bool) -> str:
    """Say why a source can't be had safely, and where it could."""
    what, instead = "its file system", "read-only, :ro" if unmapped else f"{_MAPPABLE}; a volume; docker cp"
    if old:
        what = "this kernel, before Linux 5.12,"
        instead = instead if unmapped else "a volume; docker cp"
    elif bind.recursive:
        try:  # perhaps only something that is mounted below it
            kernel.set_attributes(kernel.clone_tree(fd, False), kernel.IDMAP, False, userns)
            what = "something that is mounted below it"
        except OSError:
            pass
    why = f"{bind.source} can't be bound: {what} does not let root in the container be you on disk"
    return f"{why} (allowed: {instead})"
