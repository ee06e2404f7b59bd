"""Build a request's query and body anew from the tables, so that only what was judged reaches the daemon.

SECURITY: pure, no I/O after the tables are read. A positive model: what has no row is refused by its name, what has
one is checked for its kind and then by its rule. The result holds nothing but fields with rows, spelled as the Engine
API spells them; a field that the rules add is the rules' own.
"""

from __future__ import annotations

import json

from sockproxy_helpers.api import strict
from sockproxy_helpers.api.fields import Field, load
from sockproxy_helpers.errors import Malformed, Refused
from . import filesystem, lifecycle, network, parameters
from .context import Context
from .walk import Walk, expect_object, refuse_unknown

__all__ = ["SCOPES", "TABLES", "Context", "approve", "merge", "split"]

SCOPES = {"lifecycle": lifecycle.RULES, "network": network.RULES, "filesystem": filesystem.RULES}
TABLES = {scope: load(scope, rules) for scope, rules in SCOPES.items()}
Body = dict[str, object]
# Bytes of a body. Lists have all of it, and everybody's are listed before they are cut: ten large ones end it for all.
# An exec's is in the daemon's memory until it has ended, or for want of a start until its container goes.
LISTED = dict.fromkeys(("NetworkCreate", "NetworkConnect", "VolumeCreate"), 16 << 10) | {"ContainerExec": 128 << 10}


def approve(
    scope: str, operation: str, query: list[tuple[str, str]], body: object, ctx: Context
) -> tuple[list[tuple[str, str]], object]:
    """Judge a request of a scope and build what may be sent.

    Args:
        query: decoded pairs in the client's order.
        body: strictly parsed JSON; None when there is none. For ContainerCreate the scope's own part, see `split`.

    Raises:
        Refused: an unknown field, or one that the caller's role does not allow.
        Malformed: a value of the wrong kind.
    """
    fields = TABLES[scope].get(operation)
    if fields is None:
        return _unmodelled(query, body, ctx)
    walk = Walk(ctx)
    walk.fields(fields.path, {name: ctx.variables.get(name[1:-1]) for name in fields.path}, "")
    if any(key not in fields.query for key, _ in query):
        query = _without_echoes(operation, fields.query, query)
    query = parameters.build(fields.query, query, walk)
    if body is None and not any(field.always for field in fields.body.values()):
        return query, None
    if not fields.body:
        if body == {}:  # docker-py's push sends one
            return query, None
        raise Malformed(f"{operation} takes no body")
    if operation in LISTED and len(json.dumps(body)) > LISTED[operation]:
        raise ctx.refusal(f"a description that is too long (allowed: {LISTED[operation]} bytes, all of it together)")
    return query, walk.fields(fields.body, {} if body is None else body, "")


def _without_echoes(operation: str, known: dict[str, Field], query: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out what is called like a field of the body: dockerode says all of a body in the query, too.

    The daemon reads none of it there, and gets none of it.
    """
    echoes = {name for table in TABLES.values() if operation in table for name in table[operation].body}
    return [(key, text) for key, text in query if key in known or key not in echoes]


def _unmodelled(query: list[tuple[str, str]], body: object, ctx: Context) -> tuple[list[tuple[str, str]], object]:
    """Pass on what no table describes, for roles that may do anything; what carries nothing needs no description."""
    if (query or body is not None) and not ctx.flag("unmodelled"):
        raise ctx.refusal(f"may not use {ctx.operation}: sockproxy does not check what is in it", "unmodelled")
    strict.unfolded(body)
    return query, body


def split(body: object) -> dict[str, object]:
    """Divide the body of ContainerCreate by the scopes whose tables have its fields.

    Raises:
        Refused: a field that no table has.
        Malformed: not an object, where one belongs.
    """
    trees = {scope: table["ContainerCreate"].body for scope, table in TABLES.items()}
    return dict(_split(trees, {} if body is None else body, ""))


def _split(trees: dict[str, dict[str, Field]], value: object, path: str) -> dict[str, Body]:
    parts: dict[str, Body] = {scope: {} for scope in TABLES}
    for key, item in expect_object(value, path).items():
        owners = {scope: tree[key].children for scope, tree in trees.items() if key in tree}
        if not owners:
            refuse_unknown(key, item, [name for tree in trees.values() for name in tree], path)
        elif len(owners) == 1:
            parts[min(owners)][key] = item
        elif item is not None:
            for scope, part in _split(owners, item, f"{path}{key}.").items():
                if part:
                    parts[scope][key] = part
    return parts


def merge(parts: dict[str, object]) -> Body:
    """Put the approved parts of ContainerCreate together again.

    Raises:
        Refused: a scope's part has fields of another scope, so its approval was not that scope's to give.
    """
    body: Body = {}
    for scope, part in parts.items():
        strangers = [other for other, fields in split(part).items() if fields and other != scope]
        if strangers:
            raise Refused("", f"the {scope} helper approved fields of {strangers[0]}")
        _merge(body, expect_object(part, ""))
    return body


def _merge(body: Body, part: Body) -> None:
    for key, value in part.items():
        known = body.setdefault(key, {} if isinstance(value, dict) else value)
        if isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
