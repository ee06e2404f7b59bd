"""Attach ready-made mounts in the Docker daemon's mount namespace, and detach them.

SECURITY: the one process of sockproxy that can change the mounts which everybody sees, so it does nothing else. It has
a user of its own and one capability, SYS_ADMIN; a system call filter leaves it the attaching of a mount that it is
handed as a descriptor and the detaching of mounts, no other call of that capability, no program, no new socket. It
stays in the mount namespace where it was started, the daemon's, since the daemon could not see the mounts otherwise;
that is why most of systemd's sandboxing can't be had here. Its input comes from the binds helper alone, by the kernel's
word, and is a name of a fixed form: the one folder in which it works is its own, and open to nobody else.

Invariant: a folder of ours is emptied by detaching what is mounted on its entries and removing those, empty as they
must be; never by removing what is in them, which would be people's files.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import signal
import socket
import sys

from sockproxy_helpers.channel import activation, wire
from sockproxy_helpers.channel.notify import Watchdog, notify
from sockproxy_helpers.system import kernel
from sockproxy_helpers.system.caller import PEERCRED
from . import seccomp

RESOLVER = "sockproxy-binds"
STAGE = re.compile(r"sockproxy-[0-9]{1,10}-[0-9a-f]{32}\.[0-9a-f]{1,64}\.[0-9a-f]{8}")
PATIENCE = 5.0  # seconds with a peer that says nothing
STACKED = 8  # mounts on one entry; there is one, unless a process was killed between two steps


def main() -> None:
    """Serve until SIGTERM; what was attached ends with us: containers have their own copies."""
    attacher = Attacher(os.environ["SOCKPROXY_STAGES"], pwd.getpwnam(RESOLVER).pw_uid)
    listener = socket.socket(fileno=activation.descriptor("attacher"))
    watchdog = Watchdog()  # before the filter: it needs a socket
    signal.signal(signal.SIGTERM, _end)
    notify("READY=1")
    if not seccomp.allow_only("attacher", *([] if kernel.sets_attributes() else ["attacher-old"])):
        print("sockproxy attacher: no system call filter for this architecture", file=sys.stderr)
    attacher.detach_all()  # of a life before this one
    try:
        while True:
            attacher.serve(watchdog.accept(listener))
    finally:
        attacher.detach_all()


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


class Attacher:
    """Work in one folder.

    Args:
        folder: ours alone.
        peer: the uid that may ask.
    """

    def __init__(self, folder: str, peer: int) -> None:
        self._folder, self._peer = folder, peer

    def serve(self, channel: socket.socket) -> None:
        """Take one request and answer it."""
        fds: list[int] = []
        with channel:
            try:
                channel.settimeout(PATIENCE)
                uid = PEERCRED.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEERCRED.size))[1]
                if uid != self._peer:
                    return
                message, fds = wire.receive(channel)
                header, _ = wire.unpack(message)
                wire.send(channel, wire.pack(self._answer(header, fds)), [])
            except (OSError, wire.WireError) as error:
                print(f"sockproxy attacher: {error}", file=sys.stderr)
            finally:
                for fd in fds:
                    os.close(fd)

    def _answer(self, header: dict[str, object], fds: list[int]) -> dict[str, object]:
        name, ask = str(header.get("stage")), header.get("ask")
        if ask == "list":
            return {"stages": self._stages()}
        if not STAGE.fullmatch(name):
            raise wire.WireError("not the name of a stage")
        try:
            if ask == "detach":
                self._detach(name)
            elif ask == "attach" and len(fds) == 1:
                self._attach(name, header.get("folder") is True, fds[0])
                if header.get("restrict") is True:
                    self._restrict(name, header.get("folder") is True)
            else:
                raise wire.WireError("no such request")
        except OSError as error:
            return {"error": os.strerror(error.errno or 0)}
        return {"path": f"{self._folder}/{name}"}

    def _stages(self) -> list[str]:
        return [name for name in os.listdir(self._folder) if STAGE.fullmatch(name)]

    def _attach(self, name: str, is_folder: bool, tree: int) -> None:
        """Attach a mount in the place of what may be there."""
        self._detach(name)
        path = f"{self._folder}/{name}"
        if is_folder:
            os.mkdir(path, 0o700)
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            kernel.attach(tree, path)
        except OSError:
            self._remove(path)
            raise

    def _restrict(self, name: str, is_folder: bool) -> None:
        """Have a mount that nothing could be set on attached read-only, without setuid and devices.

        What is attached comes to all namespaces that follow this one, a later change of it does not: so a clone of what
        was changed is attached in its place, and the daemon is told of the path only then.
        """
        path = f"{self._folder}/{name}"
        try:
            kernel.restrict(path)
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                tree = kernel.clone_tree(fd, False)
            finally:
                os.close(fd)
        except OSError:
            self._detach(name)
            raise
        try:
            self._attach(name, is_folder, tree)
        finally:
            os.close(tree)

    def _detach(self, name: str) -> None:
        path = f"{self._folder}/{name}"
        for _ in range(STACKED):
            try:
                kernel.detach(path)
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno != errno.EINVAL:  # nothing is mounted here
                    raise
                break
        self._remove(path)

    def _remove(self, path: str) -> None:
        try:
            os.rmdir(path)
        except NotADirectoryError:
            os.unlink(path)

    def detach_all(self) -> None:
        """Leave nothing."""
        for name in self._stages():
            try:
                self._detach(name)
            except OSError as error:
                print(f"sockproxy attacher: {name}: {error.strerror}", file=sys.stderr)
