"""Write the process table as systemd units: what `sockproxy up` starts, systemd starts in the same way.

A row becomes a service, each of its sockets a socket unit. `sockproxy-prepare.service` compiles the policy before the
first process is started; accounts and folders are made by sysusers.d and tmpfiles.d. `sockproxy.service` stands for all
of it: start, stop, reload and restart that. All is formed from the table: a new row has its unit without a line here.

Left out on purpose: PrivateUsers= (every peer would be uid 65534), ProtectProc= (callers' processes are read below
/proc), DynamicUser= (sockets and the record need owners with names).
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Iterable, Iterator

from sockproxy import paths
from sockproxy.supervise.table import GRACE, Endpoint, Row, Settings, accounts, folders, groups, table

MAIN, PREPARE = "sockproxy.service", "sockproxy-prepare.service"
USERS = "sockproxy-users"  # the group that the built-in policy makes developers
DESCRIPTORS = 524288  # systemd's usual hard limit; each call holds several
_OLD = "blkio cpu cpu,cpuacct cpuacct cpuset devices freezer hugetlb memory misc net_cls net_cls,net_prio net_prio"
_OLD += " perf_event pids rdma systemd unified"
# It makes the folders of the users' cgroups.
_NOT_TO_PREPARE = ("ProtectControlGroups=yes", "RestrictAddressFamilies=AF_UNIX")
# Where the folder of the users' cgroups can be: in version 2, or in each hierarchy of version 1.
_HIERARCHIES = ("", *(f"{name}/" for name in _OLD.split()))
_LISTEN = {socket.SOCK_STREAM: "ListenStream", socket.SOCK_SEQPACKET: "ListenSequentialPacket"}

# Holds for every process, and leaves it in the host's mount namespace. Refused calls fail instead of killing, as
# pam_faillock's, which tries to give its files to their users.
_CONFINED = """\
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
RestrictNamespaces=yes
SystemCallFilter=@system-service landlock_create_ruleset landlock_add_rule landlock_restrict_self
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_UNIX
PrivateNetwork=yes
IPAddressDeny=any
SystemCallArchitectures=native
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
ProtectClock=yes
ProtectHostname=yes
DevicePolicy=closed
KeyringMode=private
UMask=0027
LimitCORE=0
"""
# Each of these gives it a mount namespace of its own.
_OWN_MOUNTS = """\
ProtectSystem=strict
PrivateMounts=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProcSubset=pid
"""


def main(options: argparse.Namespace) -> int:
    """Write all files.

    Args:
        options: those of `up`, and output: a folder, or None for standard output.
    """
    settings = Settings.of(options)
    for name, text in sorted(files(settings).items()):
        if options.output is None:
            print(f"# {name}\n{text}")
            continue
        path = os.path.join(options.output, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
    return 0


def files(settings: Settings) -> dict[str, str]:
    """Form all files, by their names below /etc or /usr/lib."""
    found = {f"systemd/system/{name}": text for name, text in units(settings).items()}
    return found | {"sysusers.d/sockproxy.conf": sysusers(settings), "tmpfiles.d/sockproxy.conf": tmpfiles(settings)}


def units(settings: Settings) -> dict[str, str]:
    """Form all unit files, by name."""
    rows = table(settings)
    found = {PREPARE: _prepare(settings), MAIN: _main(settings, rows)}
    for row in rows:
        found[service_name(row)] = _service(row, settings, rows)
        for name, endpoint in row.sockets.items():
            found[socket_name(row, name)] = _socket(row, name, endpoint)
    return found


def service_name(row: Row) -> str:
    """Name the unit of a process."""
    return f"sockproxy-{row.name}.service"


def socket_name(row: Row, name: str) -> str:
    """Name the unit of one of its sockets."""
    return f"sockproxy-{row.name}-{name}.socket"


def sysusers(settings: Settings) -> str:
    """Form what sysusers.d(5) makes the accounts from."""
    rows = table(settings)
    lines = [f'u {name} - "sockproxy" /nonexistent /usr/sbin/nologin' for name in accounts(rows)]
    return "\n".join((*lines, *(f"g {name} -" for name in (*groups(rows), USERS)), ""))


def tmpfiles(settings: Settings) -> str:
    """Form what tmpfiles.d(5) makes the folders from at boot, before there are sockets in them."""
    lines = [f"d {_escaped(path)} {mode:04o} {user} {group} -" for path, mode, user, group in folders(settings)]
    return "\n".join((*lines, ""))


def _main(settings: Settings, rows: tuple[Row, ...]) -> str:
    all_units = [*map(service_name, rows), *(socket_name(row, name) for row in rows for name in row.sockets)]
    reloaded = [service_name(row) for row in rows if row.reloads]
    return _file(
        ("Description=sockproxy: one Docker daemon for many people", *_after(all_units, "Requires")),
        (
            "Type=oneshot",
            "RemainAfterExit=yes",
            f"ExecStart={_step(settings, 'started')}",
            f"ExecReload={_step(settings, 'reload')}",
            # Only if that was right; helpers before the front, as the table has them: they decide.
            *(f"ExecReload=-systemctl kill --kill-whom=main --signal=HUP {name}" for name in reloaded),
            f"ExecStop={_step(settings, 'stopping')}",
            *_confined(settings),
        ),
        ("WantedBy=multi-user.target",),
    )


def _prepare(settings: Settings) -> str:
    return _file(
        ("Description=sockproxy: the policy, compiled", f"PartOf={MAIN}"),
        (
            "Type=oneshot",
            "RemainAfterExit=yes",
            f"ExecStart={_step(settings, 'prepare')}",
            *(line for line in _confined(settings) if line not in _NOT_TO_PREPARE),
            "ReadWritePaths=/sys/fs/cgroup",
            "RestrictAddressFamilies=none",  # it hears and asks nobody
            "ProtectProc=invisible",
        ),
    )


def _service(row: Row, settings: Settings, rows: tuple[Row, ...]) -> str:
    own = [socket_name(row, name) for name in row.sockets]
    before = [service_name(other) for other in rows if other.order < row.order]
    environment = [f"Environment={_quoted(f'{name}={value}')}" for name, value in row.environment.items()]
    return _file(
        (
            f"Description=sockproxy: {row.name}",
            f"PartOf={MAIN}",
            *_after([PREPARE, *own], "Requires"),
            *_after(before, "Wants"),
            "StartLimitIntervalSec=0",  # it is never given up, see child.py
        ),
        (
            "Type=notify",
            "NotifyAccess=main",
            f"ExecStart={_command(row.argv)}",
            *(("ExecReload=kill -HUP $MAINPID",) if row.reloads else ()),
            *environment,
            f"Sockets={' '.join(own)}",
            f"User={row.user}",
            f"SupplementaryGroups={' '.join(row.groups)}",
            "Restart=always",
            "RestartSec=200ms",
            f"TimeoutStopSec={GRACE:g}",
            *((f"WatchdogSec={row.watchdog:g}",) if row.watchdog else ()),
            f"OOMScoreAdjust={row.oom}",
            f"LimitNOFILE={DESCRIPTORS}",
            *(_capable(row) if row.capabilities else _confined(settings)),
            *(("SystemCallFilter=setpriority",) if row.groups else ()),  # who checks passwords makes itself nice
        ),
    )


def _capable(row: Row) -> Iterator[str]:
    """Give the options for a process of binds. What it may do with its capabilities, it limits itself, too."""
    held = " ".join(f"CAP_{name.upper()}" for name in row.capabilities)
    opens = "setuid" in row.capabilities  # where, is its own affair; the other attaches where the daemon sees it
    for line in _CONFINED.splitlines():
        if opens and line == "RestrictSUIDSGID=yes":
            continue  # with it openat2(2) fails: systemd can't look into its arguments
        if line in ("CapabilityBoundingSet=", "AmbientCapabilities="):
            yield line + held
        else:
            yield "RestrictNamespaces=mnt user" if opens and line == "RestrictNamespaces=yes" else line
    # Its own filter leaves each less, and on a new kernel the attacher none of these (tables/syscalls.txt).
    mounts = "open_tree mount_setattr mount"
    yield f"SystemCallFilter={mounts} {'@setuid setfsuid setfsgid' if opens else 'move_mount umount2'}"
    if opens:
        yield from ("PrivateMounts=yes", "ProtectKernelTunables=yes", "ProtectKernelModules=yes")
        yield from ("ProtectKernelLogs=yes", "ProtectControlGroups=yes")


def _confined(settings: Settings) -> Iterator[str]:
    """Give the options that take away; what a process may still write is up to its user and to Landlock."""
    yield from (_CONFINED + _OWN_MOUNTS).splitlines()
    ours = [settings.runtime_dir, settings.state_dir, settings.log_dir]
    code = (sys.prefix, os.path.realpath(sys.executable), os.path.dirname(paths.__file__), paths.helpers_dir())
    at_home = any(path.startswith(("/home/", "/root/", "/run/user/")) for path in (*code, *ours))
    yield f"ProtectHome={'read-only' if at_home else 'yes'}"
    yield f"ReadWritePaths={' '.join(map(_quoted, ours))}"
    groups = " ".join(f"-/sys/fs/cgroup/{place}{settings.shares}" for place in _HIERARCHIES)
    yield f"ReadWritePaths={groups}"  # made by the time a helper is started; Landlock leaves it to those who need it


def _socket(row: Row, name: str, endpoint: Endpoint) -> str:
    return _file(
        # It ends with all the rest, but is not restarted with it: who connects meanwhile waits.
        (f"Description=sockproxy: {row.name}, {name}", f"StopPropagatedFrom={MAIN}"),
        (
            f"{_LISTEN[endpoint.kind]}={_escaped(endpoint.path)}",
            f"FileDescriptorName={name}",
            f"Service={service_name(row)}",
            "SocketUser=root",
            f"SocketGroup={endpoint.group}",
            f"SocketMode={endpoint.mode:04o}",
            "Backlog=4096",
            "RemoveOnStop=yes",
            "TriggerLimitIntervalSec=0",
        ),
        ("WantedBy=sockets.target",),
        kind="Socket",
    )


def _after(names: Iterable[str], how: str) -> Iterator[str]:
    for name in names:
        yield f"{how}={name}"
        yield f"After={name}"


def _step(settings: Settings, step: str) -> str:
    """Form the command of a step of `sockproxy unit-step`; see steps.py."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings._asdict().items() if value]
    return _command((sys.executable, "-I", "-m", "sockproxy", "unit-step", *options, step))


def _command(argv: Iterable[str]) -> str:
    return " ".join(_quoted(word).replace("$", "$$") for word in argv)


def _quoted(word: str) -> str:
    """Write a word so that systemd.syntax(7) reads it as it is."""
    escaped = _escaped(word).replace("\\", "\\\\").replace('"', '\\"')
    return escaped if word and not set(word) & set(" \t\"'\\;") else f'"{escaped}"'


def _escaped(word: str) -> str:
    return word.replace("%", "%%")


def _file(unit: Iterable[str], own: Iterable[str], install: Iterable[str] = (), kind: str = "Service") -> str:
    sections = [("Unit", unit), (kind, own), ("Install", install)]
    return "\n".join(line for name, lines in sections if (body := list(lines)) for line in (f"[{name}]", *body, ""))
