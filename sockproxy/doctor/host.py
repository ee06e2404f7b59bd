"""See that what runs here is sound: the code, the daemon's own confinement, disk, clock, limits, policy."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator

from sockproxy import paths
from sockproxy.auth.uids import FILE, names
from sockproxy.doctor.machine import Finding, Machine, Unknown, is_socket, words
from sockproxy.errors import ConfigError
from sockproxy.policy import report
from sockproxy.policy.compile import compile_file
from sockproxy.supervise.table import table

LEAST_SPACE, LEAST_FILES = 1 << 30, 1000
LEAST_DESCRIPTORS = 16384  # a call holds several; at systemd's usual hard limit, 524288, nobody has to think of it
LEAST_API = (1, 24)
# What the daemon must be able to bound, with the words of `docker info`.
BOUNDS = {"MemoryLimit": "memory", "CpuCfsQuota": "cpus", "PidsLimit": "pids"}


def daemon(machine: Machine) -> Iterator[Finding]:
    """See that the daemon answers."""
    path = machine.settings.docker_socket
    try:
        said = machine.ask(path, "/version")
        version = tuple(int(part) for part in str(said["ApiVersion"]).split("."))
    except (OSError, ValueError, KeyError) as error:
        yield Finding(
            f"no Docker daemon answers at {path}: {words(error)}",
            "start Docker, or name its socket with --docker-socket",
        )
        return
    yield Finding(f"{said.get('Version', 'an engine')}, API {said['ApiVersion']}")
    if version < LEAST_API:
        yield Finding("sockproxy speaks API versions from 1.24 on", "use a newer Docker")


def uids(machine: Machine) -> Iterator[Finding]:
    """See that each uid still is the account's that it was when it was first seen."""
    path = f"{machine.settings.state_of('auth')}/{FILE}"
    for uid, known in names(machine.read(path)).items():
        now = machine.user(uid)
        if now != known and " " not in now:  # "uid 7" is nobody's
            label = f"docker ps -a --filter label=io.sockproxy.owner={uid}, and volumes, networks and images so"
            yield Finding(
                f"uid {uid} was {known}'s and is {now}'s now, who is refused",
                f"if it is the same person, or what was {known}'s is removed ({label}): sockproxy accept {now}",
            )


def confinement(machine: Machine) -> Iterator[Finding]:
    """See that the daemon confines containers, and can hold them to limits."""
    try:
        said = machine.ask(machine.settings.docker_socket, "/info")
    except (OSError, ValueError) as error:
        raise Unknown(f"the daemon does not tell: {words(error)}") from None
    options = said.get("SecurityOptions") or []
    if not any(option.startswith("name=seccomp") and "unconfined" not in option for option in options):
        yield Finding(
            "the daemon starts containers without a seccomp filter",
            'remove "seccomp-profile": "unconfined" from its options, or use a kernel with seccomp',
        )
    for word, what in BOUNDS.items():
        if said.get(word) is False:
            yield Finding(
                f"the daemon can't bound {what} here: the limits of roles do not hold",
                "switch on the cgroup controllers of memory, cpu and pids (kernel command line: cgroup_enable=memory)",
            )
    names = [option.partition(",")[0].removeprefix("name=") for option in options]
    driver, version = said.get("CgroupDriver") or "none", said.get("CgroupVersion") or "1"  # told since 20.10
    yield Finding(f"{', '.join(names) or 'no security module'}; cgroups of version {version} by {driver}")


def serving(machine: Machine) -> Iterator[Finding]:
    """See that sockproxy serves."""
    path = machine.settings.listen
    start = "start it: systemctl start sockproxy, or `sockproxy up`"
    if not is_socket(machine.status(path)):
        yield Finding(f"there is no socket {path}", start)
        return
    try:
        machine.ask(path, "/version")
    except Unknown:
        raise
    except OSError as error:
        yield Finding(f"sockproxy does not answer at {path}: {words(error)}", start)
    except ValueError as error:
        if " 403 " not in str(error):  # a refusal is an answer: this user has no role
            yield Finding(f"sockproxy does not answer well at {path}: {error}", "see its log")


def code(machine: Machine) -> Iterator[Finding]:
    """See that only root can change what runs as root."""
    python = os.path.realpath(sys.executable)
    package = os.path.dirname(os.path.abspath(paths.__file__))
    libraries = os.path.dirname(os.path.dirname(os.path.abspath(sys.modules["yaml"].__file__ or "/yaml/x")))
    remedy = (
        "chown -R root: it, chmod -R go-w it; `sockproxy install` copies nothing, so keep it where only root writes"
    )
    said: set[str] = set()
    for top in (python, package, paths.helpers_dir(), paths.config_dir(), libraries):
        for path in (*_above(top), *_below(top if top not in (python, libraries) else "")):
            status = machine.status(path)
            if status is None or path in said:
                continue
            others = status.st_mode & 0o022 and not (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX)
            if status.st_uid != 0 or others:
                said.add(path)
                who = machine.user(status.st_uid) if status.st_uid else "others than root"
                yield Finding(f"{who} can change {path}, and so what root runs", remedy)
                break


def _above(path: str) -> Iterator[str]:
    yield path
    while path != "/":
        path = os.path.dirname(path)
        yield path


def _below(path: str) -> Iterator[str]:
    for folder, _, files in os.walk(path) if path else ():
        yield folder
        yield from (os.path.join(folder, name) for name in files if not name.endswith(".pyc"))


def audit_disk(machine: Machine) -> Iterator[Finding]:
    """See that there is room for the record, without which nothing is done."""
    path = machine.settings.log_dir
    space = machine.space(path)
    free = space.f_bavail * space.f_frsize
    if free < LEAST_SPACE:
        yield Finding(
            f"{free >> 20} MiB are free for the record in {path}; when there are none, every call is refused",
            "make room, or give the record a file system of its own",
        )
    if space.f_files and space.f_favail < LEAST_FILES:
        yield Finding(f"{space.f_favail} files are left on the file system of {path}", "remove files there")


def clock(machine: Machine) -> Iterator[Finding]:
    """See that the record's times can be believed."""
    if not machine.clock_is_synchronised():
        yield Finding(
            "no time service keeps the clock: times in the record can be wrong",
            "run one, such as systemd-timesyncd or chrony (on a virtual machine the host may do it: then ignore this)",
        )


def limits(machine: Machine) -> Iterator[Finding]:
    """See that there are descriptors enough."""
    front = next(machine.processes(lambda _, words: "sockproxy.app" in words), 0)
    lines = machine.read(f"/proc/{front}/limits").splitlines() if front else []
    found = [line.split() for line in lines if line.startswith("Max open files")]
    most = int(found[0][4]) if found and found[0][4].isdecimal() else machine.open_files_limit()
    if 0 <= most < LEAST_DESCRIPTORS:
        yield Finding(
            f"a process may have {most} descriptors; every connection takes several",
            "raise the hard limit: LimitNOFILE= of the units, or `ulimit -Hn` where `sockproxy up` is started",
        )


def policy(machine: Machine) -> Iterator[Finding]:
    """See that the policy is right, and repeat what `sockproxy check` warns of."""
    file = paths.policy_file(machine.settings.config)
    warnings: list[str] = []
    try:
        compiled = compile_file(file, warnings.append)
    except ConfigError as error:
        yield Finding(
            f"it can't be used, and the one before it stays in force: {error}", "correct it; `sockproxy check`"
        )
        return
    for warning in [*warnings, *report.warnings(compiled)]:
        yield Finding(
            warning,
            f"change {compiled['source']} if that is not meant so" if file else "make it so, or write a policy file",
        )


def accounts(machine: Machine) -> Iterator[Finding]:
    """See that the users of the unprivileged processes are powerless."""
    rows = {row.user: row.groups for row in table(machine.settings) if row.user != "root"}
    for user, meant in rows.items():
        for group in sorted(machine.groups_of(user).difference(meant)):
            yield Finding(f"the user {user} is in the group {group}", f"gpasswd -d {user} {group}")
