"""See whose the images are that an index has for the platforms: in containerd's store a name may mean several.

SECURITY: who runs one says for which platform, and who saves or pushes one gets all. An index of anybody's may name
another's manifest, or one that names another's config, for a platform that nobody looks at; and what the store gets
later, by whatever call, is the index's at once. So each is looked at when a name is set, and again when it is used.
"""

from __future__ import annotations

from sockproxy_helpers.api import names
from sockproxy_helpers.errors import Refused
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import member
from sockproxy_helpers.upstream.pulls import INDEXES, items_of
from . import images, withheld
from .claims import Claim
from .images import Image, Item
from .ledger import Ledger

UNTOLD = "untold"  # in the place of an ID


async def taken(ledger: Ledger, daemon: Daemon, uid: int, name: str, item: Item, claim: Claim | None, new: bool) -> str:
    """Do as `withheld.taken` for each platform; UNTOLD where the daemon does not tell of one.

    Args:
        item: what it is for this machine's platform.
        new: the name has not meant that before; the others are looked at in any case.
    """
    told = await items_of(daemon, name)
    items = [one for one in told if any(one.get(key) != item.get(key) for key in withheld.SAME)]
    for one in [item, *items] if new else items:
        other = await withheld.taken(ledger, daemon, uid, name, one, claim) if one else UNTOLD
        if other:
            return other
    return ""


async def see(ledger: Ledger, daemon: Daemon, uid: int, image: Image) -> None:
    """See that none of an image's platforms is somebody else's alone.

    Raises:
        Refused: one is.
    """
    name = image.name or next(iter(images.full_names(image.item)), "")
    if name and member(image.whole, "Descriptor", "mediaType") in INDEXES:
        other = await taken(ledger, daemon, uid, name, image.whole, None, False)
        if other:
            raise Refused("", sentence(name, other))


def sentence(name: str, other: str) -> str:
    """Say why a name was taken away, or does not serve."""
    if other != UNTOLD:
        return withheld.sentence(name)
    why = "has two images for one platform, and the Docker daemon does not tell whose they are"
    return f"{names.familiar(name)} {why} (allowed: one for each)"
