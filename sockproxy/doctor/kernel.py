"""Find out what this kernel can do of what sockproxy builds on."""

from __future__ import annotations

import errno
import fnmatch
import os
import pwd
from collections.abc import Iterator

from sockproxy import paths
from sockproxy.doctor.machine import Finding, Machine, Unknown
from sockproxy.errors import ConfigError
from sockproxy.policy.compile import Compiled, compile_file

# The same on every architecture (include/uapi/asm-generic/unistd.h).
OPEN_TREE, OPENAT2, MOUNT_SETATTR, LANDLOCK_CREATE_RULESET = 428, 437, 442, 444
SHOWN = 3  # paths of those with one answer
_TELL_ABI = 1  # flag of landlock_create_ruleset(2)
NEWEST_ABI_USED = 6  # confine.py: signals to processes outside
SO_PEERPIDFD = 77
# File systems whose mounts take no id map, or only in some versions of the kernel.
UNMAPPABLE = ("overlay", "fuse*", "proc", "sysfs", "cgroup*", "nfs*", "cifs", "smb*", "9p", "vboxsf", "devtmpfs")


def landlock(machine: Machine) -> Iterator[Finding]:
    """See that processes can give up writing, programs and TCP."""
    abi, error = machine.system_call(LANDLOCK_CREATE_RULESET, None, 0, _TELL_ABI)
    if abi < 1 and error not in (errno.ENOSYS, errno.EOPNOTSUPP):
        yield Finding(
            f"Landlock is refused here ({os.strerror(error)}): sockproxy will not start",
            "let this container, or unit, make the three system calls of Landlock (landlock_*)",
        )
    elif abi < 1:
        yield Finding(
            "this kernel has no Landlock: a helper that is broken into could write as root",
            "use a kernel from 5.13 on, and see that lsm= on its command line, if there, names landlock",
        )
    elif abi < NEWEST_ABI_USED:
        yield Finding(f"ABI {abi}: it does not keep helpers from sending signals, or more (all from 6.12 on)")
    else:
        yield Finding(f"ABI {abi}")


def mounts(machine: Machine) -> Iterator[Finding]:
    """See that the kernel has what safe binds need."""
    for number, name, since in ((OPENAT2, "openat2", "5.6"), (OPEN_TREE, "open_tree", "5.2")):
        if machine.system_call(number, -1, None, 0, 0)[1] == errno.ENOSYS:
            yield Finding(f"this kernel has no {name}(2): no safe binds", f"use a kernel from {since} on, better 6.3")
    if machine.system_call(MOUNT_SETATTR, -1, None, 0, None, 0)[1] == errno.ENOSYS:
        yield Finding("this kernel has no mount_setattr(2): no idmapped binds", "use a kernel from 5.12 on, better 6.3")
    if machine.read("/proc/sys/user/max_user_namespaces").strip() == "0":
        yield Finding("user namespaces are switched off: no idmapped binds", "sysctl user.max_user_namespaces=10000")


def pidfd(machine: Machine) -> Iterator[Finding]:
    """See that the kernel says not only who a peer is, but hands out the process."""
    if not machine.peer_option(SO_PEERPIDFD):
        yield Finding(
            "this kernel has no SO_PEERPIDFD: a caller that ends can't be told from a process that gets its number",
            "use a kernel from 6.5 on",
        )


def file_systems(machine: Machine) -> Iterator[Finding]:
    """See that each place that roles may bind lies on a file system that can be idmapped: by trying, as root."""
    try:
        compiled = compile_file(paths.policy_file(machine.settings.config))
    except ConfigError:
        raise Unknown("the policy is wrong") from None
    mounted = _mounted(machine)
    alike: dict[
        tuple[str, str, tuple[str, ...]], list[str]
    ] = {}  # one of those that must have the same answer is tried
    for path in sorted(_bindable(machine, compiled)):
        real = os.path.realpath(path)
        below = tuple(f"{place} ({kind})" for place, kind in mounted if place.startswith(real.rstrip("/") + "/"))
        alike.setdefault((*_mount_of(mounted, real), below), []).append(path)
    for (place, kind, below), found in alike.items():
        tried = machine.mappable(found[0]) or "guessed"
        where, names = f"{place} ({kind})", ", ".join(found[:SHOWN]) + " …" * (len(found) > SHOWN)
        unmappable = any(fnmatch.fnmatchcase(kind, pattern) for pattern in UNMAPPABLE)
        if tried == "none" or (tried == "guessed" and unmappable):
            yield Finding(
                f"{names} is on {where}, whose mounts take no id map",
                "keep it on ext4, xfs, btrfs or (from Linux 6.3 on) tmpfs; or take it out of the role's binds; or let "
                "the role read there, with root's eyes (unmapped_binds)",
            )
        elif tried == "top":
            yield Finding(
                f"{names} can be bound in parts only: something mounted below takes no id map: {', '.join(below)}",
                "have people bind folders beside it, or unmount it",
            )
        elif tried != "missing":
            yield Finding(f"{names} on {where}" + (", by its kind: root can try" if tried == "guessed" else ""))


def _bindable(machine: Machine, compiled: Compiled) -> set[str]:
    found = set()
    for name, role in compiled["roles"].items():
        holders = {user for user, (_, bound, _) in compiled["users"].items() if bound == name}
        for group, (_, bound, _) in compiled["groups"].items():
            holders |= machine.members_of(group) if bound == name else set()
        binds, _ = role["rules"].get("binds", ([], ""))
        for bind in binds if isinstance(binds, list) and holders else ():
            assert isinstance(bind, dict)
            found |= _homes(holders) if bind["path"] == "{home}" else {str(bind["path"])} - {"/"}
    return found


def _homes(names: set[str]) -> set[str]:
    homes = set()
    for name in names:
        try:
            homes.add(pwd.getpwnam(name).pw_dir)
        except (KeyError, ValueError):
            continue
    return homes - {"/", "/nonexistent"}


def _mounted(machine: Machine) -> list[tuple[str, str]]:
    """List mount points with the kind of their file system, the last mounted last."""
    found = []
    for line in filter(None, machine.read("/proc/self/mountinfo").split("\n")):
        left, _, right = line.partition(" - ")
        found.append((left.split(" ")[4].encode().decode("unicode_escape"), right.split()[0]))
    return found


def _mount_of(mounted: list[tuple[str, str]], path: str) -> tuple[str, str]:
    best = ("/", "")
    for place, kind in mounted:
        if (path == place or path.startswith(place.rstrip("/") + "/")) and len(place) >= len(best[0]):
            best = (place, kind)
    return best
