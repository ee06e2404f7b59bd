"""Answer who looks after sockproxy, on a socket of its own: /metrics, /status and /health.

Who may connect is told by the socket's file (root, and a group of its own). A health check is a ping on the way that
clients take, through the front, the record and the lifecycle helper to the daemon.
"""

from __future__ import annotations

import importlib.metadata
import json
import socket
from http import HTTPStatus

import trio

from sockproxy.accept import accept
from sockproxy.errors import CallError
from sockproxy.http import answer
from sockproxy.http import head as http_head
from sockproxy.server import report
from sockproxy.server.client import Client
from sockproxy.server.session import Services
from sockproxy.server.traffic import Account

AT_ONCE = 16  # who comes later waits
PATIENCE = 10.0  # seconds for all of a request
HEALTH_SECONDS = 5.0
_PING = b"GET /_ping HTTP/1.1\r\nHost: sockproxy\r\nConnection: close\r\n\r\n"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


async def serve(listener: socket.socket, services: Services, listen: str) -> None:
    """Answer for ever.

    Args:
        listen: the users' socket.
    """
    limit = trio.CapacityLimiter(AT_ONCE)
    async with trio.open_nursery() as nursery:
        while True:
            sock = await accept(listener, "status")
            await limit.acquire_on_behalf_of(sock)
            nursery.start_soon(_one, sock, services, listen, limit)


async def _one(sock: socket.socket, services: Services, listen: str, limit: trio.CapacityLimiter) -> None:
    """Answer one request; whatever goes wrong ends that alone."""
    client = Client(sock, Account(trio.current_time()))
    try:
        with sock, trio.move_on_after(PATIENCE):
            untrusted_head = await client.head()
            if untrusted_head:
                await client.send(await _answer(http_head.parse(untrusted_head), services, listen))
                await client.linger()
    except (CallError, OSError):
        pass
    finally:
        limit.release_on_behalf_of(sock)


async def _answer(head: http_head.Head, services: Services, listen: str) -> bytes:
    status, kind, text = 200, "application/json", ""
    if head.untrusted_path == b"/metrics":
        kind, text = _PROMETHEUS, report.prometheus(services.meter, services.policy)
    elif head.untrusted_path == b"/status":
        text = json.dumps(report.status(services.meter, services.policy, importlib.metadata.version("sockproxy")))
    elif head.untrusted_path == b"/health":
        trouble = await _trouble(listen)
        status, text = (503 if trouble else 200), json.dumps({"healthy": not trouble, "why": trouble})
    else:
        status, kind, text = 404, "text/plain", "there are /metrics, /status and /health"
    if head.method not in ("GET", "HEAD"):
        status, kind, text = HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", "only GET"
    headers = [("Content-Type", kind), ("Connection", "close"), ("Cache-Control", "no-store")]
    return answer.build(status, headers, text.encode(), head_only=head.method == "HEAD")


async def _trouble(listen: str) -> str:
    """Tell why a ping does not come back; "" when it does."""
    got = b""
    with trio.move_on_after(HEALTH_SECONDS) as limit:
        try:
            async with await trio.open_unix_socket(listen) as stream:
                await stream.send_all(_PING)
                async for chunk in stream:
                    got += chunk
        except OSError as error:
            return f"{listen}: {error.strerror}"
    if limit.cancelled_caught:
        return f"no answer to a ping within {HEALTH_SECONDS:g} s"
    if got.startswith(b"HTTP/1.1 200 "):
        return ""
    return answer.printable(got.rpartition(b"\r\n\r\n")[2].decode("utf-8", "replace").strip()[:500] or "no answer")
