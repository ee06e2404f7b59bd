"""Bound in how many bytes a person's images are described together: everybody's lists have all of it.

What an image's labels are, how many steps a build leaves and what a registry or an archive brings is known when it is
there. So what there is, is looked at before a call makes or brings an image, and again before the client sees the end
of the answer: what has come over the bound goes again.
"""

from __future__ import annotations

import json

from sockproxy_helpers.api import names
from sockproxy_helpers.api.operations import quote
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.daemon import Daemon
from . import brought, images, withheld
from .claims import Claim, Wish
from .images import Item
from .ledger import Ledger, Writer

EACH = 4 << 10  # bytes in a list, for each name that a role may have: steps of builds, which have none, have 400
FEWEST = 16  # names: of whom may have fewer, builds have steps, too


async def begin(ledger: Writer, daemon: Daemon, claim: Claim, wish: Wish) -> None:
    """Note what there is before a call brings images, and forget what there is no more.

    Raises:
        Refused: the caller's images are described in more than the role allows.
    """
    if (
        wish.removing
        or claim.ctx.operation == "ImageTag"
        or (claim.had is not None and (claim.others is not None or not wish.shared))
    ):
        return
    items = await images.every(daemon, steps=True)
    brought.forget(ledger, items)
    if claim.had is None:
        most = _most(claim.ctx)
        have = sum(_sizes(ledger, items, claim.uid).values())
        if most is not None and have > most:
            raise claim.ctx.refusal(f"{_why(most)}, and yours have {have}: {_REMOVE}", "totals")
        claim.had = {str(item.get("Id")) for item in items}
    if wish.shared and claim.others is None:
        claim.others = withheld.others(ledger, items, claim.uid)


async def end(ledger: Writer, daemon: Daemon, claim: Claim) -> None:
    """Remove of what has come since a claim began, the largest first, until the rest is within the bound.

    What a container uses stays, and counts: nothing more is made then. `claim.withheld` tells of it.
    """
    most = _most(claim.ctx)
    if claim.had is None or most is None:
        return
    try:
        items = await images.every(daemon, steps=True)
        sizes = _sizes(ledger, items, claim.uid)
        have = left = sum(sizes.values())
        new = [item for item in items if str(item.get("Id")) in sizes.keys() - claim.had]
        for item in sorted(new, key=lambda one: sizes[str(one.get("Id"))], reverse=True):
            if left > most and await _removed(ledger, daemon, item, claim.uid):
                left -= sizes[str(item.get("Id"))]
    except Unavailable:
        return  # the next call finds what there is
    if left < have:
        error = claim.ctx.refusal(f"{_why(most)}, and yours would have {have}: removed again; {_REMOVE}", "totals")
        claim.withheld[""] = f"{error}: rule {error.at}"


_REMOVE = "remove some (docker images -a, docker rmi, docker image prune), or have shorter labels"


def _why(most: int) -> str:
    return f"may have images that are described in {most} bytes together (labels, digests, steps of builds)"


def _most(ctx: Context) -> int | None:
    tags = ctx.number("totals", "tags")
    return None if tags is None else max(int(tags), FEWEST) * EACH


def _sizes(ledger: Ledger, items: list[Item], uid: int) -> dict[str, int]:
    """Tell in how many bytes a list describes somebody's images, by their IDs.

    Tags are left out, which are counted; digests, of which one tag may have had many, are whose the tag is.
    """
    ledger.refresh()
    found: dict[str, int] = {}
    for item in items:
        own, size = _own(ledger, item, uid), 0
        if brought.whose(ledger, item) == uid:
            size = len(json.dumps({**item, "RepoTags": None, "RepoDigests": None}))
        for name in images.full_names(item):
            size += len(name) if "@" in name and any(names.alike(name, one) for one in own) else 0
        if size:
            found[str(item.get("Id"))] = size
    return found


def _own(ledger: Ledger, item: Item, uid: int) -> list[str]:
    """List somebody's names of an image."""
    found = [(name, ledger.find(name, str(item.get("Id")))) for name in images.full_names(item)]
    return [name for name, entry in found if entry and entry.uid == uid]


async def _removed(ledger: Writer, daemon: Daemon, item: Item, uid: int) -> bool:
    """Remove an image by somebody's names of it, or by its ID where it has none; what was made on its way goes too."""
    own = _own(ledger, item, uid)
    going = own or ([] if images.full_names(item) else [str(item.get("Id"))])
    for name in going:
        status, _ = await daemon.request("DELETE", f"/images/{quote(name, '/:@')}")
        if status not in (200, 404):
            return False
        entry = ledger.get(name)
        if name in own and entry and entry.uid == uid:  # others have gone on meanwhile
            ledger.put(name, None)
    return bool(going)
