"""Write down what a name has come to mean when the daemon is done with a call that could change it."""

from __future__ import annotations

from . import brought, names, withheld
from .claims import Claim
from .daemon import Daemon
from .errors import Unavailable
from .ledger import Entry, Writer
from .pulls import item_of


async def settle(ledger: Writer, daemon: Daemon, name: str, claim: Claim | None, changing: int) -> None:
    """Settle a name.

    Args:
        claim: of the call; None for one that a process before this one has granted.
        changing: how many calls of the same user's are still at it.
    """
    before = claim.before[name] if claim else (None, "")
    entry = ledger.get(name)
    if not entry:
        return
    try:
        item = await item_of(daemon, name)
        current = str(item["Id"]) if item else None
        if item and current != before[0] and entry.shared:
            other = await withheld.taken(ledger, daemon, entry.uid, name, item, claim)
            if other:
                left = await withheld.withdraw(daemon, name, item, other)
                if claim:
                    claim.withheld[name] = withheld.sentence(name)
                if not changing:
                    ledger.put(name, left)
                return
    except Unavailable:
        return  # it stays open: who asks for the name next finds out
    if item and current != before[0]:
        brought.note(ledger, item, entry.uid, claim, entry.shared)
        if claim and claim.pushes:
            withheld.pushed(ledger, entry.uid, names.repository(name), str(current))
    shared = before[1] if current == before[0] else entry.shared
    if not changing:
        ledger.put(name, Entry(entry.uid, current, shared) if current else None)
    elif current:
        ledger.put(name, Entry(entry.uid, None, entry.shared, current))
