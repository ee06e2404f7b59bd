"""Read the facts that the checks go by. Files lie below `root`, so that a test can have a small machine in a folder."""

from __future__ import annotations

import ctypes
import glob
import grp
import json
import os
import pwd
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sockproxy import paths
from sockproxy.supervise.table import Settings

_ACL_USER, _ACL_GROUP, _ACL_ENTRY = 2, 8, 8  # tags and bytes of an entry of system.posix_acl_access (acl(5))
_TIMEX = 256  # bytes; more than struct timex has
_TIMEX_STATUS, _UNSYNCHRONISED = 40, 0x40  # offset of `status` on 64-bit machines; STA_UNSYNC
PATIENCE = 5.0  # seconds for the daemon


class Finding(NamedTuple):
    """Hold what a check has found: without a remedy it is but a fact."""

    text: str
    remedy: str = ""


class Unknown(Exception):
    """Say why a check can't tell, or can't tell more."""


class Machine:
    """Give the facts of this machine."""

    def __init__(self, settings: Settings, root: str = "") -> None:
        """Prepare.

        Args:
            root: what stands before each path, "" on a real machine.
        """
        self.settings, self._root = settings, root

    def path(self, path: str) -> str:
        """Give where a file of the machine lies."""
        return self._root + path

    def read(self, path: str) -> str:
        """Read a file of text; "" if it isn't there.

        Raises:
            Unknown: this user may not.
        """
        try:
            with open(self.path(path), encoding="utf-8", errors="replace", newline="\n") as file:
                return file.read()
        except PermissionError:
            raise Unknown(f"{path} can be read by root only") from None
        except OSError:
            return ""

    def status(self, path: str) -> os.stat_result | None:
        """Give the status of what a path leads to, None if it isn't there.

        Raises:
            Unknown: this user may not know.
        """
        try:
            return os.stat(self.path(path))
        except PermissionError:
            raise Unknown(f"{path} can be seen by root only") from None
        except OSError:
            return None

    def found(self, *patterns: str) -> bool:
        """Tell whether one of the patterns (glob) names something."""
        return any(next(glob.iglob(self.path(pattern)), "") for pattern in patterns)

    # --- accounts ---

    def user(self, uid: int) -> str:
        """Name a user."""
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"uid {uid}"

    def members(self, gid: int) -> set[str]:
        """Name the members of a group, also those whose primary group it is; root is none worth naming."""
        try:
            listed = set(grp.getgrgid(gid).gr_mem)
        except KeyError:
            listed = set()
        return (listed | {entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == gid}) - {"root"}

    def members_of(self, group: str) -> set[str]:
        """Name the members of a group by its name."""
        try:
            return self.members(grp.getgrnam(group).gr_gid)
        except KeyError:
            return set()

    def groups_of(self, user: str) -> set[str]:
        """Name the groups of a user but the primary one; none when there is no such user."""
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            return set()
        gids = set(os.getgrouplist(user, entry.pw_gid)) - {entry.pw_gid}
        return {found.gr_name for found in grp.getgrall() if found.gr_gid in gids}

    def acl(self, path: str) -> list[tuple[bool, int, int]]:
        """Give the named entries of a file's access control list: whether of a user, the id, the permission bits."""
        try:
            data = os.getxattr(self.path(path), "system.posix_acl_access")
        except OSError:
            return []
        entries = [data[at : at + _ACL_ENTRY] for at in range(4, len(data), _ACL_ENTRY)]
        fields = [tuple(int.from_bytes(entry[a:b], "little") for a, b in ((0, 2), (2, 4), (4, 8))) for entry in entries]
        return [(tag == _ACL_USER, who, bits) for tag, bits, who in fields if tag in (_ACL_USER, _ACL_GROUP)]

    # --- processes ---

    def processes(self, wanted: Callable[[str, list[str]], bool]) -> Iterator[int]:
        """Find processes by their name (comm) and command line."""
        for pid in filter(str.isdigit, os.listdir(self.path("/proc"))):
            try:
                comm, words = self.read(f"/proc/{pid}/comm").strip(), self.read(f"/proc/{pid}/cmdline").split("\0")
            except Unknown:
                continue
            if wanted(comm, words):
                yield int(pid)

    def sockets(self, pid: int) -> set[str]:
        """Give the inodes of the sockets that a process has open.

        Raises:
            Unknown: only root may know.
        """
        folder = f"/proc/{pid}/fd"
        try:
            links = [os.readlink(self.path(f"{folder}/{fd}")) for fd in os.listdir(self.path(folder))]
        except PermissionError:
            raise Unknown(
                "which sockets the daemon has open is for root to see: use sudo, or in sockproxy's own container "
                "`docker exec --privileged sockproxy sockproxy doctor`"
            ) from None
        except OSError:
            return set()
        return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}

    def open_files_limit(self) -> int:
        """Give the most descriptors that a process started from here may have."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    # --- the kernel ---

    def system_call(self, number: int, *arguments: int | None) -> tuple[int, int]:
        """Make a system call with integers; give its result and errno."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.restype = ctypes.c_long
        passed = [None if value is None else ctypes.c_long(value) for value in arguments]
        result: int = libc.syscall(ctypes.c_long(number), *passed)
        return result, ctypes.get_errno()

    def peer_option(self, number: int) -> bool:
        """Tell whether a unix socket has an option of the level SOL_SOCKET."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                fd = ours.getsockopt(socket.SOL_SOCKET, number)
            except OSError:
                return False
            os.close(fd)
            return True

    def mappable(self, path: str) -> str:
        """Try an ID map on a copy of the mount that a path is on, which is attached nowhere (helpers' mappable.py).

        Returns:
            "all", "top" when something mounted below can't be mapped, "none", "missing"; "" when it can't be tried.
        """
        if os.geteuid() != 0:
            return ""
        command = [os.path.realpath(sys.executable), "-I", "-S", "-B", paths.helpers_dir(), "mappable", path]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)  # noqa: S603 (our own)
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.strip()

    def clock_is_synchronised(self) -> bool:
        """Ask the kernel whether a time service keeps the clock (adjtimex(2))."""
        libc = ctypes.CDLL(None, use_errno=True)
        state = ctypes.create_string_buffer(_TIMEX)
        libc.adjtimex(state)
        return not int.from_bytes(state.raw[_TIMEX_STATUS : _TIMEX_STATUS + 4], "little") & _UNSYNCHRONISED

    def space(self, path: str) -> os.statvfs_result:
        """Tell how full the file system is that a path lies on, or would."""
        while not os.path.exists(self.path(path)) and path != "/":
            path = os.path.dirname(path)
        return os.statvfs(self.path(path))

    # --- the daemon ---

    def ask(self, path: str, target: str) -> Any:
        """Do a GET on a socket with the Engine API and give what the JSON says.

        Raises:
            Unknown: this user may not connect.
            OSError, ValueError: nobody answers, or in other words.
        """
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            try:
                sock.connect(self.path(path))
            except PermissionError:
                raise Unknown(f"{path} is closed to this user, as it should be: root can tell more") from None
            sock.sendall(f"GET {target} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: sock.recv(65536), b"")).partition(b"\r\n\r\n")
        if head.split(b" ")[1:2] != [b"200"]:
            untrusted_line = head.partition(b"\r\n")[0].decode("ascii", "replace")
            raise ValueError(f"GET {target}: {untrusted_line!r}"[:200])
        return json.loads(body)


def words(error: Exception) -> str:
    """Say what went wrong, without its number."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def is_socket(status: os.stat_result | None) -> bool:
    """Tell whether it is a socket."""
    return status is not None and stat.S_ISSOCK(status.st_mode)
