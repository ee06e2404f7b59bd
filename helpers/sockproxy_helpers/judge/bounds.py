"""Keep memory, CPU time and processes of a container within the role's limits.

A container's limit is at most the total of all of a person's: version 1 of cgroups takes no quota above the parent's.
A limit of None is no limit. Zero, where the API takes it for "no limit", becomes the role's number on create, and is
left out of an update, where it means "as before".
"""

from __future__ import annotations

import os
from collections.abc import Callable

from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed
from .context import Context
from .walk import is_zero

NANO = 1_000_000_000
STOPPING = 600  # seconds; the daemon's own end waits for the longest
PERIOD = 100_000  # microseconds: the kernel's default period of the CPU quota
Judge = Callable[[int | None, Context], int | None]


def _refuse_over(value: int, limit: int, what: str, rule: str, ctx: Context) -> None:
    """Refuse a number above the limit; below zero is the API's word for "without limit"."""
    if value < 0 or value > limit:
        asked = "without limit" if value < 0 else str(value)
        raise ctx.refusal(f"may not use {what} {asked} (allowed: up to {limit})", rule)


def _within(key: str, what: str, scale: int = 1) -> Judge:
    def judge(value: int | None, ctx: Context) -> int | None:
        limit, rule = ctx.least(key)
        if limit is None:
            return value
        _refuse_over(value or 0, int(limit * scale), what, rule, ctx)
        return value or None

    return judge


def _or_limit(key: str, within: Judge) -> Judge:
    def judge(value: int | None, ctx: Context) -> int | None:
        limit, _ = ctx.least(key)
        return within(value, ctx) or (value if limit is None else int(limit))

    return judge


memory = _within("memory", "memory")
memory_or_limit = _or_limit("memory", memory)
pids = _within("pids", "pids")
pids_or_limit = _or_limit("pids", pids)
cpus = _within("cpus", "nano CPUs", NANO)
shm_size = _within("memory", "shared memory")
tmpfs_size = _within("memory", "a tmpfs of")


def ulimits(value: list[dict[str, object]], ctx: Context) -> list[dict[str, object]]:
    """Allow the ulimits that the role names, up to its bounds; below zero is without limit."""
    allowed = ctx.rule("ulimits")
    assert isinstance(allowed, dict)
    for index, item in enumerate(value):
        name = str(item.get("Name", "")).lower()
        if name not in allowed:
            words = ", ".join(allowed) or "none"
            raise ctx.refusal(f"may not set the ulimit {show(name)} (allowed: {words})", "ulimits", f"[{index}].Name")
        for key in ("Soft", "Hard"):
            amount, most = item.get(key, 0), allowed[name]
            if most is not None and isinstance(amount, int) and not 0 <= amount <= most:
                why = f"may not have a ulimit {name} of {amount} (allowed: up to {most})"
                raise ctx.refusal(why, "ulimits", f"[{index}].{key}")
    return value


def memory_swap(value: int, ctx: Context) -> int | None:
    """Bound memory and swap together at twice the memory, which is what the daemon gives by itself."""
    limit, rule = ctx.least("memory")
    if limit is None:
        return value
    _refuse_over(value, int(2 * limit), "memory and swap", rule, ctx)
    return value or None


def cpus_or_limit(value: int | None, ctx: Context) -> int | None:
    """Bound a new container's CPUs, unless its quota does (the daemon refuses both at once)."""
    limit, _ = ctx.least("cpus")
    if limit is None or not is_zero(ctx.built.get("CpuQuota")):
        return cpus(value, ctx)
    # The daemon refuses more CPUs than the machine has; such a limit says nothing anyway.
    return cpus(value, ctx) or (int(limit * NANO) if limit < (os.cpu_count() or 1) else value)


def _period(ctx: Context) -> int:
    period = ctx.built.get("CpuPeriod", ctx.built.get("cpuperiod"))
    if isinstance(period, int) and period < 0:
        raise Malformed("a CPU period below zero")
    return period if isinstance(period, int) else 0


def cpu_quota(value: int | None, ctx: Context) -> int | None:
    """Bound a new container's quota; a period without a quota gets the limit's."""
    limit, rule = ctx.least("cpus")
    if limit is None:
        return value
    _refuse_over(value or 0, int(limit * (_period(ctx) or PERIOD)), "a CPU quota of", rule, ctx)
    return value or int(limit * _period(ctx)) or None


def cpu_quota_or_limit(value: int | None, ctx: Context) -> int | None:
    """Bound a build step's quota; it has no other way to say it."""
    limit, _ = ctx.least("cpus")
    return cpu_quota(value, ctx) or (value if limit is None else int(limit * PERIOD))


def cpu_quota_update(value: int | None, ctx: Context) -> int | None:
    """Bound a quota together with its period: over a period set earlier it could be any number of CPUs."""
    limit, rule = ctx.least("cpus")
    if limit is None:
        return value
    if is_zero(value) != (_period(ctx) == 0):
        raise ctx.refusal("may change quota and period only together (allowed: both, or NanoCpus alone)", rule)
    return cpu_quota(value, ctx)


def stop_timeout(value: int, ctx: Context) -> int:
    """Keep a container that ignores its signal from keeping the daemon: below zero it would wait for ever to end."""
    if not 0 <= value <= STOPPING and not ctx.flag("privileged"):
        raise ctx.refusal(f"may not have a stop timeout of {value} (allowed: 0 to {STOPPING} seconds)", "privileged")
    return value


def health_interval(value: int, ctx: Context) -> int:
    """Keep the daemon from starting probes without end, at nobody's account; zero is the image's, or the default."""
    if value and value < NANO and not ctx.flag("privileged"):
        why = f"may not have a health check every {value} ns (allowed: 1s or more)"
        raise ctx.refusal(why, "privileged")
    return value


def inherited_health(image: object, given: object, ctx: Context) -> None:
    """Judge what a container takes over of its image's health check: each field that it has not, or as zero.

    Args:
        image, given: as the image's configuration and the container's have it; None where there is none.

    Raises:
        Refused: it would be run too often.
    """
    checks = [item if isinstance(item, dict) else {} for item in (given, image)]
    if ctx.flag("privileged") or next((test for item in checks if (test := item.get("Test"))), ["NONE"]) == ["NONE"]:
        return
    for key, option in (("Interval", "--health-interval"), ("StartInterval", "--health-start-interval")):
        value = checks[1].get(key) or 0
        if is_zero(checks[0].get(key)) and isinstance(value, int) and value and value < NANO:
            ctx.path = f"Healthcheck.{key}"
            why = f"may not have the image's health check every {value} ns (allowed: {option} 1s, --no-healthcheck)"
            raise ctx.refusal(why, "privileged")
