"""Decide what a caller may do, from the compiled policy.

SECURITY: pure, no I/O. The file is root's and was written by the compiler, but whoever acts on a damaged policy acts
for everybody, so its shape is checked to the last value before anything is decided; what is not expected is refused.

Invariant: nothing is allowed by absence: no binding, no role, no operation in the role's list: refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from sockproxy_helpers.errors import BadPolicy
from sockproxy_helpers.system.caller import Caller, Container, person
from . import warn
from .shape import RULES, as_list, as_map, as_selector, as_text, expect, unique

VERSION = 1
LARGEST = 16 << 20  # a million-byte file with 256 roles compiles to less
Rule = tuple[object, str]
Binding = tuple[int, str, str]


# Answered for everybody who can connect: clients negotiate their version with these, and without it could not even read
# the refusal of what follows: the CLI then falls back to its own newest version, which an older engine refuses.
PUBLIC = ("SystemPing", "SystemPingHead", "SystemOptions")


class Decision:
    """Carry the answer for one caller and one operation, with what restricts it.

    Attributes:
        role: "" when no binding matches.
        at: FILE:LINE of what decided: the line that allows the operation, else the role's, else the policy's name.
        why: when refused, the sentence for the caller; also when it is let through by warn mode; else "".
        rules: of the role, each its value and FILE:LINE. Shared between decisions: only to be read.
        mates: tells by the uid who shares with the caller, within a group.
    """

    __slots__ = ("allowed", "at", "mates", "role", "rules", "why")

    def __init__(self, allowed: bool, role: str, at: str, why: str, rules: dict[str, Rule]) -> None:
        self.allowed, self.role, self.at, self.why, self.rules = allowed, role, at, why, rules
        self.mates: Callable[[int], bool] = lambda uid: False


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
            document = json.loads(text.decode("ascii"), object_pairs_hook=unique)
        except (ValueError, RecursionError) as error:
            raise BadPolicy("no JSON") from error
        top = as_map(document, "it", {"version", "source", "users", "groups", "containers", "roles", "audit", "auth"})
        expect(type(top["version"]) is int and top["version"] == VERSION, f"version is not {VERSION}")
        self.source = as_text(top["source"], "source")
        self._roles = {role: _Role(role, value) for role, value in as_map(top["roles"], "roles").items()}
        self._users = self._bindings(top["users"], "users")
        self._groups = self._bindings(top["groups"], "groups")
        audit = as_map(top["audit"], "audit", {"on_full", "commands"}).items()
        self.audit = {name: as_text(value, f"audit: {name}") for name, value in audit}
        expect(self.audit["commands"] in ("program", "all"), "audit: commands")
        self.auth = as_map(top["auth"], "auth", {"accounts", "cache", "token_hours"})
        expect(self.auth["accounts"] in ("pam", "none"), "auth: accounts")
        for name in ("cache", "token_hours"):
            expect(type(self.auth[name]) is int and 0 <= int(str(self.auth[name])) <= 3600, f"auth: {name}")
        self._ask = f"ask the administrator for one, or a bound group ({', '.join([*self._groups][:4]) or 'none is'})"
        self._containers = [self._selected(entry) for entry in as_list(top["containers"], "containers")]

    def _bindings(self, value: object, where: str) -> dict[str, Binding]:
        entries = as_map(value, where)
        expect("" not in entries, where)
        return {name: self._binding(entry, f"{where} {name}") for name, entry in entries.items()}

    def _binding(self, entry: object, where: str) -> Binding:
        index, role, at = as_list(entry, where, 3)
        if type(index) is not int or index < 0 or type(role) is not str or role not in self._roles:
            raise BadPolicy(where)
        return index, role, as_text(at, where)

    def _selected(self, entry: object) -> tuple[Binding, dict[str, str]]:
        binding, selector = as_list(entry, "containers", 2)
        return self._binding(binding, "containers"), as_selector(selector)

    def role_of(self, caller: Caller) -> Binding | None:
        """Find the first binding, in the order of the file, that is the caller's or one of the caller's groups'.

        One look-up for the user and one a group: the number of bindings does not matter. Those of containers are gone
        through, for processes in containers only.
        """
        found = [self._groups[group] for group in caller.groups if group in self._groups]
        if caller.user in self._users:
            found.append(self._users[caller.user])
        return min([*found, *self._as_container(caller)], default=None)

    def _as_container(self, caller: Caller) -> list[Binding]:
        """Find the bindings of the container that the caller's process runs in."""
        if caller.container is None or caller.trouble:
            return []
        return [binding for binding, selector in self._containers if _selects(selector, caller, caller.container)]

    def rules_of(self, caller: Caller) -> dict[str, Rule] | None:
        """Give the rules of a person's role; None when no binding matches. Only to be read."""
        binding = self.role_of(caller)
        return self._roles[binding[1]].rules if binding else None

    def rules_of_role(self, role: str) -> dict[str, Rule] | None:
        """Give a role's rules; None when there is no such role."""
        return self._roles[role].rules if role in self._roles else None

    def decide(self, caller: Caller, operation: str) -> Decision:
        """Decide whether a caller may ask for an operation, and under which rules."""
        if caller.trouble and operation not in PUBLIC:
            return Decision(False, "", self.source, caller.trouble, {})
        binding = self.role_of(caller)
        if binding is None:
            if operation in PUBLIC:
                return Decision(True, "", self.source, "", {})
            return Decision(False, "", self.source, f"no binding matches {_describe(caller)}: {self._ask}", {})
        role = self._roles[binding[1]]
        if caller.via not in role.ways and binding not in self._as_container(caller) and operation not in PUBLIC:
            allowed = ", ".join(role.ways) or "none"
            why = f"role {role.name} may not be held by who is known by {caller.via} (allowed: {allowed})"
            return Decision(False, role.name, role.rules["via"][1], why, role.rules)
        at, why = role.operations.get(operation), f"role {role.name} does not allow {operation}"
        if at is None and not warn.passes(role.rules, operation):
            return Decision(False, role.name, role.at, why, role.rules)
        decision = Decision(True, role.name, at or role.at, "" if at else why, role.rules)
        if group := self.group_of(caller):
            decision.mates = lambda uid: self.group_of(person(uid)) == group
        return decision

    def sharing(self) -> list[str]:
        """List the groups within which people share."""
        return [name for name, bound in self._groups.items() if self._roles[bound[1]].rules["share"][0] == "group"]

    def group_of(self, caller: Caller) -> str:
        """Name the group within which a person shares: that of the person's binding, where the role says so; or ""."""
        binding = self.role_of(caller)
        if binding is None or self._roles[binding[1]].rules["share"][0] != "group":
            return ""
        return next((group for group in caller.groups if self._groups.get(group) == binding), "")


class _Role:
    __slots__ = ("at", "name", "operations", "rules", "ways")

    def __init__(self, name: str, value: object) -> None:
        fields = as_map(value, f"role {name}", {"at", "operations", "rules"})
        self.name, self.at = name, as_text(fields["at"], f"role {name}")
        operations = as_map(fields["operations"], f"role {name}: operations").items()
        self.operations = {operation: as_text(at, f"role {name}: {operation}") for operation, at in operations}
        self.rules: dict[str, Rule] = {}
        for rule, entry in as_map(fields["rules"], f"role {name}: rules", set(RULES)).items():
            setting, at = as_list(entry, f"role {name}: {rule}", 2)
            expect(RULES[rule](setting), f"role {name}: {rule}")
            self.rules[rule] = (setting, as_text(at, f"role {name}: {rule}"))
        via = self.rules["via"][0]
        self.ways = list(map(str, via)) if isinstance(via, list) else []


def _selects(selector: dict[str, str], caller: Caller, container: Container) -> bool:
    """Tell whether a binding means a container.

    Without an owner it means what root made, past sockproxy or through it: names, labels and images are chosen by who
    makes a container, so that others must not get a role by them.
    """
    if selector["owner"] != caller.user if "owner" in selector else container.owner:
        return False
    key, _, value = selector.get("label", "").partition("=")
    return (
        selector.get("name", container.name) == container.name
        and selector.get("image", container.image) == container.image
        and (not key or container.labels.get(key) == value)
    )


def _describe(caller: Caller) -> str:
    if caller.container:
        whose = f"of {caller.user}" if caller.user else "of no user's"
        return f"the container {caller.container.name} {whose}, in which the process that connected runs"
    if not caller.user:
        return f"uid {caller.uid}, which has no account"
    return f"user {caller.user} (groups: {', '.join(caller.groups) or 'none'})"
