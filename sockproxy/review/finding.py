"""Name places where the record is not as it was written."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """Name one; what the words mean: `verify`."""

    word: str
    place: str
    text: str
