"""Who has more on the disk than the role allows gets nothing more, until something is removed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.cli import assert_done
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.users import Users

pytestmark = pytest.mark.daemon

POLICY = "roles:\n  developer:\n    extends: developer\n    totals: {disk: 8m}\n"


@pytest.mark.parametrize("engine", ["20", "28"], indirect=True)
def test_disk(engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> None:
    for name in engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split():
        if name not in ("busybox:latest", "<none>:<none>"):  # what other tests have left counts, too
            engine.docker("rmi", "-f", name, check=False)
    engine.docker("image", "prune", "-f")
    proxy = start_proxy(engine, policy=default_policy(users) + POLICY)
    run, alice, bob = proxy.docker, users.alice, users.bob
    fill = ["busybox", "dd", "if=/dev/urandom", "bs=1M", "count=6"]
    assert_done(run(alice, "run", "--name", "box", *fill, "of=/file"))
    assert_done(run(alice, "run", "--rm", "-v", "data:/data", *fill, "of=/data/file"))  # 12 MiB, by a report of before
    why = "role developer may use 8m of the disk, and you use 12m; the largest are "
    eventually(lambda: why in run(alice, "volume", "create").stderr, "the next report", 60)
    refused = run(alice, "create", "busybox").stderr
    assert why in refused
    assert "volume data (6m)" in refused
    assert "container box (6m)" in refused
    (alice.home / "Dockerfile").write_text("FROM busybox\n")
    classic = proxy.environment(alice) | {"DOCKER_BUILDKIT": "0"}
    assert why in proxy.run(alice, ["docker", "build", "."], env=classic).stderr
    for command in (["commit", "box"], ["cp", str(alice.home / "Dockerfile"), "box:/"], ["pull", "busybox"]):
        assert why in run(alice, *command).stderr
    assert_done(run(bob, "run", "--rm", "busybox"))
    assert_done(run(alice, "start", "-a", "box"))
    assert_done(run(alice, "rm", "box"))
    eventually(lambda: run(alice, "volume", "create").returncode == 0, "the next report, by who was refused", 30)
    assert json.loads(engine.docker("volume", "inspect", "data").stdout)
    engine.docker("volume", "prune", "-af", check=False)
    engine.docker("volume", "prune", "-f", check=False)
