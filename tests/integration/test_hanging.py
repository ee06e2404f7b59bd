"""A container that hangs in dockerd keeps its lock for ever: the daemon's own prunes wait for it, nobody's here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.belongings import Person, Root
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.raw import Answer, Connection
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

HANG = ["sh", "-c", "rm /etc/passwd; mkfifo /etc/passwd"]  # at the next start dockerd opens it, and waits
WAITS = 0.3  # seconds; what does not hang takes some 20 ms


@pytest.fixture(scope="module")
def hanging(users: Users, folder: Path) -> Iterator[Proxy]:
    """A sockproxy before an engine in which alice's container hangs."""
    engine = Engine("28", folder / "hanging-engine")
    (folder / "hanging").mkdir()
    proxy = Proxy(engine, folder / "hanging", default_policy(users))
    try:
        alice = Person(proxy, users.alice)
        alice.create("stuck", Cmd=HANG)
        alice.get("POST", "/containers/stuck/start")
        alice.get("POST", "/containers/stuck/wait")
        with Connection(proxy.listen, users.alice) as start:
            start.request("POST", "/containers/stuck/start")
            eventually(lambda: not past(proxy, "GET", "/containers/stuck/json"), "the container hangs")
            yield proxy
    finally:
        proxy.stop()
        os.kill(int((engine.folder / "dockerd.pid").read_text()), signal.SIGKILL)  # it would take 20 s to end by itself
        engine.stop()


def past(proxy: Proxy, method: str, target: str) -> Answer | None:
    """Ask the engine itself; None when it does not answer in time."""
    with Connection(proxy.engine.socket, timeout=WAITS) as connection:
        try:
            return connection.call(method, target)
        except TimeoutError:
            return None


def stopped(who: Person, name: str) -> str:
    identity = who.create(name, Cmd=["true"])
    who.get("POST", f"/containers/{name}/start")
    who.get("POST", f"/containers/{name}/wait")
    return identity


def test_prunes_of_others_and_ones_own(hanging: Proxy, users: Users) -> None:
    bob, admin, alice = (Person(hanging, user) for user in (users.bob, users.root, users.alice))
    theirs = stopped(bob, "bobs")
    assert bob.get("POST", "/containers/prune")["ContainersDeleted"] == [theirs]
    kept, theirs = stopped(alice, "alices"), stopped(bob, "bobs")
    assert alice.get("POST", "/containers/prune")["ContainersDeleted"] == [kept]
    assert admin.get("POST", "/containers/prune")["ContainersDeleted"] == [theirs]
    note = "does not come back"
    eventually(lambda: sum(note in str(record.get("out")) for record in hanging.records()) == 2, "alice's, the admin's")


def test_others_are_not_held(hanging: Proxy, users: Users) -> None:
    for user in (users.bob, users.root):
        command = (
            "docker system prune -f --volumes && docker ps -as && docker system df -v && docker network inspect bridge"
        )
        done = hanging.run(user, ["sh", "-c", command], timeout=20)
        assert done.returncode == 0, done.stderr


def test_removals_of_images(hanging: Proxy, users: Users) -> None:
    bob, admin = Person(hanging, users.bob), Person(hanging, users.root)
    made = stopped(bob, "bobs")
    for who, name in ((bob, "bobs-1"), (admin, "bobs-2")):
        image = who.get("POST", f"/commit?container={made}&repo={name}")["Id"]
        assert {"Deleted": image} in who.get("DELETE", f"/images/{name}"), name
    assert bob.build("FROM busybox\nRUN echo 1 >/1\nRUN echo 2 >/2\n", "t=built").status == 200
    before = admin.get("GET", "/images/json?all=1")
    gone = [record["Deleted"] for record in bob.get("DELETE", "/images/built") if "Deleted" in record]
    after = admin.get("GET", "/images/json?all=1")
    assert len(before) - len(after) >= 2, "steps go with it"
    assert {item["Id"] for item in before} - {item["Id"] for item in after} <= set(gone)
    image = bob.get("POST", f"/commit?container={made}&repo=bobs-3")["Id"]
    pruned = "/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D"
    assert {"Deleted": image} in bob.get("POST", pruned)["ImagesDeleted"]
    admin.get("POST", pruned)
    changes = [str(record["change"]) for record in hanging.records() if "change" in record]
    assert any("force" in change and "noprune" in change for change in changes), "it is on record"
    found = admin.ask("DELETE", "/images/busybox")
    assert (found.status, "is using its referenced image" in found.message) == (409, True)


def test_the_daemons_own_waits(hanging: Proxy, users: Users) -> None:
    """Last, since from then on nobody prunes networks."""
    root = Root(hanging, users.root)
    root.get("POST", f"/commit?container={root.create('roots')}&repo=roots")
    assert past(hanging, "DELETE", "/images/roots") is None
    assert past(hanging, "POST", "/containers/prune?filters=%7B%22label%22%3A%5B%22nobodys%22%5D%7D") is None
    found = past(hanging, "POST", "/networks/prune")
    assert found
    assert found.status == 409
