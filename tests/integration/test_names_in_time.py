"""A name of an image means, when the daemon looks it up, what it meant when it was judged."""

from __future__ import annotations

import copy
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.between import Between
from tests.support.cli import assert_done
from tests.support.engines import Engine
from tests.support.proxy import Proxy
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root, pytest.mark.parametrize("engine", ["28"], indirect=True)]

NAME = "in-time:1"
MOMENT = 1.5  # seconds that a name has to change hands in, which takes a tenth of it


class Race:
    """Alice has a name that all may use, and gives it to an image of her own as the daemon is about to look it up.

    Attributes:
        public, secret: the image that the name means at first, and Alice's.
    """

    def __init__(self, engine: Engine, between: Between, proxy: Proxy, users: Users, folder: Path) -> None:
        self.engine, self.between, self.proxy, self.users = engine, between, proxy, users
        archive = folder / "in-time.tar"
        engine.docker("build", "-q", "-t", NAME, "-", input="FROM busybox\nRUN echo public >/file\n")
        self.public = self.identity(NAME)
        engine.docker("save", "-o", str(archive), NAME)
        archive.chmod(0o644)
        engine.docker("rmi", NAME)
        assert_done(proxy.docker(users.alice, "load", "-i", str(archive)))
        text = "FROM busybox\nRUN echo secret >/file\n"
        assert_done(proxy.docker(users.alice, "build", "-q", "-t", "in-time-own", "-", input=text))
        self.secret = self.identity("in-time-own")
        self.moves: list[subprocess.Popen[bytes]] = []

    def identity(self, name: str) -> str:
        return self.engine.docker("image", "inspect", "-f", "{{.Id}}", name).stdout.strip()

    def move(self) -> None:
        """Let Alice take her time, and not longer."""
        self.between.act = lambda: None
        self.moves.append(self.proxy.start(self.users.alice, ["docker", "tag", "in-time-own", NAME]))
        try:
            self.moves[-1].wait(MOMENT)
        except subprocess.TimeoutExpired:
            pass

    def assert_moved(self) -> None:
        """The owner had to wait, no more."""
        assert [move.wait(20) for move in self.moves] == [0]
        assert self.identity(NAME) == self.secret


@pytest.fixture
def between(engine: Engine, folder: Path) -> Iterator[Between]:
    found = Between(folder / "between.sock", engine.socket)
    yield found
    found.stop()
    (folder / "between.sock").unlink()


@pytest.fixture
def race(
    engine: Engine, between: Between, users: Users, folder: Path, start_proxy: Callable[..., Proxy]
) -> Iterator[Race]:
    aside = copy.copy(engine)
    aside.socket = between.socket
    found = Race(engine, between, start_proxy(aside), users, folder)
    yield found
    engine.clean()
    for name in (NAME, "in-time-own"):
        engine.docker("rmi", "-f", name, check=False)


def saved(archive: bytes) -> str:
    """Tell which image an archive has."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        manifest = packed.extractfile("manifest.json")
        assert manifest
        return "sha256:" + Path(json.load(manifest)[0]["Config"]).name.removesuffix(".json")


def save(race: Race, *, bare: bool) -> str:
    race.between.mark = b"/images/get"
    if bare:
        command = [race.engine.cli, "-H", f"unix://{race.between.socket}", "save", NAME]
        return saved(subprocess.run(command, capture_output=True, check=True).stdout)
    done = race.proxy.run(race.users.bob, ["docker", "save", NAME], text=False)
    assert done.returncode == 0, done.stderr
    return saved(done.stdout)  # type: ignore[arg-type]


def create(race: Race, *, bare: bool) -> str:
    race.between.mark = b"/containers/create"
    arguments = ["create", "--pull", "never", "--name", "in-time", NAME]
    if bare:
        subprocess.run([race.engine.cli, "-H", f"unix://{race.between.socket}", *arguments], check=True)
    else:
        assert_done(race.proxy.docker(race.users.bob, *arguments))
        assert race.proxy.docker(race.users.bob, "inspect", "-f", "{{.Config.Image}}", "in-time").stdout == f"{NAME}\n"
    return race.engine.docker("inspect", "-f", "{{.Image}}", "in-time").stdout.strip()


@pytest.mark.parametrize("use", [create, save])
def test_a_name_stays_what_it_is_until_the_daemon_has_looked(race: Race, use: Callable[..., str]) -> None:
    race.between.act = race.move
    assert use(race, bare=False) == race.public
    race.assert_moved()
    race.engine.docker("rm", "in-time", check=False)
    race.engine.docker("tag", race.public, NAME)  # and the bare daemon, asked in the same moment
    race.between.act = lambda: race.engine.docker("tag", race.secret, NAME)
    assert use(race, bare=True) == race.secret


def test_a_name_that_is_being_set_is_not_sent(race: Race) -> None:
    """Alice's build sets the name at a moment of its own: who has found an image before gets that, by its ID."""
    arguments = ["docker", "build", "-t", NAME, "-"]
    building: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        race.between.act = lambda: None
        environment = race.proxy.environment(race.users.alice) | {"DOCKER_BUILDKIT": "0"}
        started = race.proxy.start(race.users.alice, arguments, stdin=-1, stdout=-1, env=environment)
        assert started.stdin
        assert started.stdout
        started.stdin.write(b"FROM busybox\nRUN echo started; sleep 3\n")
        started.stdin.close()
        while started.stdout.readline() != b"started\n":
            pass
        building.append(started)

    race.between.mark = b"/images/sha256:"  # its volumes: whose image that is has been asked
    race.between.act = begin
    assert_done(race.proxy.docker(race.users.bob, "create", "--name", "in-time", NAME))
    shown = race.engine.docker("inspect", "-f", "{{.Image}} {{.Config.Image}}", "in-time").stdout.split()
    assert shown == [race.public, race.public]
    assert building[0].wait(20) == 0
    assert building[0].stdout
    building[0].stdout.close()


def test_what_another_has_pulled_is_not_ones_to_push(race: Race) -> None:
    done = race.proxy.docker(race.users.bob, "push", NAME)
    assert "the name in-time:1 is somebody else's to push (allowed: tag it, push your own name)" in done.stderr
