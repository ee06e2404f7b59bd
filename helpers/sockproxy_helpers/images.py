"""Know which images are other users', for those whose builds would read them by name."""

from __future__ import annotations

from .context import Context
from .daemon import Daemon
from .errors import Unavailable
from .objects import owner_of, parse


async def foreign(daemon: Daemon, ctx: Context) -> list[str]:
    """List the images that are other users', as BuildKit writes them.

    Returns:
        Whole references with a tag, and "NAME*@DIGEST". Empty for who sees all.

    Raises:
        Unavailable: the daemon doesn't tell.
    """
    if ctx.flag("sees_all"):
        return []
    status, items = parse(*await daemon.request("GET", "/images/json"))
    if status != 200 or not isinstance(items, list):
        raise Unavailable("the Docker daemon lists no images")
    found: list[str] = []
    for item in items:
        owner = owner_of(item) if isinstance(item, dict) else None
        if owner is None or owner == ctx.caller.uid:
            continue
        found += [_whole(str(tag)) for tag in item.get("RepoTags") or []]
        for name, _, digest in (str(text).partition("@") for text in item.get("RepoDigests") or []):
            found.append(f"{_whole(name)}*@{digest}")
    return [name for name in found if "<none>" not in name]


def _whole(name: str) -> str:
    """Write a name as the reference grammar's normal form does: with registry and "library/"."""
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"
