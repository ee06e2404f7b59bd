"""Records of binds are forgotten when their containers are gone: never before, and never for want of an answer."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.folders.bindledger import Bind, BindLedger, new_name
from sockproxy_helpers.folders.imageusers import READER
from sockproxy_helpers.folders.sweep import YOUNG, Sweeper
from tests.helpers.asked import finish
from tests.helpers.test_bindledger import FIELDS


class Engine:
    """Stand in for `daemon.Daemon`: lists `containers`, removes volumes with `status`."""

    def __init__(self) -> None:
        self.containers: list[dict[str, Any]] = []
        self.status = 204
        self.removed: list[str] = []

    async def request(self, method: str, target: str) -> tuple[int, bytes]:
        """Answer as an Engine does."""
        if method == "DELETE" and target.startswith("/containers/"):
            self.removed.append(target.removeprefix("/containers/").partition("?")[0])
            self.containers = [one for one in self.containers if one["Id"] not in self.removed]
        return (200, json.dumps(self.containers).encode()) if method == "GET" else (self.status, b"{}")


class Swept:
    """Have one bind, and what looks after it."""

    def __init__(self, folder: Path) -> None:
        environment = {"SOCKPROXY_DOCKER_SOCKET": "", "SOCKPROXY_BINDS_SOCKET": f"{folder}/none"}
        self.ledger, self.engine, self.name = BindLedger(str(folder)), Engine(), new_name(1000)
        self.ledger.write(self.name, Bind(FIELDS))
        self._path = folder / "1000" / self.name
        self._sweeper = Sweeper(Loop(), {**environment, "SOCKPROXY_BINDS": str(folder)})

    def age(self) -> None:
        """Let the time pass in which a container is made."""
        then = self._path.stat().st_mtime - YOUNG - 1
        os.utime(self._path, (then, then))

    def hear(self, action: str) -> None:
        """Have the engine tell of the volume, as dockerd 20 to 28 do."""
        event = {"Type": "volume", "Action": action, "Actor": {"ID": self.name, "Attributes": {"driver": "x"}}}
        self._sweeper.hear(json.dumps(event, separators=(",", ":")).encode() + b"\n")

    def sweep(self) -> bool:
        """Sweep; tell whether it has to be done again."""
        return finish(self._sweeper.sweep(self.engine))  # type: ignore[arg-type]

    @property
    def kept(self) -> bool:
        """Tell whether there is still the record."""
        return self._path.exists()


@pytest.fixture
def swept(tmp_path: Path) -> Swept:
    return Swept(tmp_path)


def test_a_volume_that_is_created_is_not_listed_yet(swept: Swept) -> None:
    swept.hear("create")
    assert swept.sweep()
    assert swept.kept


def test_what_was_mounted_goes_with_its_container(swept: Swept) -> None:
    swept.hear("mount")
    swept.engine.containers = [{"State": "running", "Mounts": [{"Name": swept.name}]}]
    assert not swept.sweep()
    assert swept.kept
    swept.engine.containers = []
    assert not swept.sweep()
    assert not swept.kept


def test_what_was_in_a_container_goes_with_it(swept: Swept) -> None:
    swept.engine.containers = [{"State": "created", "Mounts": [{"Name": swept.name}]}]
    assert not swept.sweep()
    swept.engine.containers = []
    assert not swept.sweep()
    assert not swept.kept


def test_what_was_never_mounted_goes_in_time(swept: Swept) -> None:
    assert swept.sweep()
    assert swept.kept
    swept.age()
    assert not swept.sweep()
    assert not swept.kept


def test_what_can_not_be_removed_now_is_tried_again(swept: Swept) -> None:
    swept.age()
    swept.engine.status = 500  # our plugin does not answer
    assert swept.sweep()
    assert swept.kept
    swept.engine.status = 204
    assert not swept.sweep()
    assert not swept.kept


@pytest.mark.parametrize("has_bind", [True, False])
def test_a_container_that_was_left_reading_goes_in_time(swept: Swept, has_bind: bool) -> None:
    """Its helper was killed; whether anybody has a bind says nothing of it."""
    if not has_bind:
        swept.age()
        swept.sweep()
        assert not swept.kept
    reader = {"Id": "left", "Names": [f"/{READER}0"], "State": "created", "Created": int(time.time())}
    started, another = {**reader, "Id": "run", "State": "running"}, {**reader, "Id": "other", "Names": ["/web"]}
    swept.engine.containers = [reader, started, another]
    assert swept.sweep()  # it may be read from now
    assert swept.engine.removed == []
    for container in swept.engine.containers:
        container["Created"] -= int(YOUNG) + 1
    swept.sweep()
    assert swept.engine.removed == ["left"]
    assert swept.sweep() is has_bind  # whose record is young
