"""Tell whether a path could be bound with a map, by trying: `python3 -I -S -B helpers mappable PATH`, for doctor.

SECURITY: run by root with all that root may, on a path of the policy file, by hand. It clones the mount that the path
is on, sets a map on the clone, and ends: nothing is attached anywhere, nothing is written, no file's content is read.
"""

from __future__ import annotations

import os

from sockproxy_helpers.system import kernel
from . import idmap

ALL, TOP, NONE, MISSING = "all", "top", "none", "missing"


def main(path: str) -> None:
    """Print ALL, TOP where something mounted below it can't be mapped, NONE, or MISSING."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        print(MISSING)
        return
    userns = idmap.namespace([(1, 0, 1)], [(1, 0, 1)])
    print(next((word for word, recursive in ((ALL, True), (TOP, False)) if _takes(fd, recursive, userns)), NONE))


def _takes(fd: int, recursive: bool, userns: int) -> bool:
    try:
        kernel.set_attributes(kernel.clone_tree(fd, recursive), kernel.IDMAP, recursive, userns)
    except OSError:
        return False
    return True
