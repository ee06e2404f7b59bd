"""Fixtures of the tests on the wire."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.support import needs
from tests.support.belongings import Person, Root
from tests.support.engines import Engine, Engines
from tests.support.fake_daemon import FakeDaemon
from tests.support.proxy import Proxy, default_policy
from tests.support.users import Users


def _place(folder: Path, name: str) -> Path:
    """Make a folder for a fixture, which pytest may set up more than once."""
    place = Path(tempfile.mkdtemp(prefix=name, dir=folder))
    place.chmod(0o755)
    return place


@pytest.fixture(scope="session")
def fake_daemon(folder: Path) -> Iterator[FakeDaemon]:
    """A daemon that only takes notes."""
    needs.root()
    daemon = FakeDaemon(_place(folder, "fake"))
    yield daemon
    daemon.stop()


@pytest.fixture(scope="session")
def _noted_proxy(fake_daemon: FakeDaemon, users: Users, folder: Path) -> Iterator[Proxy]:
    place = _place(folder, "noted")
    running = Proxy(cast(Engine, fake_daemon), place, default_policy(users))
    yield running
    running.stop()


@pytest.fixture
def noted(_noted_proxy: Proxy, fake_daemon: FakeDaemon) -> Proxy:
    """A sockproxy before the daemon that takes notes; what it has noted before is forgotten."""
    fake_daemon.forget()
    return _noted_proxy


@pytest.fixture(scope="session")
def own_engine(folder: Path) -> Iterator[Engine]:
    """An engine that a test may kill and start again; it must leave it running."""
    needs.root()
    engine = Engine("28", folder / "own-engine")
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def engine28(engines: Engines) -> Engine:
    """The newest engine, for what does not differ between engines."""
    return engines.get("28")


@pytest.fixture(scope="session")
def _newest_proxy(engine28: Engine, users: Users, folder: Path) -> Iterator[Proxy]:
    users.add_plugins(engine28.plugins)
    place = _place(folder, "newest")
    running = Proxy(engine28, place, default_policy(users))
    yield running
    running.stop()


@pytest.fixture
def proxy28(_newest_proxy: Proxy) -> Iterator[Proxy]:
    """A sockproxy before the newest engine; containers are removed after each test."""
    assert _newest_proxy.up.poll() is None, _newest_proxy.errors()
    yield _newest_proxy
    _newest_proxy.engine.clean()


@pytest.fixture(scope="session")
def containerd(folder: Path) -> Iterator[Engine]:
    """The newest engine, with containerd's image store."""
    needs.root()
    engine = Engine("28", folder / "containerd", options="--feature containerd-snapshotter=true")
    yield engine
    engine.stop()


class People:
    """Who the tests of ownership are about.

    Attributes:
        alice, bob: developers.
        carol: a viewer.
        admin: host root, through sockproxy.
        root: root at the engine itself.
    """

    def __init__(self, proxy: Proxy, users: Users) -> None:
        self.alice, self.bob, self.carol = (Person(proxy, user) for user in (users.alice, users.bob, users.carol))
        self.admin, self.root = Person(proxy, users.root), Root(proxy, users.root)


@pytest.fixture
def people(proxy: Proxy, users: Users) -> Iterator[People]:
    """People before an engine that has nothing but busybox."""
    found = People(proxy, users)
    found.root.clean()
    yield found
    found.root.clean()


def idents(people: People, *names: str) -> list[str]:
    return [people.root.get("GET", f"/images/{name}/json")["Id"] for name in names]


def remove_all(people: People) -> None:
    """Remove all images but busybox."""
    for container in people.root.get("GET", "/containers/json?all=1"):
        people.root.ask("DELETE", f"/containers/{container['Id']}?force=1")
    for image in people.root.get("GET", "/images/json"):
        for name in image["RepoTags"] or []:
            if name not in ("busybox:latest", "<none>:<none>"):
                people.root.ask("DELETE", f"/images/{name}?force=1")


@pytest.fixture
def named(people: People) -> Iterator[People]:
    """People with nothing but busybox, also afterwards."""
    remove_all(people)
    yield people
    remove_all(people)
