"""Know what the engine can do."""

from __future__ import annotations

import re

from sockproxy_helpers.errors import Refused, Unavailable
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import parse
from .context import Context

SOURCE_POLICY = (1, 43)  # engine 24, the first whose BuildKit (0.11) holds a build to a source policy; older ignore it
_FREE: dict[str, list[list[str]]] = {"registries": [["ALL"]], "frontends": [[], ["ALL"]]}  # what asks nothing of it
_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})")
_REMAPPED = re.compile(r"/.*/([1-9][0-9]{0,9})\.([1-9][0-9]{0,9})")  # moby: the root folder has the IDs in its name


async def bound(daemon: Daemon, ctx: Context) -> None:
    """See that the engine can hold a BuildKit build to the role's registries and frontends.

    Raises:
        Refused: it can't.
        Unavailable: it does not tell.
    """
    for rule in ("registries", "frontends"):
        if ctx.names(rule) not in _FREE[rule] and await _api(daemon) < SOURCE_POLICY:
            why = f"may not use BuildKit of this engine, which can't be held to {rule} (allowed: engine 24 or newer)"
            raise ctx.refusal(why, rule)


async def _api(daemon: Daemon) -> tuple[int, int]:
    """Ask for the newest version of the API that the engine speaks."""
    status, found = parse(*await daemon.request("GET", "/version"))
    told = found.get("ApiVersion") if isinstance(found, dict) else None
    match = _VERSION.fullmatch(told) if isinstance(told, str) and status == 200 else None
    if not match:
        raise Unavailable("the Docker daemon does not tell its version")
    return int(match[1]), int(match[2])


async def root_inside(daemon: Daemon) -> list[int]:
    """Tell which IDs of this host root in a container has: root's own, or with `--userns-remap` others.

    Raises:
        Refused: it is another root's engine (rootless): what it does with mounts can't be known from here.
        Unavailable: it does not tell.
    """
    status, found = parse(*await daemon.request("GET", "/info"))
    if status != 200 or not isinstance(found, dict):
        raise Unavailable("the Docker daemon does not tell about itself")
    options = {str(option).partition(",")[0] for option in found.get("SecurityOptions") or []}
    if "name=rootless" in options:
        raise Refused("", "a rootless Docker daemon can't be given the host's folders (allowed: volumes, docker cp)")
    if "name=userns" not in options:
        return [0, 0]
    match = _REMAPPED.fullmatch(str(found.get("DockerRootDir")))
    if not match:
        raise Unavailable("the Docker daemon does not tell who root in its containers is")
    return [int(match[1]), int(match[2])]
