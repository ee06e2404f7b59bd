"""Know what the engine can do."""

from __future__ import annotations

import re

from .context import Context
from .daemon import Daemon
from .errors import Unavailable
from .objects import parse

SOURCE_POLICY = (1, 43)  # engine 24, the first whose BuildKit (0.11) holds a build to a source policy; older ignore it
_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})")


async def bound(daemon: Daemon, ctx: Context) -> None:
    """See that the engine can hold a BuildKit build to the role's base images.

    Raises:
        Refused: it can't.
        Unavailable: it does not tell.
    """
    if "ALL" not in ctx.names("base_images") and await _api(daemon) < SOURCE_POLICY:
        why = "may not use BuildKit of this engine, which can't be held to base images (allowed: engine 24 or newer)"
        raise ctx.refusal(why, "base_images")


async def _api(daemon: Daemon) -> tuple[int, int]:
    """Ask for the newest version of the API that the engine speaks."""
    status, found = parse(*await daemon.request("GET", "/version"))
    told = found.get("ApiVersion") if isinstance(found, dict) else None
    match = _VERSION.fullmatch(told) if isinstance(told, str) and status == 200 else None
    if not match:
        raise Unavailable("the Docker daemon does not tell its version")
    return int(match[1]), int(match[2])
