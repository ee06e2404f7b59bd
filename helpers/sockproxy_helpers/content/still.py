"""Keep names of images, and volumes, from changing hands while the daemon looks them up for somebody.

A name that was judged is sent where people are to see it again: as a container's image, in a saved archive, to a
registry. What it means must then be what it meant when it was judged, so who else wants it has to wait, and is refused
when that takes long. The owner of a name is not kept from it, since that is nobody else's image; but for a build by
BuildKit, which asks the registry for what is not there: nobody would judge what that then says.
"""

from __future__ import annotations

from collections.abc import Callable

from sockproxy_helpers.api import names
from sockproxy_helpers.channel.loop import Lock, Loop
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.pulls import image_of
from .claims import Claim, Taken

PATIENCE = 10.0  # seconds; a look-up takes milliseconds, a push minutes
PAUSE = 0.01
_NOBODY = -1  # no uid


class Still:
    """Know which names are kept for whom."""

    def __init__(self, loop: Loop, lock: Lock, changing: dict[str, int], connect: Callable[[], Daemon]) -> None:
        """Begin.

        Args:
            lock: is held while names are claimed.
            changing: how many calls are at a name.
            connect: gives a connection for questions of our own.
        """
        self._loop, self._lock, self._changing, self._connect = loop, lock, changing, connect
        self._kept: dict[str, list[int]] = {}

    async def keep(self, claim: Claim, name: str, identity: str) -> bool:
        """Keep a name as it is until `drop`, if it names this image now and nobody is changing that."""
        daemon = self._connect()
        try:
            async with self._lock:
                if self._changing.get(name) or await image_of(daemon, name) != identity:
                    return False
                self._keep(claim, name, claim.uid)
                return True
        finally:
            daemon.close()

    async def keep_repository(self, claim: Claim, repository: str) -> bool:
        """Do the same with all tags of a repository, those that there are not yet too."""
        async with self._lock:
            if any(names.repository(name) == repository for name in self._changing):
                return False
            self._keep(claim, repository + ":", claim.uid)
            return True

    async def keep_for_build(self, claim: Claim, name: str, build: Claim | None) -> str | None:
        """Have nobody set a name until `drop`, its owner neither; give the image that it names, if it is there.

        Who finds that it names the same image when BuildKit has looked it up, knows that it has found that one.

        Args:
            build: has the names that the build itself sets when it is done; None for none.

        Raises:
            Taken: it is being set or removed, and that takes long.
        """
        daemon, seconds = self._connect(), 0.0
        try:
            while seconds < PATIENCE:
                async with self._lock:
                    if not self._changing.get(name, 0) - (build is not None and name in build.names):
                        self._keep(claim, name, _NOBODY)
                        return await image_of(daemon, name)
                await self._loop.wait({}, PAUSE)
                seconds += PAUSE
        finally:
            daemon.close()
        raise Taken(name, f"the name {names.familiar(name)} is being set right now: try again when that is done")

    async def keep_volume(self, claim: Claim, name: str, *, alone: bool = False) -> None:
        """Have nobody else make or remove a volume of this name until `drop`: volumes have names only, and no IDs.

        Args:
            alone: nor the owner, in another call.

        Raises:
            Taken: others are at it, and that takes long.
        """
        uid, kept, seconds = _NOBODY if alone else claim.uid, f"volume {name}", 0.0
        while any(alone or one != uid for one in self._kept.get(kept, ())):
            if seconds >= PATIENCE:
                raise Taken(name, f"the volume {name} is being used right now: try again when that is done")
            await self._loop.wait({}, PAUSE)
            seconds += PAUSE
        self._keep(claim, kept, uid)

    async def means(self, name: str, identity: str | None) -> bool:
        """Tell whether a name still names an image."""
        daemon = self._connect()
        try:
            return await image_of(daemon, name) == identity
        finally:
            daemon.close()

    def _keep(self, claim: Claim, name: str, uid: int) -> None:
        self._kept.setdefault(name, []).append(uid)
        claim.still.append((name, uid))

    def drop(self, claim: Claim) -> None:
        """Keep no longer what is kept for a call."""
        while claim.still:
            name, uid = claim.still.pop()
            self._kept[name].remove(uid)
            if not self._kept[name]:
                del self._kept[name]

    def until_looked_up(self, claim: Claim) -> Callable[[], None]:
        """Give what to call when the daemon has looked them up."""
        return lambda: self.drop(claim)

    async def wait(self, claim: Claim) -> None:
        """Wait until no name of a claim is kept from who made it.

        Raises:
            Taken: that takes long.
        """
        for name in claim.names:
            seconds = 0.0
            while any(uid != claim.uid for uid in self._of(name)):
                if seconds >= PATIENCE:
                    why = f"the name {names.familiar(name)} is being used by somebody else, or by a build"
                    raise Taken(name, f"{why}: try again, or choose another")
                await self._loop.wait({}, PAUSE)
                seconds += PAUSE

    def _of(self, name: str) -> list[int]:
        return [*self._kept.get(name, ()), *self._kept.get(names.repository(name) + ":", ())]
