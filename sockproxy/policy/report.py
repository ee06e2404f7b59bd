"""Tell people what a compiled policy means, and what in it looks like a mistake."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Iterable, Iterator

from sockproxy.policy.compile import Compiled, RoleDict
from sockproxy.policy.schema import RULES
from sockproxy_helpers.caller import NOBODY

SHOWN = 10  # names on a line

# A role with one of these can make itself root of the host, or change it for everybody.
_POWERS = ("privileged", "devices", "security_options", "driver_options", "cgroup_parent", "unmodelled")


def summary(compiled: Compiled) -> Iterator[str]:
    """Describe each role: who has it, what it may do. A rule that is not named has its strictest value."""
    for name, role in compiled["roles"].items():
        yield f"role {name} ({role['at']}): {len(role['operations'])} operations; {_holders(compiled, name)}"
        for rule, (value, _) in role["rules"].items():
            if value != RULES[rule].default:
                yield f"    {rule}: {RULES[rule].describe(value)}"


def warnings(compiled: Compiled) -> Iterator[str]:
    """Find what is accepted but deserves a second look."""
    yield from _missing("user", compiled["users"], _has_user)
    yield from _missing("group", compiled["groups"], _has_group)
    if not compiled["users"] and not compiled["groups"] and not compiled["containers"]:
        yield "nobody is bound to a role: every call will be refused"
    for name, role in compiled["roles"].items():
        held = any(bound == name for user, (_, bound, _) in compiled["users"].items() if user != "root")
        held = held or any(bound == name for (_, bound, _), _ in compiled["containers"])
        if held or any(bound == name for _, bound, _ in compiled["groups"].values()):
            for power, at in _powers(role):
                yield f"{at}: role {name} has {power}: {_holders(compiled, name)} can become root of this host"


def _powers(role: RoleDict) -> Iterator[tuple[str, str]]:
    for rule, (value, at) in role["rules"].items():
        if rule in _POWERS and value is True:
            yield f"{rule}: true", at
        elif (
            rule == "binds"
            and isinstance(value, list)
            and any(isinstance(bind, dict) and bind["path"] == "/" for bind in value)
        ):
            yield "a bind of /", at
        elif (
            rule == "capabilities"
            and isinstance(value, list)
            and {"ALL", "SYS_ADMIN", "SYS_MODULE"}.intersection(map(str, value))
        ):
            yield "capabilities that reach the host", at
        elif rule == "host_namespaces" and isinstance(value, list) and {"pid", "user"}.intersection(map(str, value)):
            yield "namespaces of the host", at


def _holders(compiled: Compiled, role: str) -> str:
    names = [f"user {name}" for name, (_, bound, _) in compiled["users"].items() if bound == role]
    names += [f"group {name}" for name, (_, bound, _) in compiled["groups"].items() if bound == role]
    names += [f"container {_words(what)}" for (_, bound, _), what in compiled["containers"] if bound == role]
    return _list(names) or "nobody"


def _words(container: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in container.items()) + "}"


def _missing(kind: str, bound: Iterable[str], exists: Callable[[str], bool]) -> Iterator[str]:
    if names := _list([name for name in bound if not exists(name)]):
        yield f"no {kind} on this host has the name: {names}"


def _list(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _has_user(name: str) -> bool:
    try:
        return pwd.getpwnam(name).pw_uid not in NOBODY  # who is never recognised: see caller.py
    except (KeyError, ValueError):
        return False


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except (KeyError, ValueError):
        return False
    return True
