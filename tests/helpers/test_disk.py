"""What each user's objects take of the disk, from the daemon's report."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.content import disk
from sockproxy_helpers.content.disk import Disk, by_owner
from sockproxy_helpers.content.ledger import Ledger
from sockproxy_helpers.errors import Refused, Unavailable
from sockproxy_helpers.upstream.objects import OWNER
from tests.support.judging import DEVELOPER, context

MEBI = 1 << 20


def own(uid: int, **fields: object) -> dict[str, object]:
    return {"Labels": {OWNER: str(uid)}, **fields}


IMAGES = [
    {"Id": "sha256:base", "Size": 100, "RepoTags": ["base:1"]},
    own(1000, Id="sha256:a", ParentId="sha256:base", Size=130, RepoTags=["a:1"]),
    own(1000, Id="sha256:b", ParentId="sha256:a", Size=135),
    own(1000, Id="sha256:c", ParentId="", Size=7),
    own(1001, Id="sha256:d", ParentId="sha256:a", Size=130, RepoTags=["d:1"]),
]


def test_adding_up() -> None:
    found = {
        "Containers": [own(1000, Names=["/web"], SizeRw=5), own(1001, Names=["/x"], SizeRw=9), {"SizeRw": 77}],
        "Volumes": [own(1000, Name="v", UsageData={"Size": 3}), own(1000, Name="w", UsageData={"Size": -1})],
        "Images": [],
    }
    assert by_owner(found, IMAGES, Ledger("/nowhere")) == {
        1000: [(5, "container web"), (3, "volume v"), (30, "image a:1"), (5, "image b"), (7, "image c")],
        1001: [(9, "container x")],
    }


def test_the_newest_api() -> None:
    found = {
        "ContainerUsage": {"Items": [own(1, Names=["/web"], SizeRw=5)]},
        "VolumeUsage": {"Items": [own(1, Name="v", UsageData={"Size": 3})]},
    }
    assert by_owner(found, [], Ledger("/nowhere")) == {1: [(5, "container web"), (3, "volume v")]}
    assert by_owner({"Containers": None, "Volumes": None}, [], Ledger("/nowhere")) == {}


class Reporting:
    """A daemon that says how large the caller's volume is."""

    def __init__(self, *sizes: int) -> None:
        self.sizes, self.asked, self.status = list(sizes), 0, 200
        self.took: Callable[[], object] = lambda: None

    async def request(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        if target.startswith("/images"):
            return 200, b"[]"
        self.asked += 1
        self.took()
        size = self.sizes[min(self.asked, len(self.sizes)) - 1]
        return self.status, json.dumps({"Volumes": [own(1000, Name="v", UsageData={"Size": size})]}).encode()


class Asking:
    """Someone who may have 10 MiB, asking for more at moments of a clock."""

    def __init__(self, monkeypatch, *sizes: int) -> None:
        self.now = 1000.0
        monkeypatch.setattr(disk.time, "monotonic", lambda: self.now)
        self.loop = Loop()
        self.disk, self.daemon = Disk(self.loop, Ledger("/nowhere")), Reporting(*sizes)

    def ask(self, operation: str = "ImageBuild", most: int | None = 10 * MEBI) -> str:
        rules = DEVELOPER | {"totals": {**DEVELOPER["totals"], "disk": most}}  # type: ignore[dict-item]
        said = []

        async def go() -> None:
            try:
                await self.disk.room(self.daemon, context(rules, operation))
            except (Refused, Unavailable) as error:
                said.append(str(error))

        # The daemon answers at once, so nothing waits: the clock of the loop may stand still.
        coroutine = go()
        with pytest.raises(StopIteration):
            coroutine.send(None)
        return said[0] if said else ""


def test_a_report_counts_for_a_while(monkeypatch) -> None:
    asking = Asking(monkeypatch, 1, 11 * MEBI, 1)
    assert asking.ask() == asking.ask() == ""
    assert asking.daemon.asked == 1
    asking.now += 1.9
    assert asking.ask() == ""
    assert asking.daemon.asked == 1
    asking.now += 0.2
    why = "role developer may use 10m of the disk, and you use 11m; the largest are volume v (11m): remove some"
    assert asking.ask().startswith(why)
    assert asking.daemon.asked == 2
    asking.now += 6
    assert asking.ask() == ""  # removed meanwhile
    assert asking.daemon.asked == 3


def test_what_is_expensive_is_asked_for_rarely(monkeypatch) -> None:
    asking = Asking(monkeypatch, 1)

    def slowly() -> None:
        asking.now += 1.5

    asking.daemon.took = slowly
    for pause, asked in ((0, 1), (149, 1), (2, 2)):
        asking.now += pause
        assert asking.ask() == ""
        assert asking.daemon.asked == asked


def test_who_and_what_does_not_count(monkeypatch) -> None:
    asking = Asking(monkeypatch, 11 * MEBI)
    assert asking.ask(most=None) == asking.ask("ContainerStart") == asking.ask("VolumeDelete") == ""
    assert asking.daemon.asked == 0
    assert asking.ask(most=11 * MEBI) == ""


def test_a_daemon_that_does_not_tell(monkeypatch) -> None:
    asking = Asking(monkeypatch, 1)
    asking.daemon.status = 500
    assert asking.ask() == "the Docker daemon does not tell what is used of the disk"
    asking.daemon.status = 200
    assert asking.ask() == ""
