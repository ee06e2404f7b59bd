"""Give each user a bridge of their own where the daemon would take the one that all share.

On a shared bridge a container reaches, and with NET_RAW impersonates, everybody's. The user's bridge is an ordinary
network, made on first use and owned by the user; it is left out of prunes, since stopped containers come back to it.
"""

from __future__ import annotations

import json

from sockproxy_helpers.channel.loop import Lock
from sockproxy_helpers.errors import NotFound, Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import BRIDGE, ID, OWNER, Object, Objects

Part = dict[str, object]
SHARED = ("", "default", "bridge")  # modes that mean the daemon's own bridge


async def prepare(objects: Objects, daemon: Daemon, ctx: Context, part: Part, making: Lock) -> None:
    """Put the user's bridge in the place of the shared one, in the network part of a ContainerCreate.

    Args:
        making: held while a bridge is made: before engine 25 two calls at once would make two of the same name.

    Raises:
        Unavailable: the bridge can't be made.
    """
    if ctx.flag("default_bridge") or part.get("NetworkDisabled") is True:
        return
    host: Part = {**_object(part.get("HostConfig"))}
    networking: Part = {**_object(part.get("NetworkingConfig"))}
    endpoints: Part = {**_object(networking.get("EndpointsConfig"))}
    by_mode = host.get("NetworkMode", "") in SHARED
    if not by_mode and not endpoints.keys() & set(SHARED):
        return
    network = (await _own(objects, daemon, ctx, making)).id
    endpoints = {network if key in SHARED else key: item for key, item in endpoints.items()}
    if by_mode:
        host["NetworkMode"] = network
        links = host.pop("Links", None)
        if isinstance(links, list):  # they count on the daemon's own bridge only; on another they are the endpoint's
            endpoints[network] = {**_object(endpoints.get(network)), "Links": [_link(str(link)) for link in links]}
    part["HostConfig"] = host
    if endpoints:
        part["NetworkingConfig"] = {**networking, "EndpointsConfig": endpoints}


async def name(objects: Objects, daemon: Daemon, part: Part) -> None:
    """Call networks by their names again, as inspect is to show them; which is meant, each endpoint's NetworkID says.

    Args:
        part: the network part of a ContainerCreate, its endpoints pinned (see `references.pin`).
    """
    host, endpoints = (
        _object(part.get("HostConfig")),
        _object(_object(part.get("NetworkingConfig")).get("EndpointsConfig")),
    )
    for identity in [key for key in endpoints if ID.fullmatch(key)]:
        found = (await objects.find(daemon, "network", identity)).name
        if found not in endpoints:  # engine 20 has two of a name
            endpoints[found] = endpoints.pop(identity)
            if host.get("NetworkMode") == identity:
                host["NetworkMode"] = found


def _link(link: str) -> str:
    """Name the linked container as a network's name service does: by the beginning of its ID."""
    identity, _, alias = link.partition(":")
    return f"{identity[:12]}:{alias}"


def _object(value: object) -> Part:
    return value if isinstance(value, dict) else {}


async def _own(objects: Objects, daemon: Daemon, ctx: Context, making: Lock) -> Object:
    """Find the caller's bridge, or make it."""
    name = f"sockproxy-{ctx.caller.uid}"
    try:
        return await _find(objects, daemon, ctx, name)
    except NotFound:
        pass
    async with making:
        try:
            return await _find(objects, daemon, ctx, name)
        except NotFound:
            return await _make(objects, daemon, ctx, name)


async def _make(objects: Objects, daemon: Daemon, ctx: Context, name: str) -> Object:
    wish = {
        "Name": name,
        "Driver": "bridge",
        "CheckDuplicate": True,
        "Labels": {OWNER: str(ctx.caller.uid), BRIDGE: ctx.caller.user},
    }
    status, answer = await daemon.request("POST", "/networks/create", json.dumps(wish).encode())
    if status != 201:
        raise Unavailable(f"your own network could not be made: {_message(answer)}")
    return await _find(objects, daemon, ctx, name)


async def _find(objects: Objects, daemon: Daemon, ctx: Context, name: str) -> Object:
    network = await objects.find(daemon, "network", name)
    if network.name != name or network.owner != ctx.caller.uid:
        raise Unavailable(f"the network {name} is not yours: an administrator has to remove it")
    return network


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer).get("message"))
    except (ValueError, AttributeError):
        return "no reason given"
