"""Write down what a name has come to mean when the daemon is done with a call that could change it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from sockproxy_helpers.api import names
from sockproxy_helpers.channel.loop import Wait, Want
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.pulls import item_of
from . import brought, platforms, withheld
from .claims import Claim
from .images import Item
from .ledger import Entry, Writer

Removal = Callable[[dict[str, int]], Coroutine[Wait, Want, None]]  # is given what is being changed


async def settle(ledger: Writer, daemon: Daemon, name: str, claim: Claim | None, changing: int) -> Removal | None:
    """Settle a name.

    Args:
        claim: of the call; None for one that a process before this one has granted.
        changing: how many calls of the same user's are still at it.

    Returns:
        What takes the name away, where it means what is another's alone. It stays open until then, and is nobody's.
    """
    before = claim.before[name] if claim else (None, "")
    entry = ledger.get(name)
    if not entry:
        return None
    try:
        item = await item_of(daemon, name)
        current = str(item["Id"]) if item else None
        if item and entry.shared:
            other = await platforms.taken(ledger, daemon, entry.uid, name, item, claim, current != before[0])
            if other:
                if claim:
                    claim.withheld[name] = platforms.sentence(name, other)
                return lambda changing: _withdraw(ledger, daemon, name, entry.uid, changing, item, other)
    except Unavailable:
        return None  # it stays open: who asks for the name next finds out
    if item and current != before[0]:
        brought.note(ledger, item, entry.uid, claim, entry.shared)
    if item and claim and claim.pushes:
        withheld.pushed(ledger, entry.uid, names.repository(name), str(current))
    shared = before[1] if current == before[0] else entry.shared
    if not changing:
        ledger.put(name, Entry(entry.uid, current, shared) if current else None)
    elif current:
        ledger.put(name, Entry(entry.uid, None, entry.shared, current))
    return None


async def _withdraw(
    ledger: Writer, daemon: Daemon, name: str, uid: int, changing: dict[str, int], item: Item, other: str
) -> None:
    """Take a name away, and write down what is left, unless somebody has claimed it again."""
    try:
        left = await withheld.withdraw(daemon, name, item, other)
    except Unavailable:
        return
    entry = ledger.get(name)
    if entry and entry.uid == uid and entry.id is None and not changing.get(name):
        ledger.put(name, left)
