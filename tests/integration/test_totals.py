"""All of a user's containers and build steps together stay within the totals of the role, as the kernel counts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import cgroups
from tests.support.cli import assert_done
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.users import User, Users

pytestmark = pytest.mark.daemon

MEBI = 1 << 20
TOTALS = """roles:
  developer:
    extends: developer
    limits: {{memory: 48m, cpus: 2, pids: 35}}
    totals: {{memory: {memory}, cpus: {cpus}, pids: {pids}}}
"""
FORK = "for i in $(seq 30); do sleep 600 & done; wait"
ONE = pytest.mark.parametrize("engine", ["28"], indirect=True)


def policy(users: Users, memory: str = "64m", cpus: float = 0.5, pids: int = 40) -> str:
    return default_policy(users) + TOTALS.format(memory=memory, cpus=cpus, pids=pids)


@pytest.fixture
def bounded(engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> Iterator[Proxy]:
    """A sockproxy with small totals."""
    proxy = start_proxy(engine, policy=policy(users))
    yield proxy
    engine.clean()
    assert "Traceback" not in proxy.errors()


def start(proxy: Proxy, user: User, script: str, *options: str) -> str:
    """Run a container that goes on; give its ID."""
    run = ["docker", "run", "-d", *options, "busybox", "sh", "-c", script]
    return assert_done(proxy.run(user, run)).strip()


def start_bare(engine: Engine, script: str, *options: str) -> str:
    return engine.docker("run", "-d", *options, "busybox", "sh", "-c", script).stdout.strip()


def own(proxy: Proxy, user: User) -> str:
    """The cgroup of a user."""
    return f"{proxy.shares}/{user.uid}"


@ONE
def test_memory(bounded: Proxy, users: Users) -> None:
    engine, options = bounded.engine, ["--memory", "48m", "--memory-swap", "48m", "--shm-size", "48m"]
    bare = [start_bare(engine, "sleep 600", *options) for _ in range(3)]
    assert [_fills(engine, one) for one in bare] == [True, True, True]  # each within its own limit
    alices = [start(bounded, users.alice, "sleep 600", *options) for _ in range(3)]
    bobs = start(bounded, users.bob, "sleep 600", *options)
    assert sum(_fills(engine, one) for one in alices) == 1  # two would be 72 of 64 MiB
    assert cgroups.number("memory", own(bounded, users.alice)) == 64 * MEBI
    assert cgroups.number("memory used", own(bounded, users.alice)) <= 64 * MEBI
    assert _fills(engine, bobs)


def _fills(engine: Engine, container: str) -> bool:
    """Use 36 MiB of a container's memory; False when the kernel kills who tries."""
    fill = ["dd", "if=/dev/zero", "of=/dev/shm/full", "bs=1M", "count=36"]
    return engine.docker("exec", container, *fill, check=False).returncode == 0


@ONE
def test_pids(bounded: Proxy, users: Users) -> None:
    engine = bounded.engine
    bare = [start_bare(engine, FORK) for _ in range(2)]
    eventually(lambda: all(_processes(engine, one) == 31 for one in bare), "all have forked at the bare daemon")
    started = [start(bounded, users.alice, FORK) for _ in range(2)]
    eventually(lambda: "can't fork" in engine.docker("logs", started[1], check=False).stderr, "the second can't fork")
    assert cgroups.read("pids", own(bounded, users.alice)) == "40"
    assert cgroups.number("pids used", own(bounded, users.alice)) <= 40
    bobs = start(bounded, users.bob, FORK)
    eventually(lambda: _processes(engine, bobs) == 31, "bob has his own share")


def _processes(engine: Engine, container: str) -> int:
    return len(engine.docker("top", container, "-o", "pid").stdout.splitlines()) - 1


@ONE
def test_cpus(bounded: Proxy, users: Users) -> None:
    spin = "while :; do :; done"
    for _ in range(3):
        start(bounded, users.alice, spin)
    group = own(bounded, users.alice)
    assert cgroups.read("cpu", group) == "50000"
    throttled = cgroups.path("cpu stat", group)
    used, began = cgroups.number("cpu used", group), time.monotonic()
    eventually(lambda: _count(throttled, "nr_throttled") > 20, "throttled as a whole", 120)
    spent = (cgroups.number("cpu used", group) - used) / 1e9 / (time.monotonic() - began)
    assert spent < 0.8  # of a CPU; three that spin would take both that a test machine has


def _count(stat: Path, key: str) -> int:
    return int(dict(line.split() for line in stat.read_text().splitlines())[key])


@pytest.mark.parametrize("engine", ["20", "28"], indirect=True)
def test_steps_of_builds(bounded: Proxy, users: Users, folder: Path) -> None:
    (users.alice.home / "Dockerfile").write_text("FROM busybox\nRUN cat /proc/self/cgroup\n")
    environment = bounded.environment(users.alice) | {"DOCKER_BUILDKIT": "0"}
    done = bounded.run(users.alice, ["docker", "build", "--no-cache", "."], env=environment)
    assert f":/{own(bounded, users.alice)}/" in assert_done(done)


@ONE
def test_a_new_policy_counts_for_who_is_there(bounded: Proxy, users: Users) -> None:
    start(bounded, users.alice, "sleep 600", "--cpus", "0.5")
    group = own(bounded, users.alice)
    bounded.reload(policy(users, memory="80m", cpus=0.25, pids=50))
    eventually(lambda: cgroups.read("pids", group) == "50", "new totals")
    assert cgroups.number("memory", group) == 80 * MEBI
    assert cgroups.read("cpu", group) == "25000"
    bounded.reload(policy(users, memory="null", cpus=0.25, pids=50))
    eventually(lambda: cgroups.number("memory", group) > 1 << 50, "no bound any more")


@ONE
def test_limits_come_back(engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> None:
    """After a reboot, the daemon starts containers below cgroups that nobody has bounded."""
    proxy = start_proxy(engine, policy=policy(users))
    made = start(proxy, users.alice, "sleep 600")
    group = own(proxy, users.alice)
    proxy.up.terminate()
    proxy.up.wait(30)
    engine.docker("kill", made)
    cgroups.remove(proxy.shares)
    assert cgroups.read("pids", group) == ""
    engine.docker("start", made)
    assert cgroups.read("pids", group) == "max"
    proxy.restart()
    eventually(lambda: cgroups.read("pids", group) == "40", "bounded again")


@ONE
def test_who_has_no_containers_leaves_no_cgroup(bounded: Proxy, users: Users) -> None:
    made = start(bounded, users.alice, "sleep 600")
    start(bounded, users.bob, "sleep 600")
    assert_done(bounded.docker(users.alice, "rm", "-f", made))
    bounded.reload()
    eventually(lambda: not cgroups.path("pids", own(bounded, users.alice)).exists(), "alice's is gone")
    assert cgroups.read("pids", own(bounded, users.bob)) == "40"


@ONE
def test_inspect_and_refusals(bounded: Proxy, users: Users) -> None:
    made = start(bounded, users.alice, "sleep 600")
    shown = json.loads(assert_done(bounded.docker(users.alice, "inspect", made)))[0]["HostConfig"]
    assert shown["CgroupParent"] == f"/{own(bounded, users.alice)}"
    assert shown["NanoCpus"] == 500_000_000  # version 1 of cgroups has no more for one than for all
    for parent in ("/", "/docker", f"/{own(bounded, users.bob)}", f"/{own(bounded, users.alice)}/../{users.bob.uid}"):
        done = bounded.docker(users.alice, "run", "--cgroup-parent", parent, "busybox")
        assert "may not choose the parent cgroup" in done.stderr
    done = bounded.docker(users.alice, "run", "--cpus", "1", "busybox")
    assert "may not use nano CPUs 1000000000 (allowed: up to 500000000): rule " in done.stderr


@ONE
def test_admin_is_outside(bounded: Proxy, users: Users) -> None:
    made = start(bounded, users.root, "sleep 600")
    assert json.loads(bounded.engine.docker("inspect", made).stdout)[0]["HostConfig"]["CgroupParent"] == ""
