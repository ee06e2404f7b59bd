"""Judge the fields of containers, execs and the system: what a process may do and how much it may use."""

from __future__ import annotations

import re

from sockproxy_helpers.api.fields import Rules
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed
from . import bounds, logs, rules
from .context import Context
from .rules import needs, only

# What the Engine gives a container that asks for nothing (moby daemon/pkg/oci/caps/defaults.go).
DEFAULT_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
_CAPABILITY = re.compile(r"[A-Z][A-Z_]{1,30}")
# The daemon runs ps as root on the host, of all its processes where "-q PID" does not go with the other options, and
# keeps the lines that have a container's process in the column under "PID". So that column is ps's own: no other is
# called so ("rss=PID"), and none that may have spaces stands before it.
_PS_ARGS = re.compile(r"(?:-?[AFHLSTacefjlmsuvwxy]{1,16})?(?: *-?[aex]*o *pid(?:(?:,| +-?o *)[a-z_%]{1,16}){0,32})?")
_SYSCTL = re.compile(r"[a-z0-9_-]+(\.[a-zA-Z0-9_-]+)+")
_TRUE, _FALSE = ("", "1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_OWN_PROFILES = ("seccomp=builtin", "apparmor=docker-default")

# What the Engine masks and protects by itself, in all versions (moby oci/defaults.go).
_DAEMONS_PATHS = (
    {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"},
    {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
)


def _capabilities(value: list[str], ctx: Context) -> list[str]:
    """Bring names into one spelling: the daemon takes any case, with CAP_ or without."""
    names = [name.upper().removeprefix("CAP_") for name in value]
    for name, given in zip(names, value, strict=True):
        if not given.isascii() or not _CAPABILITY.fullmatch(name):
            raise Malformed(f"{ctx.path}: {show(given)} is not a capability")
    return names


def cap_add(value: list[str], ctx: Context) -> list[str]:
    """Allow capabilities that the role has."""
    allowed = ctx.names("capabilities")
    names = _capabilities(value, ctx)
    for name in names:
        if name not in allowed and "ALL" not in allowed:
            listed = ", ".join(allowed) or "none"
            raise ctx.refusal(f"may not have the capability {name} (allowed: {listed})", "capabilities")
    return names


def cap_drop(value: list[str] | None, ctx: Context) -> list[str]:
    """Drop what the role does not have of the capabilities that the daemon gives by itself."""
    allowed = ctx.names("capabilities")
    names = _capabilities(value or [], ctx)
    if "ALL" not in names and "ALL" not in allowed:
        names += [name for name in DEFAULT_CAPABILITIES if name not in allowed and name not in names]
    return names


def security_opt(value: list[str] | None, ctx: Context) -> list[str]:
    """Keep the daemon's own profiles, and no-new-privileges where the role forces it."""
    kept, no_new_privileges = [], None
    for option in value or []:
        key, _, setting = option.partition("=" if "=" in option else ":")
        if key == "no-new-privileges":
            if setting not in _TRUE + _FALSE:
                raise Malformed(f"{ctx.path}: {show(option)} is neither true nor false")
            no_new_privileges = setting in _TRUE
        elif f"{key}={setting}" in _OWN_PROFILES or ctx.flag("security_options"):
            kept.append(option)
        else:
            allowed = ", ".join(("no-new-privileges", *_OWN_PROFILES))
            raise ctx.refusal(f"may not set {show(key)} (allowed: {allowed})", "security_options")
    if ctx.flag("no_new_privileges"):
        if no_new_privileges is False:
            raise ctx.refusal("may not turn no-new-privileges off", "no_new_privileges")
        no_new_privileges = True
    if no_new_privileges is None:
        return kept
    return ["no-new-privileges" if no_new_privileges else "no-new-privileges=false", *kept]


def kernel_paths(value: list[str], ctx: Context) -> list[str] | None:
    """Refuse any list of masked or read-only paths, the empty one above all: it replaces the daemon's own.

    That one may come back as `inspect` shows it, from who renews a container; the daemon then puts its own there again.
    """
    if not ctx.flag("security_options"):
        if any(own.issubset(value) for own in _DAEMONS_PATHS):
            return None
        raise ctx.refusal("may not replace the list of protected paths (allowed: null)", "security_options")
    return value


def sysctls(value: dict[str, str], ctx: Context) -> dict[str, str]:
    """Allow the sysctls that the role names; a name that ends in a dot stands for all below it."""
    allowed = ctx.names("sysctls")
    for key in value:
        if not _SYSCTL.fullmatch(key):
            raise Malformed(f"{ctx.path}: {show(key)} is not a sysctl (a.b.c)")
        if not any(key == name or (name.endswith(".") and key.startswith(name)) for name in allowed):
            raise ctx.refusal(f"may not set {key} (allowed: {', '.join(allowed) or 'none'})", "sysctls")
    return value


def runtime(value: str, ctx: Context) -> str:
    """Allow the daemon's default runtime, and those that the role names."""
    allowed = ctx.names("runtimes")
    if value and value not in allowed and "ALL" not in allowed:
        raise ctx.refusal(f"may not choose a runtime (allowed: {', '.join(allowed) or 'none given'})", "runtimes")
    return value


def oom_score_adj(value: int, ctx: Context) -> int:
    """Let nobody be spared at the cost of the host's own processes."""
    if value < 0 and not ctx.flag("privileged"):
        raise ctx.refusal("may not be spared by the OOM killer (allowed: 0 to 1000)", "privileged")
    return value


def oom_kill_disable(value: bool, ctx: Context) -> bool:
    """Refuse to hang at the memory limit for whom there is one."""
    if value and (ctx.number("limits", "memory") is not None or ctx.number("totals", "memory") is not None):
        raise ctx.refusal("may not turn the OOM killer off (allowed: false)", "limits")
    return value


def ps_args(value: str, ctx: Context) -> str:
    """Allow the arguments of ps that choose columns, so that they show the container's processes only."""
    if not _PS_ARGS.fullmatch(value):
        raise ctx.refusal(
            "arguments of ps that could show the host's processes (allowed: aux, -ef, -eo pid,COLUMN,...)"
        )
    return value


RULES: Rules = {
    "cap_add": cap_add,
    "cap_drop": cap_drop,
    "cgroup_parent": rules.cgroup_parent,
    "cgroupns_mode": rules.namespace("cgroup", ("", "private")),
    "cpu_quota": bounds.cpu_quota,
    "cpu_quota_update": bounds.cpu_quota_update,
    "cpus": bounds.cpus,
    "cpus_or_limit": bounds.cpus_or_limit,
    "devices": needs("devices", "give host devices to a container"),
    "ignored": rules.ignored,
    "health_interval": bounds.health_interval,
    "ipc_mode": rules.namespace("ipc", ("", "none", "private", "shareable")),
    "isolation": rules.isolation,
    "kernel_paths": kernel_paths,
    "labels": rules.labels,
    "own_cgroup": rules.own_cgroup,
    "own_filters": rules.own_filters,
    "list_limit": rules.list_limit,
    "seen_filters": rules.seen_filters,
    "owner_mark": rules.owner_mark,
    "owned_labels": rules.owned_labels,
    "log_options": logs.log_options,
    "log_driver": only(("", "json-file", "local", "none"), "driver_options", "choose this log driver"),
    "memory": bounds.memory,
    "memory_or_limit": bounds.memory_or_limit,
    "memory_swap": bounds.memory_swap,
    "name": rules.name,
    "oom_kill_disable": oom_kill_disable,
    "oom_score_adj": oom_score_adj,
    "pid_mode": rules.namespace("pid", ("",)),
    "pids": bounds.pids,
    "pids_or_limit": bounds.pids_or_limit,
    "privileged": needs("privileged", "run privileged containers or execs"),
    "ps_args": ps_args,
    "realtime": needs("privileged", "use realtime scheduling"),
    "runtime": runtime,
    "security_opt": security_opt,
    "security_options": needs("security_options", "set annotations, which runtimes obey"),
    "shm_size": bounds.shm_size,
    "stop_timeout": bounds.stop_timeout,
    "sysctls": sysctls,
    "userns_mode": rules.namespace("user", ("",)),
    "ulimits": bounds.ulimits,
    "uts_mode": rules.namespace("uts", ("",)),
    "working_dir": rules.working_dir,
}
