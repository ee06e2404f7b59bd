"""Carry what the rules of the body models judge by: who asks, for what, and what that person's role allows."""

from __future__ import annotations

from collections.abc import Callable

from sockproxy_helpers.api.fields import Field
from sockproxy_helpers.errors import Refused, Unavailable
from sockproxy_helpers.system.caller import Caller
from sockproxy_helpers.upstream.objects import Object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .policy import Decision

# Takes an object's path, a field's name and row, the object as it was given, and the one that is being built.
Trace = Callable[[str, str, Field, dict[str, object], dict[str, object]], None]


class Context:
    """Hold one call's caller, operation and policy rules.

    Attributes:
        path: the field under judgement, as a person would write it ("HostConfig.Privileged").
        built: what was built so far of the object around it: a rule may look at the rows above its own.
        found: the objects that the call names, for the record.
        mates: tells by the uid who shares with the caller.
        variables: of the request's path.
        trace: told of each field before it is judged, for `sockproxy explain`; None in the helpers.
    """

    __slots__ = ("built", "caller", "found", "mates", "operation", "path", "role", "rules", "trace", "variables")

    def __init__(
        self,
        rules: dict[str, tuple[object, str]],
        caller: Caller,
        operation: str,
        role: str = "",
        mates: Callable[[int], bool] = lambda uid: False,
    ) -> None:
        self.rules, self.caller, self.operation, self.role, self.mates = rules, caller, operation, role, mates
        self.path = ""
        self.built: dict[str, object] = {}
        self.found: list[Object] = []
        self.trace: Trace | None = None
        self.variables: dict[str, str] = {}

    def rule(self, name: str) -> object:
        """Look up a rule's value.

        Raises:
            Refused: the policy does not have it; what is not said is not allowed.
        """
        if name not in self.rules:
            raise Refused(self.path, f"the policy says nothing about {name}", name)
        return self.rules[name][0]

    def flag(self, name: str) -> bool:
        """Look up a rule that is true or false."""
        return self.rule(name) is True

    def sees(self, owner: int | None) -> bool:
        """Tell whether the caller may know of somebody's object, and use it."""
        return self.owns(owner) or (owner is not None and self.mates(owner))

    def owns(self, owner: int | None) -> bool:
        """Tell whether the caller may also remove somebody's object: what is shared is the owner's to remove."""
        return owner == self.caller.uid or self.flag("sees_all")

    def names(self, name: str) -> list[str]:
        """Look up a rule that is a list of words."""
        value = self.rule(name)
        return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []

    def number(self, name: str, key: str) -> int | float | None:
        """Look up a number in a rule that is a map; None means without limit, and has to be written out.

        Raises:
            Refused: it is neither.
        """
        return self._number(self.rule(name), name, key)

    def least(self, key: str) -> tuple[int | float | None, str]:
        """Look up the most that one container may use: no more than all of a person's together. And what says so."""
        one, together = (self._number(self.rules.get(name, ({},))[0], name, key) for name in ("limits", "totals"))
        rule = "totals" if together is not None and (one is None or together < one) else "limits"
        return self.number(rule, key), rule

    def _number(self, value: object, name: str, key: str) -> int | float | None:
        found: object = value.get(key, "") if isinstance(value, dict) else ""
        if found is None or (isinstance(found, (int, float)) and found is not True):
            return found
        raise Refused(self.path, f"the policy says nothing about {name}.{key}", name)

    def refusal(self, why: str, rule: str = "", at: str = "") -> Refused:
        """Form the refusal of the field under judgement.

        Args:
            why: goes on from "role developer"; what would be allowed stands in parentheses at its end.
            rule: the policy rule that forbids it; "" when none could allow it.
            at: what within the field, appended to its path: "[2]", ".Source".
        """
        who = f"role {self.role}" if self.role else "your role"
        line = self.rules[rule][1] if rule in self.rules else ""
        return Refused(self.path + at, f"{who} {why}" if rule else why, rule, line)


def context_of(decision: Decision, who: Caller, operation: str) -> Context:
    """Form the context of a call that is allowed.

    Raises:
        Refused: it is not.
        Unavailable: nobody can tell.
    """
    if not decision.allowed:
        if who.unasked:
            raise Unavailable(who.trouble, 503)
        raise Refused("", decision.why, at=decision.at)
    return Context(decision.rules, who, operation, decision.role, decision.mates)
