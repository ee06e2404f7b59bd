"""Keep how much a user has within the role's totals: containers, networks, volumes, published ports, names of images.

What there is, is what the daemon lists now, so nothing has to be kept in step with it. Between the count and the new
object nobody else counts for the same user: see `Turns`.
"""

from __future__ import annotations

import json

from sockproxy_helpers.api import names
from sockproxy_helpers.api.operations import quote
from sockproxy_helpers.channel.loop import Lock, Loop
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.image import config_of
from sockproxy_helpers.upstream.objects import BRIDGE, EXPOSED, OWNER, PORTS

COUNTED = ("ContainerCreate", "NetworkCreate", "VolumeCreate")
SHOWN = 5  # of what there is, in a refusal
EACH = 32 << 10  # bytes of a container in a list, on average: the daemon holds each of hundreds of lists under way
PORT = 40  # bytes there of a port that a container exposes, while it runs: an image of 2 KB has 196,605
Items = list[dict[str, object]]


class Turns:
    """Let each user make one counted object at a time."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._turns: dict[int, Lock] = {}

    def of(self, uid: int, operation: str) -> Lock:
        """Give what to hold while an operation counts and makes; of one that does not count it is free."""
        return self._turns.setdefault(uid, Lock(self._loop)) if operation in COUNTED else Lock(self._loop)


async def containers(daemon: Daemon, ctx: Context, part: object, image: object) -> dict[str, str]:
    """Make sure that the caller may have one more container, with the ports that it publishes; stopped ones count.

    Args:
        part: the network part of its configuration, judged.
        image: its ID, whose exposed ports are the container's, too.

    Returns:
        Labels that say how many ports it publishes and exposes, since lists tell only of those that run.

    Raises:
        Refused: the caller has as many as the role allows.
    """
    most, most_ports = ctx.number("limits", "containers"), ctx.number("totals", "ports")
    if most is None and most_ports is None:
        return {}
    own = await _list(daemon, ctx, "/containers/json?all=1&filters=")
    exposed = {*_map(part, "ExposedPorts"), *_map(await config_of(daemon, str(image)), "ExposedPorts")}
    wanted = _ports(part, exposed) if most_ports is not None else 0
    if most is not None and len(own) >= most:
        stopped = sum(item.get("State") not in ("running", "paused", "restarting") for item in own)
        _refuse(ctx, "containers", most, f"{len(own)} ({stopped} stopped)", own, "docker ps -a", "limits")
    if most is not None and (size := sum(map(_size, own))) + len(exposed) * PORT > most * EACH:
        if size <= most * EACH:
            ctx.path, rest = "ExposedPorts", f"{int(most * EACH - size) // PORT} beside your {len(own)} containers"
            raise ctx.refusal(f"may not expose {len(exposed)} ports, the image's included (allowed: {rest})", "limits")
        own.sort(key=_size, reverse=True)
        words = f"containers, described in {most * EACH} bytes together (labels, commands, ports)"
        _refuse(ctx, words, most, f"{len(own)} in {size}", own, "docker ps -a", "limits")
    used = {str(_label(item, "Names")): _count(item, PORTS) for item in own if _count(item, PORTS)}
    if most_ports is not None and wanted and sum(used.values()) + wanted > most_ports:
        largest = sorted(used, key=used.__getitem__, reverse=True)[:SHOWN]
        by = "; ".join(f"{name}: {used[name]}" for name in largest) or "none"
        ctx.path = "HostConfig.PortBindings"
        have = f"you have {sum(used.values())} and want {wanted} more (the most by {by})"
        why = f"may publish {most_ports} ports, {have}: remove a container that publishes some"
        raise ctx.refusal(why, "totals")
    return {key: str(count) for key, count in ((PORTS, wanted), (EXPOSED, len(exposed))) if count}


async def networks(daemon: Daemon, ctx: Context) -> None:
    """Make sure that the caller may have one more network; the user's own bridge does not count.

    Raises:
        Refused: the caller has as many as the role allows.
    """
    most = ctx.number("totals", "networks")
    if most is not None:
        own = await _list(daemon, ctx, "/networks?filters=")
        own = [item for item in own if BRIDGE not in _labels(item)]
        if len(own) >= most:
            _refuse(ctx, "networks", most, str(len(own)), own, "docker network ls")


async def volumes(daemon: Daemon, ctx: Context, wanted: set[str], anonymous: int = 0) -> None:
    """Make sure that the caller may have these volumes; those that are the caller's already are.

    Raises:
        Refused: they would be more than the role allows.
    """
    most = ctx.number("totals", "volumes")
    if most is not None and (wanted or anonymous):
        own = await _list(daemon, ctx, "/volumes?filters=", driver=["local"])
        more = len(wanted - {str(item.get("Name")) for item in own}) + anonymous
        if more and len(own) + more > most:
            _refuse(ctx, "volumes", most, str(len(own)), own, "docker volume ls")


def tags(ctx: Context, own: list[str]) -> None:
    """Make sure that the caller may have one more name of an image.

    Args:
        own: the full names that are the caller's.

    Raises:
        Refused: the caller has as many as the role allows.
    """
    most = ctx.number("totals", "tags")
    if most is not None and len(own) >= most:
        told: Items = [{"Name": names.familiar(name)} for name in own]
        _refuse(ctx, "names of images", most, str(len(own)), told, "docker rmi")


async def one(daemon: Daemon, ctx: Context, body: object) -> None:
    """Make sure that the caller may have what a NetworkCreate or VolumeCreate makes."""
    if ctx.operation == "NetworkCreate":
        await networks(daemon, ctx)
    elif ctx.operation == "VolumeCreate":
        name = body.get("Name") if isinstance(body, dict) else None
        await volumes(daemon, ctx, {str(name)} if name else set(), 0 if name else 1)


def _refuse(ctx: Context, what: str, most: float, count: str, own: Items, command: str, rule: str = "totals") -> None:
    listed = ", ".join(str(_label(item, "Names", "Name")) for item in own[:SHOWN])
    more = f" and {len(own) - SHOWN} more" if len(own) > SHOWN else ""
    ctx.path = ""
    why = f"may have {most} {what}, and you have {count}: {listed}{more}: remove one ({command})"
    raise ctx.refusal(why if own else f"may have no {what}", rule)


def _label(item: dict[str, object], *keys: str) -> object:
    """Find what to call an object."""
    for key in keys:
        name = item.get(key)
        if name:
            return str(name[0]).removeprefix("/") if isinstance(name, list) else name
    return str(item.get("Id", ""))[:12]


def _labels(item: dict[str, object]) -> dict[str, object]:
    labels = item.get("Labels")
    return labels if isinstance(labels, dict) else {}


def _size(item: dict[str, object]) -> int:
    """Measure what describes a container in a list, with the ports that it will have there once it runs."""
    return len(str(item)) + max(0, _count(item, EXPOSED) * PORT - len(str(item.get("Ports"))))


def _count(item: dict[str, object], label: str) -> int:
    count = str(_labels(item).get(label, ""))
    return int(count) if count.isdecimal() else 0


async def _list(daemon: Daemon, ctx: Context, path: str, **more: list[str]) -> Items:
    """List what is the caller's.

    Args:
        more: filters. Volumes of other drivers are binds, and a driver that is not there makes the daemon wait.
    """
    filters = quote(json.dumps({"label": [f"{OWNER}={ctx.caller.uid}"], **more}))
    status, answer = await daemon.request("GET", path + filters)
    try:
        found = json.loads(answer) if status == 200 else None
    except ValueError:
        found = None
    if isinstance(found, dict):
        found = found.get("Volumes") or []
    if not isinstance(found, list):
        raise Unavailable("the Docker daemon does not tell how much there is")
    return [item for item in found if isinstance(item, dict)]


def _ports(part: object, exposed: set[str]) -> int:
    """Count the host ports that a container will have: of a range one, since the daemon chooses one of it."""
    host = _map(part, "HostConfig")
    bindings = {port: value for port, value in _map(host, "PortBindings").items() if isinstance(value, list)}
    bound = {port: len(value) * _width(port) for port, value in bindings.items()}
    if host.get("PublishAllPorts") is True:
        bound |= {port: _width(port) for port in exposed if not bound.get(port)}
    return sum(bound.values())


def _map(value: object, key: str) -> dict[str, object]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _width(port: str) -> int:
    """Count the container's ports in 8000-8010/tcp."""
    first, dash, last = port.partition("/")[0].partition("-")
    return max(1, int(last) - int(first) + 1) if dash and first.isdecimal() and last.isdecimal() else 1
