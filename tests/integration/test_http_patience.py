"""Clients that are silent, slow or gone: none is cut off, none holds another, none leaves anything behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.support.containers import API, ATTACH, UPGRADE, attach, connections, create, follow, interactive, run, start
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Connection, call, output
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

SILENCE = 20  # seconds
MANY = 30  # clients; more than ever are connected otherwise
PROMPT = 5  # seconds in which another's call is answered, on a busy machine


def test_silence_is_no_end(proxy28: Proxy, users: Users) -> None:
    """Nothing in either direction, on each kind of stream, and then all of it still works."""
    container = run(proxy28, users.alice, "read x; echo got $x; sleep 100", **interactive(Tty=False))
    waiting = create(proxy28, users.alice, "exit 3")
    with (
        Connection(proxy28.listen, users.alice) as idle,
        Connection(proxy28.listen, users.alice) as events,
        Connection(proxy28.listen, users.alice) as wait,
        follow(proxy28, users.alice, container) as logs,
        attach(proxy28, users.alice, container) as stdin,
    ):
        assert idle.call("GET", "/_ping").status == 200
        events.request("GET", f"{API}/events?filters=%7B%22event%22%3A%5B%22start%22%5D%7D")
        wait.request("POST", f"{API}/containers/{waiting}/wait?condition=next-exit")
        assert (events.head().status, wait.head().status) == (200, 200)
        time.sleep(SILENCE)  # what is measured is that nothing happens
        stdin.send(b"it\n")
        assert output(logs.chunk()) == b"got it\n"
        assert output(stdin.exactly(8 + 7)) == b"got it\n"
        start(proxy28, users.alice, waiting)
        assert waiting in events.chunk().decode()
        assert b'"StatusCode":3' in wait.chunks()
        assert idle.call("GET", "/_ping").status == 200


def test_a_slow_reader_holds_nobody(proxy28: Proxy, users: Users) -> None:
    container = run(proxy28, users.alice, "dd if=/dev/zero of=/big bs=1M count=200; echo done; sleep 100")
    with follow(proxy28, users.alice, container) as logs:
        logs.until(b"done\n")
    with (
        Connection(proxy28.listen, users.alice) as export,
        Connection(proxy28.listen, users.alice) as copy,
    ):
        export.request("GET", f"{API}/containers/{container}/export")
        assert export.head().status == 200  # the engine begins no export while it copies out of the same container
        copy.request("GET", f"{API}/containers/{container}/archive?path=/big")
        assert copy.head().status == 200
        begun = time.monotonic()
        for target in ("containers/json", "images/json", "networks"):  # one of each helper
            assert call(proxy28.listen, "GET", f"{API}/{target}", None, users.bob).status == 200
        assert proxy28.docker(users.bob, "ps", timeout=PROMPT).returncode == 0
        assert time.monotonic() - begun < PROMPT
        size = 0
        while chunk := copy.chunk():  # and in its own time it gets all
            size += len(chunk)
        assert size > 200 << 20


def _half_upload(connection: Connection, container: str) -> None:
    connection.request("PUT", f"{API}/containers/{container}/archive?path=/tmp", Transfer_Encoding="chunked")
    connection.send(b"400\r\n" + bytes(100))


def _logs(connection: Connection, container: str) -> None:
    connection.request("GET", f"{API}/containers/{container}/logs?follow=1&stdout=1")
    assert connection.head().status == 200


def _wait(connection: Connection, container: str) -> None:
    connection.request("POST", f"{API}/containers/{container}/wait")
    assert connection.head().status == 200


def _attach(connection: Connection, container: str) -> None:
    connection.request("POST", f"{API}/containers/{container}/attach?{ATTACH}", **UPGRADE)
    assert connection.head().status == 101


def _export(connection: Connection, container: str) -> None:
    connection.request("GET", f"{API}/containers/{container}/export")
    assert connection.head().status == 200


def _stop(connection: Connection, container: str) -> None:
    """Leave before the answer's head: the engine waits for the container."""
    connection.request("POST", f"{API}/containers/{container}/stop?t=60")


def _descriptors(proxy: Proxy) -> int:
    pids = [proxy.processes[name] for name in ("lifecycle", "network", "filesystem")]
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


STEPS = [_logs, _wait, _attach, _export, _stop, _half_upload]


@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_vanishes_frees_the_daemon(
    proxy28: Proxy, users: Users, step: Callable[[Connection, str], None]
) -> None:
    script = "trap '' TERM; dd if=/dev/zero of=/big bs=1M count=20; echo done; sleep 100"
    container = run(proxy28, users.alice, script, OpenStdin=True)
    with follow(proxy28, users.alice, container) as logs:
        logs.until(b"done\n")
    before, descriptors = connections(proxy28.engine), _descriptors(proxy28)
    with ExitStack() as clients:
        for _ in range(MANY):
            step(clients.enter_context(Connection(proxy28.listen, users.alice)), container)
        eventually(lambda: connections(proxy28.engine) >= MANY, "daemon connections")
    # The front keeps a channel for each call that it had at once; client and daemon are gone.
    eventually(lambda: _descriptors(proxy28) <= descriptors + MANY, "freed descriptors", 10)
    # The engine itself sees that nobody is attached when the container next writes, and finishes a stop in any case.
    if step not in (_attach, _stop):
        eventually(lambda: connections(proxy28.engine) <= before, "freed daemon connections", 10)
