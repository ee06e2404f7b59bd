"""The whole chain stands: people with a role get through to each engine, others are told why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.engines import Engine
from tests.support.proxy import PROCESSES, Proxy, default_policy, eventually
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]


def test_a_developer_runs_a_container(proxy: Proxy, users: Users) -> None:
    done = proxy.docker(users.alice, "run", "--rm", "busybox", "echo", "hello")
    assert (done.stdout, done.stderr, done.returncode) == ("hello\n", "", 0)
    asked = {
        record["rid"] for record in proxy.records() if record["ev"] == "intent" and users.alice.name in str(record)
    }
    assert asked
    eventually(
        lambda: asked <= {record["rid"] for record in proxy.records() if record["ev"] == "outcome"},
        "an outcome for each intent",
    )


def test_a_viewer_and_a_stranger_are_refused(proxy: Proxy, users: Users) -> None:
    assert proxy.docker(users.carol, "ps").returncode == 0
    done = proxy.docker(users.carol, "run", "--rm", "busybox", "true")
    assert "sockproxy: " in done.stderr
    assert "viewer" in done.stderr
    assert done.returncode == 125
    assert users.mallory.name in proxy.docker(users.mallory, "ps").stderr


def test_each_process_runs(proxy: Proxy) -> None:
    assert proxy.processes.keys() == PROCESSES.keys()


def test_podman_behind_sockproxy(podman_engine: Engine, start_proxy: Callable[..., Proxy], users: Users) -> None:
    proxy = start_proxy(podman_engine)
    assert proxy.docker(users.alice, "run", "--rm", "busybox", "echo", "hello").stdout == "hello\n"


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_a_reload_changes_who_may(engine: Engine, start_proxy: Callable[..., Proxy], users: Users) -> None:
    proxy = start_proxy(engine)
    assert proxy.docker(users.mallory, "ps").returncode == 1
    proxy.reload(default_policy(users) + f"  - {{user: {users.mallory.name}, role: viewer}}\n")
    eventually(lambda: proxy.docker(users.mallory, "ps").returncode == 0, "the new policy")
    assert proxy.stop() == 0
