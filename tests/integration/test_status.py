"""Who looks after sockproxy sees how it does, on a socket of its own; nobody else does, and nothing secret is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from sockproxy.supervise.table import STATUS, status_socket
from tests.support import containers
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Connection, call
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]


def status(proxy: Proxy, user: User, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-m", "sockproxy", "status", "--runtime-dir", str(proxy.runtime), *arguments]
    return proxy.run(user, command)


def test_status_metrics_and_health(proxy28: Proxy, users: Users) -> None:
    proxy, path = proxy28, status_socket(str(proxy28.runtime))
    container = containers.run(proxy, users.alice, "while echo x; do sleep 1; done", Env=["SECRET=s3cret-value"])
    refused = call(
        proxy.listen,
        "POST",
        "/v1.41/containers/create?name=s3cret-query",
        {"Image": "busybox", "Env": ["A=s3cret-env"], "HostConfig": {"Privileged": True}},
        users.bob,
    )
    with containers.follow(proxy, users.alice, container):
        told = json.loads(status(proxy, users.root, "--format", "json").stdout)
        assert told["healthy"] is True, told
        stream = next(one for one in told["connections"] if one["user"] == users.alice.name and "call" in one)
        assert stream["call"].items() >= {"operation": "ContainerLogs", "about": [container], "stream": True}.items()
        assert (stream["pid"], stream["via"]) == (os.getpid(), "peer")
        last = told["refusals"][-1]
        assert (last["user"], last["asked"], last["status"]) == (users.bob.name, "ContainerCreate", 403)
        assert last["rid"] == refused.headers["x-sockproxy-request-id"]
        assert told["policy"]["sha256"] == [one for one in proxy.records() if one["ev"] == "start"][-1]["policy"]
        screen = status(proxy, users.root)
        assert (screen.returncode, "healthy" in screen.stdout, "ContainerLogs" in screen.stdout) == (0, True, True)
        metrics = call(path, "GET", "/metrics").body.decode()
        assert 'sockproxy_streams{operation="ContainerLogs"} 1\n' in metrics
        assert 'sockproxy_refusals_total{status="403"}' in metrics
    assert "s3cret" not in f"{told}{screen.stdout}{metrics}"
    assert [call(path, "GET", target).status for target in ("/", "/metrics/", "/v1.41/info")] == [404] * 3
    assert call(path, "POST", "/metrics").status == 405
    # Never on the users' socket.
    for target in ("/metrics", "/health", "/status"):
        assert call(proxy.listen, "GET", target, None, users.root).status == 404


def test_it_says_when_the_daemon_is_gone(proxy28: Proxy, users: Users) -> None:
    path, socket = status_socket(str(proxy28.runtime)), proxy28.engine.socket
    os.rename(socket, f"{socket}.away")
    try:
        eventually(lambda: call(path, "GET", "/health").status == 503, "not healthy")
        told = status(proxy28, users.root)
        assert (told.returncode, "NOT HEALTHY: " in told.stdout) == (1, True), told.stdout
        assert "Docker daemon" in told.stdout
    finally:
        os.rename(f"{socket}.away", socket)
    eventually(lambda: call(path, "GET", "/health").json == {"healthy": True, "why": ""}, "healthy")


def test_only_root_and_its_group_get_it(proxy28: Proxy, users: Users) -> None:
    denied = status(proxy28, users.alice)
    assert (denied.returncode, f"open to root and the group {STATUS}" in denied.stderr) == (2, True)
    ids = [f"--reuid={users.mallory.uid}", f"--regid={users.mallory.gid}", f"--groups={STATUS}"]
    command = ["setpriv", *ids, "curl", "-sf", "--unix-socket", status_socket(str(proxy28.runtime)), "http://x/health"]
    assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["healthy"] is True


def test_who_does_not_ask_holds_nobody_up(proxy28: Proxy) -> None:
    path = status_socket(str(proxy28.runtime))
    with Connection(path), Connection(path) as slow:
        slow.send(b"GET /metr")
        assert call(path, "GET", "/metrics").status == 200
