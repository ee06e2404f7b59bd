"""Say which names of images a call would change, and which it was granted."""

from __future__ import annotations

from .errors import Refused


class Wish:
    """Hold which names a call would change.

    Attributes:
        names: full ones.
        shared: others may use the image by these names, where they are new.
        removing: they must be the caller's already.
    """

    __slots__ = ("names", "removing", "shared")

    def __init__(self, names: list[str], shared: bool = False, removing: bool = False) -> None:
        self.names, self.shared, self.removing = names, shared, removing


class Claim:
    """Hold the names that a call was granted."""

    __slots__ = ("names", "uid")

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.names: list[str] = []


class Taken(Refused):
    """Report a name that is not the caller's to change.

    Attributes:
        name: the full name.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__("", why)
        self.name = name
