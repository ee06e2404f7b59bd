"""How much a user may have: containers, networks, volumes, ports, logs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL

import pytest

from tests.support.cli import assert_done
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy
from tests.support.users import Users

pytestmark = pytest.mark.daemon

LIMITED = """roles:
  developer:
    extends: developer
    limits: {containers: 2}
"""


def totals(**most: int) -> str:
    """Give developers other totals."""
    text = ", ".join(f"{key}: {value}" for key, value in most.items())
    return f"roles:\n  developer:\n    extends: developer\n    totals: {{{text}}}\n"


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_number_of_containers(engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(engine, policy=default_policy(users) + LIMITED)
    made = [proxy.run(users.alice, ["docker", "create", "busybox"], timeout=60) for _ in range(3)]
    assert [done.returncode for done in made] == [0, 0, 1]
    assert "role developer may have 2 containers, and you have 2 (2 stopped): " in made[2].stderr
    assert "sockproxy.yaml:" in made[2].stderr
    assert len(engine.docker("ps", "-aq").stdout.split()) == 2
    assert proxy.run(users.bob, ["docker", "create", "busybox"], timeout=60).returncode == 0
    assert proxy.run(users.alice, ["docker", "rm", made[0].stdout.strip()], timeout=60).returncode == 0
    assert proxy.run(users.alice, ["docker", "create", "busybox"], timeout=60).returncode == 0


@pytest.mark.parametrize("engine", ["28"], indirect=True)
class TestCounts:
    """What a person may have of the other things, judged by what the daemon has."""

    def test_networks(self, engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> None:
        proxy = start_proxy(engine, policy=default_policy(users) + totals(networks=2))
        assert_done(proxy.docker(users.alice, "create", "busybox"))  # makes the user's own bridge, which does not count
        for name in ("one", "two"):
            assert_done(proxy.docker(users.alice, "network", "create", name))
        done = proxy.docker(users.alice, "network", "create", "three")
        assert "may have 2 networks, and you have 2: " in done.stderr
        assert "one" in done.stderr
        assert "remove one (docker network ls)" in done.stderr
        assert "three" not in engine.docker("network", "ls").stdout
        assert_done(proxy.docker(users.bob, "network", "create", "three"))
        assert_done(proxy.docker(users.alice, "network", "rm", "one"))
        assert_done(proxy.docker(users.alice, "network", "create", "four"))

    def test_names_of_images(self, engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> None:
        proxy = start_proxy(engine, policy=default_policy(users) + totals(tags=2))

        def tag(name: str) -> str:
            return proxy.docker(users.alice, "tag", "busybox", name).stderr

        assert [tag("total-one"), tag("total-two"), tag("total-two")] == ["", "", ""]
        refused = (
            "may have 2 names of images, and you have 2: total-one:latest, total-two:latest: remove one (docker rmi)"
        )
        assert refused in tag("total-three")
        build = proxy.docker(users.alice, "build", "-q", "-t", "total-three", "-", input="FROM busybox\nLABEL a=b\n")
        assert refused in build.stderr
        assert "total-three" not in engine.docker("images").stdout
        assert_done(proxy.docker(users.bob, "tag", "busybox", "total-three"))
        engine.docker("rmi", "total-one")  # past sockproxy: counts no more
        assert tag("total-four") == ""
        assert_done(proxy.docker(users.alice, "rmi", "total-two"))
        assert tag("total-five") == ""
        for name in ("total-three", "total-four", "total-five"):
            engine.docker("rmi", name)

    def test_volumes(self, engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> None:
        proxy = start_proxy(engine, policy=default_policy(users) + totals(volumes=2))
        assert_done(proxy.docker(users.alice, "volume", "create", "one"))
        assert_done(proxy.docker(users.alice, "run", "--rm", "-v", "two:/a", "-v", "one:/b", "busybox"))
        for options in (["-v", "three:/a"], ["-v", "/anonymous"], ["--mount", "type=volume,dst=/a"]):
            done = proxy.docker(users.alice, "create", *options, "busybox")
            assert "may have 2 volumes, and you have 2: " in done.stderr
        assert "may have 2 volumes" in proxy.docker(users.alice, "volume", "create", "three").stderr
        assert "may have 2 volumes" in proxy.docker(users.alice, "volume", "create").stderr
        assert_done(proxy.docker(users.alice, "volume", "create", "one"))  # it is there
        assert set(engine.docker("volume", "ls", "-q").stdout.split()) == {"one", "two"}
        assert_done(proxy.docker(users.bob, "run", "--rm", "-v", "bobs:/a", "busybox"))
        engine.docker("volume", "rm", "one", "two", "bobs")

    def test_ports(self, engine: Engine, users: Users, start_proxy: Callable[..., Proxy], folder: Path) -> None:
        proxy = start_proxy(engine, policy=default_policy(users) + totals(ports=4))
        exposing = engine.docker("create", "--expose", "1", "--expose", "2-3", "busybox").stdout.strip()
        engine.docker("commit", "-c", "EXPOSE 1 2 3", exposing, "exposing")
        assert_done(proxy.docker(users.alice, "create", "-p", "9000-9001:80-81", "--name", "two", "busybox"))
        assert_done(proxy.docker(users.alice, "create", "-p", "80", "--name", "random", "busybox"))
        for options in (["-p", "9002-9003:1-2", "busybox"], ["-P", "exposing"], ["-P", "--expose", "7-8", "busybox"]):
            done = proxy.docker(users.alice, "create", *options)
            assert "may publish 4 ports, you have 3 and want " in done.stderr
            assert "more (the most by two: 2; random: 1): remove a container that publishes some" in done.stderr
        assert_done(proxy.docker(users.alice, "run", "--rm", "-P", "--expose", "7", "busybox"))
        assert_done(proxy.docker(users.bob, "create", "-P", "exposing"))
        assert_done(proxy.docker(users.alice, "rm", "two"))
        assert_done(proxy.docker(users.alice, "create", "-P", "exposing"))
        engine.clean()
        engine.docker("rmi", "exposing")

    def test_at_once(self, engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> None:
        proxy = start_proxy(engine, policy=default_policy(users) + LIMITED)
        started = [
            proxy.start(users.alice, ["docker", "create", "busybox"], stdout=DEVNULL, stderr=DEVNULL) for _ in range(8)
        ]
        assert sorted(one.wait(60) for one in started) == [0, 0, 1, 1, 1, 1, 1, 1]
        assert len(engine.docker("ps", "-aq").stdout.split()) == 2

    def test_logs(self, engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> None:
        """At the bare daemon the same output takes all of it on the disk."""
        logs = "roles:\n  developer:\n    extends: developer\n    limits: {logs: 64k}\n"
        proxy = start_proxy(engine, policy=default_policy(users) + logs)
        flood = ["busybox", "sh", "-c", "yes | head -c 1000000"]
        bare, bounded = engine.docker("run", "-d", *flood).stdout.strip(), ""
        for options in ([], ["--log-driver", "local"], ["--log-opt", "max-file=3"]):
            bounded = assert_done(proxy.docker(users.alice, "run", "-d", *options, *flood)).strip()
            engine.docker("wait", bounded, bare)
            folder = Path(engine.docker("info", "-f", "{{.DockerRootDir}}").stdout.strip(), "containers", bounded)
            size = sum(path.stat().st_size for path in folder.rglob("*log*") if path.is_file())
            assert 0 < size < 100_000, options
        path = json.loads(engine.docker("inspect", bare).stdout)[0]["LogPath"]
        assert Path(path).stat().st_size > 1_000_000
        done = proxy.docker(users.alice, "run", "--log-opt", "max-size=65k", "busybox")
        assert "may not keep logs of max-file 1 of max-size 65k" in done.stderr

    def test_what_each_line_of_a_log_has(self, engine: Engine, proxy: Proxy, users: Users) -> None:
        """At the bare daemon a line of two bytes takes a megabyte of the disk, and as much of dockerd's work."""
        variables = users.alice.home / "variables"
        variables.write_text("SHORT=x\n" + "".join(f"V{number}={'x' * 60_000}\n" for number in range(17)))
        variables.chmod(0o644)
        line = ["--env-file", str(variables), "busybox", "echo", "x"]
        bare = engine.docker("run", "-d", "--log-opt", "env-regex=^V", *line).stdout.strip()
        engine.docker("wait", bare)
        assert Path(json.loads(engine.docker("inspect", bare).stdout)[0]["LogPath"]).stat().st_size > 1_000_000
        for options in ("env-regex=^V", "env=V3,SHORT"):
            done = proxy.docker(users.alice, "run", "--rm", "--log-opt", options, *line)
            assert "bytes of environment and labels written with each line of a log (allowed: 4096" in done.stderr
        assert_done(proxy.docker(users.alice, "run", "--name", "short", "--log-opt", "env=SHORT", *line))
        assert assert_done(proxy.docker(users.alice, "logs", "--details", "short")) == "SHORT=x x\n"

    def test_ulimits(self, engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> None:
        proxy = start_proxy(engine)
        show = ["busybox", "sh", "-c", "ulimit -n; ulimit -c"]
        done = proxy.docker(users.alice, "run", "--rm", "--ulimit", "nofile=2000", "--ulimit", "core=-1", *show)
        assert assert_done(done).split() == ["2000", "unlimited"]
        for ulimit in ("rtprio=1", "nice=1", "nofile=1048577", "nofile=-1"):
            done = proxy.docker(users.alice, "run", "--rm", "--ulimit", ulimit, *show)
            assert "sockproxy: HostConfig.Ulimits[0]" in done.stderr
