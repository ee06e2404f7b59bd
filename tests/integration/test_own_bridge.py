"""Each user's containers are on a bridge of their own by default; the shared one is for roles that say so."""

from __future__ import annotations

import json

import pytest

from tests.support.proxy import Proxy
from tests.support.users import Users

pytestmark = pytest.mark.daemon


def network_of(proxy: Proxy, container: str) -> dict[str, object]:
    """Read at the daemon which one network a container is on."""
    shown = json.loads(proxy.engine.docker("inspect", container).stdout)[0]["NetworkSettings"]["Networks"]
    assert len(shown) == 1
    (name,) = shown
    return json.loads(proxy.engine.docker("network", "inspect", name).stdout)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("mode", [[], ["--network", "bridge"], ["--network", "default"]])
def test_default_network_is_ones_own(proxy: Proxy, users: Users, mode: list[str]) -> None:
    for user in (users.alice, users.bob):
        made = proxy.run(user, ["docker", "run", "-d", *mode, "busybox", "sleep", "300"], timeout=60)
        assert made.returncode == 0, made.stderr
        network = network_of(proxy, made.stdout.strip())
        assert network["Name"] == f"sockproxy-{user.uid}"
        told = proxy.engine.docker("inspect", "-f", "{{.HostConfig.NetworkMode}}", made.stdout.strip()).stdout
        assert told.strip() == network["Name"]  # clients look among the networks for it
        assert network["Labels"]["io.sockproxy.owner"] == str(user.uid)  # type: ignore[index]


def test_others_are_out_of_reach(proxy: Proxy, users: Users) -> None:
    """On the bare daemon's bridge the same ping answers."""
    serve = ["docker", "run", "-d", "busybox", "sleep", "300"]
    target = proxy.run(users.alice, serve, timeout=60).stdout.strip()
    networks = json.loads(proxy.engine.docker("inspect", target).stdout)[0]["NetworkSettings"]["Networks"]
    address = next(iter(networks.values()))["IPAddress"]
    ping = ["busybox", "ping", "-c", "1", "-W", "2", address]
    own = proxy.run(users.alice, ["docker", "run", "--rm", *ping], timeout=60)
    other = proxy.run(users.bob, ["docker", "run", "--rm", *ping], timeout=60)
    assert own.returncode == 0, own.stderr
    assert other.returncode != 0


def test_shared_bridge_is_refused_and_kept_for_admin(proxy: Proxy, users: Users) -> None:
    container = proxy.run(users.alice, ["docker", "run", "-d", "busybox", "sleep", "300"], timeout=60).stdout.strip()
    refused = proxy.run(users.alice, ["docker", "network", "connect", "bridge", container], timeout=60)
    assert refused.returncode == 1
    assert "may not join the network bridge, which all share" in refused.stderr
    assert network_of(proxy, container)["Name"] == f"sockproxy-{users.alice.uid}"
    by_root = proxy.run(users.root, ["docker", "run", "-d", "busybox", "sleep", "300"], timeout=60).stdout.strip()
    assert network_of(proxy, by_root)["Name"] == "bridge"


def test_a_prune_spares_the_bridge_of_stopped_containers(proxy: Proxy, users: Users) -> None:
    made = proxy.run(users.alice, ["docker", "run", "-d", "busybox", "true"], timeout=60).stdout.strip()
    proxy.run(users.alice, ["docker", "wait", made], timeout=60)
    assert proxy.run(users.alice, ["docker", "network", "prune", "-f"], timeout=60).returncode == 0
    again = proxy.run(users.alice, ["docker", "start", "-a", made], timeout=60)
    assert again.returncode == 0, again.stderr


def test_build_steps_are_on_ones_own_bridge(proxy: Proxy, users: Users) -> None:
    container = proxy.run(users.alice, ["docker", "run", "-d", "busybox", "sleep", "300"], timeout=60).stdout.strip()
    networks = json.loads(proxy.engine.docker("inspect", container).stdout)[0]["NetworkSettings"]["Networks"]
    address = next(iter(networks.values()))["IPAddress"]
    build = ["env", "DOCKER_BUILDKIT=0", "docker", "build", "--no-cache", "-"]
    dockerfile = f"FROM busybox\nRUN ping -c 1 -W 2 {address}\n"
    own = proxy.run(users.alice, build, input=dockerfile, timeout=60)
    other = proxy.run(users.bob, build, input=dockerfile, timeout=60)
    assert own.returncode == 0, own.stdout + own.stderr
    assert other.returncode == 1
    assert "returned a non-zero code" in other.stdout + other.stderr


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_a_refused_container_leaves_no_bridge_behind(proxy: Proxy, users: Users) -> None:
    """Also where another scope's part is what is refused."""
    proxy.engine.clean()  # removes unused networks: the bridges of the tests before
    for asked in (["-v", "/etc:/etc2"], ["--privileged"], ["-p", "80:80"]):
        assert proxy.run(users.alice, ["docker", "create", *asked, "busybox"], timeout=60).returncode == 1
    assert "sockproxy-" not in proxy.engine.docker("network", "ls", "--format", "{{.Name}}").stdout
