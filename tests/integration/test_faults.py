"""Each process killed, stopped or reloaded while calls are under way: what was cut looks cut, and all comes back."""

from __future__ import annotations

import os
import signal
import tarfile
import time
from collections.abc import Callable

import pytest

from tests.support.containers import API, attach, create, follow, interactive, run, start
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.raw import BrokenOff, Connection, call, output
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

LIST = f"{API}/containers/json"
KINDS = {"lifecycle": LIST, "network": f"{API}/networks", "filesystem": f"{API}/images/json"}


def kill(proxy: Proxy, name: str) -> None:
    """Kill a process of sockproxy's and wait until there is another in its place."""
    pid = proxy.processes[name]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: proxy.processes.get(name, pid) != pid, f"another {name}")


def answers(proxy: Proxy, users: Users) -> bool:
    """Tell whether calls of all scopes are answered; what isn't is refused cleanly."""
    found = [call(proxy.listen, "GET", target, None, users.alice) for target in KINDS.values()]
    assert {answer.status for answer in found} <= {200, 502, 503}
    assert all(answer.message for answer in found if answer.status != 200)
    return all(answer.status == 200 for answer in found)


@pytest.mark.parametrize("name", ["front", "lifecycle"])
def test_a_killed_process_cuts_its_streams(proxy28: Proxy, users: Users, name: str) -> None:
    container = run(proxy28, users.alice, "echo one; sleep 100", **interactive())
    with (
        follow(proxy28, users.alice, container) as logs,
        attach(proxy28, users.alice, container) as tunnel,
        Connection(proxy28.listen, users.alice) as wait,
        Connection(proxy28.listen, users.alice) as idle,
    ):
        assert output(logs.chunk()) == b"one\n"
        wait.request("POST", f"{API}/containers/{container}/wait")
        assert wait.head().status == 200
        assert idle.call("GET", LIST).status == 200
        kill(proxy28, name)
        for cut in (logs, wait):
            with pytest.raises(BrokenOff):  # never the last chunk
                cut.chunks()
        tunnel.rest()
        eventually(lambda: answers(proxy28, users), "answers")
        if name == "front":
            assert idle.is_closed()
        else:
            assert idle.call("GET", LIST).status == 200
    assert proxy28.docker(users.alice, "ps", "-q", "--no-trunc").stdout.strip() == container


def test_a_killed_helper_before_the_answer(proxy28: Proxy, users: Users) -> None:
    container = run(proxy28, users.alice, "trap '' TERM; echo trapped; sleep 100")
    with follow(proxy28, users.alice, container) as logs:
        assert output(logs.chunk()) == b"trapped\n"
    with Connection(proxy28.listen, users.alice) as connection:
        connection.request("POST", f"{API}/containers/{container}/stop?t=60")
        eventually(lambda: any("'ContainerStop'" in str(record) for record in proxy28.records()), "the call")
        kill(proxy28, "lifecycle")
        answer = connection.answer()
        assert answer.status == 502
        assert "helper" in answer.message
    eventually(lambda: answers(proxy28, users), "answers")


def test_a_killed_filesystem_helper_cuts_an_export(proxy28: Proxy, users: Users) -> None:
    container = run(proxy28, users.alice, "dd if=/dev/zero of=/big bs=1M count=50; echo done; sleep 100")
    with follow(proxy28, users.alice, container) as logs:
        logs.until(b"done\n")
    with (
        follow(proxy28, users.alice, container) as other,
        Connection(proxy28.listen, users.alice) as export,
    ):
        export.request("GET", f"{API}/containers/{container}/export")
        assert export.head().status == 200
        kill(proxy28, "filesystem")
        with pytest.raises(BrokenOff):
            export.chunks()
        eventually(lambda: answers(proxy28, users), "answers")
        call(proxy28.listen, "POST", f"{API}/containers/{container}/kill", None, users.alice)
        other.chunks()  # the other helpers' streams were left alone


def test_a_killed_network_helper(proxy28: Proxy, users: Users) -> None:
    kill(proxy28, "network")
    eventually(lambda: answers(proxy28, users), "answers")
    assert proxy28.docker(users.alice, "run", "--rm", "busybox", "echo", "x").stdout == "x\n"


def test_a_killed_audit_writer(proxy28: Proxy, users: Users) -> None:
    """What is under way goes on; what became of it is recorded by the next writer."""
    container = run(proxy28, users.alice, "echo one; read x; echo two", **interactive())
    with follow(proxy28, users.alice, container) as logs, attach(proxy28, users.alice, container) as stdin:
        assert output(logs.chunk()) == b"one\n"
        kill(proxy28, "audit")
        stdin.send(b"x\n")
        assert output(logs.chunks()) == b"two\n"
    eventually(lambda: answers(proxy28, users), "answers")
    request = next(r["rid"] for r in reversed(proxy28.records()) if "'ContainerLogs'" in str(r) and r["ev"] == "intent")

    def ends() -> list[str]:
        return [str(r["out"]) for r in proxy28.records() if r["ev"] == "outcome" and r["rid"] == request]

    eventually(lambda: len(ends()) == 1, "the outcome")
    assert "'status': 200" in ends()[0]


def test_a_killed_helper_during_an_upload(proxy28: Proxy, users: Users) -> None:
    def puts() -> list[object]:
        return [record for record in proxy28.records() if "'PutContainerArchive'" in str(record)]

    container, before = create(proxy28, users.alice, "true"), len(puts())
    with Connection(proxy28.listen, users.alice) as connection:
        target = f"{API}/containers/{container}/archive?path=/tmp"
        connection.request("PUT", target, Transfer_Encoding="chunked")
        member = tarfile.TarInfo("x")
        member.size = 1 << 20
        connection.send(b"100000\r\n" + member.tobuf() + bytes(1000))
        eventually(lambda: len(puts()) > before, "the call")
        kill(proxy28, "filesystem")
        answer = connection.answer()
        assert answer.status == 502
        assert "helper" in answer.message
        assert connection.is_closed()
    eventually(lambda: answers(proxy28, users), "answers")


def test_sigterm_lets_streams_end_and_then_cuts_them(
    engine28: Engine, start_proxy: Callable[..., Proxy], users: Users
) -> None:
    proxy = start_proxy(engine28)
    ending = run(proxy, users.alice, "echo one; read x; echo two", **interactive())
    endless = run(proxy, users.alice, "echo one; sleep 100")
    with (
        follow(proxy, users.alice, ending) as short,
        follow(proxy, users.alice, endless) as long,
        attach(proxy, users.alice, ending) as stdin,
        Connection(proxy.listen, users.alice) as idle,
    ):
        assert output(short.chunk()) == output(long.chunk()) == b"one\n"
        assert idle.call("GET", LIST).status == 200
        begun = time.monotonic()
        proxy.up.send_signal(signal.SIGTERM)
        assert idle.is_closed()
        with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
            Connection(proxy.listen, users.alice)
        stdin.send(b"x\n")
        assert output(short.chunks()) == b"two\n"
        assert short.is_closed()
        with pytest.raises(BrokenOff):
            long.chunks()
        assert 8 < time.monotonic() - begun < 14
        assert proxy.up.wait(15) == 0
    assert [record["ev"] for record in proxy.records()][-2:] == ["stop", "seal"]


def test_a_reload_counts_for_the_next_request_of_a_connection(
    engine28: Engine, start_proxy: Callable[..., Proxy], users: Users
) -> None:
    proxy = start_proxy(engine28)
    more = default_policy(users) + f"  - {{user: {users.mallory.name}, role: viewer}}\n"
    container = create(proxy, users.alice, "true")
    look = f"{API}/info"
    with Connection(proxy.listen, users.mallory) as connection:
        assert connection.call("GET", look).status == 403
        proxy.reload(more)
        eventually(lambda: connection.call("GET", look).status == 200, "the new policy")
        start_it = f"{API}/containers/{container}/start"
        assert connection.call("POST", start_it).status == 403
        proxy.reload(more + "  - {user: nobody, role: no-such-role}\n")
        assert "policy stays" in proxy.errors()
        assert connection.call("GET", look).status == 200
        proxy.reload(default_policy(users))
        eventually(lambda: connection.call("GET", look).status == 403, "the old policy")
        assert "no-such-role" in proxy.errors()
        start(proxy, users.alice, container)
