"""Decide what a caller may do, from the compiled policy.

SECURITY: pure, no I/O. The file is root's and was written by the compiler, but whoever acts on a damaged policy acts
for everybody, so its shape is checked to the last value before anything is decided; what is not expected is refused.

Invariant: nothing is allowed by absence: no binding, no role, no operation in the role's list: refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from .caller import Caller
from .errors import BadPolicy

VERSION = 1
LARGEST = 16 << 20  # a million-byte file with 256 roles compiles to less
Rule = tuple[object, str]
Binding = tuple[int, str, str]


def _is_flag(value: object) -> bool:
    return type(value) is bool


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(type(name) is str and name for name in value)


def _is_binds(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(bind, dict)
        and bind.keys() == {"path", "mode"}
        and type(bind["path"]) is str
        and (bind["path"] == "{home}" or bind["path"].startswith("/"))
        and bind["mode"] in ("ro", "rw")
        for bind in value
    )


def _is_limits(value: object) -> bool:
    """Check the bounds. 0 means "unlimited" to the daemon for all but our own count, so it must never get there."""
    return (
        isinstance(value, dict)
        and value.keys() == {"memory", "cpus", "pids", "containers"}
        and all(value[key] is None or (type(value[key]) is int and value[key] > 0) for key in ("memory", "pids"))
        and (value["cpus"] is None or (type(value["cpus"]) in (int, float) and 0 < value["cpus"] < 1 << 20))
        and (value["containers"] is None or (type(value["containers"]) is int and value["containers"] >= 0))
    )


def _is_ports(value: object) -> bool:
    return (
        isinstance(value, dict) and value.keys() == {"min"} and type(value["min"]) is int and 0 < value["min"] < 65537
    )


# Every role has every one of these. The sentences and the defaults are in sockproxy/policy/schema.py.
RULES: dict[str, Callable[[object], bool]] = {
    "binds": _is_binds,
    "capabilities": _is_names,
    "cgroup_parent": _is_flag,
    "devices": _is_flag,
    "driver_options": _is_flag,
    "fetch": _is_flag,
    "host_namespaces": _is_names,
    "limits": _is_limits,
    "no_new_privileges": _is_flag,
    "ports": _is_ports,
    "privileged": _is_flag,
    "runtimes": _is_names,
    "security_options": _is_flag,
    "sees_all": _is_flag,
    "sysctls": _is_names,
    "unmodelled": _is_flag,
}


# Answered for everybody who can connect: clients negotiate their version with these, and without it could not even read
# the refusal of what follows: the CLI then falls back to its own newest version, which an older engine refuses.
PUBLIC = ("SystemPing", "SystemPingHead", "SystemOptions")


class Decision:
    """Carry the answer for one caller and one operation, with what restricts it.

    Attributes:
        role: "" when no binding matches.
        at: FILE:LINE of what decided: the line that allows the operation, else the role's, else the policy's name.
        why: when refused, the sentence for the caller; else "".
        rules: of the role, each its value and FILE:LINE. Shared between decisions: only to be read.
    """

    __slots__ = ("allowed", "at", "role", "rules", "why")

    def __init__(self, allowed: bool, role: str, at: str, why: str, rules: dict[str, Rule]) -> None:
        self.allowed, self.role, self.at, self.why, self.rules = allowed, role, at, why, rules


class Policy:
    """Hold a compiled policy."""

    def __init__(self, text: bytes) -> None:
        """Load it.

        Args:
            text: the compiled file's bytes; their SHA-256 names the policy in each record.

        Raises:
            BadPolicy: not exactly what the compiler writes.
        """
        if len(text) > LARGEST:
            raise BadPolicy("too large")
        self.sha256 = hashlib.sha256(text).hexdigest()
        try:
            document = json.loads(text.decode("ascii"), object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise BadPolicy("no JSON") from error
        top = _map(document, "it", {"version", "source", "users", "groups", "roles"})
        _expect(type(top["version"]) is int and top["version"] == VERSION, f"version is not {VERSION}")
        self.source = _text(top["source"], "source")
        self._roles = {role: _Role(role, value) for role, value in _map(top["roles"], "roles").items()}
        self._users = self._bindings(top["users"], "users")
        self._groups = self._bindings(top["groups"], "groups")

    def _bindings(self, value: object, where: str) -> dict[str, Binding]:
        bindings = {}
        for name, entry in _map(value, where).items():
            index, role, at = _list(entry, f"{where} {name}", 3)
            if name == "" or type(index) is not int or index < 0 or type(role) is not str or role not in self._roles:
                raise BadPolicy(f"{where} {name}")
            bindings[name] = (index, role, _text(at, f"{where} {name}"))
        return bindings

    def role_of(self, caller: Caller) -> Binding | None:
        """Find the first binding, in the order of the file, that is the caller's or one of the caller's groups'.

        One look-up for the user and one a group: the number of bindings does not matter.
        """
        found = [self._groups[group] for group in caller.groups if group in self._groups]
        if caller.user in self._users:
            found.append(self._users[caller.user])
        return min(found, default=None)

    def decide(self, caller: Caller, operation: str) -> Decision:
        """Decide whether a caller may ask for an operation, and under which rules."""
        binding = self.role_of(caller)
        if binding is None:
            if operation in PUBLIC:
                return Decision(True, "", self.source, "", {})
            return Decision(False, "", self.source, f"no binding matches {_describe(caller)}", {})
        role = self._roles[binding[1]]
        at = role.operations.get(operation)
        if at is None:
            return Decision(False, role.name, role.at, f"role {role.name} does not allow {operation}", role.rules)
        return Decision(True, role.name, at, "", role.rules)


class _Role:
    __slots__ = ("at", "name", "operations", "rules")

    def __init__(self, name: str, value: object) -> None:
        fields = _map(value, f"role {name}", {"at", "operations", "rules"})
        self.name, self.at = name, _text(fields["at"], f"role {name}")
        operations = _map(fields["operations"], f"role {name}: operations").items()
        self.operations = {operation: _text(at, f"role {name}: {operation}") for operation, at in operations}
        self.rules: dict[str, Rule] = {}
        for rule, entry in _map(fields["rules"], f"role {name}: rules", set(RULES)).items():
            setting, at = _list(entry, f"role {name}: {rule}", 2)
            _expect(RULES[rule](setting), f"role {name}: {rule}")
            self.rules[rule] = (setting, _text(at, f"role {name}: {rule}"))


def _describe(caller: Caller) -> str:
    if not caller.user:
        return f"uid {caller.uid}, which has no account"
    return f"user {caller.user} (groups: {', '.join(caller.groups) or 'none'})"


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    _expect(len(dict(pairs)) == len(pairs), "a key twice")
    return dict(pairs)


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise BadPolicy(what)


def _map(value: object, where: str, keys: set[str] | None = None) -> dict[str, object]:
    if not isinstance(value, dict) or (keys is not None and value.keys() != keys):
        raise BadPolicy(where)
    return value


def _list(value: object, where: str, length: int) -> list[object]:
    if not isinstance(value, list) or len(value) != length:
        raise BadPolicy(where)
    return value


def _text(value: object, where: str) -> str:
    if type(value) is not str or not value or not value.isprintable():
        raise BadPolicy(where)
    return value
