"""docker logs, events, stats and wait through sockproxy: prompt, whole, ended at the daemon when the client leaves."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.cli import Running, assert_done, await_running, handlers
from tests.support.engines import Engine
from tests.support.proxy import Proxy, eventually
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

FOLLOWERS = {
    "logs interrupted": ("getContainersLogs", ["logs", "-f", "box"], signal.SIGINT),
    "logs": ("getContainersLogs", ["logs", "-f", "box"], signal.SIGKILL),
    "events": ("getEvents", ["events"], signal.SIGKILL),
    "stats": ("getContainersStats", ["stats", "box"], signal.SIGKILL),
    "wait": ("postContainersWait", ["wait", "box"], signal.SIGKILL),
}

Box = Callable[..., str]


@pytest.fixture
def box(proxy: Proxy, users: Users) -> Box:
    """Start a container of alice's that runs a script."""

    def start(script: str, *options: str) -> str:
        command = ["run", "-d", "--name", "box", *options, "busybox", "sh", "-c", script]
        return assert_done(proxy.docker(users.alice, *command)).strip()

    return start


@pytest.mark.parametrize(("handler", "command", "end"), FOLLOWERS.values(), ids=FOLLOWERS.keys())
def test_a_client_that_leaves_leaves_nothing_at_the_daemon(
    proxy: Proxy, users: Users, engine: Engine, box: Box, handler: str, command: list[str], end: signal.Signals
) -> None:
    box("sleep 1000")
    own = handlers(engine, handler) if handler == "getEvents" else 0  # the filesystem helpers follow them, too
    eventually(lambda: handlers(engine, handler) == own, "earlier calls ended")
    with Running(proxy, users.alice, *command) as follower:
        eventually(lambda: handlers(engine, handler) > own, f"{handler} at the daemon")
        follower.process.send_signal(end)
        follower.wait()
    eventually(lambda: handlers(engine, handler) == own, f"{handler} ended at the daemon", 5)


def test_logs(proxy: Proxy, users: Users, box: Box) -> None:
    box("echo one; echo two >&2; echo three")
    assert_done(proxy.docker(users.alice, "wait", "box"))
    done = proxy.docker(users.alice, "logs", "box")
    assert (done.stdout, done.stderr, done.returncode) == ("one\nthree\n", "two\n", 0)
    last = proxy.docker(users.alice, "logs", "--tail", "1", "box")  # the streams have no common order
    assert last.stdout + last.stderr in ("two\n", "three\n")
    assert proxy.docker(users.alice, "logs", "--since", str(int(time.time()) + 10), "box").stdout == ""
    assert proxy.docker(users.alice, "logs", "-t", "box").stdout.endswith("Z three\n")


def test_followed_logs_come_line_by_line_and_to_the_last(proxy: Proxy, users: Users, engine: Engine, box: Box) -> None:
    box("echo first; until [ -e /go ]; do sleep 0.05; done; echo second; sleep 1.5; echo last")
    with Running(proxy, users.alice, "logs", "-f", "box", together=True) as logs:
        assert logs.out.until("\n") == "first\n"
        engine.docker("exec", "box", "touch", "/go")
        assert logs.out.until("\n") == "second\n"
        assert logs.out.rest() == "last\n"
        assert logs.wait() == 0


def test_ten_megabytes_of_logs_are_whole(proxy: Proxy, users: Users, box: Box) -> None:
    box("i=0; while [ $i -lt 1000 ]; do printf '%d %010000d\\n' $i 0; i=$((i+1)); done")
    # Engine 20 ends a followed log early, in due form, when the container exits before a slow reader is through.
    assert_done(proxy.docker(users.alice, "wait", "box"))
    with Running(proxy, users.alice, "logs", "-f", "box") as logs:
        found = hashlib.md5(logs.out.rest(60).encode()).hexdigest()
    assert found == hashlib.md5("".join(f"{n} {0:010000d}\n" for n in range(1000)).encode()).hexdigest()


def test_logs_of_a_terminal_are_raw(proxy: Proxy, users: Users, box: Box) -> None:
    box("echo one", "-t")
    assert_done(proxy.docker(users.alice, "wait", "box"))
    done: Any = proxy.docker(users.alice, "logs", "box", text=False)
    assert done.stdout == b"one\r\n"


def test_wait_gives_the_exit_code(proxy: Proxy, users: Users, engine: Engine, box: Box) -> None:
    box("trap 'exit 9' TERM; while :; do sleep 0.1; done")
    with Running(proxy, users.alice, "wait", "box") as waiting:
        eventually(lambda: handlers(engine, "postContainersWait"), "the wait at the daemon")
        assert_done(proxy.docker(users.alice, "stop", "-t", "10", "box"))
        assert (waiting.out.rest(), waiting.wait()) == ("9\n", 0)
    await_running(engine, "box", state=False)


def test_events(proxy: Proxy, users: Users) -> None:
    since = f"{time.time():.6f}"
    form = ["--filter", "type=container", "--format", "{{.Action}} {{.Actor.Attributes.name}}"]
    with Running(proxy, users.alice, "events", "--since", since, *form) as live:
        for command in (
            ["run", "-d", "--name", "box", "busybox", "sleep", "1000"],
            ["pause", "box"],
            ["unpause", "box"],
            ["rename", "box", "other"],
            ["kill", "other"],
            ["rm", "other"],
        ):
            assert_done(proxy.docker(users.alice, *command))
        seen = live.out.until("destroy other\n")
    wanted = ["create box", "start box", "pause box", "unpause box", "rename other", "kill other", "die other"]
    assert [line for line in seen.splitlines() if line in wanted] == wanted
    until = f"{time.time():.6f}"
    assert assert_done(proxy.docker(users.alice, "events", "--since", since, "--until", until, *form)) == seen
    with Running(proxy, users.alice, "events", "--since", since, "--filter", "event=die", *form) as live:
        assert live.out.until("\n") == "die other\n"


def test_stats(proxy: Proxy, users: Users, box: Box) -> None:
    box("sleep 1000", "-m", "64m")
    found = assert_done(proxy.docker(users.alice, "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"))
    assert found.startswith("box ")
    assert found.endswith("/ 64MiB\n")
    with Running(proxy, users.alice, "stats", "--format", "{{.Name}};", "box") as live:
        live.out.until("box;")
        live.out.until("box;")
