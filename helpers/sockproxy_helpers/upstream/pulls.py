"""Pull images where a call needs one that is not there, and see whether one that is there is what its registry has."""

from __future__ import annotations

import base64
import binascii
import json

from sockproxy_helpers.api import names
from sockproxy_helpers.api.operations import quote
from sockproxy_helpers.errors import Malformed, NotFound, Unavailable
from .daemon import Daemon
from .objects import member, parse

INDEXES = {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
HUB = "https://index.docker.io/v1/"  # how clients name docker.io in their X-Registry-Config
AUTH = "X-Registry-Auth"


def auth(config: str, name: str) -> list[tuple[str, str]]:
    """Take the login for a name's registry out of a build's X-Registry-Config, as a header field."""
    try:
        logins = json.loads(base64.b64decode(config.encode(), b"-_" if "-" in config or "_" in config else None))
    except (binascii.Error, ValueError):
        return []
    domain = name.partition("/")[0]
    login = logins.get(HUB if domain == "docker.io" else domain) if isinstance(logins, dict) else None
    if not isinstance(login, dict):
        return []
    return [(AUTH, base64.urlsafe_b64encode(json.dumps(login).encode()).decode())]


async def pull(daemon: Daemon, name: str, platform: str, login: list[tuple[str, str]]) -> None:
    """Pull an image.

    Raises:
        NotFound: the registry, or the daemon, says no; its words.
    """
    repository = names.repository(name)
    target = f"/images/create?fromImage={quote(repository)}&tag={quote(name[len(repository) + 1 :])}"
    if platform:
        target += f"&platform={quote(platform)}"
    status, body = await daemon.request("POST", target, more=login)
    if status != 200:
        _, answer = parse(status, body)
        raise NotFound(str(answer.get("message") if isinstance(answer, dict) else answer))
    for line in body.splitlines():
        _, told = parse(status, line)
        if isinstance(told, dict) and told.get("error"):
            raise NotFound(str(told["error"]))


async def current(daemon: Daemon, name: str, login: list[tuple[str, str]]) -> tuple[str, str] | None:
    """Tell whether a tag names what its registry has under that name now.

    Returns:
        The digest and the image's ID; None when it does not, or the registry does not say.
    """
    status, answer = parse(*await daemon.request("GET", f"/distribution/{quote(name, '/:@')}/json", more=login))
    descriptor = answer.get("Descriptor") if status == 200 and isinstance(answer, dict) else None
    digest = str(descriptor.get("digest")) if isinstance(descriptor, dict) else ""
    status, item = parse(*await daemon.request("GET", f"/images/{quote(name, '/:@')}/json"))
    digests = item.get("RepoDigests") if status == 200 and isinstance(item, dict) else None
    has = [names.known(text) for text in digests] if isinstance(digests, list) else []
    found = isinstance(item, dict) and digest and f"{names.repository(name)}@{digest}" in has
    return (digest, str(item["Id"])) if found else None  # type: ignore[index]


def login_of(headers: dict[str, str]) -> list[tuple[str, str]]:
    """Take a pull's login as a header field."""
    value = headers.get(AUTH.lower(), "")
    if not value.isascii() or not value.isprintable():
        raise Malformed(f"{AUTH}: not a header field")
    return [(AUTH, value)] if value else []


async def image_of(daemon: Daemon, name: str) -> str | None:
    """Ask the daemon which image a full name names; None for none.

    Raises:
        Unavailable: it does not tell.
    """
    found = await item_of(daemon, name)
    return str(found["Id"]) if found else None


async def item_of(daemon: Daemon, name: str, query: str = "") -> dict[str, object] | None:
    """Ask the daemon what it has of that image; see `image_of`."""
    status, body = await daemon.request("GET", f"/images/{quote(name, '/:@')}/json{query}")
    if status == 404:
        return None
    try:
        found: dict[str, object] = json.loads(body)
        found["Id"]
    except (ValueError, TypeError, KeyError) as error:
        raise Unavailable(f"the Docker daemon does not tell what {names.familiar(name)} is") from error
    return found


async def items_of(daemon: Daemon, name: str) -> list[dict[str, object]]:
    """Ask what it has of that image for each platform, first where none is named; what it does not tell is {}.

    An index of containerd's store has an image for each, and who runs it says which. All have the ID of the whole.
    """
    item = await item_of(daemon, name, "?manifests=1")
    listed = member(item, "Manifests")
    there = [one for one in listed if member(one, "Available")] if isinstance(listed, list) else []
    found = [item] if item else []
    there = [one for one in there if member(one, "Kind") == "image"]
    for one in there if item and len(there) > 1 else []:
        platform = quote(json.dumps(member(one, "ImageData", "Platform")))
        variant = await item_of(daemon, name, f"?platform={platform}")
        told = variant is not None and variant["Id"] == member(one, "ID")  # not so for the second of a platform
        found.append({**variant, "Id": item["Id"]} if item and variant and told else {})
    return found
