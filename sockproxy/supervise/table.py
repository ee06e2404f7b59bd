"""The process table: who runs as whom, with what. Read it next to section 2 of the design."""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import sys
from typing import NamedTuple

from sockproxy import paths

FRONT = "sockproxy"
RUNTIME = "/run/sockproxy"  # unless the command line says something else
AUDIT = "sockproxy-audit"
BUILD = "sockproxy-build"
SCOPES = ("lifecycle", "network", "filesystem")
GRACE = 12.0  # seconds for a process to end; the front lets streams end within 10
WATCHDOG = 30.0  # seconds; a call that blocks a process for so long is a fault


class Settings(NamedTuple):
    """Hold what the command line says; all paths absolute, `config` None for the default."""

    config: str | None
    docker_socket: str
    listen: str
    runtime_dir: str
    state_dir: str
    log_dir: str

    @classmethod
    def of(cls, options: argparse.Namespace) -> Settings:
        """Take them from the parsed command line."""
        config = options.config and os.path.abspath(options.config)
        return cls(config, *(os.path.abspath(getattr(options, name)) for name in cls._fields[1:]))

    @property
    def policy(self) -> str:
        """The compiled policy's path."""
        return os.path.join(self.state_dir, "policy.json")

    @property
    def shares(self) -> str:
        """The name of the folder below which users have their cgroups: one's own where two run on a machine."""
        own = "" if self.runtime_dir == RUNTIME else hashlib.sha256(self.runtime_dir.encode()).hexdigest()[:8]
        return f"sockproxy{own}"

    def state_of(self, scope: str) -> str:
        """The folder in which a helper may keep files: the only one that it may write to."""
        return os.path.join(self.state_dir, scope)


class Endpoint(NamedTuple):
    """Describe a listening socket: its file has the owner root, and `group`."""

    path: str
    kind: socket.SocketKind
    group: str
    mode: int


class Folder(NamedTuple):
    """Describe a folder: who owns it, and what others may."""

    path: str
    mode: int
    user: str
    group: str


class Row(NamedTuple):
    """Describe a process.

    Attributes:
        order: started after those with a lower number, and ended before them.
        user: whose uid and primary group it has.
        groups: its supplementary groups.
        sockets: what is passed to it, by the name it gets (LISTEN_FDNAMES).
        reloads: on SIGHUP, when there is a new policy.
        oom: its oom_score_adj: who is killed when memory is short. -500 is what docker.service has.
        watchdog: it says so often, in seconds, that it is alive (sd_notify(3)); 0: it does not.
    """

    order: int
    name: str
    user: str
    groups: tuple[str, ...]
    argv: tuple[str, ...]
    sockets: dict[str, Endpoint]
    environment: dict[str, str]
    reloads: bool
    oom: int
    watchdog: float = 0.0


def table(settings: Settings) -> tuple[Row, ...]:
    """Give the processes, in the order of their start."""
    python, bare_python = sys.executable, os.path.realpath(sys.executable)  # root's helpers see no environment's code
    audit = Endpoint(f"{settings.runtime_dir}/audit/audit.sock", socket.SOCK_SEQPACKET, FRONT, 0o660)
    docker = Endpoint(settings.listen, socket.SOCK_STREAM, "root", 0o666)
    policy = {
        "SOCKPROXY_POLICY": settings.policy,
        "SOCKPROXY_LISTEN": settings.listen,
        "SOCKPROXY_RUNTIME": settings.runtime_dir,
    }
    writer = (python, "-I", "-m", "sockproxy.audit.writer")
    front = (python, "-I", "-m", "sockproxy.app")
    readers = Endpoint(f"{settings.runtime_dir}/audit-readers.sock", socket.SOCK_SEQPACKET, AUDIT, 0o660)
    log = {"SOCKPROXY_LOG_DIR": settings.log_dir, "SOCKPROXY_POLICY": settings.policy}
    rows = [Row(0, "audit-writer", AUDIT, (), writer, {"audit": audit, "readers": readers}, log, True, -500)]
    build = Endpoint(f"{settings.runtime_dir}/build/build.sock", socket.SOCK_SEQPACKET, "root", 0o600)
    mediator = (python, "-I", "-m", "sockproxy.buildkit")
    rows.append(Row(1, "build-mediator", BUILD, (), mediator, {"build": build}, {}, False, 0))
    for scope in SCOPES:
        helper = Endpoint(f"{settings.runtime_dir}/helpers/{scope}.sock", socket.SOCK_SEQPACKET, FRONT, 0o660)
        argv = (bare_python, "-I", "-S", "-B", paths.helpers_dir(), scope)
        own = {"SOCKPROXY_DOCKER_SOCKET": settings.docker_socket, "SOCKPROXY_STATE": settings.state_of(scope)}
        own["SOCKPROXY_SHARES"] = settings.shares
        rows.append(
            Row(1, f"{scope}-helper", "root", (), argv, {"helper": helper}, {**policy, **own}, True, -500, WATCHDOG)
        )
    rows.append(Row(2, "front", FRONT, (), front, {"docker": docker}, policy, True, 0, WATCHDOG))
    return tuple(rows)


def accounts(rows: tuple[Row, ...]) -> list[str]:
    """Name the system users that the processes need; each has a primary group of the same name."""
    return sorted({row.user for row in rows} - {"root"})


def folders(settings: Settings) -> tuple[Folder, ...]:
    """Give the folders, those above others first."""
    return (
        Folder(settings.runtime_dir, 0o755, "root", "root"),
        Folder(f"{settings.runtime_dir}/helpers", 0o750, "root", FRONT),
        Folder(f"{settings.runtime_dir}/audit", 0o750, "root", FRONT),
        Folder(f"{settings.runtime_dir}/build", 0o700, "root", "root"),
        Folder(f"{settings.runtime_dir}/notify", 0o755, "root", "root"),
        Folder(settings.state_dir, 0o755, "root", "root"),
        *(Folder(settings.state_of(scope), 0o700, "root", "root") for scope in SCOPES),
        Folder(settings.log_dir, 0o750, AUDIT, AUDIT),
    )
