"""`share: group`: members of a unix group see and use one another's things, as long as they are members."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.support.cli import Running, assert_done
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.users import Users

pytestmark = pytest.mark.daemon

POLICY = """version: 1
bindings:
  - {{user: root, role: admin}}
  - {{group: {team}, role: team}}
  - {{group: {developers}, role: developer}}
roles:
  team: {{extends: developer, share: group}}
"""


class Team:
    """Alice and bob in a group that shares; carol is put in and out."""

    proxy: Proxy

    def __init__(self, users: Users, group: str) -> None:
        self.group = group
        self.alice, self.bob, self.carol = users.alice, users.bob, users.carol

    def join(self, *names: str) -> None:
        for name in names:
            subprocess.run(["gpasswd", "-a", name, self.group], check=True, capture_output=True)

    def leave(self, name: str) -> None:
        subprocess.run(["gpasswd", "-d", name, self.group], check=True, capture_output=True)


@pytest.fixture
def team(engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> Iterator[Team]:
    group = f"spteam{os.getpid() % 100000}"
    subprocess.run(["groupadd", group], check=True)
    try:
        found = Team(users, group)
        found.join(users.alice.name, users.carol.name)
        found.proxy = start_proxy(engine, policy=POLICY.format(team=group, developers=users.developers))
        yield found
        assert "Traceback" not in found.proxy.errors()
    finally:
        subprocess.run(["groupdel", group], check=True)
        engine.docker("volume", "prune", "-af", check=False)


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_see_and_use(team: Team) -> None:
    run, alice, carol, bob = team.proxy.docker, team.alice, team.carol, team.bob
    assert_done(
        run(alice, "run", "-d", "--name", "box", "-v", "data:/data", "busybox", "sh", "-c", "echo hi; sleep 600")
    )
    assert_done(run(alice, "network", "create", "net"))
    assert_done(
        run(carol, "run", "-d", "--name", "carols", "--network", "net", "-v", "data:/d", "busybox", "sleep", "600")
    )
    assert_done(run(bob, "run", "-d", "--name", "bobs", "busybox", "sleep", "600"))
    for user in (alice, carol):
        assert set(assert_done(run(user, "ps", "--format", "{{.Names}}")).split()) == {"box", "carols"}
        assert assert_done(run(user, "ps", "-l", "--format", "{{.Names}}")).split() == ["carols"]
        assert assert_done(run(user, "volume", "ls", "-q")).split() == ["data"]
        assert {"net", "bridge"} <= set(assert_done(run(user, "network", "ls", "--format", "{{.Name}}")).split())
    assert assert_done(run(bob, "ps", "-a", "--format", "{{.Names}}")).split() == ["bobs"]
    assert assert_done(run(bob, "volume", "ls", "-q")).split() == []
    assert assert_done(run(carol, "logs", "box")) == "hi\n"
    assert_done(run(carol, "exec", "box", "touch", "/data/file"))
    assert assert_done(run(carol, "exec", "carols", "ls", "/d")) == "file\n"
    assert_done(run(carol, "restart", "-t", "0", "box"))
    assert_done(run(alice, "network", "disconnect", "net", "carols"))
    assert "No such container: box" in run(bob, "exec", "box", "true").stderr


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_a_list_shows_binds_as_asked_for(team: Team) -> None:
    """Two cuts of one answer: whose containers are in it, and what their mounts are."""
    run, alice, carol, bob = team.proxy.docker, team.alice, team.carol, team.bob
    for user, name in ((alice, "box"), (bob, "bobs")):
        assert_done(run(user, "create", "--name", name, "-v", f"{user.home}:/h", "busybox"))
    for user in (alice, carol):
        told = assert_done(run(user, "ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.Mounts}}"))
        assert told == f"box {alice.home}\n"
    assert_done(run(alice, "rm", "box"))
    assert_done(run(bob, "rm", "bobs"))


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_what_is_the_owners(team: Team) -> None:
    run, alice, carol = team.proxy.docker, team.alice, team.carol
    assert_done(run(alice, "create", "--name", "box", "-v", "data:/data", "busybox"))
    assert_done(run(alice, "network", "create", "net"))
    for arguments in (["rm", "-f", "box"], ["rename", "box", "x"], ["update", "--cpus", "1", "box"]):
        done = run(carol, *arguments)
        assert "role team may use the container box, not remove or change it" in done.stderr
        assert "sockproxy.yaml:7 " in done.stderr
    assert "may use the volume data, not remove" in run(carol, "volume", "rm", "data").stderr
    assert "may use the network net, not remove" in run(carol, "network", "rm", "net").stderr
    for prune in (["container", "prune", "-f"], ["volume", "prune", "-af"], ["network", "prune", "-f"]):
        assert_done(run(carol, *prune))
    engine = team.proxy.engine
    assert engine.docker("ps", "-a", "--format", "{{.Names}}").stdout.split() == ["box"]
    assert "data" in engine.docker("volume", "ls", "-q").stdout
    assert_done(run(alice, "rm", "box"))
    assert_done(run(alice, "volume", "rm", "data"))
    assert_done(run(alice, "network", "rm", "net"))


# What alice's containers are given of carol's.
GIVEN = {
    "volume": ["-v", "kept:/d", "--restart", "always"],
    "from": ["--volumes-from", "box"],
    "space": ["--network", "container:box", "--pid", "container:box"],
    "net": ["--network", "net"],
}
USES = [
    "start {}",
    "restart {}",
    "cp -q {}:/ -",
    "export {}",
    "commit {}",
    "logs {}",
    "diff {}",
    "exec {} cat /d/secret",
]


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_leaving_the_group_ends_it(team: Team, users: Users) -> None:
    """Of another's things all, and what one's own containers were given of those, not one's own."""
    run, alice, carol, engine = team.proxy.docker, team.alice, team.carol, team.proxy.engine
    secret = carol.home / "secret"
    team.proxy.run(carol, ["sh", "-c", f"echo bound > {secret}"])
    assert_done(run(carol, "network", "create", "net"))
    box = ["--name", "box", "--network", "net", "-v", "kept:/d", "-v", f"{secret}:/bound"]
    assert_done(run(carol, "run", "-d", *box, "busybox", "sh", "-c", "echo kept > /d/secret; exec sleep 600"))
    for name, options in {**GIVEN, "own": [], "second": ["--volumes-from", "volume"]}.items():
        assert_done(run(alice, "run", "-d", "--name", name, *options, "busybox", "sleep", "600"))
    assert_done(
        run(alice, "create", "--name", "idle", "--restart", "always", *GIVEN["from"], "busybox", "cat", "/bound")
    )
    assert "not connect the container own to the network net" in run(alice, "network", "connect", "net", "own").stderr
    assert assert_done(run(alice, "exec", "second", "cat", "/d/secret")) == "kept\n"
    assert assert_done(run(alice, "exec", "from", "cat", "/bound")) == "bound\n"
    with Running(team.proxy, alice, "exec", "-i", "box", "cat", stdin=subprocess.PIPE) as session:
        eventually(lambda: "cat" in engine.docker("top", "box").stdout, "a session")
        team.leave(alice.name)  # alice goes on as a developer
        session.wait()
    held, policy = {*GIVEN, "second", "idle"}, "{{.HostConfig.RestartPolicy.Name}}"
    eventually(lambda: set(engine.docker("ps", "--format", "{{.Names}}").stdout.split()) == {"box", "own"}, "stopped")
    eventually(lambda: set(engine.docker("inspect", "-f", policy, *held).stdout.split()) == {"no"}, "it stays so")
    assert "No such container" in run(alice, "exec", "box", "true").stderr
    assert "No such container" in run(carol, "exec", "own", "true").stderr
    assert set(assert_done(run(alice, "ps", "-a", "--format", "{{.Names}}")).split()) == {*held, "own"}
    assert assert_done(run(carol, "ps", "-a", "--format", "{{.Names}}")).split() == ["box"]
    why = f"which was given what is uid {carol.uid}'s, who shares nothing with you now"
    for name in held:
        for use in USES if name == "second" else USES[:1]:
            done = run(alice, *use.format(name).split())
            assert done.stdout == "", use
            assert why in done.stderr, use
        assert why in run(alice, "run", "--rm", "--volumes-from", name, "busybox", "cat", "/d/secret").stderr
    assert why in run(alice, "update", "--restart", "always", "second").stderr
    assert_done(run(alice, "exec", "own", "true"))
    told = [record["objects"] for record in team.proxy.records() if record["ev"] == "unshared"]
    assert {item["name"] for (item,) in told} == held - {"idle"}  # type: ignore[attr-defined]
    identity = assert_done(run(alice, "inspect", "-f", "{{.Id}}", "volume")).strip()
    assert "No such container" in run(carol, "inspect", "--type", "container", identity).stderr
    assert_done(run(carol, "rm", identity))  # it would keep the volume for ever
    team.join(alice.name)
    eventually(lambda: run(alice, "start", "second").returncode == 0, "and back")
    assert "may use the container second, not remove" in run(carol, "rm", "-f", "second").stderr
    assert assert_done(run(alice, "exec", "second", "cat", "/d/secret")) == "kept\n"
    team.proxy.reload(default_policy(users))
    assert run(alice, "exec", "second", "cat", "/d/secret").returncode != 0
    shown = json.loads(engine.docker("inspect", "own").stdout)[0]["Config"]["Labels"]
    assert {key for key in shown if key.startswith("io.sockproxy")} == {"io.sockproxy.owner"}
    engine.docker("rm", "-f", "box")
