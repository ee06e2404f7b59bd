"""Compose works for a developer as on a Docker of one's own, and what it makes is that developer's."""

from __future__ import annotations

import pytest

from tests.integration.conftest import People
from tests.support.proxy import Proxy
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

FILE = """name: shop
services:
  db:
    image: busybox
    command: [sleep, "600"]
    volumes: ["data:/data", "/anonymous"]
    networks: [back]
  web:
    image: busybox
    command: [sleep, "600"]
    depends_on: [db]
    links: ["db:database"]
    networks: {back: {aliases: [front-door]}, front: {}}
volumes: {data: {}}
networks: {back: {}, front: {}}
"""


def write(user: User, name: str, text: str) -> str:
    path = user.home / name
    path.write_text(text)
    path.chmod(0o644)
    return str(path)


def test_up_again_and_down(people: People, proxy: Proxy, users: Users) -> None:
    file = write(users.bob, "compose.yaml", FILE)
    before = people.root.state()
    up = ["compose", "-f", file, "up", "-d", "--quiet-pull"]
    done = proxy.docker(users.bob, *up)
    assert done.returncode == 0, done.stderr
    state = people.root.state()
    made = {kind: set(state[kind]) - set(before[kind]) for kind in ("containers", "volumes", "networks")}
    assert [len(found) for found in made.values()] == [2, 2, 2]
    assert all(people.root.volumes()[name].items() >= people.bob.label.items() for name in made["volumes"])
    for name in made["networks"]:
        assert people.root.get("GET", f"/networks/{name}")["Labels"].items() >= people.bob.label.items()
    for name in ("db", "database", "front-door"):
        looked_up = proxy.docker(users.bob, "compose", "-f", file, "exec", "-T", "web", "nslookup", name)
        assert f"Name:\t{name}" in looked_up.stdout, looked_up.stdout + looked_up.stderr
    again = proxy.docker(users.bob, *up)
    assert again.returncode == 0, again.stderr
    assert people.root.state()["containers"].keys() == state["containers"].keys()  # nothing was made anew
    assert proxy.docker(users.alice, "compose", "ls", "-a", "-q").stdout == ""
    other = proxy.docker(users.alice, "compose", "-f", write(users.alice, "compose.yaml", FILE), "down", "-v")
    assert people.root.state()["containers"].keys() == state["containers"].keys(), other.stderr
    down = proxy.docker(users.bob, "compose", "-f", file, "down", "-v", "-t", "0")
    assert down.returncode == 0, down.stderr
    assert people.root.state() == before
