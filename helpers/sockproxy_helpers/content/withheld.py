"""See that nobody gets an image that is another's alone by naming its digest.

SECURITY: an engine has one store for all, and fetches nothing of what it has: of a registry that only claims to have an
image's manifest (containerd's image store) or its config (the classic one: the image's ID), anybody would get it. So
what a pull or a load has made a name mean is looked at before the caller may use that name (see `View.owns`). Whose
image it is says its label, and that it was there before; that its owner has pushed it to that repository, the ledger.
"""

from __future__ import annotations

import json

from sockproxy_helpers.api import names
from sockproxy_helpers.api.operations import quote
from sockproxy_helpers.errors import Refused
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import member, owner_of
from sockproxy_helpers.upstream.pulls import items_of
from . import apart, brought, images
from .claims import Claim
from .images import ROOT, Item, View
from .ledger import PUSHED, Entry, Ledger, Writer

MOST = 1000  # pushes of one user that are remembered; the oldest goes
SAME = ("Created", "Config", "RootFS", "Architecture", "Os", "Author")  # of two images with one config
Others = dict[str, Item]


def others(ledger: Ledger, items: list[Item], uid: int) -> Others:
    """Find of all images, steps of builds too, those that are somebody else's alone, by their IDs."""
    view = View(ledger, uid)
    return {str(item.get("Id")): item for item in items if _is_others(ledger, view, item, uid)}


async def _others(ledger: Ledger, daemon: Daemon, uid: int) -> Others:
    return others(ledger, await images.every(daemon, steps=True), uid)


def _is_others(ledger: Ledger, view: View, item: Item, uid: int) -> bool:
    return brought.owner(ledger, item) not in (None, ROOT, uid) and view.cut(item) is None


async def foreign(ledger: Ledger, daemon: Daemon, ctx: Context) -> list[str]:
    """List the images that a build of the caller's may not be from, as BuildKit writes them; none for who sees all.

    Returns:
        Full names with a tag, "REPOSITORY*@DIGEST", and "*@DIGEST" of what is another's alone.
    """
    if ctx.flag("sees_all"):
        return []
    view, uid, found = View(ledger, ctx.caller.uid), ctx.caller.uid, []
    for item in await images.every(daemon):
        told, shown = images.full_names(item), images.full_names(view.cut(item) or {})
        found += [name.replace("@", "*@") for name in told if name not in shown]
        if _is_others(ledger, view, item, uid):
            digests = {str(item.get("Id")), *(name.partition("@")[2] for name in told if "@" in name)}
            found += [f"*@{digest}" for digest in sorted(digests)]
    return found


async def taken(ledger: Ledger, daemon: Daemon, uid: int, name: str, item: Item, claim: Claim | None) -> str:
    """Find the ID of the image of somebody else's that a name has come to mean, by whatever manifest; "" for none.

    Args:
        claim: of the call that set the name; None where that is not known any more.
    """
    before, brought_ = (claim.others or {}, claim.brought) if claim else ({}, None)
    now, identity, view = await _others(ledger, daemon, uid), str(item.get("Id")), View(ledger, uid)
    told = images.full_names(now.get(identity, {}))
    if identity not in before and not any(view.anothers(one, identity) for one in told):
        now.pop(identity, None)  # it has come from the registry, with another's label in it
    among = {**before, **now}
    if brought_ is not None:
        other = await _not_brought(daemon, item, among, brought_)
        return other or await _apart(ledger, daemon, name, identity, among, brought_)
    for other in await _alike(daemon, item, among):
        if not ledger.find(_push(names.repository(name), other), other):
            return other
    return await _apart(ledger, daemon, name, identity, among, set())


async def _apart(ledger: Ledger, daemon: Daemon, name: str, root: str, among: Others, has: set[str]) -> str:
    """Find whose image a manifest takes something from that is no layer."""
    repository = names.repository(names.known(name))
    others_ = [other for other in among if not ledger.find(_push(repository, other), other)]
    return await apart.find(daemon, root, others_, has) if others_ else ""


async def _not_brought(daemon: Daemon, item: Item, among: Others, has: set[str]) -> str:
    """Find whose image an archive has named; "" when it had all of it, or what it lacked is nobody's alone."""
    identity, lacking = str(item.get("Id")), set(_layers(item)) - has
    for other in await _alike(daemon, item, among):
        if other != identity or identity not in has:
            return other
    for other in among if lacking else ():
        if lacking & {layer for whole in await items_of(daemon, other) for layer in _layers(whole)}:
            return other
    return ""


async def base(ledger: Ledger, daemon: Daemon, ctx: Context, told: dict[str, object]) -> None:
    """See that an image that BuildKit is about to build from, by whatever manifest, is not somebody else's alone.

    Args:
        told: the image's name and, of its config, the digest (of the classic store its ID), layers, owner and time.

    Raises:
        Refused: it is, and not in that repository as far as is known.
    """
    name, config = str(told.get("name")).partition("@")[0], told.get("config")
    config = config if isinstance(config, dict) else {}
    repository, among = names.repository(names.known(name)), await _others(ledger, daemon, ctx.caller.uid)
    for identity, other in among.items():
        same = identity == config.get("id")
        if not same and str(owner_of(other) or "") == config.get("owner"):
            wanted = config.get("layers"), _time(config.get("created"))
            wholes = await items_of(daemon, identity)
            same = any((_layers(whole), _time(whole.get("Created"))) == wanted for whole in wholes)
        if same and not ledger.find(_push(repository, identity), identity):
            raise Refused("", sentence(names.known(name) or name))
    root = str(told.get("name")).partition("@")[2]
    if root and await _apart(ledger, daemon, name, root, among, set()):
        raise Refused("", sentence(names.known(name) or name))


def _time(told: object) -> str:
    """Read when an image was made, to the second; BuildKit says nothing of one without layers."""
    return str(told or "").replace("0001-01-01T00:00:00Z", "")[:19]


def _layers(item: Item) -> list[str]:
    layers = member(item, "RootFS", "Layers")
    return [str(layer) for layer in layers] if isinstance(layers, list) else []


async def kept(ledger: Ledger, daemon: Daemon, uid: int, name: str, identity: str) -> bool:
    """Tell whether an image is another's alone, and not in that repository as far as is known."""
    if ledger.find(_push(names.repository(name), identity), identity):
        return False
    return identity in await _others(ledger, daemon, uid)


async def _alike(daemon: Daemon, item: Item, among: Others) -> list[str]:
    """List the images of one config with this one, by whatever manifest: the owner's label is a part of that."""
    found = []
    for identity, other in among.items():
        if owner_of(other) != owner_of(item):
            continue
        wholes = [item] if identity == item.get("Id") else await items_of(daemon, identity)
        if any(all(whole.get(key) == item.get(key) for key in SAME) for whole in wholes):
            found.append(identity)
    return found


async def withdraw(daemon: Daemon, name: str, item: Item, other: str) -> Entry | None:
    """Take a name away; where the image would go with it, it is the image's owner's from now on."""
    rest = [one for one in images.full_names(item) if one != name and not ("@" in one and names.alike(one, name))]
    if rest or item.get("Id") != other:
        await daemon.request("DELETE", f"/images/{quote(name, '/:@')}?noprune=1")
        return None
    return Entry(owner_of(item) or ROOT, other, "")


def sentence(name: str) -> str:
    """Say why a name was taken away."""
    why = "is an image of somebody else's, who has not pushed it there through sockproxy"
    return f"{names.familiar(name)} {why} (allowed: what the registry itself has)"


def refuse(claim: Claim) -> None:
    """Say what was taken away.

    Raises:
        Refused: something was.
    """
    if claim.withheld:
        raise Refused("", " and ".join(claim.withheld.values()))


def pushed(ledger: Writer, uid: int, repository: str, identity: str) -> None:
    """Write down that somebody has an image pushed to a repository: from there it is everybody's who may pull it."""
    key = _push(repository, identity)
    if not ledger.find(key, identity):
        known = ledger.pushes(uid)
        if len(known) >= MOST:
            ledger.put(known[0], None)
        ledger.put(key, Entry(uid, identity, PUSHED))


def _push(repository: str, identity: str) -> str:
    return f"{repository} {identity}"  # no name has a space in it


def line(why: str) -> bytes:
    """Form what a daemon's stream says at its end when it has failed."""
    return json.dumps({"errorDetail": {"message": why}, "error": why}).encode() + b"\r\n"
