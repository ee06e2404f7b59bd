"""Keep names of images from changing hands while the daemon looks them up for somebody.

A name that was judged is sent where people are to see it again: as a container's image, in a saved archive, to a
registry. What it means must then be what it meant when it was judged, so who else wants it has to wait, and is refused
when that takes long. The owner of a name is not kept from it: that is nobody else's image.
"""

from __future__ import annotations

from sockproxy_helpers.api import names
from sockproxy_helpers.channel.loop import Loop
from .claims import Claim, Taken

PATIENCE = 10.0  # seconds; a look-up takes milliseconds, a push minutes
PAUSE = 0.01


class Still:
    """Know which names are kept for whom."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._kept: dict[str, list[int]] = {}

    def keep(self, claim: Claim, name: str) -> None:
        """Keep a name, or all of a repository ("REPOSITORY:"), until `drop`."""
        self._kept.setdefault(name, []).append(claim.uid)
        claim.still.append(name)

    def drop(self, claim: Claim) -> None:
        """Keep no longer what is kept for a call."""
        while claim.still:
            name = claim.still.pop()
            self._kept[name].remove(claim.uid)
            if not self._kept[name]:
                del self._kept[name]

    async def wait(self, claim: Claim) -> None:
        """Wait until no name of a claim is kept for somebody else.

        Raises:
            Taken: that takes long.
        """
        for name in claim.names:
            seconds = 0.0
            while any(uid != claim.uid for uid in self._of(name)):
                if seconds >= PATIENCE:
                    why = (
                        f"the name {names.familiar(name)} is being used by somebody else: try again, or choose another"
                    )
                    raise Taken(name, why)
                await self._loop.wait({}, PAUSE)
                seconds += PAUSE

    def _of(self, name: str) -> list[int]:
        return [*self._kept.get(name, ()), *self._kept.get(names.repository(name) + ":", ())]
