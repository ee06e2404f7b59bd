"""Cut what an untrusted process tells down to what fits in a record."""

from __future__ import annotations

MOST = 64  # names or settings
LONGEST = 512  # characters of one


def text(value: object) -> str:
    """Take a string; what is none is empty."""
    return value[:LONGEST] if isinstance(value, str) else ""


def plain(value: object, depth: int = 0) -> object:
    """Cut a value down to what fits in a record."""
    if isinstance(value, dict) and depth < 2:
        return {text(key): plain(item, depth + 1) for key, item in list(value.items())[:MOST]}
    if isinstance(value, list) and depth < 2:
        return [plain(item, depth + 1) for item in value[:MOST]]
    return value if value is None or isinstance(value, (bool, int)) else text(value)
