"""Prunes of images: what is listed, which names of it go, and what is left to the daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.content import imageprune
from sockproxy_helpers.content.deletion import Instead
from sockproxy_helpers.content.ledger import Entry, Writer
from sockproxy_helpers.errors import Malformed, Refused, Unavailable
from sockproxy_helpers.upstream import blobs
from sockproxy_helpers.upstream.objects import OWNER
from tests.helpers.support import OPERATIONS, run
from tests.helpers.test_deletion import ONE, THREE, TWO, Scripted, image
from tests.support.judging import DEVELOPER, KIM, context

FULL = "docker.io/library/"


@pytest.fixture(autouse=True)
def _nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "_asked", [])


class Pruned(Scripted):
    """A daemon that tells how large all is, and which store it has."""

    status: object = None
    size = 100

    async def request(self, method: str, target: str) -> tuple[int, bytes]:
        if target == "/images/json":
            return 200, json.dumps(list(self.images.values())).encode()
        if target == "/info":
            return 200, json.dumps({"DriverStatus": self.status}).encode()
        if target == "/v1.41/system/df?type=image":
            return 200, json.dumps({"LayersSize": self.size - 10 * len(self.removed)}).encode()
        if method == "DELETE" and "?" not in target:  # one that is answered at once
            self.removed.append(target.removeprefix("/images/"))
            return (200, b'[{"Untagged": "x"}]')
        return await super().request(method, target.replace("%3A", ":").replace(FULL, ""))


def begin(daemon: Pruned, folder: Path, sees_all: bool = False, **filters: list[str]) -> Instead | None:
    found: list[Instead | None] = []
    ctx = context({**DEVELOPER, "sees_all": sees_all}, "ImagePrune")
    ledger = Writer(str(folder))
    ledger.put(FULL + "mine:1", Entry(KIM.uid, ONE, ""))
    ledger.put(FULL + "theirs:1", Entry(KIM.uid + 1, TWO, ""))

    async def play() -> None:
        query = [("filters", json.dumps(filters))] if filters else []
        found.append(await imageprune.begin(daemon.connect, OPERATIONS, ledger, ctx, query))

    run(Loop(), play())
    return found[0]


def prune(one: Instead, daemon: Pruned) -> dict[str, object]:
    found: list[bytes] = []

    async def pause(seconds: float) -> None:
        raise AssertionError(seconds)

    async def play() -> None:
        found.append((await one.run(json.dumps(list(daemon.images.values())).encode(), pause))[0])

    run(Loop(), play())
    answer: dict[str, object] = json.loads(found[0])
    return answer


@pytest.mark.parametrize(
    ("filters", "listed"),
    [
        ({}, {"label": [], "dangling": ["true"]}),
        ({"dangling": ["1"], "label": ["x"]}, {"label": ["x"], "dangling": ["true"]}),
        ({"dangling": ["false"], "until": ["1h"], "label!": ["y"]}, {"label": []}),
    ],
)
def test_what_is_listed(filters: dict[str, list[str]], listed: object, tmp_path: Path) -> None:
    one = begin(Pruned(), tmp_path, **filters)
    assert one
    assert (one.operation.name, [key for key, _ in one.query]) == ("ImageList", ["filters"])
    assert json.loads(one.query[0][1]) == listed


def test_names_of_others_stay(tmp_path: Path) -> None:
    daemon = Pruned(image(ONE, "mine:1"), image(TWO, "theirs:1", "mine:2"), image(THREE))
    one = begin(daemon, tmp_path)
    assert one
    assert prune(one, daemon)["SpaceReclaimed"] == 30
    assert daemon.removed == ["mine:1", FULL + "mine:2", THREE]
    daemon.removed.clear()
    one = begin(daemon, tmp_path, sees_all=True)
    assert one
    prune(one, daemon)
    assert daemon.removed == ["mine:1", FULL + "theirs:1", FULL + "mine:2", THREE]


def test_what_is_in_use_is_not_asked_about(tmp_path: Path) -> None:
    using = [{"ImageID": ONE}, {"ImageID": THREE}]
    daemon = Pruned(image(ONE, "mine:1"), image(THREE), containers=using)
    one = begin(daemon, tmp_path)
    assert one
    assert prune(one, daemon) == {"ImagesDeleted": None, "SpaceReclaimed": 0}
    assert daemon.removed == []


def test_containerds_store_is_the_daemons(tmp_path: Path) -> None:
    daemon = Pruned()
    daemon.status = [["driver-type", "io.containerd.snapshotter.v1"]]
    assert begin(daemon, tmp_path) is None
    every = {"dangling": ["false"]}
    assert begin(daemon, tmp_path, **every) is None
    daemon.images[TWO] = {**image(TWO, "theirs:1"), "Labels": {OWNER: str(KIM.uid + 1)}}
    assert begin(daemon, tmp_path, **every) is None
    daemon.images[TWO]["Labels"] = {OWNER: str(KIM.uid)}
    with pytest.raises(Refused, match="theirs:1 is somebody else's name of an image of yours, and would go with it"):
        begin(daemon, tmp_path, **every)
    assert begin(daemon, tmp_path) is None
    assert begin(daemon, tmp_path, sees_all=True, **every) is None


@pytest.mark.parametrize("filters", [{"dangling": ["maybe"]}, {"dangling": []}, {"reference": ["x"]}, {"until": ["x"]}])
def test_filters_that_the_daemon_does_not_take(filters: dict[str, list[str]], tmp_path: Path) -> None:
    with pytest.raises(Malformed):
        begin(Pruned(), tmp_path, **filters)


def test_no_list(tmp_path: Path) -> None:
    daemon = Pruned()
    one = begin(daemon, tmp_path)
    assert one
    with pytest.raises(Unavailable):
        run(Loop(), one.run(b"{}", None))  # type: ignore[arg-type]
