"""Containers through sockproxy by raw requests, for tests of what is on the wire."""

from __future__ import annotations

from pathlib import Path

from tests.support.engines import Engine
from tests.support.proxy import Proxy
from tests.support.raw import Connection, call
from tests.support.users import User

API = "/v1.41"
UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}
ATTACH = "stream=1&stdin=1&stdout=1&stderr=1"


def create(proxy: Proxy, user: User, script: str, **fields: object) -> str:
    """Create a container that runs a shell script; give its id."""
    body = {"Image": "busybox", "Cmd": ["sh", "-c", script], **fields}
    answer = call(proxy.listen, "POST", f"{API}/containers/create", body, user)
    assert answer.status == 201, answer.body
    return str(answer.json["Id"])


def start(proxy: Proxy, user: User, container: str) -> None:
    """Start a container."""
    answer = call(proxy.listen, "POST", f"{API}/containers/{container}/start", None, user)
    assert answer.status == 204, answer.body


def run(proxy: Proxy, user: User, script: str, **fields: object) -> str:
    """Create and start a container that runs a shell script; give its id."""
    container = create(proxy, user, script, **fields)
    start(proxy, user, container)
    return container


def follow(proxy: Proxy, user: User, container: str) -> Connection:
    """Follow a container's output; the answer's head has been read."""
    connection = Connection(proxy.listen, user)
    connection.request("GET", f"{API}/containers/{container}/logs?follow=1&stdout=1&stderr=1")
    head = connection.head()
    assert (head.status, head.headers["transfer-encoding"]) == (200, "chunked")
    return connection


def attach(proxy: Proxy, user: User, container: str, early: bytes = b"") -> Connection:
    """Attach to a container by an upgrade, with bytes sent in one piece with the head; the 101 has been read."""
    connection = Connection(proxy.listen, user)
    head = f"POST {API}/containers/{container}/attach?{ATTACH} HTTP/1.1\r\nHost: d\r\n"
    head += "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    connection.send(head.encode() + early)
    answer = connection.head()
    assert (answer.status, answer.reason) == (101, "UPGRADED")
    assert answer.headers["upgrade"] == "tcp"
    return connection


def interactive(**more: object) -> dict[str, object]:
    """Give the fields of a container with stdin, as `docker run -i` makes it."""
    return {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True, **more}


def connections(engine: Engine) -> int:
    """Count the connections that an engine has open on its API socket."""
    # The accepted side belongs to the network namespace of who connected: ours. Field 5 is the state, 3 is connected.
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sum(line[5:6] == ["03"] and line[-1] == engine.socket for line in lines)
