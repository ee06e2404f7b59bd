"""A refused upload shows the refusal, never "broken pipe", however much is still to come."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import MEBIBYTE, assert_refused, state, write_random
from tests.support.engines import Engine
from tests.support.proxy import Proxy
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

TIMES = {"28": 20}  # and twice on each other engine, which has no part in this

VIEWER = {
    "build a tar": ["build", "-"],
    "build a folder": ["build", "{folder}"],
    "cp": ["cp", "{folder}/big", "victim:/tmp"],
    "load": ["load"],
    "import": ["import", "-"],
}
DEVELOPER = {
    "build with the host's network": ["build", "--network", "host", "-"],
    "build a folder with our label": ["build", "--label", "io.sockproxy.x=y", "{folder}"],
    "import with our label": ["import", "-c", "LABEL io.sockproxy.x=y", "-"],
}


@pytest.fixture(scope="session")
def upload(users: Users, folder: Path) -> Path:
    """A folder with 60 MB to build from, and a tar of it."""
    place = folder / "upload"
    place.mkdir()
    (place / "Dockerfile").write_text("FROM busybox\nCOPY big /\n")
    write_random(place / "big", 60 * MEBIBYTE, users.root).chmod(0o644)
    with tarfile.open(folder / "upload.tar", "w") as archive:
        archive.add(place, arcname=".")
    return place


@pytest.fixture
def refused(proxy: Proxy, users: Users, engine: Engine, upload: Path) -> Callable[[str, list[str]], None]:
    """Demand that a user's upload is refused, again and again, and nothing has come of it."""

    def demand(name: str, command: list[str]) -> None:
        user = getattr(users, name)
        before = state(engine)
        arguments = [argument.format(folder=upload) for argument in command]
        for _ in range(TIMES.get(engine.version, 2)):
            with open(upload.with_suffix(".tar"), "rb") as stdin:
                environment = proxy.environment(user) | {"DOCKER_BUILDKIT": "0"}
                assert_refused(proxy.docker(user, *arguments, stdin=stdin, env=environment))
        assert state(engine) == before

    return demand


@pytest.mark.parametrize("command", VIEWER.values(), ids=VIEWER.keys())
def test_a_viewers_upload(refused: Callable[[str, list[str]], None], engine: Engine, command: list[str]) -> None:
    engine.docker("create", "--name", "victim", "busybox", "true")
    refused("carol", command)


@pytest.mark.parametrize("command", DEVELOPER.values(), ids=DEVELOPER.keys())
def test_a_developers_upload(refused: Callable[[str, list[str]], None], command: list[str]) -> None:
    refused("alice", command)
