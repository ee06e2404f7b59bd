"""Ask another process of ours one question, on a channel of its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from . import wire
from .loop import IN, Loop

SECONDS = 10.0  # for an answer; auth may have to ask a directory server for it


async def ask(
    loop: Loop,
    path: str,
    question: dict[str, object],
    fds: Sequence[int] = (),
    seconds: float = SECONDS,
    kept: list[socket.socket] | None = None,
) -> dict[str, object]:
    """Send a question and wait for the answer.

    Args:
        path: of the socket that the process listens on.
        fds: sent along.
        kept: takes the channel, for what counts as long as that is open.

    Raises:
        OSError: nobody answers, or not in time, or in another form; or there are no descriptors to ask with.
    """
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    closing = [channel]
    try:
        channel.connect(path)
        wire.send(channel, wire.pack(question), list(fds))
        reply, _ = wire.unpack(await receive(loop, channel, seconds))
        if kept is not None:
            kept.append(closing.pop())
    except wire.WireError as error:
        raise OSError(str(error)) from error
    finally:
        for one in closing:
            loop.close(one)
    return reply


async def receive(loop: Loop, channel: socket.socket, seconds: float = SECONDS) -> bytes:
    """Wait for a message that carries no descriptors; who hangs is as good as gone."""
    if not await loop.wait({channel.fileno(): IN}, seconds):
        raise TimeoutError
    message, fds = wire.receive(channel)
    for fd in fds:
        os.close(fd)
    return message
