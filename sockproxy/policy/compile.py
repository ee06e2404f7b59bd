"""Compile the built-in roles and the user's file into the one policy that every process loads.

The whole file is accepted or none of it. The result is plain data: each rule and operation carries the place that it
comes from, so that a refusal can name the line to change.
"""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass
from typing import TypedDict

from sockproxy import paths
from sockproxy.errors import ConfigError
from sockproxy.policy import settings
from sockproxy.policy.bindings import Binding, Bindings, Warn, read_bindings
from sockproxy.policy.document import (
    Mapping,
    Node,
    Scalar,
    as_items,
    as_mapping,
    as_text,
    did_you_mean,
    one_of,
    parse,
    read,
)
from sockproxy.policy.schema import RULES
from sockproxy.policy.values import Value
from sockproxy_helpers.api import operations
from sockproxy_helpers.judge.policy import LARGEST, VERSION

BUILT_IN = "built in"
MOST_ROLES = 256
EVERYBODYS = ("SystemOptions", "SystemPing", "SystemPingHead")  # a client that may not ping guesses a version and fails

ROLE = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,63}")


class RoleDict(TypedDict):
    """A role of the compiled policy."""

    at: str
    operations: dict[str, str]
    rules: dict[str, tuple[Value, str]]


class Compiled(TypedDict):
    """The compiled policy; `helpers/sockproxy_helpers/judge/policy.py` reads its JSON."""

    version: int
    source: str
    users: dict[str, Binding]
    groups: dict[str, Binding]
    containers: list[tuple[Binding, dict[str, str]]]
    roles: dict[str, RoleDict]
    audit: dict[str, Value]
    auth: dict[str, Value]


@dataclass(frozen=True, slots=True)
class _Draft:
    """Hold what one file says, or a file and those under it."""

    roles: dict[str, RoleDict]
    bindings: Bindings
    audit: dict[str, Value]
    auth: dict[str, Value]


def compile_file(file: str | None, warn: Warn = lambda _: None) -> Compiled:
    """Compile a policy file.

    Args:
        file: the user's file; None for the built-in policy alone.
        warn: called with a sentence for what is accepted but looks like a mistake.

    Raises:
        ConfigError: at the first mistake.
    """
    return compile_text(b"" if file is None else read(file), file, warn)


def compile_text(untrusted_text: bytes, file: str | None, warn: Warn = lambda _: None) -> Compiled:
    """Compile a policy file's bytes; see `compile_file`."""
    source = BUILT_IN if file is None else file
    if len(source) > 255 or not source.isprintable():  # it is part of each place in the policy
        raise ConfigError(source[:255], 0, 0, "this path", "a printable path of at most 255 characters")
    built_in = _built_in(tuple((own, os.stat(own).st_mtime_ns) for own in paths.role_files()))
    draft = _compile(parse(untrusted_text, source), built_in[-1], warn)
    bound = draft.bindings
    compiled = Compiled(
        version=VERSION,
        source=source,
        users=bound.users,
        groups=bound.groups,
        containers=bound.containers,
        roles=_wanted(draft, *(stage.roles for stage in built_in)),
        audit=draft.audit,
        auth=draft.auth,
    )
    if len(dump(compiled)) > LARGEST:
        raise ConfigError(source, 0, 0, "more than fits into the compiled policy", f"at most {LARGEST} bytes compiled")
    return compiled


@functools.lru_cache(maxsize=1)
def _built_in(files: tuple[tuple[str, int], ...]) -> list[_Draft]:
    """Compile our own files, each on top of the one before it; anew when one was changed, as by an upgrade."""
    drafts = [_Draft({}, Bindings(), {}, {})]
    for file, _ in files:
        drafts.append(_compile(parse(read(file), os.path.basename(file)), drafts[-1], lambda _: None))
    return drafts[1:]


def dump(compiled: Compiled) -> bytes:
    """Write a compiled policy as canonical JSON: equal policies have equal bytes, and so an equal SHA-256."""
    return (json.dumps(compiled, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n").encode("ascii")


def _compile(document: Node | None, base: _Draft, warn: Warn) -> _Draft:
    if document is None:
        return base
    top = as_mapping(document, "a map with version, bindings, roles, audit")
    top.only(("version", "bindings", "roles", "audit", "auth"))
    version = top.get("version")
    if version is None:
        raise top.error("no version", "version: 1")
    if not isinstance(version, Scalar) or version.text != "1":
        raise version.error(f"version {version.what}", "1")
    roles, bindings = top.get("roles"), top.get("bindings")
    merged = base.roles if roles is None else _Roles(as_mapping(roles, "a map of roles"), base.roles).compile()
    audit, auth = (settings.read(name, top.get(name)) for name in ("audit", "auth"))
    if bindings is None:
        return _Draft(merged, base.bindings, audit, auth)
    return _Draft(merged, read_bindings(bindings, list(merged), warn), audit, auth)


def _wanted(draft: _Draft, basic: dict[str, RoleDict], ready: dict[str, RoleDict]) -> dict[str, RoleDict]:
    """Leave out the ready roles that nobody has and that the file does not change."""
    bound = draft.bindings
    entries = [*bound.users.values(), *bound.groups.values(), *(binding for binding, _ in bound.containers)]
    used = {role for _, role, _ in entries}
    return {
        name: role for name, role in draft.roles.items() if name in used or name in basic or role is not ready.get(name)
    }


class _Roles:
    """Compile the roles of one file.

    Invariant: `extends` means a role of this file, or else (and for a role's own name) one of the files under it. So
    only the roles of one file can form a cycle.
    """

    def __init__(self, mapping: Mapping, base: dict[str, RoleDict]) -> None:
        if len(mapping.entries) > MOST_ROLES:
            raise mapping.error(f"{len(mapping.entries)} roles", f"at most {MOST_ROLES}")
        self._entries = mapping.entries
        self._base = base
        self._done: dict[str, RoleDict] = {}

    def compile(self) -> dict[str, RoleDict]:
        """Compile all of them, on top of the base."""
        for name, (key, _) in self._entries.items():
            if not ROLE.fullmatch(name):
                raise key.error(f"{key.what} as a role's name", "a letter, then letters, digits, - or _, at most 64")
            self._role(name, ())
        return {**self._base, **self._done}

    def _role(self, name: str, extending: tuple[str, ...]) -> RoleDict:
        if name not in self._done:
            key, node = self._entries[name]
            body = as_mapping(node, "a map with extends, allow, deny or rules")
            body.only(("extends", "allow", "deny", *RULES))
            self._done[name] = _role(key, body, self._parent(name, body.get("extends"), (*extending, name)))
        return self._done[name]

    def _parent(self, name: str, node: Node | None, extending: tuple[str, ...]) -> RoleDict | None:
        if node is None:
            return None
        known = {*self._base, *(other for other in self._entries if other != name)}
        parent = as_text(node, "the name of a role")
        if parent not in known:
            raise node.error(f"unknown role {node.what}{did_you_mean(parent, known)}", one_of(sorted(known)))
        if parent in self._entries and parent != name:
            if parent in extending:
                raise node.error(
                    f"a circle: {' extends '.join((*extending, parent))}", "a role that does not lead back here"
                )
            return self._role(parent, extending)
        return self._base[parent]


def _role(key: Scalar, body: Mapping, parent: RoleDict | None) -> RoleDict:
    if parent is None:
        allowed = dict.fromkeys(EVERYBODYS, key.at)
        rules = {name: (rule.default, key.at) for name, rule in RULES.items()}
    else:
        allowed, rules = dict(parent["operations"]), dict(parent["rules"])
    allowed.update(_operations(body.get("allow")))
    for denied in _operations(body.get("deny")):
        allowed.pop(denied, None)
    for name, (rule_key, node) in body.entries.items():
        if name in RULES:
            rule = RULES[name]
            rules[name] = (rule.combine(rules[name][0], rule.parse(node)), rule_key.at)
    return RoleDict(at=key.at, operations=allowed, rules=rules)


def _load_names() -> dict[str, str]:
    names = {}
    for operation in operations.load():
        names[operation.name] = names[f"{operation.method} {operation.path}"] = operation.name
    return names


OPERATIONS = _load_names()  # their names by both spellings


def _operations(node: Node | None) -> dict[str, str]:
    """Read a list of operations, each by its name or as `METHOD /path`; give each one's place."""
    found: dict[str, str] = {}
    expected = "an operation, ContainerList or GET /containers/json, as the Engine API names it"
    for item in as_items(node, "a list of operations") if node else ():
        text = as_text(item, expected)
        if text not in OPERATIONS:
            raise item.error(f"unknown operation {item.what}{did_you_mean(text, OPERATIONS)}", expected)
        found.setdefault(OPERATIONS[text], item.at)
    return found
