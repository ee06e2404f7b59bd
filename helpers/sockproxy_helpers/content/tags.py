"""Let one user at a time set or remove a name of an image, and write down whose it then is.

A name is claimed before the daemon is asked to set or remove it, and settled by what the daemon then has. Nobody else
gets it meanwhile; who does not own one that exists (another's, the administrator's, older than sockproxy) never does.
"""

from __future__ import annotations

from collections.abc import Callable

from sockproxy_helpers.api import names
from sockproxy_helpers.channel.loop import Lock, Loop
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.totals import counts
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.pulls import image_of
from . import brought, described, images, settling, still, withheld
from .claims import Claim, Taken, Wish
from .ledger import PULLED, Entry, Ledger, Writer

KEEPER = "filesystem"  # the scope whose helper grants claims


class Tags:
    """Grant claims; one process does, for all channels."""

    def __init__(self, loop: Loop, folder: str, connect: Callable[[], Daemon]) -> None:
        """Take over the ledger.

        Args:
            folder: where it is kept.
            connect: gives a connection for questions of our own.
        """
        self.ledger = Writer(folder)
        self._loop, self.connect = loop, connect
        self._changing: dict[str, int] = {}  # how many calls are at it, by full name
        self._lock = Lock(loop)
        self.still = still.Still(loop, self._lock, self._changing, connect)

    async def claim(self, ctx: Context, wish: Wish) -> Claim:
        """Claim all names of a wish, or none.

        Raises:
            Taken: one of them is not the caller's to change.
            Refused: they would be more than the role allows.
        """
        claim = Claim(ctx)
        try:
            await self.add(claim, wish)
        except BaseException:
            claim.had = None  # nothing comes of it
            self.release(claim)
            raise
        return claim

    async def add(self, claim: Claim, wish: Wish) -> None:
        """Claim names in addition; what was granted before one that is not stays claimed.

        Raises:
            Taken, Refused: as for `claim`.
        """
        daemon = self.connect()
        try:
            async with self._lock:
                await described.begin(self.ledger, daemon, claim, wish)
                for name in dict.fromkeys(wish.names):
                    if name not in claim.names:
                        await self._grant(daemon, claim, name, wish)
        finally:
            daemon.close()
        await self.still.wait(claim)

    async def _grant(self, daemon: Daemon, claim: Claim, name: str, wish: Wish) -> None:
        current, entry = await image_of(daemon, name), self.ledger.get(name)
        if entry and entry.id not in (None, current) and not self._changing.get(name):
            entry = None  # it was moved or removed past sockproxy
        own = entry is not None and entry.uid == claim.uid
        if not own and entry and self._changing.get(name):
            raise Taken(name, f"{names.familiar(name)} is being set by somebody else: choose another name")
        if not own and current is not None:
            if "@" in name and not wish.removing:
                return  # a digest names the same image for ever: to set it again changes nothing
            what = f"the name {names.familiar(name)} is not yours to {'remove' if wish.removing else 'move'}"
            why = f"{what}: somebody else set it, or all share it"
            raise Taken(name, f"{why} (allowed: names that you have set, and new ones)")
        if own and entry and self._changing.get(name) and bool(entry.shared) != bool(wish.shared):
            # What a pull brings is judged before it is anybody's; what a build makes is its user's at once
            raise Taken(name, f"{names.familiar(name)} is being set by another call of yours: try again")
        if not own:
            await self._room(daemon, claim)
        was = (entry.id or entry.was) if own and entry else None
        try:
            self.ledger.put(name, Entry(claim.uid, None, wish.shared, was))
        except OSError as error:
            raise Unavailable(f"whose names of images are can't be written down: {error.strerror}", 503) from error
        claim.before[name] = current, entry.shared if entry and entry.id is not None else ""
        self._changing[name] = self._changing.get(name, 0) + 1
        claim.names.append(name)

    async def _room(self, daemon: Daemon, claim: Claim) -> None:
        """See that the caller may have one more name. What was removed past sockproxy does not count."""
        most = claim.ctx.number("totals", "tags")
        if most is not None and len(self.ledger.of(claim.uid)) >= most:
            there = {(name, item.get("Id")) for item in await images.every(daemon) for name in images.full_names(item)}
            for name in self.ledger.of(claim.uid):
                entry = self.ledger.get(name)
                if entry and (name, entry.id) not in there and not self._changing.get(name):
                    self.ledger.put(name, None)
            counts.tags(claim.ctx, self.ledger.of(claim.uid))

    def release(self, claim: Claim | None, delay: float = 0) -> None:
        """Have a claim settled; see `settling`."""
        if claim:
            self.still.drop(claim)
            if claim.names or claim.had is not None:
                self._loop.spawn(self.settle(claim, delay))

    async def settle(self, claim: Claim, delay: float = 0) -> None:
        """Write down whose the names of a claim are, by what the daemon now has."""
        if delay:
            await self._loop.wait({}, delay)
        await self.conclude(claim, claim.names)

    async def conclude(self, claim: Claim, done: list[str]) -> None:
        """Settle names of a claim that the daemon is done with; `claim.withheld` tells what was taken away."""
        daemon = self.connect()
        async with self._lock:
            removals = []
            for name in list(done):
                claim.names.remove(name)
                left = self._changing.pop(name) - 1
                if left:
                    self._changing[name] = left
                removals.append(await settling.settle(self.ledger, daemon, name, claim, left))
        await self._remove(daemon, removals)
        await described.end(self.ledger, daemon, claim)
        daemon.close()

    async def _remove(self, daemon: Daemon, removals: list[settling.Removal | None]) -> None:
        """Take names away while others go on: to remove an image, the daemon waits for containers that are stuck."""
        for remove in filter(None, removals):
            await remove(self._changing)

    async def share(self, uid: int, name: str, identity: str) -> bool:
        """Let all use an image by a name that somebody else got from its registry, too, as if that had been first.

        False: it is not there as far as is known, whatever the registry says.
        """
        daemon = self.connect()
        async with self._lock:
            entry = self.ledger.get(name)
            if entry and entry.shared != PULLED and await withheld.kept(self.ledger, daemon, uid, name, identity):
                return False
            brought.too(self.ledger, identity, uid)
            if entry and entry.id == identity and not self._changing.get(name):
                self.ledger.put(name, Entry(entry.uid, identity, PULLED))
        return True

    async def recover(self) -> None:
        """Settle what was open when the last process ended."""
        daemon = self.connect()
        async with self._lock:
            open_ = [name for name in self.ledger.unsettled() if not self._changing.get(name)]
            removals = [await settling.settle(self.ledger, daemon, name, None, 0) for name in open_]
            await brought.recover(self.ledger, daemon)
        await self._remove(daemon, removals)
        daemon.close()


def keep(scope: str, loop: Loop, environment: dict[str, str]) -> tuple[Tags | None, Ledger]:
    """Open the ledger for the helper of a scope: one grants claims, the others read what it writes."""
    state, docker = environment["SOCKPROXY_STATE"], environment["SOCKPROXY_DOCKER_SOCKET"]
    if scope != KEEPER:
        return None, Ledger(state.rpartition("/")[0] + f"/{KEEPER}")
    tags = Tags(loop, state, lambda: Daemon(loop, docker))
    return tags, tags.ledger
