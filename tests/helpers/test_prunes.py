"""Prunes of containers: what is listed, what of it is removed, and that none waits for one that does not come back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sockproxy_helpers.calls import prunes
from sockproxy_helpers.calls.prunes import Prunes
from sockproxy_helpers.channel.loop import Lock, Loop
from sockproxy_helpers.content.deletion import Instead
from sockproxy_helpers.content.ledger import Ledger
from sockproxy_helpers.errors import Malformed, Unavailable
from sockproxy_helpers.stream.tunnel import Gone
from sockproxy_helpers.upstream import filters
from sockproxy_helpers.upstream.objects import OWNER
from tests.helpers.support import Chain, run
from tests.support.judging import DEVELOPER, context

NOW = 1_700_000_000
SIZES = {"a": 5, "c": 7}
LISTED = [
    {"Id": "a" * 64, "Created": NOW - 7200, "Labels": {"x": "1", "y": ""}},
    {"Id": "b" * 64, "Created": NOW - 3600, "Labels": {"x": "2"}},
    {"Id": "c" * 64, "Created": NOW - 10, "Labels": None},
]


class Removing:
    """A daemon that takes note of what it is to remove, and comes back when it is let."""

    asked: list[str]
    stuck: dict[str, Lock]
    status = 204
    running: set[str]

    def __init__(self, loop: Loop, path: str) -> None:
        self.loop = loop

    async def request(self, method: str, target: str) -> tuple[int, bytes]:
        if method == "GET":
            running = target[12] in self.running
            size = {"SizeRw": SIZES.get(target[12])} if target.endswith("/json?size=1") else {}
            return 200, json.dumps({"State": {"Running": running}, **size}).encode()
        assert (method, target[:12]) == ("DELETE", "/containers/")
        self.asked.append(target[12])
        if target[12] in self.stuck:
            async with self.stuck[target[12]]:
                pass
        if self.status == 0:
            raise Unavailable("gone")
        return self.status, b""

    def close(self) -> None:
        pass


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> type[Removing]:
    monkeypatch.setattr(Removing, "asked", [], raising=False)
    monkeypatch.setattr(Removing, "stuck", {}, raising=False)
    monkeypatch.setattr(Removing, "running", set(), raising=False)
    monkeypatch.setattr(Removing, "status", 204)
    monkeypatch.setattr(prunes, "Daemon", Removing)
    monkeypatch.setattr(prunes, "PATIENCE", 0.01)
    monkeypatch.setattr(filters.time, "time", lambda: NOW)
    return Removing


def of(operation: str, query: list[tuple[str, str]]) -> Instead | None:
    found: list[Instead | None] = []
    loop = Loop()

    async def play() -> None:
        found.append(await Prunes(loop, "", Ledger("/nowhere")).of(context(DEVELOPER, operation), query))

    run(loop, play())
    return found[0]


def prune(keeper: Prunes, loop: Loop, listed: object = LISTED, **filters: list[str]) -> tuple[dict[str, object], str]:
    found: list[tuple[bytes, str]] = []

    async def pause(seconds: float) -> None:
        await loop.wait({}, seconds)

    async def play() -> None:
        query = [("filters", json.dumps({key.replace("not_", "label!"): value for key, value in filters.items()}))]
        one = await keeper.of(context(DEVELOPER, "ContainerPrune"), query)
        assert one
        found.append(await one.run(json.dumps(listed).encode(), pause))

    run(loop, play())
    return json.loads(found[0][0]), found[0][1]


@pytest.mark.parametrize(
    ("filters", "gone"),
    [
        ({}, "abc"),
        ({"until": ["1h"]}, "a"),
        ({"until": ["59m"]}, "ab"),
        ({"until": [str(NOW - 10)]}, "ab"),
        ({"until": [f"{NOW - 10}.9"]}, "ab"),
        ({"until": [str(NOW - 9)]}, "abc"),
        ({"not_": ["x"]}, "c"),
        ({"not_": ["x=1"]}, "bc"),
        ({"not_": ["x=1", "y"]}, "bc"),
        ({"not_": ["x=1", "y="]}, "bc"),
        ({"not_": ["x=1", "z"]}, "abc"),
        ({"not_": []}, ""),
        ({"not_": ["x=1"], "until": ["59m"]}, "b"),
    ],
)
def test_what_goes(filters: dict[str, list[str]], gone: str, daemon: type[Removing]) -> None:
    loop = Loop()
    told, note = prune(Prunes(loop, "", Ledger("/nowhere")), loop, **filters)
    sizes = sum(SIZES.get(one, 0) for one in gone)
    assert (told, note) == ({"ContainersDeleted": [one * 64 for one in gone] or None, "SpaceReclaimed": sizes}, "")
    assert daemon.asked == list(gone)


def test_what_runs_stays(daemon: type[Removing], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the list says."""
    monkeypatch.setattr(daemon, "running", {"b"})
    loop = Loop()
    told, _ = prune(Prunes(loop, "", Ledger("/nowhere")), loop)
    assert told == {"ContainersDeleted": ["a" * 64, "c" * 64], "SpaceReclaimed": 12}
    assert daemon.asked == ["a", "c"]


def test_what_is_asked_instead() -> None:
    filters = {"label": ["x", f"{OWNER}=1000"], "label!": ["y"], "until": ["1h"]}
    one = of("ContainerPrune", [("filters", json.dumps(filters))])
    assert one
    assert one.operation.name == "ContainerList"
    asked = dict(one.query)
    assert json.loads(asked.pop("filters")) == {"label": filters["label"]}
    assert asked == {"all": "1"}
    assert of("ContainerList", []) is None


@pytest.mark.parametrize("filters", [{"name": ["x"]}, {"until": ["1h", "2h"]}, {"until": ["soon"]}, {"Label": ["x"]}])
def test_filters_that_the_daemon_does_not_take(filters: dict[str, list[str]]) -> None:
    with pytest.raises(Malformed):
        of("ContainerPrune", [("filters", json.dumps(filters))])


@pytest.mark.parametrize("status", [409, 404, 500, 0])
def test_what_stays(status: int, daemon: type[Removing], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "status", status)
    loop = Loop()
    assert prune(Prunes(loop, "", Ledger("/nowhere")), loop) == ({"ContainersDeleted": None, "SpaceReclaimed": 0}, "")
    assert daemon.asked == ["a", "b", "c"]


@pytest.mark.parametrize("listed", ["no", {"message": "no"}, None])
def test_no_list(listed: object, daemon: type[Removing]) -> None:
    loop = Loop()
    with pytest.raises(Unavailable):
        prune(Prunes(loop, "", Ledger("/nowhere")), loop, listed)
    assert daemon.asked == []


def test_one_that_hangs_holds_nothing(daemon: type[Removing], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prunes, "TOGETHER", 1)
    loop = Loop()
    keeper, daemon.stuck["b"] = Prunes(loop, "", Ledger("/nowhere")), Lock(loop)
    daemon.stuck["b"]._held = True
    told, note = prune(keeper, loop)
    assert told["ContainersDeleted"] == ["a" * 64, "c" * 64]
    assert note == "the daemon does not come back from the removal of bbbbbbbbbbbb"
    told, note = prune(keeper, loop, LISTED[1:2])
    assert (told["ContainersDeleted"], note[-12:]) == (None, "b" * 12)
    assert daemon.asked == ["a", "b", "c"], "it is asked twice"
    run(loop, daemon.stuck["b"].__aexit__())
    told, note = prune(keeper, loop, LISTED[1:2])
    assert (told["ContainersDeleted"], note) == (["b" * 64], "")
    assert daemon.asked == ["a", "b", "c", "b"]


def test_who_leaves_ends_it(daemon: type[Removing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prunes, "TOGETHER", 1)
    monkeypatch.setattr(prunes, "PATIENCE", 60)
    chain = Chain(tmp_path)
    daemon.stuck["a"] = Lock(chain.loop)
    daemon.stuck["a"]._held = True

    async def client() -> None:
        one = await Prunes(chain.loop, "", Ledger("/nowhere")).of(context(DEVELOPER, "ContainerPrune"), [])
        await chain.call("ContainerPrune", instead=one)

    async def docker() -> None:
        peer = await chain.listener.accept()
        assert (await peer.request()).startswith(b"GET /v1.41/containers/json?all=1&filters=%7B%22label")
        body = json.dumps(LISTED).encode()
        await peer.send(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        while not daemon.asked:
            await chain.loop.wait({}, 0.01)
        chain.client.close()

    chain.run(client(), docker())
    assert isinstance(chain.end, Gone)
    assert daemon.asked == ["a"]
    chain.close()
