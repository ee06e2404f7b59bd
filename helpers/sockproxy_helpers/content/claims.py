"""Say which names of images a call would change, which it was granted, and which are kept from changing for it."""

from __future__ import annotations

from sockproxy_helpers.errors import Refused
from sockproxy_helpers.judge.context import Context


class Wish:
    """Hold which names a call would change.

    Attributes:
        names: full ones.
        shared: how others may use the image by these names, where they are new: see `ledger.Entry`.
        removing: they must be the caller's already.
    """

    __slots__ = ("names", "removing", "shared")

    def __init__(self, names: list[str], shared: str = "", removing: bool = False) -> None:
        self.names, self.shared, self.removing = names, shared, removing


class Claim:
    """Hold the names that a call was granted.

    Attributes:
        before: by name, the image that it named, and how others might use that by it.
        had: IDs of the images that there were when it began; None where nothing is made or brought.
        brought: digests of what an archive has that is being loaded; None for no archive.
        others: images that were others' alone when it began, by ID; None where none can come of it.
        pushes: what the names mean in the end has been pushed under them, too, and the registry has taken it.
        still: the names that nobody else gets until the daemon has looked them up for this call, and for whom.
        withheld: names that were taken away again, see `withheld`, and why; "" for images, see `described`.
    """

    __slots__ = ("before", "brought", "ctx", "had", "names", "others", "pushes", "still", "uid", "withheld")

    def __init__(self, ctx: Context) -> None:
        self.ctx, self.uid = ctx, ctx.caller.uid
        self.names: list[str] = []
        self.before: dict[str, tuple[str | None, str]] = {}
        self.still: list[tuple[str, int]] = []
        self.had: set[str] | None = None
        self.others: dict[str, dict[str, object]] | None = None
        self.brought: set[str] | None = None
        self.withheld: dict[str, str] = {}
        self.pushes = False


class Taken(Refused):
    """Report a name that is not the caller's to change.

    Attributes:
        name: the full name.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__("", why)
        self.name = name
