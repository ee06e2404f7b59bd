"""Accept clients and end with them in order."""

from __future__ import annotations

import socket
import sys

import trio

from sockproxy.accept import accept
from sockproxy.server.session import Services, Session
from sockproxy_helpers.system import peer

GRACE = 10.0  # seconds for streams to end after SIGTERM


async def serve(listener: socket.socket, services: Services, stop: trio.Event) -> None:
    """Serve clients until `stop`; then let what is under way end, within GRACE seconds."""
    async with trio.open_nursery() as sessions:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(_accept, listener, services, sessions)
            await stop.wait()
            accepting.cancel_scope.cancel()
        services.drain()
        sessions.cancel_scope.deadline = trio.current_time() + GRACE
    services.helpers.close()


async def _accept(listener: socket.socket, services: Services, sessions: trio.Nursery) -> None:
    while True:
        sessions.start_soon(_session, await accept(listener, "front"), services)


async def _session(sock: socket.socket, services: Services) -> None:
    """Be the boundary of one connection: whatever goes wrong in it ends it alone."""
    with sock:
        try:
            seat = services.traffic.enter(peer.of(sock), services.policy, trio.current_time())
            try:
                if not seat.flooded:
                    await Session(sock, services, seat).run()
            finally:
                seat.leave()
        except OSError as error:  # no descriptors left to look who it is
            print(f"sockproxy front: a connection is not served: {error.strerror}", file=sys.stderr)
        except Exception:
            sys.excepthook(*sys.exc_info())
