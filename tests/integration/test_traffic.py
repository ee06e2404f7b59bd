"""Nobody takes more of sockproxy than a share: what is over it is refused in words, and the others are served."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.containers import API, follow, run
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.raw import Connection, call, output
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

LIST = f"{API}/containers/json"
CONNECTIONS, STREAMS, REQUESTS = 12, 3, 40
BOUNDS = f"""roles:
  small:
    extends: developer
    traffic: {{connections: {CONNECTIONS}, streams: {STREAMS}}}
  slow:
    extends: viewer
    traffic: {{requests: {REQUESTS}}}
"""
FLOOD = 3.0  # seconds
PROMPT = 2.0  # seconds for another's call, on a busy machine


@pytest.fixture(scope="module")
def small(engine28: Engine, users: Users, folder: Path) -> Iterator[Proxy]:
    """A sockproxy whose alice has small bounds."""
    users.add_plugins(engine28.plugins)
    (folder / "small").mkdir()
    roles = {users.alice: "small", users.carol: "slow"}
    first = "bindings:\n" + "".join(f"  - {{user: {user.name}, role: {role}}}\n" for user, role in roles.items())
    running = Proxy(engine28, folder / "small", default_policy(users).replace("bindings:\n", first) + BOUNDS)
    yield running
    running.stop()
    engine28.clean()


def line(proxy: Proxy) -> str:
    """Name the line that says so."""
    lines = proxy.config.read_text().splitlines()
    return f"{proxy.config}:{next(number for number, text in enumerate(lines, 1) if 'traffic' in text)}"


def test_streams(small: Proxy, users: Users) -> None:
    container = run(small, users.alice, "echo one; sleep 100")
    with ExitStack() as stack:
        logs = [stack.enter_context(follow(small, users.alice, container)) for _ in range(STREAMS)]
        assert [output(stream.chunk()) for stream in logs] == [b"one\n"] * STREAMS
        done = small.docker(users.alice, "logs", "-f", container)
        assert done.returncode == 1
        assert f"role small may have {STREAMS} calls under way" in done.stderr
        assert line(small) in done.stderr
        with Connection(small.listen, users.alice) as connection:
            answer = connection.call("GET", LIST)
            assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert call(small.listen, "GET", f"{API}/networks", None, users.alice).status == 200  # another helper's
        assert call(small.listen, "GET", LIST, None, users.bob).status == 200
    eventually(lambda: call(small.listen, "GET", LIST, None, users.alice).status == 200, "room again", 5)


@pytest.mark.parametrize("call_", ["stop?t=-1", "attach?stream=1&stdout=1"])
def test_what_the_daemon_is_not_done_with_counts(small: Proxy, users: Users, call_: str) -> None:
    """Else who asks and leaves, again and again, has the daemon out of descriptors."""
    container = run(small, users.alice, "trap '' TERM; while sleep 1; do :; done")
    for _ in range(STREAMS):
        with Connection(small.listen, users.alice) as connection:
            connection.request("POST", f"{API}/containers/{container}/{call_}")
            if "attach" in call_:
                connection.head()
            else:
                busy = call(small.engine.socket, "GET", f"{API}/containers/{container}/top").status
                assert busy == 200
    assert call(small.listen, "GET", LIST, None, users.alice).status == 429
    assert call(small.engine.socket, "POST", f"{API}/containers/{container}/kill").status == 204
    eventually(lambda: call(small.listen, "GET", LIST, None, users.alice).status == 200, "room again", 5)


def test_connections(small: Proxy, users: Users) -> None:
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(Connection(small.listen, users.alice)).call("GET", "/_ping")
        done = small.docker(users.alice, "ps")
        assert done.returncode == 1
        assert f"may have {CONNECTIONS} connections at once" in done.stderr
        assert line(small) in done.stderr
        assert small.docker(users.bob, "ps").returncode == 0
    eventually(lambda: small.docker(users.alice, "ps").returncode == 0, "room again", 5)


def test_a_flood_of_requests_slows_its_sender_alone(small: Proxy, users: Users) -> None:
    """Each of carol's connections asks as fast as it can; bob is served promptly."""
    statuses: list[int] = []
    end = time.monotonic() + FLOOD

    def ask(connection: Connection) -> None:
        with connection:
            while time.monotonic() < end:
                statuses.append(connection.call("GET", LIST).status)

    # The effective uid is the process's, so that they connect before the threads.
    connections = [Connection(small.listen, users.carol) for _ in range(CONNECTIONS)]
    with Connection(small.listen, users.bob) as bob:
        threads = [threading.Thread(target=ask, args=(connection,)) for connection in connections]
        for thread in threads:
            thread.start()
        while time.monotonic() < end:
            begun = time.monotonic()
            assert bob.call("GET", LIST).status == 200
            assert time.monotonic() - begun < PROMPT
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}  # so few wait for their turn
    assert REQUESTS * 5 < len(statuses) <= REQUESTS * (FLOOD + 1 + 5)
