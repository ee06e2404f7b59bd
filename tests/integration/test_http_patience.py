"""Clients that are silent, slow or gone: no time-out cuts the first, the second holds nobody, the third leaves nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.support.containers import API, ATTACH, UPGRADE, attach, connections, create, follow, interactive, run, start
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Connection, call, output
from tests.support.users import Users

pytestmark = [
    pytest.mark.daemon,
    pytest.mark.root,
    pytest.mark.parametrize("engine", ["28"], indirect=True),
]

SILENCE = 20  # seconds
PROMPT = 5  # seconds in which another's call is answered, on a busy machine


def test_silence_is_no_end(proxy: Proxy, users: Users) -> None:
    """Nothing in either direction, on each kind of stream, and then all of it still works."""
    container = run(proxy, users.alice, "read x; echo got $x; sleep 100", **interactive(Tty=False))
    waiting = create(proxy, users.alice, "exit 3")
    with (
        Connection(proxy.listen, users.alice) as idle,
        Connection(proxy.listen, users.alice) as events,
        Connection(proxy.listen, users.alice) as wait,
        follow(proxy, users.alice, container) as logs,
        attach(proxy, users.alice, container) as stdin,
    ):
        assert idle.call("GET", "/_ping").status == 200
        events.request("GET", f"{API}/events?filters=%7B%22event%22%3A%5B%22start%22%5D%7D")
        wait.request("POST", f"{API}/containers/{waiting}/wait?condition=next-exit")
        assert (events.head().status, wait.head().status) == (200, 200)
        time.sleep(SILENCE)  # what is measured is that nothing happens
        stdin.send(b"it\n")
        assert output(logs.chunk()) == b"got it\n"
        assert output(stdin.exactly(8 + 7)) == b"got it\n"
        start(proxy, users.alice, waiting)
        assert waiting in events.chunk().decode()
        assert b'"StatusCode":3' in wait.chunks()
        assert idle.call("GET", "/_ping").status == 200


def test_a_slow_reader_holds_nobody(proxy: Proxy, users: Users) -> None:
    container = run(proxy, users.alice, "dd if=/dev/zero of=/big bs=1M count=200; echo done; sleep 100")
    with follow(proxy, users.alice, container) as logs:
        logs.until(b"done\n")
    with (
        Connection(proxy.listen, users.alice) as export,
        Connection(proxy.listen, users.alice) as copy,
    ):
        export.request("GET", f"{API}/containers/{container}/export")
        copy.request("GET", f"{API}/containers/{container}/archive?path=/big")
        assert (export.head().status, copy.head().status) == (200, 200)
        begun = time.monotonic()
        for target in ("containers/json", "images/json", "networks"):  # one of each helper
            assert call(proxy.listen, "GET", f"{API}/{target}", None, users.bob).status == 200
        assert proxy.docker(users.bob, "ps", timeout=PROMPT).returncode == 0
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


STEPS = [_half_upload, _logs, _wait, _attach, _export, _stop]


@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_vanishes_frees_the_daemon(
    proxy: Proxy, users: Users, step: Callable[[Connection, str], None]
) -> None:
    script = "trap '' TERM; dd if=/dev/zero of=/big bs=1M count=20; echo done; sleep 100"
    container = run(proxy, users.alice, script, OpenStdin=True)
    with follow(proxy, users.alice, container) as logs:
        logs.until(b"done\n")
    before = connections(proxy.engine)
    clients = [Connection(proxy.listen, users.alice) for _ in range(5)]
    for client in clients:
        step(client, container)
    eventually(lambda: connections(proxy.engine) >= before + 5 - 3, "daemon connections")  # up to 3 were idle before
    for client in clients:
        client.close()
    eventually(lambda: connections(proxy.engine) <= before, "freed daemon connections", 10)
