"""See that a call that removes images takes no name of somebody else's with it."""

from __future__ import annotations

from sockproxy_helpers.api import names
from sockproxy_helpers.errors import Refused
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import owner_of
from . import images
from .claims import Wish
from .images import View
from .ledger import Ledger


async def removed(ledger: Ledger, daemon: Daemon, ctx: Context, text: str) -> tuple[str, Wish]:
    """Say what to remove so that nothing of anybody else's goes, and which names the call removes.

    Raises:
        Refused: something would go with it, or all may use it.
    """
    found = await images.find(ledger, daemon, ctx, text)
    view, told = View(ledger, ctx.caller.uid), images.full_names(found.whole)
    tags = [name for name in told if "@" not in name]
    if not found.name and (owner_of(found.whole) == ctx.caller.uid or view.brought(found.id)):
        going, wish = told, Wish(tags, removing=True)
    else:
        if not found.name and len(tags or told) != 1:
            raise Refused("", "an image that others may use is removed by its names, one by one (allowed: name:tag)")
        name = found.name or (tags or told)[0]
        others = [tag for tag in tags if tag != name and names.alike(tag, name)]
        going = [digest for digest in told if "@" in digest and names.alike(digest, name)] if not others else []
        wish = Wish([name], removing=True)
        text = text if found.name and not images.ID.fullmatch(text) else name
    for name in going:  # digests go with the last tag of their repository
        if view.anothers(name, found.id):
            raise Refused("", f"{names.familiar(name)} would go with it, and is not yours to remove")
    return (found.id if going is told else text), wish


async def pruned(ledger: Ledger, daemon: Daemon, ctx: Context) -> None:
    """See that the images which the daemon's prune may remove have no names of others: it removes all names of each.

    A name that somebody sets on an image of the caller's own making while the prune runs goes with it: that takes the
    same image, loaded or pulled in that moment, and is there again when it is loaded or pulled again. To keep all names
    still meanwhile would let each prune hold up everybody's pulls and builds.

    Raises:
        Refused: one has.
    """
    view = View(ledger, ctx.caller.uid)
    for item in await images.every(daemon):
        for name in images.full_names(item) if owner_of(item) == ctx.caller.uid else ():
            if view.anothers(name, str(item.get("Id"))):
                why = f"{names.familiar(name)} is somebody else's name of an image of yours, and would go with it"
                raise Refused("", f"{why} (allowed: docker rmi by names, docker image prune without -a)")
