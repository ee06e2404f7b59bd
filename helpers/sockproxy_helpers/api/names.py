"""Normalise image references as the daemon does (distribution/reference), so that one tag has one name here.

SECURITY: pure; what reads a name here and what reads it in the daemon must agree, so the grammar is the daemon's own,
and what is outside of it is refused. A name is sent on as it is written here, never as the client spelled it.
"""

from __future__ import annotations

import re

from sockproxy_helpers.errors import Malformed
from .strict import show

_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_COMPONENT}(?:\.{_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_SHORT_ID = re.compile(r"[0-9a-f]{12,64}")
_LONGEST = 255  # of a repository's name (distribution/reference: RepositoryNameTotalLengthMax)
_ALGORITHMS = ("sha256", "sha384", "sha512")


def split(text: str) -> tuple[str, str, str]:
    """Take a reference apart: its repository with registry and "library/", its tag and its digest, "" for none.

    Raises:
        Malformed: not a reference, or what looks like an image's ID.
    """
    rest, at, digest = text.partition("@")
    slash, colon = rest.rfind("/"), rest.rfind(":")
    rest, tag = (rest[:colon], rest[colon + 1 :]) if colon > slash else (rest, "")
    tagged = colon > slash
    domain, separator, path = rest.partition("/")
    if not separator or not (any(mark in domain for mark in ".:") or domain == "localhost" or domain != domain.lower()):
        domain, path = "docker.io", rest
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and "/" not in path:
        path = "library/" + path
    fits = _DOMAIN.fullmatch(domain) and _PATH.fullmatch(path) and len(domain) + 1 + len(path) <= _LONGEST
    if not fits or _ID.fullmatch(text) or _ID.fullmatch(rest) or (tagged and not _TAG.fullmatch(tag)):
        raise Malformed(f"{show(text)} is not the name of an image (allowed: [REGISTRY/]lower-case/name[:tag])")
    if at and not _DIGEST.fullmatch(digest):
        raise Malformed(f"{show(text)} has no digest behind the @")
    return f"{domain}/{path}", tag, digest


def full(text: str) -> str:
    """Give a reference its one name: with registry, and with a tag or a digest. A digest makes a tag meaningless."""
    repository, tag, digest = split(text)
    return f"{repository}@{digest}" if digest else f"{repository}:{tag or 'latest'}"


def known(text: object) -> str:
    """Do the same with a name that the daemon tells; "" for what is none, as "<none>:<none>"."""
    try:
        return full(str(text))
    except Malformed:
        return ""


def repository(name: str) -> str:
    """Give a full name's repository."""
    return name.partition("@")[0] if "@" in name else name.rpartition(":")[0]


def familiar(name: str) -> str:
    """Write a full name, or a repository, as people do: without what goes without saying. Only for people to read."""
    if not name.startswith("docker.io/"):
        return name
    short = name.removeprefix("docker.io/library/")
    return short if "/" not in short else name.removeprefix("docker.io/")


def tagged(repository: str, tag: str) -> str:
    """Put a repository and a tag together.

    Raises:
        Malformed: it is no tag.
    """
    if not _TAG.fullmatch(tag):
        raise Malformed(f"{show(tag)} is not a tag (allowed: letters, digits, _ . -)")
    return f"{repository}:{tag}"


def settable(text: str, tag: str = "") -> str:
    """Give the full name that a request would set.

    Args:
        tag: given apart; stands instead of the one in `text`.

    Raises:
        Malformed: not a name with a tag, or one that people, and some engines, would take for an image's ID.
    """
    repository, own, digest = split(text)
    if digest:
        raise Malformed(f"{show(text)} can't be set: a digest is not a tag")
    last = familiar(repository)
    if last in _ALGORITHMS or _SHORT_ID.fullmatch(last):
        raise Malformed(f"{show(last)} looks like an image's ID (allowed: a name that does not)")
    return tagged(repository, tag or own or "latest")


def pulled(image: str, tag: str) -> tuple[str, str, str]:
    """Take a pull's two parameters apart: repository, tag and digest, "" for none; the second one's tag counts."""
    repository, own, digest = split(image)
    return (repository, "", tag) if ":" in tag else (repository, "" if digest else tag or own, digest)


def apart(name: str, key: str) -> list[tuple[str, str]]:
    """Write a full name as two parameters."""
    found = repository(name)
    return [(key, found), ("tag", name[len(found) + 1 :])]


def alike(one: str, other: str) -> bool:
    """Tell whether two full names are of the same repository."""
    return repository(one) == repository(other)
