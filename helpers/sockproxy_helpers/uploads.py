"""Claim the names of images that a call may change, before it is sent, or while its archive passes."""

from __future__ import annotations

from . import loads
from .claims import Claim, Wish
from .context import Context
from .scanned import Judge
from .tags import Tags
from .tar import Scan


async def prepare(tags: Tags, ctx: Context, wish: Wish | None) -> tuple[Claim | None, Judge | None]:
    """Claim what is known, and have judged what is not.

    Raises:
        Taken: a name is not the caller's to change.
    """
    if ctx.flag("sees_all"):
        return None, None
    if ctx.operation == "ImageLoad":
        claim = Claim(ctx.caller.uid)

        async def load(scan: Scan) -> bytes:
            return await loads.judge(tags, claim, scan)

        return claim, Judge(loads.WANTED, load)
    return await tags.claim(ctx.caller.uid, wish) if wish else None, None
