"""Write down what a registry has taken: from there it is everybody's who may pull it, see `withheld`."""

from __future__ import annotations

from sockproxy_helpers.api import names
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.upstream.pulls import image_of
from . import withheld
from .concluded import PUSHED
from .scanned import Last
from .tags import Tags


def taken(tags: Tags, uid: int, pushed: dict[str, str]) -> Last:
    """Give what to do at a push's end.

    Args:
        pushed: the names that it may push, with their images: of several the registry may have taken some.
    """

    async def last(tail: bytes) -> bytes:
        there = set(PUSHED.findall(tail))
        return note(tags, uid, {name: pushed[name] for name in pushed if name.rpartition(":")[2].encode() in there})

    return last


async def built(tags: Tags, uid: int, pushed: list[str]) -> None:
    """Note what a build has pushed, of somebody whose names need no claim."""
    daemon = tags.connect()
    try:
        found = {name: await image_of(daemon, name) for name in pushed}
        note(tags, uid, {name: identity for name, identity in found.items() if identity})
    except Unavailable:
        pass  # nobody knows what it was
    finally:
        daemon.close()


def note(tags: Tags, uid: int, pushed: dict[str, str]) -> bytes:
    """Write it down; give what to tell at the answer's end."""
    try:
        for name, identity in pushed.items():
            withheld.pushed(tags.ledger, uid, names.repository(name), identity)
    except OSError as error:
        why = f"it was pushed, but that can't be written down, so nobody else may pull it: {error.strerror}"
        return withheld.line(f"sockproxy: {why}")
    return b""
