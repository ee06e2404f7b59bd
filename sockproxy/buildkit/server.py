"""Be the mediator of BuildKit's connections: a process for each, forked from one that has read nothing of anybody's.

SECURITY: runs as the user `sockproxy-build` without capabilities, and can't open the daemon's socket. The first process
only accepts and forks; what it forks belongs to one connection, is confined (Landlock also keeps its siblings from
looking into it) and ends with it. Only root can connect: the filesystem helper, whose word on the caller is believed.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import struct
import sys

import trio

from sockproxy.activation import sockets
from sockproxy.buildkit import methods
from sockproxy.buildkit.helper import Helper
from sockproxy.buildkit.mediate import Mediation
from sockproxy.buildkit.request import Facts
from sockproxy.buildkit.schema import Schema
from sockproxy_helpers.channel import wire
from sockproxy_helpers.channel.notify import Watchdog, notify
from sockproxy_helpers.system.confine import confine

MEMORY = 2 << 30  # address space of one connection's process
FILES = 32
_UCRED = struct.Struct("iII")


def main() -> None:
    """Serve until SIGTERM."""
    listener = sockets()["build"]
    schema, table = Schema(), methods.load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us passes it on as SIGTERM
    gc.collect()
    gc.freeze()  # what is shared with the forked ones is not looked through, and so stays shared
    watchdog = Watchdog()
    notify("READY=1")
    while True:
        channel = watchdog.accept(listener)
        pid = os.fork()
        if pid == 0:
            listener.close()
            status = 1
            try:
                status = serve(channel, schema, table)
            finally:
                os._exit(status)
        channel.close()


def serve(channel: socket.socket, schema: Schema, table: dict[str, methods.Method]) -> int:
    """Serve one connection; give the exit code."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, uid, _ = _UCRED.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if uid != 0:
        return 1
    message, fds = wire.receive(channel, 2)
    client, daemon = (socket.socket(fileno=fd) for fd in fds)
    for limit, value in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_NOFILE, FILES), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (value, value))
    if not confine():
        print("sockproxy mediator: this kernel has no Landlock: the mediator is not confined", file=sys.stderr)
    header, payload = wire.unpack(message)
    sizes = header["head"], header["early"]
    assert isinstance(sizes[0], int)
    assert isinstance(sizes[1], int)
    head, rest = payload[: sizes[0]], payload[sizes[0] :]
    mediation = Mediation(schema, table, client, daemon, Helper(channel), Facts(header))
    trio.run(mediation.run, head, rest[: sizes[1]], rest[sizes[1] :])
    return 0
