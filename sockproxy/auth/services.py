"""Read the files of PAM's services, as libpam does (pam.d(5)), to see what it would ask.

For a kind of question that a service has no line for, libpam takes the lines of the service `other`, which lets
everybody in on Debian. So a file that is there is not enough: it must have lines for what is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

FOLDER = "/etc/pam.d"
PASSWORDS, ACCOUNTS = "sockproxy", "sockproxy-account"
ASKED = {PASSWORDS: ("auth", "account"), ACCOUNTS: ("account",)}  # of which kinds
_KINDS = ("auth", "account", "password", "session")
_LINE = re.compile(r"(-?)([a-z]+)\s+(\[[^]]*\]|\S+)\s+(\S+)(.*)", re.IGNORECASE)
_DEEPEST = 16  # files in files; libpam's own bound


class BadService(Exception):
    """Say in a sentence what is wrong with a service's file."""


class Line(NamedTuple):
    """Hold a line that names a module.

    Attributes:
        may_lack: the module may be missing (the line begins with `-`).
    """

    kind: str
    module: str
    arguments: tuple[str, ...]
    may_lack: bool


def lines(service: str, read: Callable[[str], str | None]) -> list[Line]:
    """Give all lines of a service, those of included files in their places.

    Args:
        read: gives a file's text by its path; None where there is none.

    Raises:
        BadService: a file is missing, or libpam would not understand it, or would go to `other`.
    """
    found = list(_read(f"{FOLDER}/{service}", "", read, 0))
    for kind in ASKED.get(service, ()):
        if not any(line.kind == kind for line in found):
            raise BadService(f"{FOLDER}/{service} has no {kind} line, so PAM would go by {FOLDER}/other")
    return found


def _read(path: str, only: str, read: Callable[[str], str | None], depth: int) -> Iterator[Line]:
    """Read a file; of an included one only the lines of a kind, if one is given."""
    text = read(path)
    if text is None:
        raise BadService(f"there is no {path}")
    if depth == _DEEPEST:
        raise BadService(f"{path} is included by itself")
    for number, whole in enumerate(text.replace("\\\n", " ").splitlines(), 1):
        line = whole.partition("#")[0].strip()
        if not line:
            continue
        if line.startswith("@include"):
            yield from _read(_included(line.removeprefix("@include").strip()), only, read, depth + 1)
            continue
        match = _LINE.fullmatch(line)
        if not match or match[2].lower() not in _KINDS:
            raise BadService(f"{path}:{number}: PAM does not understand {line[:80]!r}")
        kind, control, name = match[2].lower(), match[3].lower(), match[4]
        if only and kind != only:
            continue
        if control in ("include", "substack"):
            yield from _read(_included(name), kind, read, depth + 1)
        else:
            yield Line(kind, name, tuple(match[5].split()), bool(match[1]))


def _included(name: str) -> str:
    return name if name.startswith("/") else f"{FOLDER}/{name}"
