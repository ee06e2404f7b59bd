"""Tell a mediator whose connection it has."""

from __future__ import annotations

from sockproxy_helpers.judge.policy import Decision, Policy
from sockproxy_helpers.system.caller import Caller

NAMED = ("BuildPrune", "ImagePush")  # operations of the Engine API that calls of BuildKit's come to


def facts(who: Caller, decision: Decision, policy: Policy) -> dict[str, object]:
    """Form what the rules there judge by."""
    return {
        "who": {"uid": who.uid, "gid": who.gid, "pid": who.pid, "user": who.user, "groups": who.groups},
        "role": decision.role,
        "at": decision.at,
        "rules": {name: list(rule) for name, rule in decision.rules.items()},
        "operations": [name for name in NAMED if policy.decide(who, name).allowed],
    }
