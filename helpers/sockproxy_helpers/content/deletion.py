"""Remove an image without waiting for containers that have nothing to do with it.

Before the daemon removes an image's last name it looks for stopped containers of it, and takes the lock of each that
there is: for one that hangs in its start, whoever's it is, it waits until it is restarted. With `force` it looks at
this image's own only. So where no container uses the image, which lists tell without a lock, and no name would go but
the one that was asked for, force passes over nothing, and is said. Steps of builds below it go one by one, then.

A container that is created in between finds its image removed, as with `docker rmi -f`; it keeps its layers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine

from sockproxy_helpers.api import names
from sockproxy_helpers.api.operations import Operation, quote
from sockproxy_helpers.channel.loop import Wait, Want
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import parse
from . import images
from .images import Item

FORCED = "?force=1&noprune=1"
Query = list[tuple[str, str]]
Pause = Callable[[float], Coroutine[Wait, Want, object]]  # waits for so many seconds, or until it is woken


class Instead:
    """Hold what is done in place of what was asked for, to the same end.

    Attributes:
        operation, query: what the daemon is asked for.
    """

    def __init__(self, operation: Operation, query: Query) -> None:
        self.operation, self.query = operation, query

    async def run(self, answered: bytes, pause: Pause) -> tuple[bytes, str]:
        """Go on from the daemon's answer; give what the caller is told, and what the record says besides."""
        raise NotImplementedError


class Deletion(Instead):
    """Hold one removal of an image."""

    def __init__(self, connect: Callable[[], Daemon], operation: Operation, item: Item, steps: bool) -> None:
        super().__init__(operation, [("force", "1"), ("noprune", "1")])
        self._connect, self._id, self._below = connect, str(item.get("Id")), item.get("Parent") if steps else None

    async def run(self, answered: bytes, pause: Pause) -> tuple[bytes, str]:
        """Go on with the steps that the image was made by, where it is gone and they have no other use."""
        _, told = parse(200, answered)
        gone = told if isinstance(told, list) else []
        if {"Deleted": self._id} in gone and isinstance(self._below, str):
            daemon = self._connect()
            gone = [*gone, *await below(daemon, self._below, await used(daemon))]
        return json.dumps(gone, separators=(",", ":")).encode() + b"\n", ""


async def begin(
    connect: Callable[[], Daemon], operation: Operation, variables: dict[str, str], query: Query
) -> Deletion | None:
    """Take a removal as it would be sent; None where the daemon answers it without that look, or must have it.

    Args:
        variables: what is in use is removed by its name, where it has one: the daemon refuses that at once.
    """
    given, reference = dict(query), variables["name"]
    if given.get("platforms") is not None:
        return None
    daemon = connect()
    status, item = parse(*await daemon.request("GET", f"/images/{quote(reference, '/:@')}/json"))
    if status != 200 or not isinstance(item, dict):
        return None
    identity, steps = str(item.get("Id")), given.get("noprune") != "1"
    if given.get("force") != "1":
        told = images.full_names(item)
        tags = [name for name in told if "@" not in name]
        if len(tags) > 1 or len({names.repository(name) for name in told}) > 1:
            return None
        if any(one.get("ParentId") == identity for one in await images.every(daemon, steps=True)):
            return None  # it stays as a step of those
        if identity in await used(daemon):
            if told and identity.removeprefix("sha256:").startswith(reference.removeprefix("sha256:")):
                variables["name"] = names.familiar(told[0])
            return None
    return Deletion(connect, operation, item, steps)


async def used(daemon: Daemon) -> set[str]:
    """List the images that containers are of, or have mounted, running or not."""
    status, found = parse(*await daemon.request("GET", "/containers/json?all=1"))
    if status != 200 or not isinstance(found, list):
        raise Unavailable("the Docker daemon lists no containers")
    mounts = [mount for item in found for mount in item.get("Mounts") or [] if mount.get("Type") == "image"]
    return {str(item.get("ImageID")) for item in found} | {str(mount.get("Name")) for mount in mounts}


async def below(daemon: Daemon, parent: str, kept: set[str]) -> list[object]:
    """Remove a step and those below it, up to one that has a name or another use; tell what is gone."""
    gone: list[object] = []
    while parent and parent not in kept:
        status, item = parse(*await daemon.request("GET", f"/images/{quote(parent)}/json"))
        if status != 200 or not isinstance(item, dict) or images.full_names(item):
            break
        status, told = parse(*await daemon.request("DELETE", f"/images/{quote(parent)}{FORCED}"))
        if status != 200 or not isinstance(told, list):
            break
        gone, parent = [*gone, *told], str(item.get("Parent") or "")
    return gone
