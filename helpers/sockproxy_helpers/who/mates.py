"""Let people of a group see and use one another's objects, where their role says `share: group`.

Nothing is written on the objects: whose they are is on them, and who shares with whom follows from the policy and the
host's groups as they are now. So who leaves the group sees nothing of the others from then on, nor they of that person.

The daemon can't narrow a list to several owners: its label filters are ANDed. So it lists what has any owner, and the
rest is cut here. Events are a stream, and stay one's own; so do prunes.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.objects import owner_of

LISTS = ("ContainerList", "VolumeList")


def share(ctx: Context) -> bool:
    """Tell whether the caller's role shares within a group."""
    return ctx.rule("share") == "group"


def cut_of(ctx: Context, query: list[tuple[str, str]]) -> Callable[[bytes], bytes] | None:
    """Give what cuts a list to what the caller sees; None where the daemon has narrowed it.

    Args:
        query: the caller's; how many containers it asks for is counted after the cut.
    """
    if ctx.operation not in LISTS or ctx.flag("sees_all") or not share(ctx):
        return None
    limit = max(0, int(dict(query).get("limit") or 0))

    def cut(body: bytes) -> bytes:
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise Unavailable("the Docker daemon answered malformed JSON") from error
        if isinstance(answer, dict):  # {"Volumes": […], "Warnings": […]}
            kept: object = {**answer, "Volumes": _seen(answer.get("Volumes"), ctx)}
        else:
            kept = _seen(answer, ctx)[: limit or None]
        return json.dumps(kept, separators=(",", ":")).encode() + b"\n"

    return cut


def _seen(items: object, ctx: Context) -> list[object]:
    found = items if isinstance(items, list) else []
    return [item for item in found if isinstance(item, dict) and ctx.sees(owner_of(item))]
