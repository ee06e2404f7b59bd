"""Be the volume plugin that makes binds, and tell the filesystem helper whether one could be made.

SECURITY: runs as a user of its own with SETUID and SETGID (to walk paths as the bind's owner), SYS_ADMIN (to clone the
mount that was opened) and SETFCAP (to write a map that holds the container's root); without DAC_OVERRIDE, so that of
itself it can open nothing that is closed to others. It is in a mount namespace of its own, and Landlock keeps it from
mounting, from programs and from writing anything but ID maps below /proc, and folders as a bind's owner (see `stage`);
a system call filter leaves of its capabilities no more than that: no other namespaces, no mounting, no other user.
The daemon alone can connect (the socket is root's) and ask for a name, which counts only if root has written a record
of it; the filesystem helper, root, can ask whether a bind could be made. Neither gets anything to see but words.
What is asked for is done in a process of its own each (`worker`).
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from sockproxy_helpers.channel import activation
from sockproxy_helpers.channel.loop import IN, Loop
from sockproxy_helpers.channel.notify import notify
from sockproxy_helpers.errors import Refused
from sockproxy_helpers.system import kernel
from sockproxy_helpers.system.confine import MAKE_FOLDERS, WRITE, confine
from . import seccomp
from .resolver import Resolver

_SHARED = " - "  # ends the optional fields of a line of mountinfo (proc_pid_mountinfo(5))


def main() -> None:
    """Serve until SIGTERM."""
    os.umask(0o022)  # for the folders that it makes
    loop = Loop()
    resolver = Resolver(loop, dict(os.environ))
    plugin, checks = activation.listener("plugin"), activation.listener("checks")
    if _root_is_shared():  # elsewhere, what is mounted later would not come in
        kernel.follow_the_hosts_mounts()
    if not confine(may={"/proc": WRITE, "/": MAKE_FOLDERS}):
        print("sockproxy binds: this kernel has no Landlock: the process is not confined", file=sys.stderr)
    if not seccomp.allow_only("binds"):
        print("sockproxy binds: no system call filter for this architecture", file=sys.stderr)
    loop.spawn(activation.accept(loop, plugin, "binds", resolver.serve_daemon))
    loop.spawn(activation.accept(loop, checks, "binds", resolver.serve_check))
    loop.spawn(_obey(loop, resolver, activation.catch_signals()))
    loop.spawn(activation.say_alive(loop))
    notify("READY=1")
    loop.run()


def _root_is_shared() -> bool:
    with open("/proc/self/mountinfo") as file:
        return any(" / / " in line and " shared:" in line.partition(_SHARED)[0] for line in file)


async def _obey(loop: Loop, resolver: Resolver, signals: tuple[socket.socket, socket.socket]) -> None:
    while True:
        await loop.wait({signals[0].fileno(): IN})
        for received in signals[0].recv(64):
            if received == signal.SIGHUP:
                try:
                    resolver.reload()
                except (Refused, OSError) as error:
                    print(f"sockproxy binds: the old policy stays: {error}", file=sys.stderr)
            elif received == signal.SIGTERM:
                loop.stop()
