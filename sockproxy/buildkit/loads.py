"""Know which images a frontend has loaded, by what BuildKit says of a build's progress.

Each image whose config the frontend for Dockerfiles asks for is a vertex: "[internal] load metadata for NAME". The
vertex's digest is that of the source and the platform (BuildKit's solver/llbsolver/bridge.go), so what a name and a
platform are found for here is what was looked up. These names have no environment in them: FROM knows global arguments
only. The image of a frontend that a role lists is "resolve image config for NAME", and is none of these.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sockproxy.buildkit.schema import Message
from sockproxy_helpers.api import names
from sockproxy_helpers.errors import Malformed

# Platforms that an image is looked up for; others come with the request (FROM --platform names any).
PLATFORMS = (
    "linux/amd64", "linux/arm64", "linux/arm64/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5", "linux/386",
    "linux/amd64/v2", "linux/amd64/v3", "linux/ppc64le", "linux/s390x", "linux/riscv64", "linux/mips64le",
    "linux/loong64", "windows/amd64", "windows/arm64",
)  # fmt: skip
SCHEMES = ("docker-image://", "oci-layout://", "")  # BuildKit before 0.13 leaves it out
_VERTEX = re.compile(r".* load metadata for (.*)", re.DOTALL)
# What a warning of our own is about. They stand among a build's progress, in their order, and nobody is shown one.
MARK = f"sha256:{hashlib.sha256(b'sockproxy').hexdigest()}"
OPENED, CLOSED = b"opened", b"closed"  # a frontend was asked; all that it said until then may be told


class Load(NamedTuple):
    """Hold what is said of one image's look-up: the vertex, when it began, and the name."""

    vertex: str
    began: tuple[int, int]
    name: str


class Image(NamedTuple):
    """Hold what was looked up: a name in full, the platform, and the layout of the caller's own; "" for none."""

    name: str
    platform: str
    layout: str


def seen(progress: Message) -> Iterator[tuple[Load, bool]]:
    """Find the look-ups in a message, each with whether it has failed; a later message may tell that of it."""
    for vertex in progress.vertexes:
        match = _VERTEX.fullmatch(vertex.name)
        if match:
            began = (vertex.started.seconds, vertex.started.nanos)
            yield Load(vertex.digest, began, match[1]), bool(vertex.error)


def image(load: Load, options: Mapping[str, str]) -> Image | None:
    """Find what was looked up; None for what can't be told."""
    try:
        repository, tag, digest = names.split(load.name)
    except Malformed:
        return None
    tag = tag or ("" if digest else "latest")
    name = f"{repository}{tag and ':' + tag}{digest and '@' + digest}"
    for platform in (*PLATFORMS, *options.get("platform", "").split(",")):
        for scheme in SCHEMES:
            if load.vertex == _vertex(scheme, name, platform):
                layout = "" if scheme == SCHEMES[0] else _layout(name, options)
                return Image(name, platform, layout) if layout or scheme != SCHEMES[1] else None
    return None


def vertices(name: str, platform: str) -> set[str]:
    """Give the digests that the look-up of an image may have."""
    return {_vertex(scheme, name, platform) for scheme in SCHEMES}


def _vertex(scheme: str, name: str, platform: str) -> str:
    return f"sha256:{hashlib.sha256(f'{scheme}{name}{platform}'.encode()).hexdigest()}"


def written(platform: Message) -> str:
    """Write a platform as BuildKit does."""
    version = f"({platform.OSVersion})" if platform.OSVersion else ""
    return f"{platform.OS}{version}/{platform.Architecture}{platform.Variant and '/' + platform.Variant}"


def _layout(name: str, options: Mapping[str, str]) -> str:
    """Give the layout that has the manifest of this digest; "" for none."""
    _, at, digest = name.partition("@")
    for value in options.values() if at else ():
        if value.startswith("oci-layout:") and value.endswith(f"@{digest}"):
            return _store(value)
    return ""


def _store(value: str) -> str:
    """Take the store's name out of a context's value: oci-layout://STORE[:TAG]@DIGEST."""
    store = value.partition(":")[2].removeprefix("//").partition("@")[0]
    return store[: store.rfind(":")] if store.rfind(":") > store.rfind("/") else store


def pinned(options: Mapping[str, str], pins: Mapping[str, str]) -> dict[str, str]:
    """Have a frontend take images by their digests: a named context stands for an image of its name.

    Args:
        pins: names in full, each with its digest.
    """
    built = dict(options)
    for name, digest in pins.items():
        value = f"docker-image://{name}@{digest}"
        for key, item in options.items():
            scheme, _, named = item.partition(":")
            if key.startswith("context:") and scheme == "docker-image" and names.known(named.lstrip("/")) == name:
                built[key] = value
        built.setdefault(f"context:{names.familiar(name).removesuffix(':latest')}", value)
    return built
