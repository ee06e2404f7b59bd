"""Judge what a client hands back of results: nothing but what the daemon has said of them on this connection."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any

from sockproxy.buildkit import loads
from sockproxy.buildkit.attributes import RULES
from sockproxy.buildkit.request import Request
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed

_SOURCE = "github.com/moby/buildkit/errdefs.Source+json"
CONFIG, PLATFORMS = "containerimage.config", "refs.platforms"  # BuildKit's exporter/containerimage/exptypes


def returned(value: dict[str, bytes], request: Request) -> dict[str, bytes]:
    """Take back of a result what the daemon said of it, and no result without: it holds the image's labels."""
    for key, item in value.items():
        if not request.facts.saw(said(key, item)):
            raise request.context.refusal("is not what the builder returned", at=f".{show(key)}")
    result = request.message
    wanted = {CONFIG} if result.ref.id or result.refDeprecated else set()
    many = {*result.refs.refs, *result.refsDeprecated.refs}
    if many:
        wanted |= {PLATFORMS, *(f"{CONFIG}/{name}" for name in many | _platforms(value.get(PLATFORMS, b"")))}
    if not wanted <= value.keys():
        raise request.context.refusal("has to have the image's configuration, which says whose it is")
    return value


def _platforms(told: bytes) -> set[str]:
    """List the platforms that an exporter looks for."""
    found = json.loads(told) if told else {}
    return {str(item["ID"]) for item in found.get("Platforms") or []}


def handed_back(value: str, request: Request) -> str:
    """Take back what the daemon said of another target's result."""
    path = request.context.path
    try:
        found = {str(key): b64decode(item, validate=True) for key, item in json.loads(value).items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Malformed(f"{path}: no JSON map of what a builder returned") from error
    platform = path.partition("::")[2]
    for key, item in found.items():
        if not any(request.facts.saw(said(name, item)) for name in (key, f"{key}/{platform}")):
            raise request.context.refusal("is not what the builder returned", at=f".{show(key)}")
    return json.dumps({key: b64encode(item).decode() for key, item in found.items()})


def said(key: str, value: bytes) -> bytes:
    """Join what a builder says of a result with what it calls it."""
    return key.encode() + b"\0" + value


def own_content(value: str, request: Request) -> str:
    """Let a client read what the history of its own builds has named to it, on this connection."""
    if not request.facts.saw(value.encode()) and not request.context.flag("sees_all"):
        raise request.context.refusal(f"{show(value)} is not of a build of yours")
    return value


def warned(value: str, request: Request) -> str:
    """Keep the marks that are ours out of clients' hands."""
    if value == loads.MARK:
        raise request.context.refusal("is sockproxy's own")
    return value


def sent_details(value: list[Any], request: Request) -> list[Any]:
    """Keep of a client's own error where in its Dockerfile it is: clients print that when the daemon says it again.

    The daemon has no use for anything else.
    """
    return [item for item in value if item.type_url == _SOURCE]


RULES |= {function.__name__: function for function in (returned, handed_back, own_content, warned, sent_details)}
