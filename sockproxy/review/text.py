"""Show what others wrote, so that it can do nothing where it is shown: a terminal, a page, a spreadsheet.

Names, paths and reasons come from people who may want the reader to see something else.
"""

from __future__ import annotations

import html

# What changes the direction or the look of what follows, or can't be seen: bidi controls, joiners, separators, tags.
_UNSEEN = {*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0x00AD, 0x061C, 0xFEFF, 0x180E}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def plain(value: object) -> str:
    """Write a text for a terminal: one line of it, every character visible."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() and ord(c) not in _UNSEEN else _escape(ord(c)) for c in text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def markup(value: object) -> str:
    """Write a text for a page, as text or as an attribute."""
    return html.escape(plain(value), quote=True)


def cell(value: object) -> str:
    """Write a text for a spreadsheet: what would be a formula begins with an apostrophe (OWASP, CSV injection)."""
    text = plain(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
