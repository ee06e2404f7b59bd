"""Judge what a call uploads, before it is sent or while its archive passes: names of images, members to be unpacked."""

from __future__ import annotations

from . import loads
from .claims import Claim, Wish
from .context import Context
from .scanned import Judge
from .tags import Tags
from .tar import Scan

_DEVICES = (b"3", b"4")  # character and block special files


async def prepare(tags: Tags, ctx: Context, wish: Wish | None) -> tuple[Claim | None, Judge | None]:
    """Claim what is known, and have judged what is not.

    Raises:
        Taken: a name is not the caller's to change.
    """
    if ctx.operation == "PutContainerArchive":
        return None, _copied(ctx)
    if ctx.flag("sees_all"):
        return None, None
    if ctx.operation == "ImageLoad":
        claim = Claim(ctx.caller.uid)

        async def load(scan: Scan) -> bytes:
            return await loads.judge(tags, claim, scan)

        return claim, Judge(loads.WANTED, load)
    return await tags.claim(ctx.caller.uid, wish) if wish else None, None


def _copied(ctx: Context) -> Judge | None:
    """Refuse devices in what is copied into a container: the daemon itself makes them, as root, also on the host's disk
    where a folder is bound. All else is harmless there: setuid bits and file capabilities are the owner's own by the
    bind's map, and links lead no further than the container's root, for the daemon as for the container.
    """
    if ctx.flag("devices"):
        return None

    def member(kind: bytes, name: str) -> None:
        if kind in _DEVICES:
            raise ctx.refusal(f"may not copy the device {name} (allowed: files, folders, links)", "devices")

    return Judge((), _nothing, member)


async def _nothing(scan: Scan) -> bytes:
    return b""
