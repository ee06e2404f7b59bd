"""Processes in containers that have the filtered socket: whose word counts is the container's owner's.

The containers are made past sockproxy, with what it would give them (label and mark): the tests choose all else.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.raw import call
from tests.support.recording import documented
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root, pytest.mark.parametrize("engine", ["28"], indirect=True)]
OWNER = "io.sockproxy.owner"
# The host's curl runs in there: the image has busybox alone.
LIBRARIES = [f"{folder}:{folder}:ro" for folder in ("/usr", "/lib", "/lib64") if os.path.isdir(folder)]


class Inside:
    """Make containers with the socket, and ask from within."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy, self.engine = proxy, proxy.engine

    def make(
        self, owner: User | int | None, name: str = "", labels: dict[str, str] | None = None, **host: object
    ) -> str:
        """Start a container at the daemon itself; give its ID."""
        uid = owner.uid if isinstance(owner, User) else owner
        body: dict[str, Any] = {"Image": "busybox", "Cmd": ["sleep", "600"], "Labels": labels or {}}
        body["HostConfig"] = {"Binds": [*LIBRARIES, f"{self.proxy.listen}:/docker.sock"], "Init": True, **host}
        if uid is not None:
            body["Labels"] = {OWNER: str(uid), **body["Labels"]}
            body["HostConfig"] = {"ContainerIDFile": f"{OWNER}={uid}", **body["HostConfig"]}
        answer = call(self.engine.socket, "POST", f"/v1.41/containers/create?name={name}", body)
        assert answer.status == 201, answer.body
        found = str(answer.json["Id"])
        assert call(self.engine.socket, "POST", f"/v1.41/containers/{found}/start").status == 204
        return found

    def ask(self, container: str, target: str, *options: str, uid: int = 0) -> tuple[int, Any]:
        """Have a process in the container ask for something; give the status and what came."""
        command = ["exec", "-u", str(uid), container, "/usr/bin/curl", "-s", "-w", "\n%{http_code}", *options]
        done = self.engine.docker(*command, "--unix-socket", "/docker.sock", f"http://d/v1.41{target}")
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body) if body.strip() else None

    def create(self, container: str, uid: int = 0) -> tuple[int, Any]:
        """Have a process in the container make a container."""
        body = ["-X", "POST", "-H", "Content-Type: application/json", "-d", '{"Image": "busybox"}']
        return self.ask(container, "/containers/create", *body, uid=uid)


@pytest.fixture
def inside(proxy: Proxy) -> Inside:
    return Inside(proxy)


HOSTS = {"own": {}, "pid host": {"PidMode": "host"}, "cgroup host": {"CgroupnsMode": "host"}}


@pytest.mark.parametrize("host", HOSTS)
def test_whatever_uid_it_has_it_is_its_owner(inside: Inside, users: Users, host: str) -> None:
    bobs, hers = inside.make(users.bob), inside.make(users.alice, "hers", **HOSTS[host])
    for uid in (0, users.alice.uid, users.bob.uid, 65534):
        status, found = inside.ask(hers, "/containers/json", uid=uid)
        assert (status, [one["Id"] for one in found]) == (200, [hers])
    assert inside.ask(hers, f"/containers/{bobs}/json", uid=users.bob.uid)[0] == 404
    status, made = inside.create(hers)
    assert status == 201, made
    labels = json.loads(inside.engine.docker("inspect", "-f", "{{json .Config.Labels}}", made["Id"]).stdout)
    assert labels[OWNER] == str(users.alice.uid)
    documented(inside.proxy.records())
    record = [one for one in inside.proxy.records() if one["ev"] == "intent"][-1]["who"]
    assert (record["via"], record["user"], record["uid"]) == ("container", users.alice.name, users.alice.uid)
    assert (record["peer_uid"], record["container"], record["comm"]) == (0, {"id": hers, "name": "hers"}, "curl")


@pytest.fixture
def remapped(engine: Engine, users: Users, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine whose containers have a user namespace (userns-remap): root in there is one of bob's subuids."""
    monkeypatch.setenv("ENGINE_OPTS", f"--userns-remap={users.bob.name}")
    other = Engine(engine.version, folder / "remapped")
    yield other
    other.stop()


def test_a_mapped_or_host_user_namespace_makes_nobody_another(remapped: Engine, users: Users, start_proxy: Any) -> None:
    inside = Inside(start_proxy(remapped))
    mapped = inside.make(users.alice, "mapped")
    on_host = inside.make(users.alice, "on-host", UsernsMode="host")
    first = int(remapped.docker("inspect", "-f", "{{.State.Pid}}", "mapped").stdout)
    assert Path(f"/proc/{first}/uid_map").read_text().split()[1] != "0"
    for container in (mapped, on_host):
        for uid in (0, users.bob.uid, 1000):
            status, found = inside.ask(container, "/containers/json", uid=uid)
            assert (status, {one["Id"] for one in found}) == (200, {mapped, on_host})

    def peers() -> set[int]:
        return {one["who"]["peer_uid"] for one in inside.proxy.records() if one["ev"] == "intent"}  # type: ignore[index]

    eventually(lambda: peers() > {0, users.bob.uid}, "the kernel's numbers, root's own among them")
    for host in ({}, {"UsernsMode": "host"}):
        assert inside.ask(inside.make(None, **host), "/containers/json")[0] == 403


@pytest.mark.parametrize("owner", [None, 0])
def test_roots_containers_are_nobody(inside: Inside, users: Users, owner: int | None) -> None:
    container = inside.make(owner, "roots")
    for uid in (0, users.alice.uid):
        status, said = inside.ask(container, "/containers/json", uid=uid)
        assert status == 403
        assert "no binding matches the container roots of no user's" in said["message"]
        assert inside.create(container, uid)[0] == 403
    assert inside.ask(container, "/version")[0] == 403
    deny = [one for one in inside.proxy.records() if one["ev"] == "deny"][-1]
    assert (deny["who"]["uid"], deny["who"]["user"], deny["who"]["peer_uid"]) == (65534, "", 0)


def test_containers_of_who_has_no_role_have_none(inside: Inside, users: Users) -> None:
    container = inside.make(users.mallory)
    assert inside.ask(container, "/containers/json", uid=users.alice.uid)[0] == 403
    assert inside.ask(inside.make(4_000_000_000), "/containers/json")[0] == 403  # an account that is gone


def test_the_admins_role_is_not_to_be_had_by_a_container(users: Users, engine: Engine, start_proxy: Any) -> None:
    policy = default_policy(users).replace(
        f"group: {users.developers}, role: developer", f"user: {users.alice.name}, role: admin"
    )
    inside = Inside(start_proxy(engine, policy))
    status, said = inside.ask(inside.make(users.alice), "/containers/json")
    assert status == 403
    assert "role admin may not be held by who is known by container (allowed: peer)" in said["message"]


def test_a_label_of_the_image_makes_no_owner(inside: Inside, users: Users) -> None:
    """As a step of a build has it, or a container that root makes of a user's image."""
    container = inside.make(None, labels={OWNER: str(users.alice.uid)})
    status, said = inside.ask(container, "/containers/json")
    assert (status, "owner label is its image's" in said["message"]) == (403, True)


def test_roles_bound_to_containers(users: Users, engine: Engine, start_proxy: Any) -> None:
    lines = f"""  - {{container: {{name: watcher}}, role: viewer}}
  - {{container: {{label: "team=ci", image: busybox}}, role: ci}}
  - {{container: {{name: looks, owner: {users.bob.name}}}, role: viewer}}
  - {{group: {users.developers}, role: developer}}
"""
    policy = default_policy(users).replace(f"  - {{group: {users.developers}, role: developer}}\n", lines)
    inside = Inside(start_proxy(engine, policy))
    watcher, ci = inside.make(None, "watcher"), inside.make(0, labels={"team": "ci"})
    assert inside.ask(watcher, "/version")[0] == 200
    assert inside.create(watcher)[0] == 403
    assert inside.create(ci)[0] == 201
    # What others call so has it not; what bob calls so has what the line of his says.
    engine.docker("rename", "watcher", "former")
    assert inside.create(inside.make(users.alice, "watcher", labels={"team": "ci"}))[0] == 201
    assert inside.create(inside.make(users.bob, "looks"))[0] == 403
    assert inside.ask(inside.make(None, labels={"team": "x"}), "/version")[0] == 403
    # The name that counts is the one at the time of connecting.
    assert inside.ask(watcher, "/version")[0] == 403


@contextlib.contextmanager
def cgroup(path: str) -> Iterator[Path]:
    """Make a folder in a hierarchy of cgroups, as who was given a part of the tree could."""
    top = next(
        place for place in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if (place / "cgroup.procs").exists()
    )
    folder = top / path
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True)
    yield folder
    for place in made:
        place.rmdir()


@pytest.mark.parametrize("form", ["docker/{}", "docker-{}.scope", "a/b/{}"])
def test_a_cgroup_that_is_called_like_a_container_is_none(inside: Inside, users: Users, form: str) -> None:
    """Else whoever may make cgroups could be anybody."""
    hers = inside.make(users.alice)
    with cgroup("forged/" + form.format(hers)) as folder:
        command = ["curl", "-s", "--unix-socket", str(inside.proxy.listen), "http://d/v1.41/containers/json"]
        script = f'echo $$ > {folder}/cgroup.procs; exec "$@"'
        done = subprocess.run(["sh", "-c", script, "sh", *users.bob.command(command)], capture_output=True, text=True)
    assert "runs in a container that is none of this Docker daemon's" in json.loads(done.stdout)["message"]


def test_a_password_given_in_a_container(inside: Inside, users: Users) -> None:
    """Who is nobody in there is who can prove it; a token from there is good in there alone."""
    secret = "correct horse 9"
    subprocess.run(["chpasswd"], input=f"{users.alice.name}:{secret}", text=True, check=True)
    one, two = inside.make(None), inside.make(None)
    login = ("-u", f"{users.alice.name}:{secret}")
    assert inside.ask(one, "/containers/json")[0] == 403
    assert inside.ask(one, "/containers/json", *login)[0] == 200
    proved = {"user": users.alice.name, "via": "password", "peer_uid": 0}
    eventually(lambda: any(proved.items() <= one.get("who", {}).items() for one in inside.proxy.records()), "a record")
    given = inside.ask(one, "/../_sockproxy/tokens", "--path-as-is", "-X", "POST", *login)
    assert given[0] == 404  # the path is what it is, nothing around it
    command = ["exec", one, "/usr/bin/curl", "-s", *login, "-X", "POST", "--unix-socket", "/docker.sock"]
    token = json.loads(inside.engine.docker(*command, "http://d/_sockproxy/tokens").stdout)["token"]
    bearer = ("-H", f"Authorization: Bearer {token}")
    assert inside.ask(one, "/containers/json", *bearer)[0] == 200
    assert inside.ask(one, "/containers/json", *bearer, uid=users.bob.uid)[0] == 401
    assert inside.ask(two, "/containers/json", *bearer)[0] == 401
    outside = call(
        inside.proxy.listen, "GET", "/v1.41/containers/json", None, users.root, Authorization=f"Bearer {token}"
    )
    assert outside.status == 401
