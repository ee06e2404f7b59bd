"""Judge string maps, key by key: tables/attributes.txt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sockproxy.buildkit.request import Request
from sockproxy.buildkit.schema import rows
from sockproxy_helpers.api.strict import show

Rule = Callable[[Any, Request], Any]
RULES: dict[str, Rule] = {}  # of all tables; filled by rules.py, results.py and llb.py


def attributes(name: str, value: dict[str, str], request: Request) -> dict[str, str]:
    """Judge a map by the rows of that name; a key whose rule returns None is left out."""
    path, built = request.context.path, {}
    for key, item in sorted(value.items()):
        rule = next((rule for pattern, rule in ATTRIBUTES.get(name, ()) if _fits(pattern, key)), None)
        request.context.path = f"{path}.{key if key.isprintable() else show(key)}"
        if rule is None:
            raise request.context.refusal("is not known to this version (allowed: leave it out)")
        kept = item if rule == "free" else RULES[rule](item, request)
        if kept is not None:
            built[key] = kept
    return built


def _fits(pattern: str, key: str) -> bool:
    return key.startswith(pattern[:-1]) if pattern.endswith("*") else key == pattern


def _load() -> dict[str, list[tuple[str, str]]]:
    table: dict[str, list[tuple[str, str]]] = {}
    for names, pattern, rule in rows("attributes"):
        group, _, types = names.partition(":")
        for name in [f"{group}:{kind}" for kind in types.split("|")] if types else [group]:
            table.setdefault(name, []).append((pattern, rule))
    return table


ATTRIBUTES = _load()
