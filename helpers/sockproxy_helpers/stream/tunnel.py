"""Pass a stream that both ends took over: attach, exec, an upgraded connection."""

from __future__ import annotations

import socket

from sockproxy_helpers.channel.loop import HUP, IN, Loop
from .relay import Broken, Flow, step, wanted


class Gone(Exception):
    """Report that nobody waits for the answer any more: the client left, or the front cancelled."""


async def pump(loop: Loop, channel: int, up: Flow, down: Flow) -> None:
    """Pass bytes both ways until both have ended, half-closes included. There is no time-out: silence is no end.

    Args:
        channel: the front's descriptor; its end cancels.
        up: from client to daemon; down: from daemon to client.

    Raises:
        Gone: the front cancelled.
    """
    client, daemon = up.source, down.source
    while not (up.done and down.done):
        # An end that is still read tells its close by itself; watched for HUP too, it would never let the loop rest
        # while the other end is slow.
        ended = {flow.source.fileno(): 0 for flow in (up, down) if flow.done}
        events = await loop.wait(ended | wanted([up, down]) | {channel: IN})
        if channel in events:
            raise Gone("the front cancelled")
        before = up.done, down.done
        try:
            step([up, down], events)
        except Broken as error:
            if error.sock is client:
                return
            up.done = up.complete = True  # the daemon reads no more; what it still has to say is passed
        for flow, was_done in zip((up, down), before, strict=True):
            if flow.done and not was_done:
                if not flow.complete:
                    return  # a reset: what was cut off must not look whole
                shutdown(flow.sink)  # stdin has ended, or output; the other way goes on
        # A full close of either end: nobody is left to pass the other way to.
        if (before[0] and events.get(client.fileno(), 0) & HUP) or (before[1] and events.get(daemon.fileno(), 0) & HUP):
            return


def shutdown(sock: socket.socket) -> None:
    """Tell the other end that nothing more comes."""
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it has gone already: the next event says so
