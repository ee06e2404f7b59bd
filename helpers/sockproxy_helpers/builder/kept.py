"""Keep the names of images, by which a build is from them, while BuildKit looks them up.

SECURITY: where an image has no digest that the name could be pinned with (the classic image store), BuildKit looks a
name up twice: to say what the build is, which is judged, and to take the image; and when it is not there any more, it
asks the registry, which may be the client's own. So nobody sets such a name meanwhile. One that still means what it did
when BuildKit has the image, has meant it all the time.
"""

from __future__ import annotations

import os

from sockproxy_helpers.api import names
from sockproxy_helpers.content.claims import Claim
from sockproxy_helpers.content.tags import Tags
from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.judge.context import Context
from .told import MOST


class Kept:
    """Know what is kept for the builds of one connection."""

    def __init__(self, tags: Tags, context: Context) -> None:
        self._still, self._context = tags.still, context
        self._kept: dict[str, tuple[Claim, str, str | None]] = {}

    async def begin(self, untrusted_name: str, build: Claim | None) -> str:
        """Have nobody set a name; give what to call this by.

        Args:
            build: has the names that the build itself sets.

        Raises:
            Taken: somebody is just setting it.
            Malformed: no name, or too many.
        """
        name, claim, key = names.full(untrusted_name), Claim(self._context), os.urandom(8).hex()
        if len(self._kept) >= MOST:
            raise Malformed(f"not more than {MOST} names of images at once")
        try:
            self._kept[key] = claim, name, await self._still.keep_for_build(claim, name, build)
        except BaseException:
            self._still.drop(claim)
            raise
        return key

    async def end(self, key: str) -> None:
        """See that the name means what it did.

        Raises:
            Refused: it does not.
        """
        if key not in self._kept:
            raise Malformed("nothing is kept by this")
        claim, name, identity = self._kept[key]
        try:
            if not await self._still.means(name, identity):
                raise Refused("", f"{names.familiar(name)} was removed meanwhile: try again")
        finally:
            self._still.drop(claim)
            self._kept.pop(key, None)

    def drop(self) -> None:
        """Keep nothing any more: the connection has ended."""
        for claim, _, _ in self._kept.values():
            self._still.drop(claim)
