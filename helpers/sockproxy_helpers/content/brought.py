"""Know who brought images: who pulls or loads writes any label that there is, or none.

A label that somebody else brought is not believed where its owner would have to pay for it: what such an image takes is
its label's owner's only as long as it has a name of that owner's, else it is the bringer's. So is what was pulled or
loaded without a label: on the disk until somebody else brings the same, too (then it is everybody's, and counts for
nobody); what its description takes of lists, always. Who only runs what is there has not brought it. It stands in the
ledger, under the image's ID; PULLED there means that others brought it, too.
"""

from __future__ import annotations

from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import owner_of
from . import images
from .claims import Claim
from .images import Item
from .ledger import PULLED, Entry, Ledger, Writer


def note(ledger: Writer, item: Item, uid: int, claim: Claim | None, shared: str) -> None:
    """Write down that a call of somebody's made a name mean an image, where that was brought by it.

    Args:
        claim: of the call; None where that is not known any more: then only a label that is another's is doubted.
        shared: of the name, how others may use the image by it; "" where it was not brought.
    """
    identity, told = str(item.get("Id")), owner_of(item)
    if ledger.find(identity, identity):
        if shared:
            too(ledger, identity, uid)
    elif told != uid and (told is not None if claim is None else claim.had is not None and identity not in claim.had):
        ledger.put(identity, Entry(uid, identity, ""))


def too(ledger: Writer, identity: str, uid: int) -> None:
    """Write down that somebody has brought an image that was there."""
    known = ledger.find(identity, identity)
    if known and known.uid != uid and not known.shared:
        ledger.put(identity, Entry(known.uid, identity, PULLED))


async def recover(ledger: Writer, daemon: Daemon) -> None:
    """Forget those that are gone, and where they were pushed to."""
    if ledger.brought() or ledger.pushes():
        forget(ledger, await images.every(daemon, steps=True), ledger.pushes())


def forget(ledger: Writer, items: list[Item], pushes: list[str] | None = None) -> None:
    """Forget those that are not there any more, and of pushes those of such."""
    there = {str(item.get("Id")) for item in items}
    for name in ledger.brought() + (pushes or []):
        if name.rpartition(" ")[2] not in there:
            ledger.put(name, None)


def owner(ledger: Ledger, item: Item) -> int | None:
    """Tell whom an image's label makes it, as far as that is believed; None for nobody."""
    identity, told = str(item.get("Id")), owner_of(item)
    if told is None or not ledger.find(identity, identity):
        return told
    entries = (ledger.find(name, identity) for name in images.full_names(item))
    return told if any(entry and entry.uid == told for entry in entries) else None


def whose(ledger: Ledger, item: Item, disk: bool = False) -> int | None:
    """Tell for whom an image counts, where lists have it, or on the disk; None for nobody."""
    found, entry = owner(ledger, item), ledger.find(str(item.get("Id")), str(item.get("Id")))
    return entry.uid if found is None and entry and not (disk and entry.shared) else found
