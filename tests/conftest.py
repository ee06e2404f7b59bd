"""Fixtures of the tests that need root, unix users, engines or a whole running sockproxy.

In short: `engine` is each of 20, 26, 28 in turn (`@pytest.mark.parametrize("engine", ["28"], indirect=True)` for one),
`proxy` a sockproxy before it, shared by the tests; `start_proxy` starts one of the test's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support import cgroups, needs
from tests.support.engines import VERSIONS, Engine, Engines
from tests.support.proxy import Proxy, default_policy
from tests.support.users import Users, remove_folder, shared_folder

# Machines that run tests are busy, and may do several at once: an example that takes long has found nothing.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder that all users may enter."""
    path = shared_folder()
    yield path
    remove_folder(path)


@pytest.fixture(scope="session")
def users(folder: Path) -> Iterator[Users]:
    """Real unix users: alice and bob (developers), carol (a viewer), mallory (nobody), root (an admin)."""
    needs.root()
    (folder / "home").mkdir()
    people = Users(folder / "home")
    yield people
    people.remove()


@pytest.fixture(scope="session")
def engines(folder: Path) -> Iterator[Engines]:
    """All engines, each started when it is asked for."""
    running = Engines(folder)
    yield running
    running.stop()
    cgroups.remove_all()


@pytest.fixture(scope="session", params=VERSIONS)
def engine(request: pytest.FixtureRequest, engines: Engines) -> Engine:
    """Each Docker engine in turn."""
    return engines.get(request.param)


@pytest.fixture(scope="session")
def podman_engine(engines: Engines) -> Engine:
    """Podman's Docker-compatible service."""
    return engines.get("podman")


@pytest.fixture
def registry(engine: Engine) -> str:
    """The HOST:PORT of a registry on the engine's loopback."""
    return engine.registry()


@pytest.fixture(scope="session")
def _shared_proxy(engine: Engine, users: Users, folder: Path) -> Iterator[Proxy]:
    users.add_plugins(engine.plugins)
    place = Path(tempfile.mkdtemp(prefix=f"p{engine.version}-", dir=folder))  # pytest may set this up more than once
    place.chmod(0o755)
    running = Proxy(engine, place, default_policy(users))
    yield running
    running.stop()


@pytest.fixture
def proxy(_shared_proxy: Proxy) -> Iterator[Proxy]:
    """A sockproxy with the built-in roles before the engine; containers are removed after each test."""
    assert _shared_proxy.up.poll() is None, _shared_proxy.errors()
    yield _shared_proxy
    _shared_proxy.engine.clean()


@pytest.fixture
def start_proxy(users: Users, folder: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Proxy]]:
    """Start a sockproxy of the test's own: `start_proxy(engine, policy=TEXT)`."""
    running: list[Proxy] = []

    def start(engine: Engine, policy: str | None = None) -> Proxy:
        users.add_plugins(engine.plugins)
        place = folder / f"own{len(list(folder.glob('own*')))}"
        place.mkdir()
        running.append(Proxy(engine, place, policy or default_policy(users)))
        return running[-1]

    yield start
    for one in running:
        one.stop()
        one.engine.clean()
