"""Find images, and tell what of them a caller may know.

An image is the caller's own when its label says so, when a name of the caller's is on it, or when the caller alone
brought it: it counts for who did, also when no name is left. It is everybody's when no label makes it somebody's and a
name that all may use is on it, or when it was pulled under such a name.
Everything else does not exist: other people's builds, and images without a name and an owner, which are the steps of
builds.
"""

from __future__ import annotations

import os
import re

from sockproxy_helpers.api import names
from sockproxy_helpers.api.operations import REFERENCE, quote
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed, NotFound, Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import owner_of, parse
from .ledger import PULLED, Ledger

ROOT = 0  # whose images all share: what the administrator builds is there for everybody
ID = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")
Item = dict[str, object]


class NoImage(NotFound):
    """Report that there is no such image, or none that the caller may see."""


class Image:
    """Hold what is known of an image that the caller may see.

    Attributes:
        name: the full name by which it was asked for; "" when that was an ID.
        item: what the daemon tells, cut to what the caller may know.
        whole: what the daemon tells.
    """

    __slots__ = ("id", "item", "name", "whole")

    def __init__(self, name: str, item: Item, whole: Item) -> None:
        self.name, self.item, self.whole, self.id = name, item, whole, str(whole.get("Id"))


class View:
    """See images with a caller's eyes."""

    def __init__(self, ledger: Ledger, uid: int) -> None:
        self._ledger, self._uid = ledger, uid
        ledger.refresh()

    def owns(self, name: str, identity: str) -> bool:
        """Tell whether a full name is the caller's, as long as it names this image.

        What a pull or a load under way has made it mean is not the caller's before that was judged: see `withheld`.
        """
        entry = self._ledger.find(name, identity)
        judged = entry is not None and (entry.id is not None or not entry.shared or entry.was == identity)
        return entry is not None and judged and entry.uid == self._uid

    def anothers(self, name: str, identity: str) -> bool:
        """Tell whether a full name is some other user's."""
        entry = self._ledger.find(name, identity)
        return entry is not None and entry.uid != self._uid

    def brought(self, identity: str) -> bool:
        """Tell whether the caller alone has brought an image, see `brought`."""
        entry = self._ledger.find(identity, identity)
        return entry is not None and entry.uid == self._uid and not entry.shared

    def _hides(self, name: str, identity: str) -> bool:
        entry = self._ledger.find(name, identity)
        return entry is not None and entry.uid != self._uid and not entry.shared

    def _all_may(self, name: str, identity: str) -> bool:
        """Tell whether a name was pulled for this image: whoever built it, it came from a registry."""
        entry = self._ledger.find(name, identity)
        return entry is not None and entry.id is not None and entry.shared == PULLED

    def cut(self, item: Item) -> Item | None:
        """Leave of an image the names that the caller may know; None when the caller may not know the image."""
        identity = str(item.get("Id"))
        tags, digests = _names(item, "RepoTags"), _names(item, "RepoDigests")
        shown = [tag for tag in tags if not self._hides(names.known(tag), identity)]
        hidden = {names.repository(names.known(tag)) for tag in tags if tag not in shown}
        hidden -= {names.repository(names.known(tag)) for tag in shown}
        kept = [
            digest
            for digest in digests
            if not self._hides(names.known(digest), identity) and names.repository(names.known(digest)) not in hidden
        ]
        owner = owner_of(item)
        own = (
            owner == self._uid
            or self.brought(identity)
            or any(self.owns(names.known(name), identity) for name in tags + digests)
        )
        named = [names.known(name) for name in shown + kept]
        shared = (owner in (None, ROOT) and any(named)) or any(self._all_may(name, identity) for name in named)
        if not own and not shared:
            return None
        changed = {"RepoTags": shown} if shown != tags else {}
        return {**item, **changed, **({"RepoDigests": kept} if kept != digests else {})}


async def find(ledger: Ledger, daemon: Daemon, ctx: Context, reference: str) -> Image:
    """Find what a reference means among the images that the caller may see.

    Raises:
        NoImage: nothing; the same words for what does not exist and for what may not be seen.
        Malformed: no reference, or the beginning of several IDs.
    """
    if not REFERENCE.fullmatch(reference):
        raise Malformed(f"{show(reference)} is not the name of an image")
    status, item = await _ask(daemon, reference)
    if status not in (200, 404):
        raise Malformed(str(item.get("message")))
    view, name, digits = View(ledger, ctx.caller.uid), names.known(reference), ID.fullmatch(reference)
    if status == 200:
        seen = _seen(view, item, name, digits is not None)
        if seen:
            return seen
    if digits and len(digits[1]) < 64:  # another's tag, or the beginning of another's ID, may have been in the way
        begun = [found for found in await every(daemon) if str(found.get("Id")).startswith("sha256:" + digits[1])]
        own = {str(found.get("Id")) for found in begun if view.cut(found)}
        if len(own) > 1:
            raise Malformed(f"{reference} is ambiguous: the IDs of several of your images begin so")
        if own:
            _, item = await _ask(daemon, own.pop())
            seen = _seen(view, item, "", True)
            if seen:
                return seen
    words = str(item.get("message")) if status == 404 else await _words(daemon, reference)
    inspecting = ctx.operation == "ImageInspect"  # engine 20 says it twice there
    raise NoImage(words if inspecting else words[max(words.find("No such image"), 0) :])


async def known_to_all(daemon: Daemon, reference: str) -> Image | None:
    """Find what a reference means for who sees all; None where there is no such image."""
    if not REFERENCE.fullmatch(reference):
        return None
    status, item = await _ask(daemon, reference)
    return Image(names.known(reference), item, item) if status == 200 else None


def _seen(view: View, item: Item, name: str, may_be_id: bool) -> Image | None:
    """Give an image if the caller may see it by that name; a name that is not shown is none."""
    cut = view.cut(item)
    if cut is None:
        return None
    if name in full_names(item):
        return Image(name, cut, item) if name in full_names(cut) else None
    return Image("", cut, item) if may_be_id else None


def full_names(item: Item) -> list[str]:
    """List the full names of an image, tags first."""
    told = [names.known(name) for key in ("RepoTags", "RepoDigests") for name in _names(item, key)]
    return [name for name in told if name]


async def _ask(daemon: Daemon, reference: str) -> tuple[int, Item]:
    status, answer = parse(*await daemon.request("GET", f"/images/{quote(reference, '/:@')}/json"))
    if not isinstance(answer, dict):
        raise Unavailable("the Docker daemon answered no JSON object")
    return status, answer


async def every(daemon: Daemon, steps: bool = False) -> list[Item]:
    """List all images; where asked for, steps of builds too, and of containerd's store what an index has in it."""
    status, answer = parse(*await daemon.request("GET", "/images/json" + ("?all=1&manifests=1" if steps else "")))
    if status != 200 or not isinstance(answer, list):
        raise Unavailable("the Docker daemon lists no images")
    return [item for item in answer if isinstance(item, dict)]


async def _words(daemon: Daemon, reference: str) -> str:
    """Learn how this engine says that there is no such image, from a name of the same form that nothing has."""
    name, digits = names.known(reference), ID.fullmatch(reference)
    if digits and len(digits[1]) == 64:
        typed, stand_in = digits[1], os.urandom(32).hex()
        _, answer = await _ask(daemon, reference.replace(typed, stand_in))
        return str(answer.get("message")).replace(stand_in, typed)
    repository, tag, digest = names.split(reference)
    stand_in = "sockproxy-has-no-such-image.invalid/x"
    tail = f"@{digest}" if digest else f":{tag}" if tag else ""
    _, answer = await _ask(daemon, stand_in + tail)
    told = str(answer.get("message")).replace(stand_in + name.removeprefix(repository), names.familiar(name), 1)
    return told.replace(stand_in + tail, reference)


def _names(item: Item, key: str) -> list[str]:
    value = item.get(key)
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
