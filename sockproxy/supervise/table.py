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
AUTH = "sockproxy-auth"
BUILD = "sockproxy-build"
READER = "sockproxy-reader"
STATUS = "sockproxy-status"  # a group: who may see how it does
BINDS, ATTACH = "sockproxy-binds", "sockproxy-attach"
STATE_DIR, PLUGIN_DIR = "/var/lib/sockproxy", "/run/docker/plugins"
FAILLOCK = "/var/lib/sockproxy/faillock"  # for a service of the host's own that has pam_faillock, as ours had
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
    plugin_dir: str = PLUGIN_DIR

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

    @property
    def assertion_key(self) -> str:
        """The path of the key with which the auth process vouches for callers; new at every start."""
        return os.path.join(self.runtime_dir, "key", "assertions")

    def state_of(self, scope: str) -> str:
        """The folder in which a helper may keep files: the only one that it may write to."""
        return os.path.join(self.state_dir, scope)

    @property
    def binds(self) -> str:
        """The folder of the records of binds."""
        return os.path.join(self.state_dir, "binds")

    @property
    def stages(self) -> str:
        """The folder in which binds are attached."""
        return os.path.join(self.runtime_dir, "binds")

    @property
    def plugin(self) -> str:
        """The name of our volume plugin: another for each state folder, since the daemon keeps it with a container."""
        if self.state_dir == STATE_DIR:
            return "sockproxy"
        return f"sockproxy-{hashlib.sha256(self.state_dir.encode()).hexdigest()[:12]}"


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
        capabilities: all that it has, as setpriv(1) writes them.
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
    capabilities: tuple[str, ...] = ()


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
    key = {"SOCKPROXY_ASSERTION_KEY": settings.assertion_key}
    writer = (python, "-I", "-m", "sockproxy.audit.writer")
    front = (python, "-I", "-m", "sockproxy.app")
    helper = (bare_python, "-I", "-S", "-B", paths.helpers_dir())
    readers = Endpoint(f"{settings.runtime_dir}/audit-readers.sock", socket.SOCK_SEQPACKET, AUDIT, 0o660)
    log = {"SOCKPROXY_LOG_DIR": settings.log_dir, "SOCKPROXY_POLICY": settings.policy}
    listens = {"audit": audit, "readers": readers}
    rows = [Row(0, "audit-writer", AUDIT, (), writer, listens, log, True, -500, WATCHDOG)]
    lines = Endpoint(f"{settings.runtime_dir}/own-lines.sock", socket.SOCK_STREAM, "root", 0o666)
    place = {"SOCKPROXY_LOG_DIR": settings.log_dir, "SOCKPROXY_RUNTIME": settings.runtime_dir}
    reader = (python, "-I", "-m", "sockproxy.review.own")
    rows.append(Row(1, "own-lines", READER, (AUDIT,), reader, {"own": lines}, place, False, 0, WATCHDOG))
    build = Endpoint(f"{settings.runtime_dir}/build/build.sock", socket.SOCK_SEQPACKET, "root", 0o600)
    mediator = (python, "-I", "-m", "sockproxy.buildkit")
    rows.append(Row(1, "build-mediator", BUILD, (), mediator, {"build": build}, {}, False, 0, WATCHDOG))
    rows += _binds(settings, helper)
    binds = {
        "SOCKPROXY_BINDS": settings.binds,
        "SOCKPROXY_BINDS_SOCKET": _checks(settings).path,
        "SOCKPROXY_PLUGIN": settings.plugin,
    }
    auth = Endpoint(f"{settings.runtime_dir}/auth/auth.sock", socket.SOCK_SEQPACKET, FRONT, 0o660)
    pam = {"SOCKPROXY_STATE": settings.state_of("auth"), "SOCKPROXY_FAILLOCK": FAILLOCK}
    checker = (python, "-I", "-m", "sockproxy.auth.process")
    asked = {**policy, **key, **pam}
    rows.append(Row(1, "auth", AUTH, ("shadow",), checker, {"auth": auth}, asked, True, -500, WATCHDOG))
    for scope in SCOPES:
        calls = Endpoint(f"{settings.runtime_dir}/helpers/{scope}.sock", socket.SOCK_SEQPACKET, FRONT, 0o660)
        own = {"SOCKPROXY_DOCKER_SOCKET": settings.docker_socket, "SOCKPROXY_STATE": settings.state_of(scope)}
        own["SOCKPROXY_SHARES"] = settings.shares
        environment = {**policy, **key, **own, **binds}
        rows.append(
            Row(
                2, f"{scope}-helper", "root", (), (*helper, scope), {"helper": calls}, environment, True, -500, WATCHDOG
            )
        )
    status = Endpoint(status_socket(settings.runtime_dir), socket.SOCK_STREAM, STATUS, 0o660)
    rows.append(Row(3, "front", FRONT, (), front, {"docker": docker, "status": status}, policy, True, 0, WATCHDOG))
    return tuple(rows)


def status_socket(runtime_dir: str) -> str:
    """Give the path at which the front answers who looks after it."""
    return f"{runtime_dir}/status.sock"


def _checks(settings: Settings) -> Endpoint:
    """Describe where root asks whether a bind can be made."""
    return Endpoint(f"{settings.runtime_dir}/binds-checks.sock", socket.SOCK_SEQPACKET, "root", 0o600)


def _binds(settings: Settings, helper: tuple[str, ...]) -> list[Row]:
    """Describe the two processes that make binds: between them they have what one that does it all would need."""
    attach = Endpoint(f"{settings.runtime_dir}/attach.sock", socket.SOCK_SEQPACKET, BINDS, 0o660)
    plugin = Endpoint(f"{settings.plugin_dir}/{settings.plugin}.sock", socket.SOCK_STREAM, "root", 0o600)
    sockets = {"plugin": plugin, "checks": _checks(settings)}
    stages = {"SOCKPROXY_STAGES": settings.stages}
    known = {
        "SOCKPROXY_POLICY": settings.policy,
        "SOCKPROXY_BINDS": settings.binds,
        "SOCKPROXY_ATTACHER": attach.path,
        "SOCKPROXY_LISTEN": settings.listen,
    }
    abilities = ("setuid", "setgid", "setfcap", "sys_admin")
    return [
        Row(
            1,
            "attacher",
            ATTACH,
            (),
            (*helper, "attacher"),
            {"attacher": attach},
            stages,
            False,
            -500,
            WATCHDOG,
            ("sys_admin",),
        ),
        Row(1, "binds", BINDS, (), (*helper, "binds"), sockets, known, True, -500, WATCHDOG, abilities),
    ]


def accounts(rows: tuple[Row, ...]) -> list[str]:
    """Name the system users that the processes need; each has a primary group of the same name."""
    return sorted({row.user for row in rows} - {"root"})


def groups(rows: tuple[Row, ...]) -> list[str]:
    """Name the groups that they need beside those of the users."""
    return sorted({endpoint.group for row in rows for endpoint in row.sockets.values()} - {"root", *accounts(rows)})


def folders(settings: Settings) -> tuple[Folder, ...]:
    """Give the folders, those above others first."""
    return (
        Folder(settings.runtime_dir, 0o755, "root", "root"),
        Folder(f"{settings.runtime_dir}/helpers", 0o750, "root", FRONT),
        Folder(f"{settings.runtime_dir}/audit", 0o750, "root", FRONT),
        Folder(f"{settings.runtime_dir}/auth", 0o750, "root", FRONT),
        Folder(f"{settings.runtime_dir}/key", 0o2750, "root", AUTH),
        Folder(f"{settings.runtime_dir}/build", 0o700, "root", "root"),
        Folder(f"{settings.runtime_dir}/notify", 0o755, "root", "root"),
        Folder(settings.state_dir, 0o755, "root", "root"),
        *(Folder(settings.state_of(scope), 0o700, "root", "root") for scope in SCOPES),
        Folder(settings.binds, 0o2750, "root", BINDS),
        Folder(settings.stages, 0o700, ATTACH, ATTACH),
        Folder(settings.state_of("auth"), 0o700, AUTH, AUTH),
        Folder(FAILLOCK, 0o700, AUTH, AUTH),
        Folder(settings.log_dir, 0o750, AUDIT, AUDIT),
    )
