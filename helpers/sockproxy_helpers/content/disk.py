"""Keep what a user's objects take of the disk within the role's total, as the daemon reports it.

The daemon walks the files to tell, so it is asked for all users together, and the rarer the longer it takes. What runs
can write in between, and without any call: this keeps more from being started, it is no quota of the file system.
"""

from __future__ import annotations

import time

from sockproxy_helpers.channel.loop import Lock, Loop
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import owner_of, parse
from .brought import whose
from .ledger import Ledger

SHARE = 100  # a report counts for so many times as long as it took, within these bounds
LEAST, MOST = 2.0, 300.0  # seconds
AGAIN = 5.0  # seconds until who is refused is looked at again: something may have been removed
SHOWN = 3
ADDING = (
    *("ContainerCreate", "Grpc", "ImageBuild", "ImageCommit", "ImageCreate", "ImageLoad", "PutContainerArchive"),
    "VolumeCreate",
)
Used = dict[int, list[tuple[int, str]]]  # by owner: bytes, and what has them
Items = list[dict[str, object]]


class Disk:
    """Know what each user has, for one helper."""

    def __init__(self, loop: Loop, ledger: Ledger) -> None:
        self._ledger = ledger
        self._used: Used = {}
        self._asked, self._fresh = 0.0, 0.0
        self._asking = Lock(loop)

    async def room(self, daemon: Daemon, ctx: Context) -> None:
        """Make sure that what the caller has is not more than the role allows, before there is more.

        Raises:
            Refused: it is.
            Unavailable: the daemon does not tell.
        """
        most = ctx.number("totals", "disk") if ctx.operation in ADDING else None
        if most is None:
            return
        for seconds in (MOST, AGAIN):
            found = sorted((await self._report(daemon, seconds)).get(ctx.caller.uid, []), reverse=True)
            used = sum(size for size, _ in found)
            if used <= most:
                return
        largest = ", ".join(f"{what} ({_words(size)})" for size, what in found[:SHOWN])
        ctx.path = ""
        why = f"may use {_words(int(most))} of the disk, and you use {_words(used)}; the largest are {largest}"
        raise ctx.refusal(f"{why}: remove some (docker system df -v)", "totals")

    async def _report(self, daemon: Daemon, seconds: float) -> Used:
        """Give a report that is no older."""
        async with self._asking:  # an older engine refuses two at once
            began = time.monotonic()
            if not self._asked or began - self._asked > min(seconds, self._fresh):
                status, found = parse(*await daemon.request("GET", "/system/df?type=container&type=volume&verbose=1"))
                listed, images = parse(*await daemon.request("GET", "/images/json?all=1"))
                if status != 200 or listed != 200 or not isinstance(found, dict):
                    raise Unavailable("the Docker daemon does not tell what is used of the disk")
                self._ledger.refresh()
                self._used = by_owner(found, _items(images), self._ledger)
                self._asked = time.monotonic()
                self._fresh = min(MOST, max(LEAST, SHARE * (self._asked - began)))
        return self._used


def by_owner(found: dict[str, object], images: Items, ledger: Ledger) -> Used:
    """Add up a report.

    Args:
        found: the answer of SystemDataUsage.
        images: all, those without names too; of an owner's, what it has beyond the image that it was made of counts.
        ledger: tells who brought an image.
    """
    used: Used = {}
    for item in _items(found.get("Containers") or _under(found, "ContainerUsage")):
        _add(used, owner_of(item), item.get("SizeRw"), f"container {_name(item)}")
    for item in _items(found.get("Volumes") or _under(found, "VolumeUsage")):
        usage = item.get("UsageData")
        _add(used, owner_of(item), usage.get("Size") if isinstance(usage, dict) else 0, f"volume {item.get('Name')}")
    sizes = {item.get("Id"): item.get("Size") for item in images}
    for item in images:
        size, below = item.get("Size"), sizes.get(item.get("ParentId"))
        own = size - below if isinstance(size, int) and isinstance(below, int) else size
        _add(used, whose(ledger, item, disk=True), own, f"image {_name(item)}")
    return used


def _add(used: Used, owner: int | None, size: object, what: str) -> None:
    if owner is not None and isinstance(size, int) and size > 0:  # -1: the daemon does not know
        used.setdefault(owner, []).append((size, what))


def _under(found: dict[str, object], key: str) -> object:
    """Find the items of an answer since API 1.52."""
    usage = found.get(key)
    return usage.get("Items") if isinstance(usage, dict) else None


def _items(value: object) -> Items:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _name(item: dict[str, object]) -> str:
    names = item.get("Names") or item.get("RepoTags")
    if isinstance(names, list) and names and names[0] != "<none>:<none>":
        return str(names[0]).removeprefix("/")
    return str(item.get("Id")).removeprefix("sha256:")[:12]


def _words(size: int) -> str:
    """Write a size as the policy has it."""
    for letter, bits in (("g", 30), ("m", 20)):
        if size >= 1 << bits:
            return f"{size / (1 << bits):.1f}".removesuffix(".0") + letter
    return f"{-(-size // 1024)}k"
