"""The daemon killed, absent and back: what was cut looks cut, what can't be done is said, what can be is done."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import API, attach, follow, interactive, run
from tests.support.engines import SCRIPT, Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.raw import BrokenOff, Connection, output
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


def _end(engine: Engine, number: signal.Signals) -> None:
    """End the daemon, and wait until it is gone."""
    pid = int((engine.folder / "pid").read_text())
    os.kill(pid, number)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the daemon")


def _start(engine: Engine) -> None:
    subprocess.run([SCRIPT, "start", engine.version, engine.folder], check=True, capture_output=True, timeout=60)


def test_a_daemon_that_dies_and_comes_back(own_engine: Engine, own_proxy: Proxy, users: Users) -> None:
    proxy = own_proxy
    container = run(proxy, users.alice, "echo one; sleep 1000", **interactive())
    with (
        follow(proxy, users.alice, container) as logs,
        attach(proxy, users.alice, container) as tunnel,
        Connection(proxy.listen, users.alice) as before_the_head,
        Connection(proxy.listen, users.alice) as idle,
    ):
        assert output(logs.chunk()) == b"one\n"
        assert [idle.call("GET", target).status for target in TARGETS] == [200] * 4
        before_the_head.request("POST", f"{API}/containers/{container}/wait?condition=removed")
        assert before_the_head.head().status == 200
        _end(own_engine, signal.SIGKILL)
        try:
            for cut in (logs, before_the_head):
                with pytest.raises(BrokenOff):  # never the last chunk
                    cut.chunks()
            tunnel.rest()
            for target in TARGETS:
                answer = idle.call("GET", target)
                assert answer.status == 502
                assert "Docker daemon" in answer.message
            done = proxy.docker(users.alice, "ps")
            assert done.returncode == 1
            assert "Docker daemon" in done.stderr
        finally:
            _start(own_engine)
        assert [idle.call("GET", target).status for target in TARGETS] == [200] * 4
    own_engine.clean()


def test_a_restart_between_two_calls_is_not_noticed(own_engine: Engine, own_proxy: Proxy, users: Users) -> None:
    """Connections to the daemon that were kept are stale then."""
    with Connection(own_proxy.listen, users.alice) as connection:
        assert [connection.call("GET", target).status for target in TARGETS] == [200] * 4
        _end(own_engine, signal.SIGTERM)
        _start(own_engine)
        answer = connection.call("POST", f"{API}/containers/create", {"Image": "busybox"})
        assert answer.status == 201
        assert [connection.call("GET", target).status for target in TARGETS] == [200] * 4
    assert own_engine.docker("ps", "-aq", "--no-trunc").stdout.split() == [answer.json["Id"]]
    own_engine.clean()
