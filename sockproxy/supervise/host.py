"""Prepare the machine: users, folders, locks, listening sockets. All of it as root, before any process is started.

SECURITY: root must not be led astray by a path that somebody else may change, so each folder above one that is used
must be root's and closed to others' writing (or sticky), and what is used is never reached through a last symlink.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import socket
import stat
import subprocess
import sys

from sockproxy import paths
from sockproxy.supervise import table
from sockproxy.supervise.table import Endpoint, Row, Settings
from sockproxy_helpers.totals import cgroupfs

BACKLOG = 4096  # of listening sockets; the kernel's own limit is lower or equal (net.core.somaxconn)
_CAPABILITIES = {"setgid": 6, "setuid": 7, "sys_admin": 21, "setfcap": 31}  # linux/capability.h
HIGH = 100  # descriptors to pass on are above those that they get in the process (3, 4, …)
LONGEST = 107  # bytes of a socket's path (unix(7))


class UpError(Exception):
    """Say in a sentence why nothing can be started."""


def say(text: str) -> None:
    """Tell the administrator; nobody may be listening any more."""
    with contextlib.suppress(OSError):
        print(f"sockproxy: {text}", file=sys.stderr, flush=True)


def account(name: str) -> pwd.struct_passwd:
    """Give a system user, made when it isn't there.

    Raises:
        UpError: it can't be made, or it is not the powerless user that it should be.
    """
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        _useradd(name)
        found = pwd.getpwnam(name)
    if found.pw_uid == 0 or found.pw_gid != _gid(name):
        raise UpError(f"the user {name} must have a uid above 0 and a primary group of the same name")
    return found


def group(name: str) -> None:
    """Have a system group, made when it isn't there.

    Raises:
        UpError: it can't be made.
    """
    try:
        grp.getgrnam(name)
    except KeyError:
        _make("group", "groupadd", "--system", name)


def _useradd(name: str) -> None:
    home = ("--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin")
    _make("user", "useradd", "--system", "--user-group", *home, name)


def _make(what: str, *command: str) -> None:
    say(f"making the system {what} {command[-1]}")
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True)  # noqa: S603 (constants)
    except OSError as error:
        raise UpError(f"cannot make the system {what} {command[-1]}: {command[0]}: {error.strerror}") from error
    if done.returncode not in (0, 9):  # 9: it has been made in the meantime (useradd(8), groupadd(8))
        raise UpError(f"cannot make the system {what} {command[-1]}: {done.stderr.strip()}")


def _gid(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UpError(f"there is no group {name}") from None


def folders(settings: Settings) -> None:
    """Make the folders, with exactly their owners and modes."""
    for folder in table.folders(settings):
        _folder(*folder)
    _parents(settings.listen)
    _parents(f"{settings.plugin_dir}/", public=False)


def salt(path: str) -> None:
    """Make the salt of the record's hashes, once."""
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(os.urandom(32))


def cgroups_of_users(name: str) -> None:
    """Make the folders below which each user gets a cgroup; without them, only systemd can give totals."""
    try:
        cgroupfs.find(name).make()
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
        say(f"warning: no totals of a user can be set, but where the daemon leaves cgroups to systemd: {why}")


def assertion_key(path: str, group: str) -> None:
    """Make the key of assertions anew: for root's helpers and the auth process alone.

    Raises:
        OSError: it can't be written.
    """
    draft = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(draft)  # the folder is root's and locked by us
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    with open(fd, "wb") as file:
        if os.fstat(fd).st_gid != _gid(group):  # it has its folder's; systemd's unit may change no owner
            os.fchown(fd, 0, _gid(group))
        os.fchmod(fd, 0o440)
        file.write(os.urandom(32))
    os.replace(draft, path)


def _folder(path: str, mode: int, user: str, group: str) -> None:
    _parents(path)
    uid = pwd.getpwnam(user).pw_uid
    try:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise UpError(f"{path} is no folder that can be used: {error.strerror}") from error
    try:
        if os.fstat(fd).st_uid not in (0, uid):
            raise UpError(f"{path} belongs to somebody else, not to {user}")
        os.fchown(fd, uid, _gid(group))
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _parents(path: str, public: bool = True) -> None:
    """Make the folders above a path, and see that only root can change what they lead to, and others can pass.

    Args:
        public: False where nobody else has to pass.
    """
    parent = folder = os.path.realpath(os.path.dirname(path))
    while True:
        if os.path.lexists(folder):
            status = os.stat(folder)
            if status.st_uid != 0 or (status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX):
                raise UpError(f"{path} is not safe: others than root may change {folder}")
            if public and not status.st_mode & stat.S_IXOTH:
                raise UpError(f"{path} cannot be used: {folder} is closed to unprivileged users")
        if folder == "/":
            break
        folder = os.path.dirname(folder)
    os.makedirs(parent, exist_ok=True)


def startable(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Leave out the processes whose capabilities this one does not have, in a container perhaps: so there are no binds.

    Without them, whoever asks for a bind is refused; all else works.
    """
    with open("/proc/self/status") as file:
        held = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))
    missing = {row.name for row in rows if any(not held >> _CAPABILITIES[name] & 1 for name in row.capabilities)}
    if missing:
        say(f"warning: no capability for {', '.join(sorted(missing))}: binds of the host's folders are refused")
        return tuple(row for row in rows if not row.capabilities)
    return rows


def lock(folder: str) -> int:
    """Hold a folder for this process alone; give the descriptor that holds it."""
    fd = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UpError(f"another sockproxy is running with {folder}") from None
    return fd


class Listener:
    """Hold a listening socket and its file.

    Attributes:
        fd: to pass on; closed on exec here.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        """Listen.

        Raises:
            UpError: somebody else does, or something that is no socket is in the way.
        """
        self._path = endpoint.path
        if len(os.fsencode(self._path)) > LONGEST:
            raise UpError(f"{self._path} is too long for a socket, at most {LONGEST} bytes")
        _replace(self._path, endpoint.kind)
        with socket.socket(socket.AF_UNIX, endpoint.kind) as sock:
            sock.bind(self._path)  # nobody can connect before listen(), so owner and mode come in time
            os.chown(self._path, 0, _gid(endpoint.group), follow_symlinks=False)
            os.chmod(self._path, endpoint.mode)
            sock.listen(BACKLOG)
            self.fd = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, HIGH)
        self._file = _identity(self._path)

    def remove(self) -> None:
        """Remove the file, if it is still this socket's."""
        if self._file == _identity(self._path):
            os.unlink(self._path)
        self._file = None

    def close(self) -> None:
        """Stop listening here; processes that got the socket still do."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _replace(path: str, kind: socket.SocketKind) -> None:
    """Remove what a killed process has left, and nothing else."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise UpError(f"{path} is in the way: it is no socket")
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.setblocking(False)
        if sock.connect_ex(path) != errno.ECONNREFUSED:  # EAGAIN, for one, is a living one with a full backlog
            raise UpError(f"{path} is in use by another process")
    os.unlink(path)


def readable(row: Row, rights: list[str]) -> None:
    """See that a process can be started with its rights and read its code, by trying.

    Args:
        rights: the command that takes on the row's rights.
    """
    module = [os.path.join(os.path.dirname(paths.__file__), "__init__.py")] if "-m" in row.argv else []
    for file in [*(argument for argument in row.argv if argument.startswith("/")), *module]:
        command = [*rights, "/usr/bin/test", "-r", file]
        try:
            done = subprocess.run(command, env={"LANG": "C.UTF-8"}, capture_output=True, text=True)  # noqa: S603
        except OSError as error:
            raise UpError(f"cannot run {command[0]} (of util-linux): {error.strerror}") from error
        if done.returncode == 1 and not done.stderr:
            raise UpError(f"{row.name} (user {row.user}) cannot read {file}: sockproxy must lie where all users can")
        if done.returncode:
            raise UpError(f"cannot start {row.name} with its rights: {done.stderr.strip()}")
