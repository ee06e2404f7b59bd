"""Read the compiled policy.

SECURITY: who can write this file is whoever it says; so only root may.
"""

from __future__ import annotations

import os

from sockproxy_helpers.errors import Refused
from .policy import Policy


def load(path: str) -> Policy:
    """Load the compiled policy.

    Raises:
        OSError: it can't be read.
        Refused: others than root could have written it, or it is damaged.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if status.st_uid != 0 or status.st_mode & 0o022:
            raise Refused("", "the compiled policy is not root's alone")
        return Policy(file.read())
