"""The daemon killed, absent and back: what was cut looks cut, what can't be done is said, what can be is done."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import API, attach, follow, interactive, run
from tests.support.engines import SCRIPT, Engine
from tests.support.proxy import Proxy, default_policy
from tests.support.raw import BrokenOff, Connection, call, output
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

TARGETS = [f"{API}/containers/json", f"{API}/networks", f"{API}/images/json", "/_ping"]


@pytest.fixture(scope="module")
def own_proxy(own_engine: Engine, users: Users, folder: Path) -> Iterator[Proxy]:
    """A sockproxy before an engine that may be killed."""
    (folder / "mortal").mkdir()
    running = Proxy(own_engine, folder / "mortal", default_policy(users))
    yield running
    running.stop()


def _kill(engine: Engine) -> None:
    """Kill the daemon with nothing said, and wait until it is gone."""
    pid = int((engine.folder / "pid").read_text())
    watch = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([watch], [], [], 10)[0]
    os.close(watch)


def _start(engine: Engine) -> None:
    subprocess.run([SCRIPT, "start", engine.version, engine.folder], check=True, capture_output=True, timeout=60)


def test_a_daemon_that_dies_and_comes_back(own_engine: Engine, own_proxy: Proxy, users: Users) -> None:
    proxy = own_proxy
    container = run(proxy, users.alice, "echo one; sleep 1000", **interactive())
    idle = [Connection(proxy.listen, users.alice) for _ in TARGETS]
    for connection, target in zip(idle, TARGETS, strict=True):
        assert connection.call("GET", target).status == 200
    with (
        follow(proxy, users.alice, container) as logs,
        attach(proxy, users.alice, container) as tunnel,
        Connection(proxy.listen, users.alice) as before_the_head,
    ):
        assert output(logs.chunk()) == b"one\n"
        before_the_head.request("POST", f"{API}/containers/{container}/stop?t=100")
        _kill(own_engine)
        try:
            with pytest.raises(BrokenOff):  # never the last chunk
                logs.chunks()
            tunnel.rest()
            assert before_the_head.answer().status == 502
            for connection, target in zip(idle, TARGETS, strict=True):
                answer = connection.call("GET", target)
                assert answer.status == 502
                assert "Docker daemon" in answer.message
            done = proxy.docker(users.alice, "ps")
            assert done.returncode == 1
            assert "Docker daemon" in done.stderr
        finally:
            _start(own_engine)
    for connection, target in zip(idle, TARGETS, strict=True):  # the connections lived through it
        assert connection.call("GET", target).status == 200
        connection.close()


def test_a_restart_between_two_calls_is_not_noticed(own_engine: Engine, own_proxy: Proxy, users: Users) -> None:
    """Connections to the daemon that were kept are stale then; a POST must not be sent twice, nor fail for that."""
    with Connection(own_proxy.listen, users.alice) as connection:
        for target in TARGETS:
            assert connection.call("GET", target).status == 200
        _kill(own_engine)
        _start(own_engine)
        answer = connection.call("POST", f"{API}/containers/create", {"Image": "busybox"})
        assert answer.status == 201
        for target in TARGETS:
            assert connection.call("GET", target).status == 200
    own_engine.clean()
    assert call(own_proxy.listen, "GET", f"{API}/containers/json?all=1", None, users.alice).body.strip() == b"[]"
