"""Cut out of answers what is not the caller's to know, where the daemon can't narrow them itself.

One function an operation, from the parsed answer to what the caller gets; only called for those who do not see all.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from sockproxy_helpers.content.images import View
from sockproxy_helpers.content.ledger import Ledger
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.judge.policy import Decision
from sockproxy_helpers.system.caller import Caller
from sockproxy_helpers.upstream.objects import SHARED_NETWORKS, owner_of
from sockproxy_helpers.who import mates

Cut = Callable[[object, Context, Ledger], object]


def _is_own(item: object, ctx: Context) -> bool:
    return isinstance(item, dict) and ctx.sees(owner_of(item))


def networks(answer: object, ctx: Context, ledger: Ledger) -> object:
    """Keep one's own networks and those that all share."""
    items = answer if isinstance(answer, list) else []
    return [network(item, ctx, ledger) for item in items if _is_own(item, ctx) or _is_shared_network(item)]


def network(answer: object, ctx: Context, ledger: Ledger) -> object:
    """Leave out who is on a shared network: those are other people's containers."""
    if not isinstance(answer, dict):
        return {}
    if _is_own(answer, ctx):
        return answer
    return {**{key: value for key, value in answer.items() if key not in _ON_NETWORK}, "Containers": {}}


def _is_shared_network(item: object) -> bool:
    return isinstance(item, dict) and item.get("Name") in SHARED_NETWORKS and owner_of(item) is None


def images(answer: object, ctx: Context, ledger: Ledger) -> object:
    """Keep the images that all share and one's own, and leave out which containers use them."""
    view = View(ledger, ctx.caller.uid)
    seen = [view.cut(item) for item in answer if isinstance(item, dict)] if isinstance(answer, list) else []
    return [_image(item) for item in seen if item is not None]


def image(answer: object, ctx: Context, ledger: Ledger) -> object:
    """Leave out other people's names for an image, and which containers use it."""
    seen = View(ledger, ctx.caller.uid).cut(answer) if isinstance(answer, dict) else None
    return _image(seen or {})


def history(answer: object, ctx: Context, ledger: Ledger) -> object:
    """Leave out other people's names for the images that an image was made of."""
    view, kept = View(ledger, ctx.caller.uid), []
    for item in answer if isinstance(answer, list) else []:
        if not isinstance(item, dict):
            continue
        shown = view.cut({"Id": item.get("Id"), "RepoTags": item.get("Tags") or []}) or {}
        kept.append({**item, "Tags": shown.get("RepoTags")} if item.get("Tags") else item)
    return kept


def _image(item: dict[str, object]) -> dict[str, object]:
    kept = {**item, "Containers": -1} if "Containers" in item else dict(item)
    if isinstance(kept.get("Manifests"), list):
        kept["Manifests"] = [_manifest(manifest) for manifest in kept["Manifests"]]  # type: ignore[attr-defined]
    return kept


def _manifest(item: object) -> object:
    data = item.get("ImageData") if isinstance(item, dict) else None
    return {**item, "ImageData": {**data, "Containers": []}} if isinstance(data, dict) else item  # type: ignore[dict-item]


def disk_usage(answer: object, ctx: Context, ledger: Ledger) -> object:
    """Keep one's own containers and volumes, and the images one sees; the build cache has no owners."""
    if not isinstance(answer, dict):
        return {}
    kept = {key: answer[key] for key in ("LayersSize", "BuilderSize") if key in answer}
    for key in answer.keys() & _USED.keys():
        kept[key] = _USED[key](answer[key] or [], ctx, ledger)
    for key in answer.keys() & _USAGE.keys():
        kept[key] = _usage(answer[key], _USAGE[key], ctx, ledger)
    return kept


def _usage(value: object, cut: Cut, ctx: Context, ledger: Ledger) -> object:
    """Count the items that are left, where the daemon lists them; its own sums are of everybody's."""
    items = value.get("Items") if isinstance(value, dict) else None
    left = cut(items or [], ctx, ledger)
    return {"Items": left, "TotalCount": len(left)} if items and isinstance(left, list) else {}


def _own(answer: object, ctx: Context, ledger: Ledger) -> object:
    return [item for item in answer if _is_own(item, ctx)] if isinstance(answer, list) else []


def _nothing(answer: object, ctx: Context, ledger: Ledger) -> object:
    return []


def info(answer: object, ctx: Context, ledger: Ledger) -> object:
    """Leave out how many containers there are, and who is in the swarm."""
    if not isinstance(answer, dict):
        return {}
    counts = {key: 0 for key in answer if key.startswith("Containers") and isinstance(answer[key], int)}
    swarm = answer.get("Swarm")
    state = {"LocalNodeState": swarm.get("LocalNodeState", "")} if isinstance(swarm, dict) else {}
    return {**answer, **counts, "Swarm": state}


_ON_NETWORK = ("Containers", "Peers", "Services")
_USED: dict[str, Cut] = {"Images": images, "Containers": _own, "Volumes": _own, "BuildCache": _nothing}
_USAGE: dict[str, Cut] = {  # since API 1.52
    "ImageUsage": images,
    "ContainerUsage": _own,
    "VolumeUsage": _own,
    "BuildCacheUsage": _nothing,
}
CUTS: dict[str, Cut] = {
    "ImageHistory": history,
    "ImageInspect": image,
    "ImageList": images,
    "NetworkInspect": network,
    "NetworkList": networks,
    "SystemDataUsage": disk_usage,
    "SystemInfo": info,
}


def applies(who: Caller, decision: Decision, operation: str) -> bool:
    """Tell whether an operation's answer is cut for a caller."""
    return operation in CUTS and not Context(decision.rules, who, operation, decision.role).flag("sees_all")


def of(
    who: Caller, decision: Decision, operation: str, ledger: Ledger, query: list[tuple[str, str]] | None = None
) -> Callable[[bytes], bytes] | None:
    """Give what cuts an operation's answer for a caller; None where nothing must be."""
    context = Context(decision.rules, who, operation, decision.role, decision.mates)
    if not applies(who, decision, operation):
        return mates.cut_of(context, query or [])
    function = CUTS[operation]

    def cut(body: bytes) -> bytes:
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise Unavailable("the Docker daemon answered malformed JSON") from error
        return json.dumps(function(answer, context, ledger), separators=(",", ":")).encode() + b"\n"

    return cut


def one_after_the_other(*cuts: Callable[[bytes], bytes] | None) -> Callable[[bytes], bytes] | None:
    """Put cuts together; None where there are none."""
    found = [one for one in cuts if one]

    def cut(body: bytes) -> bytes:
        for one in found:
            body = one(body)
        return body

    return cut if found else None
