"""Keep the number of a user's containers within the role's."""

from __future__ import annotations

import json

from .context import Context
from .daemon import Daemon
from .errors import Unavailable
from .objects import OWNER
from .operations import quote


async def room(daemon: Daemon, ctx: Context) -> None:
    """Make sure that the caller may have one more container, stopped ones counted.

    Raises:
        Refused: the caller has as many as the role allows.
    """
    most = ctx.number("limits", "containers")
    if most is None:
        return
    filters = json.dumps({"label": [f"{OWNER}={ctx.caller.uid}"]})
    status, answer = await daemon.request("GET", f"/containers/json?all=1&filters={quote(filters)}")
    try:
        count = len(json.loads(answer)) if status == 200 else -1
    except (ValueError, TypeError):
        count = -1
    if count < 0:
        raise Unavailable("the Docker daemon does not tell how many containers there are")
    if count >= most:
        ctx.path = ""
        raise ctx.refusal(f"may have {most} containers, and you have {count}: remove one (docker ps -a)", "limits")
