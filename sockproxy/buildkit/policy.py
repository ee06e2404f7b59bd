"""Form the source policy of a build: the daemon itself refuses sources that the role does not allow, wherever in a
Dockerfile they stand."""

from __future__ import annotations

from typing import Any, NamedTuple

from sockproxy.buildkit.request import Request
from sockproxy.buildkit.schema import Message, Schema
from sockproxy_helpers.judge import registries

_ALLOW, _DENY = 0, 1
_WILDCARD, _EXACT, _REGEX = 0, 1, 2
_IMAGE = "docker-image://"
_LAYOUTS = "oci-layout://*"  # images from the caller's own folders
_FETCHED = ("http://*", "https://*", "git://*")
_UPLOADS = "http://buildkit-session/*"  # what the caller's own session sends
# What the gateway says of an image that it is about to run as a frontend (BuildKit frontend/gateway: markTypeFrontend).
_AS_FRONTEND = {"image.recordtype": "frontend"}


class Rule(NamedTuple):
    """Hold a rule: an action, a pattern that sources fit, and settings that they have."""

    action: int
    match: int
    identifier: str
    attrs: dict[str, str] = {}  # noqa: RUF012 (a tuple's default, which nobody changes)


def put(schema: Schema, message: Message, request: Request, foreign: list[Any]) -> None:
    """Set the policy of a solve; the last rule that fits a source counts.

    Args:
        foreign: images of other users, each as BuildKit writes it: whole, or with "*".
    """
    rules: list[Rule] = []
    listed, frontends = (request.context.names(rule) for rule in (registries.RULE, "frontends"))
    if registries.ALL not in listed:  # a frontend is looked up before it is known to be one, so it can be a base, too
        rules += [Rule(_DENY, _WILDCARD, pattern) for pattern in (_LAYOUTS, f"{_IMAGE}*")]
        rules += [Rule(_ALLOW, _WILDCARD, f"{_IMAGE}{name}") for name in registries.spelled([*listed, *frontends])]
    if registries.ALL not in frontends:
        rules.append(Rule(_DENY, _REGEX, _regex("*"), _AS_FRONTEND))
        rules += [Rule(_ALLOW, _REGEX, _regex(name), _AS_FRONTEND) for name in registries.spelled(frontends)]
    if not request.context.flag("fetch"):
        rules += [Rule(_DENY, _WILDCARD, pattern) for pattern in _FETCHED]
        rules.append(Rule(_ALLOW, _WILDCARD, _UPLOADS))
    rules += [Rule(_DENY, _WILDCARD if "*" in str(name) else _EXACT, f"{_IMAGE}{name}") for name in foreign]
    if not rules:
        return
    policy = schema.new("policy.Policy")
    policy.version = 1
    for rule in rules:
        made = policy.rules.add(action=rule.action)
        made.selector.identifier, made.selector.match_type = rule.identifier, rule.match
        for key, value in rule.attrs.items():
            made.selector.constraints.add(key=key, value=value)  # its condition: equal
    message.SourcePolicy.CopyFrom(policy)


def _regex(pattern: str) -> str:
    """Write a pattern in the other way: BuildKit up to 0.25 takes two rules of one way and pattern for the same.

    Their settings then are the first one's. The letters of a pattern are those of the policy's values.IMAGE.
    """
    return f"^{_IMAGE}{pattern.replace('.', '[.]').replace('*', '.*')}$"
