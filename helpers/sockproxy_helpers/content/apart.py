"""See that no manifest names what is another's and no layer: containerd's store keeps both alike, by their digests.

SECURITY: of a registry, or a layout, that only claims to have a layer, the store takes what it has by that digest: the
config of another's image, its manifest or what attests it, which a save, a push or a build then hands out. Go reads a
manifest's keys in any case, and the last of two, so whatever looks like a digest in one is taken for named.
"""

from __future__ import annotations

import json
import re

from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.upstream.blobs import Blobs, used
from sockproxy_helpers.upstream.daemon import Daemon

MOST = 500  # manifests of one index
_REMEMBERED = 20_000
_DIGEST = re.compile(r"[a-z0-9+._-]{1,32}:[0-9a-f]{32,128}")
_EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # "{}": nobody's (OCI image-spec)


class Manifest:
    """Hold what a manifest or an index names.

    Attributes:
        named: all digests in it.
        inner: those of manifests, of an index.
        apart: those of what is no layer.
    """

    __slots__ = ("apart", "inner", "named")

    def __init__(self, untrusted_text: bytes) -> None:
        """Read it.

        Raises:
            ValueError: it is no JSON.
        """
        try:
            told = json.loads(untrusted_text.decode("utf-8", "replace"), object_pairs_hook=list)
        except RecursionError as error:
            raise ValueError from error
        self.named = _digests(told)
        self.inner = {digest for value in _values(told, "manifests") for digest in _digests(value)}
        self.apart = self.inner | {digest for value in _values(told, "config") for digest in _digests(value)}
        for value in _values(told, "layers"):
            for layer in value if isinstance(value, list) else ():
                if not any("tar" in str(kind) for kind in _values(layer, "mediatype")):
                    self.apart |= _digests(layer)


_known: dict[str, Manifest] = {}  # what a digest stands for does not change


class Reader:
    """Read manifests."""

    def __init__(self, daemon: Daemon) -> None:
        self._blobs = Blobs(daemon)

    async def read(self, root: str) -> list[Manifest]:
        """Read a manifest, or an index and all of its manifests that are there; none in the classic store.

        Raises:
            ValueError: one can't be read, or they are too many.
            Unavailable: the daemon does not tell.
        """
        found, left, seen = [], [root], {root}
        while left:
            manifest = await self._one(left.pop())
            if manifest:
                found.append(manifest)
                left += manifest.inner - seen
                seen |= manifest.inner
            if len(seen) > MOST:
                raise ValueError
        return found

    async def apart(self, other: str) -> set[str]:
        """List what is no layer of an image; of one that nobody can read, its own digest alone."""
        try:
            return {other, *(digest for one in await self.read(other) for digest in one.apart)}
        except ValueError:
            return {other}

    async def _one(self, digest: str) -> Manifest | None:
        if digest not in _known:
            text = await self._blobs.read(digest)
            if text is None:
                return None
            if len(_known) >= _REMEMBERED:
                _known.clear()
            _known[digest] = Manifest(text)
        return _known[digest]

    def close(self) -> None:
        """Drop the connection."""
        self._blobs.close()


async def find(daemon: Daemon, root: str, others: list[str], has: set[str]) -> str:
    """Find whose image a manifest takes something from, that is no layer; "" for nobody's.

    Args:
        root: the digest of the manifest, or the index.
        others: IDs of the images that are somebody else's alone.
        has: digests of what the caller has brought.

    Raises:
        Unavailable: the daemon does not tell.
    """
    if not await used(daemon):
        return ""
    reader = Reader(daemon)
    try:
        named = {digest for one in await reader.read(root) for digest in one.named} - has - {_EMPTY}
        for other in others if named else ():
            if other != root and named & await reader.apart(other):
                return other
    except ValueError as error:
        raise Unavailable("what the manifest of the image names can't be told") from error
    finally:
        reader.close()
    return ""


def _digests(told: object) -> set[str]:
    """List what looks like a digest; maps are lists of pairs."""
    if isinstance(told, str):
        return {told} if _DIGEST.fullmatch(told) else set()
    return {digest for item in told for digest in _digests(item)} if isinstance(told, (list, tuple)) else set()


def _values(told: object, key: str) -> list[object]:
    """List what a map has under a key, in any case of its letters."""
    pairs = told if isinstance(told, list) else ()
    return [pair[1] for pair in pairs if isinstance(pair, tuple) and pair[0].casefold() == key]
