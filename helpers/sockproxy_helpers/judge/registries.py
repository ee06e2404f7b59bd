"""Judge what a role may have from registries: rule `registries`, a list of patterns for images' full names.

SECURITY: pure. A name is judged as the daemon reads it (`names`); in a pattern "*" is any text, and all else is itself.
What a role pushes is not judged by it: that takes nothing from a registry, and is the operation ImagePush.
"""

from __future__ import annotations

import re

from sockproxy_helpers.api import names
from .context import Context

RULE, ALL = "registries", "ALL"


def free(ctx: Context) -> bool:
    """Tell whether a role may take from any registry."""
    return ALL in ctx.names(RULE)


def spelled(patterns: list[str]) -> list[str]:
    """Write patterns out as whole names go: a repository alone is all of its tags and digests.

    A builder writes the digest that it has found behind a name, so there a tag's pattern stands for that, too.
    """
    found: list[str] = []
    for pattern in (one for one in patterns if one != ALL):
        last = pattern.rpartition("/")[2]
        named = ":" in last or "@" in last
        found += [pattern] if pattern.endswith("*") else [pattern if named else f"{pattern}:*", f"{pattern}@*"]
    return found


def judge(name: str, ctx: Context) -> None:
    """See that an image may be taken from where its full name says.

    Raises:
        Refused: its registry, or repository, is not on the role's list.
    """
    if not free(ctx) and not any(_fits(pattern, name) for pattern in spelled(ctx.names(RULE))):
        raise _refusal(names.familiar(name), ctx)


def judge_host(host: str, ctx: Context) -> None:
    """See that a registry as such may be asked something.

    Raises:
        Refused: the role's list has nothing of it.
    """
    if not free(ctx) and not any(pattern.startswith(f"{host}/") for pattern in ctx.names(RULE)):
        raise _refusal(host, ctx)


def _fits(pattern: str, name: str) -> bool:
    return bool(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name))


def _refusal(what: str, ctx: Context) -> Exception:
    allowed = ", ".join(ctx.names(RULE)[:5]) or "images that are here already"
    return ctx.refusal(f"may not have the daemon ask a registry for {what} (allowed: {allowed})", RULE)
