"""Name and read the files of the record: the one that is written, and the closed ones before it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

LIVE = "audit.jsonl"
_CLOSED = re.compile(r"audit-([0-9]{12})\.jsonl(\.gz)?")


def closed_name(first: int) -> str:
    """Name the closed file that begins with this number."""
    return f"audit-{first:012d}.jsonl"


def closed(folder: str) -> list[str]:
    """List the closed files, oldest first. Of one that is just being compressed the whole one counts."""
    names = {found[1]: found[0] for found in map(_CLOSED.fullmatch, sorted(os.listdir(folder), reverse=True)) if found}
    return [names[first] for first in sorted(names)]


def first_of(name: str) -> int:
    """Read the first number of a closed file from its name."""
    found = _CLOSED.fullmatch(name)
    return int(found[1]) if found else 0


def open_file(folder: str, name: str) -> BinaryIO:
    """Open a file for reading, compressed or not."""
    path = os.path.join(folder, name)
    if name.endswith(".gz"):
        import gzip

        return gzip.open(path)  # type: ignore[return-value]
    try:
        return open(path, "rb", buffering=1 << 18)
    except FileNotFoundError:
        if name == LIVE:
            raise
        return open_file(folder, f"{name}.gz")  # it has been compressed meanwhile


def snapshot(folder: str) -> Iterator[tuple[str, BinaryIO]]:
    """Open one file after the other, oldest first; a file that is closed or compressed meanwhile is not missed."""
    with contextlib.ExitStack() as stack:
        live = None
        with contextlib.suppress(FileNotFoundError):
            live = stack.enter_context(open_file(folder, LIVE))
        for name in closed(folder):
            with open_file(folder, name) as file:
                if live and os.fstat(file.fileno()).st_ino == os.fstat(live.fileno()).st_ino:
                    break
                yield name, file
        if live:
            yield LIVE, live


def alive(folder: str) -> bool:
    """Tell whether a writer has the files."""
    with contextlib.suppress(OSError), open(os.path.join(folder, LIVE), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
