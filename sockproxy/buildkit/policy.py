"""Form the source policy of a build: the daemon itself refuses sources that the role does not allow, wherever in a
Dockerfile they stand."""

from __future__ import annotations

from typing import Any

from sockproxy.buildkit.request import Request
from sockproxy.buildkit.rules import ALL
from sockproxy.buildkit.schema import Message, Schema

_ALLOW, _DENY = 0, 1
_WILDCARD, _EXACT = 0, 1
_FETCHED = ("http://*", "https://*", "git://*")
_UPLOADS = "http://buildkit-session/*"  # what the caller's own session sends


def put(schema: Schema, message: Message, request: Request, foreign: list[Any]) -> None:
    """Set the policy of a solve; the last rule that fits a source counts.

    Args:
        foreign: images of other users, each as BuildKit writes it: whole, or with "*".
    """
    rules: list[tuple[int, int, str]] = []
    allowed = request.context.names("base_images")
    if ALL not in allowed:
        rules.append((_DENY, _WILDCARD, "docker-image://*"))
        rules += [(_ALLOW, _WILDCARD, f"docker-image://{pattern}") for pattern in allowed]
    if not request.context.flag("fetch"):
        rules += [(_DENY, _WILDCARD, pattern) for pattern in _FETCHED]
        rules.append((_ALLOW, _WILDCARD, _UPLOADS))
    rules += [(_DENY, _WILDCARD if "*" in str(name) else _EXACT, f"docker-image://{name}") for name in foreign]
    if not rules:
        return
    policy = schema.new("policy.Policy")
    policy.version = 1
    for action, match, identifier in rules:
        rule = policy.rules.add()
        rule.action, rule.selector.identifier, rule.selector.match_type = action, identifier, match
    message.SourcePolicy.CopyFrom(policy)
