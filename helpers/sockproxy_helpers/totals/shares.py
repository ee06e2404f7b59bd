"""Put what a user runs below the user's own cgroup, as the daemon's cgroup driver names it."""

from __future__ import annotations

import json
import sys
import time

from sockproxy_helpers.api.operations import quote
from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.judge.logs import chosen, judge_chosen, unless_bounded
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.judge.rules import own_cgroup
from sockproxy_helpers.system.caller import person
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.image import config_of
from sockproxy_helpers.upstream.objects import OWNER, member, owner_of, parse
from . import systemd
from .cgroupfs import BUILDS, Cgroups, Totals, is_of_swap, read, writes

FRESH = 60.0  # seconds that the daemon's word about itself counts: another driver takes a restart of it
PAGE = 4096  # bytes
PATIENCE = 2.0  # seconds until a daemon that does not answer is asked again


class Shares:
    """Keep the users' shares of the machine, for one helper."""

    def __init__(self, loop: Loop, cgroups: Cgroups) -> None:
        self._loop, self._cgroups = loop, cgroups
        self._told: dict[str, object] = {}
        self._asked = 0.0

    async def place(self, daemon: Daemon, ctx: Context, parent: str) -> str:
        """Say under which cgroup the daemon is to put what the caller starts, once that has the role's totals.

        Args:
            parent: as the rule `own_cgroup` has left it.

        Raises:
            Unavailable: limits can't be set here, so the share would be no bound.
        """
        if parent != own_cgroup(None, ctx):
            return parent
        await self._bound(daemon, ctx.caller.uid, totals(ctx.rules))
        return await self.name(daemon, ctx)

    async def name(self, daemon: Daemon, ctx: Context, path: bool = False) -> str:
        """Give the daemon's name of the cgroup for what the caller starts; "" where the role has no totals.

        Args:
            path: for BuildKit, which makes cgroups by itself, whatever the daemon's driver.
        """
        if not own_cgroup(None, ctx):
            return ""
        if (await self._info(daemon))["CgroupDriver"] == "systemd":
            unit = systemd.slice_of(self._cgroups.name, ctx.caller.uid)
            return systemd.path_of(unit) if path else unit
        own = f"/{self._cgroups.name}/{ctx.caller.uid}"
        return f"{own}/{BUILDS}" if ctx.operation == "ImageBuild" else own

    async def log(self, daemon: Daemon, ctx: Context, part: object, image: object) -> None:
        """Settle a container's log options, by the daemon's default driver and by what they choose.

        Args:
            part: the lifecycle part of its configuration; changed in place.
            image: its ID.

        Raises:
            Refused: each line of its log would be too long.
        """
        host = member(part, "HostConfig")
        if isinstance(host, dict):
            unless_bounded(host, str((await self._info(daemon)).get("LoggingDriver")))
        if chosen(part):
            judge_chosen(part, await config_of(daemon, str(image)), ctx)

    async def _info(self, daemon: Daemon) -> dict[str, object]:
        """Ask the daemon about itself, at times."""
        if time.monotonic() - self._asked > FRESH or not self._asked:
            status, found = parse(*await daemon.request("GET", "/info"))
            if status != 200 or not isinstance(found, dict):
                raise Unavailable("the Docker daemon does not tell about itself")
            self._told = {key: found.get(key) for key in ("CgroupDriver", "CgroupVersion", "LoggingDriver")}
            self._asked = time.monotonic()
        return self._told

    async def _bound(self, daemon: Daemon, uid: int, wanted: Totals) -> None:
        """Set a user's limits, in the daemon's way to handle cgroups.

        Raises:
            Unavailable: it is none that we know to use.
        """
        told = await self._info(daemon)
        driver, version = str(told["CgroupDriver"]), str(told["CgroupVersion"] or "1")  # told since 20.10
        if driver == "systemd":
            unit = systemd.slice_of(self._cgroups.name, uid)
            await systemd.bound(self._loop, unit, wanted, lambda: holds(self._cgroups, systemd.path_of(unit), wanted))
            return
        if driver != "cgroupfs" or version != str(self._cgroups.version):
            raise Unavailable(
                f"your share of the machine can't be set: the Docker daemon uses {driver} and version {version} of "
                f"cgroups, sockproxy can write to version {self._cgroups.version or 'none'} (an administrator can "
                "give the role no totals: null)"
            )
        if not self._cgroups.folders:
            raise Unavailable(
                "your share of the machine can't be set: sockproxy could not make cgroups when it was started, its log "
                "says why (an administrator can restart it when that is mended, or give the role no totals: null)"
            )
        try:
            self._cgroups.apply(uid, wanted)
        except OSError as error:
            raise Unavailable(f"your share of the machine can't be set: {error.filename}: {error.strerror}") from error

    async def adopt(self, loop: Loop, daemon: Daemon, policy: Policy) -> None:
        """Bring the cgroups of all who have containers up to date, and remove those of others.

        Cgroups are gone after a reboot, and the daemon starts containers by itself; totals change with the policy.
        """
        while True:
            try:
                owners = await _owners(daemon)
                break
            except Unavailable:
                await loop.wait({}, PATIENCE)
        for uid in owners:
            rules = policy.rules_of(person(uid))
            if rules is not None and any(value is not None for value in totals(rules).values()):
                try:
                    await self._bound(daemon, uid, totals(rules))
                except Unavailable as error:
                    print(f"sockproxy: uid {uid}: {error}", file=sys.stderr)
        for uid in self._cgroups.users() - owners:
            self._cgroups.remove(uid)


def totals(rules: dict[str, tuple[object, str]]) -> Totals:
    """Take a role's totals of what cgroups bound."""
    value = rules["totals"][0]
    assert isinstance(value, dict)
    return {key: value[key] for key in ("memory", "cpus", "pids")}


def holds(cgroups: Cgroups, path: str, wanted: Totals) -> bool:
    """Tell whether a cgroup that somebody else keeps has these limits; memory is counted in pages."""
    for hierarchy in cgroups.hierarchies:
        for controller, name, text in writes(cgroups.version, wanted):
            if controller in hierarchy.controllers and text[:1].isdecimal() and not is_of_swap(name):
                try:
                    found = read(f"{hierarchy.mount}{path}/{name}").strip()
                except OSError:
                    return False
                if found != text and (controller != "memory" or _in_pages(found) != _in_pages(text)):
                    return False
    return cgroups.version > 0


def _in_pages(text: str) -> str:
    return str(int(text) // PAGE) if text.isdecimal() else text


async def _owners(daemon: Daemon) -> set[int]:
    """List who has containers."""
    filters = quote(json.dumps({"label": [OWNER]}))
    status, items = parse(*await daemon.request("GET", f"/containers/json?all=1&filters={filters}"))
    if status != 200 or not isinstance(items, list):
        raise Unavailable("the Docker daemon lists nothing")
    owners = (owner_of(item) for item in items if isinstance(item, dict))
    return {uid for uid in owners if uid is not None}
