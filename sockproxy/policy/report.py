"""Tell people what a compiled policy means, and what in it looks like a mistake."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Iterable, Iterator, Mapping

from sockproxy.policy import dangers
from sockproxy.policy.compile import Compiled
from sockproxy.policy.schema import RULES
from sockproxy_helpers.system.caller import NOBODY

SHOWN = 10  # names on a line


def summary(compiled: Compiled) -> Iterator[str]:
    """Describe each role: who has it, what it may do. A rule that is not named has its strictest value."""
    for name, role in compiled["roles"].items():
        holders = _holders(compiled, name) or "nobody"
        yield f"role {name} ({role['at']}): {len(role['operations'])} operations; {holders}"
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
        if holders := _holders(compiled, name, but="root"):
            for danger, at in dangers.of_role(role["rules"], role["operations"]):
                yield f"{at}: role {name} has {danger.what}: {holders} {danger.then}. {_sentence(danger.advice)}"
    settings: dict[str, Mapping[str, object]] = {"audit": compiled["audit"], "auth": compiled["auth"]}
    for (section, key, value), (then, advice) in dangers.SETTINGS.items():
        if settings[section][key] == value:
            yield f"{section}: {{{key}: {value}}}: {then}. {_sentence(advice)}"
    if isinstance(cache := compiled["auth"]["cache"], int) and cache > dangers.LONG_CACHE:
        yield f"auth: {{cache: {cache}}}: who is shut out may go on for {cache} seconds. cache: at most 300"


def _sentence(text: str) -> str:
    return text if ":" in text.partition(" ")[0] else text[:1].upper() + text[1:]


def _holders(compiled: Compiled, role: str, but: str = "") -> str:
    names = [f"user {name}" for name, (_, bound, _) in compiled["users"].items() if bound == role and name != but]
    names += [f"group {name}" for name, (_, bound, _) in compiled["groups"].items() if bound == role]
    names += [f"container {_words(what)}" for (_, bound, _), what in compiled["containers"] if bound == role]
    return _list(names)


def _words(container: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in container.items()) + "}"


_MAKE = {"user": "Make the account", "group": "Make it (groupadd), put people into it (usermod -aG GROUP USER)"}


def _missing(kind: str, bound: Iterable[str], exists: Callable[[str], bool]) -> Iterator[str]:
    if names := _list([name for name in bound if not exists(name)]):
        yield f"no {kind} on this host has the name: {names}. {_MAKE[kind]}, or correct the name"


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
