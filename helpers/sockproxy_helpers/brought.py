"""Know which images were brought with another's label in them: who pulls or loads writes any label that there is.

The label is then not believed where somebody has to pay for it: what such an image takes of the disk is its label's
owner's only as long as it has a name of that owner's. It stands in the ledger, under the image's ID.
"""

from __future__ import annotations

from . import images
from .daemon import Daemon
from .images import Item
from .ledger import Entry, Ledger, Writer
from .objects import owner_of

MOST = 1000  # until it is looked at which of them are still there


async def note(ledger: Writer, daemon: Daemon, item: Item, uid: int) -> None:
    """Write down that somebody brought an image, if its label says that it is another's."""
    identity = str(item.get("Id"))
    if owner_of(item) in (None, uid) or ledger.find(identity, identity):
        return
    if len(ledger.brought()) >= MOST:
        await forget(ledger, daemon)
    ledger.put(identity, Entry(uid, identity, ""))


async def forget(ledger: Writer, daemon: Daemon) -> None:
    """Forget those that are gone, and where they were pushed to."""
    known = ledger.brought() + ledger.pushes()
    there = {str(item.get("Id")) for item in await images.every(daemon)} if known else set()
    for name in known:
        if name.rpartition(" ")[2] not in there:
            ledger.put(name, None)


def payer(ledger: Ledger, item: Item) -> int | None:
    """Tell whose an image is where it counts; None for nobody's."""
    identity, owner = str(item.get("Id")), owner_of(item)
    if owner is None or not ledger.find(identity, identity):
        return owner
    entries = (ledger.find(name, identity) for name in images.full_names(item))
    return owner if any(entry and entry.uid == owner for entry in entries) else None
