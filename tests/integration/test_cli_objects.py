"""docker's commands on containers, volumes and networks through sockproxy, judged by the daemon's state."""

from __future__ import annotations

import json

import pytest

from tests.support.cli import assert_done, await_running
from tests.support.engines import Engine
from tests.support.proxy import Proxy
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

LOOP = "trap 'exit 3' TERM; trap 'echo hup' HUP; echo up >>/ups; while :; do sleep 0.1; done"


def state(engine: Engine, name: str) -> str:
    """Give a container's state by the daemon's own word."""
    return engine.docker("inspect", "-f", "{{.State.Status}}", name).stdout.strip()


def test_a_containers_life(proxy: Proxy, users: Users, engine: Engine) -> None:
    def docker(*arguments: str) -> str:
        return assert_done(proxy.docker(users.alice, *arguments))

    docker("create", "--name", "box", "busybox", "sh", "-c", LOOP)
    assert state(engine, "box") == "created"
    assert docker("start", "box") == "box\n"
    assert state(engine, "box") == "running"
    docker("exec", "box", "sh", "-c", "until [ -e /ups ]; do sleep 0.05; done")
    docker("pause", "box")
    assert state(engine, "box") == "paused"
    docker("unpause", "box")
    assert state(engine, "box") == "running"
    docker("kill", "-s", "HUP", "box")
    assert "sleep" in docker("top", "box", "-o", "pid,args") or "sh" in docker("top", "box")
    assert "A /ups\n" in docker("diff", "box")
    docker("restart", "-t", "10", "box")
    docker("exec", "box", "sh", "-c", "until [ $(wc -l </ups) = 2 ]; do sleep 0.05; done")
    docker("update", "--memory", "32m", "--memory-swap", "64m", "--cpus", "0.5", "--restart", "on-failure:3", "box")
    form = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{json .HostConfig.RestartPolicy.MaximumRetryCount}}"
    assert engine.docker("inspect", "-f", form, "box").stdout == f"{32 << 20} 500000000 3\n"
    docker("update", "--restart", "no", "box")
    docker("rename", "box", "other-name")
    docker("stop", "-t", "10", "other-name")
    assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", "other-name").stdout == "3\n"
    docker("start", "other-name")
    docker("kill", "other-name")
    await_running(engine, "other-name", state=False)
    assert docker("rm", "-v", "other-name") == "other-name\n"
    assert engine.docker("ps", "-aq").stdout == ""


def test_stop_waits_as_long_as_it_is_told(proxy: Proxy, users: Users, engine: Engine) -> None:
    script = "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
    assert_done(proxy.docker(users.alice, "run", "-d", "--name", "box", "busybox", "sh", "-c", script))
    assert_done(proxy.docker(users.alice, "stop", "-t", "1", "box"))
    assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", "box").stdout == "137\n"


def test_volumes(proxy: Proxy, users: Users, engine: Engine) -> None:
    docker = proxy.docker
    assert assert_done(docker(users.alice, "volume", "create", "--label", "x=y", "data-1.a_b")) == "data-1.a_b\n"
    assert engine.docker("volume", "inspect", "-f", "{{.Labels.x}}", "data-1.a_b").stdout == "y\n"
    found = json.loads(assert_done(docker(users.alice, "volume", "inspect", "data-1.a_b")))
    assert found[0]["Driver"] == "local"
    assert docker(users.alice, "volume", "ls", "-q", "--filter", "label=x=y").stdout == "data-1.a_b\n"
    anonymous = assert_done(docker(users.alice, "volume", "create")).strip()
    removed = assert_done(docker(users.alice, "volume", "rm", "data-1.a_b", anonymous))
    assert removed.split() == ["data-1.a_b", anonymous]
    assert not {"data-1.a_b", anonymous} & set(engine.docker("volume", "ls", "-q").stdout.split())


def test_networks(proxy: Proxy, users: Users, engine: Engine) -> None:
    def docker(*arguments: str) -> str:
        return assert_done(proxy.docker(users.alice, *arguments))

    options = ["--subnet", "172.16.77.0/24", "--gateway", "172.16.77.1", "--label", "x=y", "--internal"]
    created = docker("network", "create", *options, "net-1").strip()
    assert engine.docker("network", "inspect", "-f", "{{.ID}} {{.Internal}}", "net-1").stdout == f"{created} true\n"
    web = ["httpd", "-f", "-h", "/etc"]
    docker("run", "-d", "--name", "one", "--network", "net-1", "--ip", "172.16.77.9", "busybox", *web)
    docker("run", "-d", "--name", "two", "busybox", "sleep", "1000")
    docker("network", "connect", "--alias", "second", "net-1", "two")
    fetch = "until wget -qO- http://one/passwd; do sleep 0.05; done"
    assert "root:x" in docker("exec", "two", "timeout", "10", "sh", "-c", fetch)
    assert "172.16.77." in docker("exec", "one", "nslookup", "second")
    docker("network", "disconnect", "net-1", "two")
    attached = json.loads(engine.docker("network", "inspect", "net-1").stdout)[0]["Containers"]
    assert [one["Name"] for one in attached.values()] == ["one"]
    docker("rm", "-f", "one")
    assert docker("network", "rm", "net-1") == "net-1\n"
    assert "net-1" not in engine.docker("network", "ls").stdout


def test_pruning(proxy: Proxy, users: Users, engine: Engine) -> None:
    """Each prune by a label of the test's own: the engine holds other tests' images."""

    def docker(*arguments: str) -> str:
        return assert_done(proxy.docker(users.alice, *arguments))

    docker("run", "--name", "ended", "--label", "prune=1", "busybox", "true")
    docker("run", "--name", "kept", "busybox", "true")
    assert len(docker("container", "prune", "-f", "--filter", "label=prune=1").splitlines()) >= 3
    assert engine.docker("ps", "-a", "--format", "{{.Names}}").stdout == "kept\n"
    docker("network", "create", "--label", "prune=1", "net-prune")
    assert "net-prune" in docker("network", "prune", "-f", "--filter", "label=prune=1")
    docker("volume", "create", "--label", "prune=1", "vol-prune")
    named = ["-a"] if engine.version != "20" else []  # older API versions have no -a, and take named volumes too
    assert "vol-prune" in docker("volume", "prune", *named, "-f", "--filter", "label=prune=1")
    docker("commit", "-c", "LABEL prune=1", "kept", "img-prune")
    assert "img-prune" in docker("image", "prune", "-af", "--filter", "label=prune=1")
    for kind in ("network", "volume"):
        assert "prune" not in engine.docker(kind, "ls").stdout
    assert "img-prune" not in engine.docker("images").stdout


def test_lists_and_templates(proxy: Proxy, users: Users) -> None:
    command = ["-d", "--name", "box", "-p", "8000-8001:80-81", "--label", "a=b", "busybox", "sleep", "1000"]
    container = assert_done(proxy.docker(users.alice, "run", *command)).strip()
    for user in (users.bob, users.carol):
        assert proxy.docker(user, "ps", "--no-trunc", "-q", "--filter", "label=a=b").stdout == ""
    for user in (users.alice, users.root):
        assert proxy.docker(user, "ps", "--no-trunc", "-q", "--filter", "label=a=b").stdout.strip() == container
        form = '{{.Name}} {{join .Config.Cmd "+"}} {{range $k, $v := .HostConfig.PortBindings}}{{$k}};{{end}}'
        found = proxy.docker(user, "inspect", "--size", "-f", form, container[:12]).stdout
        assert found == "/box sleep+1000 80/tcp;81/tcp;\n"
        assert "8000" in proxy.docker(user, "port", "box", "80").stdout
