"""A volume's name means, when the daemon looks it up or removes it, what it meant when it was judged."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.between import Between
from tests.support.engines import Engine
from tests.support.proxy import Proxy
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root, pytest.mark.parametrize("engine", ["28"], indirect=True)]

NAME = "in-time-data"
MOMENT = 0.7  # seconds that a name has to change hands in, which takes a tenth of it


class Race:
    """Alice uses a volume of hers; as the daemon is about to look, she removes it, and Bob makes one of that name."""

    def __init__(self, engine: Engine, between: Between, proxy: Proxy, users: Users) -> None:
        self.engine, self.between, self.proxy, self.users = engine, between, proxy, users
        self.changes: list[subprocess.Popen[bytes]] = []
        assert proxy.docker(users.alice, "volume", "create", NAME).returncode == 0

    def change(self) -> None:
        """Let both take their time, and not longer."""
        self.between.act = lambda: None
        self._start(self.users.alice, "rm")
        self._start(self.users.bob, "create")

    def change_bare(self) -> None:
        self.between.act = lambda: None
        self.engine.docker("volume", "rm", NAME)
        self.engine.docker("volume", "create", "--label", f"io.sockproxy.owner={self.users.bob.uid}", NAME)

    def _start(self, user: User, verb: str) -> None:
        self.changes.append(self.proxy.start(user, ["docker", "volume", verb, NAME], stdout=-3, stderr=-3))
        try:
            self.changes[-1].wait(MOMENT)
        except subprocess.TimeoutExpired:
            pass

    def over(self) -> list[int]:
        return [change.wait(20) for change in self.changes]

    def owner(self) -> int | None:
        """Tell whose the volume is now; None where there is none."""
        done = self.engine.docker("volume", "inspect", "-f", "{{json .Labels}}", NAME, check=False)
        return int(json.loads(done.stdout)["io.sockproxy.owner"]) if done.returncode == 0 else None

    def bare(self, *arguments: str) -> Any:
        command = [self.engine.cli, "-H", f"unix://{self.between.socket}", *arguments]
        return subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def between(engine: Engine, folder: Path) -> Iterator[Between]:
    found = Between(folder / "volumes.sock", engine.socket)
    yield found
    found.stop()
    (folder / "volumes.sock").unlink()


@pytest.fixture
def race(engine: Engine, between: Between, users: Users, start_proxy: Callable[..., Proxy]) -> Iterator[Race]:
    aside = copy.copy(engine)
    aside.socket = between.socket
    yield Race(engine, between, start_proxy(aside), users)
    engine.clean()
    engine.docker("volume", "rm", "-f", NAME)


def test_a_container_gets_the_volume_that_was_judged(race: Race) -> None:
    race.between.mark, race.between.act = b"/containers/create", race.change
    create = ["create", "-v", f"{NAME}:/x", "busybox"]
    assert race.proxy.docker(race.users.alice, *create).returncode == 0
    assert race.owner() == race.users.alice.uid
    assert all(race.over())  # in use; somebody else's
    race.between.act = race.change_bare
    race.engine.clean()
    race.bare(*create)
    assert race.owner() == race.users.bob.uid, "not so on the bare daemon"


def test_a_removal_removes_what_was_judged(race: Race) -> None:
    race.between.mark, race.between.act = b"DELETE ", race.change
    assert race.proxy.docker(race.users.alice, "volume", "rm", NAME).returncode == 0
    assert all(race.over())  # it was hers until it was gone: nothing of his went with it
    assert race.owner() is None
    race.engine.docker("volume", "create", NAME)
    race.between.act = race.change_bare
    race.bare("volume", "rm", NAME)
    assert race.owner() is None, "not so on the bare daemon"
