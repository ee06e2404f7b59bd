"""Give each user a bridge of their own where the daemon would take the one that all share.

On a shared bridge a container reaches, and with NET_RAW impersonates, everybody's. The user's bridge is an ordinary
network, made on first use and owned by the user; it is left out of prunes, since stopped containers come back to it.
"""

from __future__ import annotations

import json

from .context import Context
from .daemon import Daemon
from .errors import NotFound, Unavailable
from .objects import BRIDGE, OWNER, Object, Objects

SHARED = ("", "default", "bridge")  # modes that mean the daemon's own bridge


async def prepare(objects: Objects, daemon: Daemon, ctx: Context, part: dict[str, object]) -> None:
    """Put the user's bridge in the place of the shared one, in the network part of a ContainerCreate.

    Raises:
        Unavailable: the bridge can't be made.
    """
    if ctx.flag("default_bridge") or part.get("NetworkDisabled") is True:
        return
    host = part.setdefault("HostConfig", {})
    networking = part.get("NetworkingConfig")
    endpoints = networking.get("EndpointsConfig") if isinstance(networking, dict) else None
    assert isinstance(host, dict)
    by_mode = host.get("NetworkMode", "") in SHARED
    if not by_mode and not (isinstance(endpoints, dict) and endpoints.keys() & set(SHARED)):
        return
    network = (await _own(objects, daemon, ctx)).id
    if by_mode:
        host["NetworkMode"] = network
    if isinstance(networking, dict) and isinstance(endpoints, dict):
        networking["EndpointsConfig"] = {network if key in SHARED else key: item for key, item in endpoints.items()}


async def _own(objects: Objects, daemon: Daemon, ctx: Context) -> Object:
    """Find the caller's bridge, or make it."""
    name = f"sockproxy-{ctx.caller.uid}"
    try:
        return await _find(objects, daemon, ctx, name)
    except NotFound:
        pass
    wish = {
        "Name": name,
        "Driver": "bridge",
        "CheckDuplicate": True,
        "Labels": {OWNER: str(ctx.caller.uid), BRIDGE: ctx.caller.user},
    }
    status, answer = await daemon.request("POST", "/networks/create", json.dumps(wish).encode())
    if status not in (201, 409):  # 409: another call of the same user was first
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
