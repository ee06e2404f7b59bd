"""Keep a few pipes for splice.

A pipe for each stream would cost two descriptors more a stream; they are needed only while bytes are in flight.
"""

from __future__ import annotations

import fcntl
import os

SIZE = 256 << 10  # of 64 KiB to 1 MiB the fastest per CPU second (measured)
POOL = 8

_idle: list[tuple[int, int]] = []


def take() -> tuple[int, int]:
    """Give an empty pipe, read end and write end."""
    if _idle:
        return _idle.pop()
    pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, SIZE)
    except OSError:
        pass  # over the user's limit of pipe pages (pipe(7)): a smaller pipe only costs speed
    return pipe


def give(pipe: tuple[int, int]) -> None:
    """Take an empty pipe back."""
    if len(_idle) < POOL:
        _idle.append(pipe)
    else:
        close(pipe)


def close(pipe: tuple[int, int]) -> None:
    """Close a pipe that still holds bytes: it must never reach the pool."""
    os.close(pipe[0])
    os.close(pipe[1])
