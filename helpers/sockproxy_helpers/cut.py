"""Cut out of answers what is not the caller's to know, where the daemon can't narrow them itself.

One function an operation, from the parsed answer to what the caller gets; only called for those who do not see all.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from .caller import Caller
from .context import Context
from .errors import Unavailable
from .objects import SHARED_NETWORKS, owner_of
from .policy import Decision

Cut = Callable[[object, Context], object]


def _is_own(item: object, ctx: Context) -> bool:
    return isinstance(item, dict) and owner_of(item) == ctx.caller.uid


def networks(answer: object, ctx: Context) -> object:
    """Keep one's own networks and those that all share."""
    items = answer if isinstance(answer, list) else []
    return [network(item, ctx) for item in items if _is_own(item, ctx) or _is_shared_network(item)]


def network(answer: object, ctx: Context) -> object:
    """Leave out who is on a shared network: those are other people's containers."""
    if isinstance(answer, dict) and not _is_own(answer, ctx):
        return {**answer, "Containers": {}}
    return answer


def _is_shared_network(item: object) -> bool:
    return isinstance(item, dict) and item.get("Name") in SHARED_NETWORKS and owner_of(item) is None


def images(answer: object, ctx: Context) -> object:
    """Keep what was pulled or loaded, which all share, and one's own builds."""
    items = answer if isinstance(answer, list) else []
    return [item for item in items if _is_own(item, ctx) or owner_of(item) is None]


def disk_usage(answer: object, ctx: Context) -> object:
    """Keep one's own containers and volumes, and the images one sees; the build cache has no owners."""
    if not isinstance(answer, dict):
        return {}
    kept = {key: answer[key] for key in ("LayersSize", "BuilderSize") if key in answer}
    if "Images" in answer:
        kept["Images"] = images(answer["Images"], ctx)
    for key in ("Containers", "Volumes"):
        if key in answer:
            kept[key] = [item for item in answer[key] or [] if _is_own(item, ctx)]
    if "BuildCache" in answer:
        kept["BuildCache"] = []
    return kept


CUTS: dict[str, Cut] = {
    "ImageList": images,
    "NetworkInspect": network,
    "NetworkList": networks,
    "SystemDataUsage": disk_usage,
}


def of(who: Caller, decision: Decision, operation: str) -> Callable[[bytes], bytes] | None:
    """Give what cuts an operation's answer for a caller; None where nothing must be."""
    context = Context(decision.rules, who, operation, decision.role)
    function = CUTS.get(operation)
    if function is None or context.flag("sees_all"):
        return None

    def cut(body: bytes) -> bytes:
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise Unavailable("the Docker daemon answered malformed JSON") from error
        return json.dumps(function(answer, context), separators=(",", ":")).encode() + b"\n"

    return cut
