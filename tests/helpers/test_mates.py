"""Who shares with whom, and what a list becomes."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from sockproxy.policy.compile import compile_text, dump
from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system import caller
from sockproxy_helpers.system.caller import Caller
from sockproxy_helpers.upstream.marks import GIVEN
from sockproxy_helpers.upstream.objects import OWNER
from sockproxy_helpers.who import mates
from tests.helpers.asked import finish
from tests.support.judging import ADMIN, DEVELOPER, context, judge

POLICY = b"""version: 1
bindings:
  - {user: root, role: admin}
  - {user: chief, role: team}
  - {group: web, role: team}
  - {group: db, role: team}
  - {group: devs, role: developer}
roles: {team: {extends: developer, share: group}}
"""
PEOPLE = {
    0: ("root", ("web",)),
    1: ("ann", ("ann", "web")),
    2: ("ben", ("web", "db")),
    3: ("cid", ("db",)),
    4: ("dan", ("devs", "ops")),
    5: ("eve", ("devs",)),
    6: ("", ()),
    7: ("chief", ("web",)),
}


def person(uid: int) -> Caller:
    name, groups = PEOPLE[uid]
    return Caller(uid, uid, 0, name, list(groups), "/home")


@pytest.fixture
def loaded(monkeypatch) -> Policy:
    monkeypatch.setattr(caller, "account", lambda uid: (*PEOPLE[uid], "/home"))
    return Policy(dump(compile_text(POLICY, "p.yaml")))


@pytest.mark.parametrize(("uid", "with_whom"), [(1, {1, 2}), (2, {1, 2}), (3, {3}), (4, set()), (0, set()), (7, set())])
def test_who_shares(loaded: Policy, uid: int, with_whom: set[int]) -> None:
    """By the binding that gives the role: who has it by name, or by another group, is not in it."""
    decision = loaded.decide(person(uid), "ContainerList")
    assert {other for other in PEOPLE if decision.mates(other)} == with_whom


def test_leaving_is_seen_at_once(loaded: Policy, monkeypatch) -> None:
    decision = loaded.decide(person(1), "ContainerList")
    assert decision.mates(2)
    monkeypatch.setitem(PEOPLE, 2, ("ben", ("db",)))
    assert not decision.mates(2)


def lists(operation: str, rules: dict[str, object], answer: object, query=()) -> object:
    ctx = context(rules, operation)
    ctx.mates = lambda uid: uid == 2
    cut = mates.cut_of(ctx, list(query))
    return json.loads(cut(json.dumps(answer).encode())) if cut else None


def item(name: str, uid: int | None) -> dict[str, object]:
    return {"Name": name, "Labels": {} if uid is None else {OWNER: str(uid)}}


SHARING = DEVELOPER | {"share": "group"}
ITEMS = [item("c", 3), item("a", 1000), item("d", None), item("b", 2)]
SEEN = [ITEMS[1], ITEMS[3]]


def test_lists() -> None:
    assert lists("ContainerList", SHARING, ITEMS) == SEEN
    assert lists("ContainerList", SHARING, ITEMS, [("limit", "1")]) == SEEN[:1]
    assert lists("ContainerList", SHARING, ITEMS, [("limit", "-1")]) == SEEN
    assert lists("VolumeList", SHARING, {"Volumes": ITEMS, "Warnings": None}) == {"Volumes": SEEN, "Warnings": None}
    assert lists("VolumeList", SHARING, {"Volumes": None}) == {"Volumes": []}
    ctx = context(SHARING, "ContainerList")
    ctx.mates = lambda uid: uid == 2
    pieces = mates.cut_of(ctx, [("limit", "1")])  # of one list, see `pieces`
    assert pieces
    assert [len(json.loads(pieces(json.dumps(ITEMS).encode()))) for _ in range(3)] == [1, 0, 0]
    for rules in (DEVELOPER, ADMIN | {"share": "group"}):
        assert lists("ContainerList", rules, ITEMS) is None
    cut = mates.cut_of(context(SHARING, "ContainerList"), [])
    assert cut
    with pytest.raises(Unavailable):
        cut(b"{")


def test_what_the_daemon_is_asked_for() -> None:
    for operation in ("ContainerList", "VolumeList"):
        assert judge(operation, rules=SHARING)[0] == [
            ("filters", json.dumps({"label": [OWNER]}, separators=(",", ":")))
        ]
        assert "1000" in str(judge(operation)[0])
    assert "limit" not in dict(judge("ContainerList", query=[("limit", "3")], rules=SHARING)[0])
    assert ("limit", "3") in judge("ContainerList", query=[("limit", "3")])[0]
    for operation in ("ContainerPrune", "VolumePrune", "NetworkPrune", "SystemEvents"):
        assert "1000" in str(judge(operation, rules=SHARING)[0])


class Containers:
    """A daemon with ann's container, which was given what is ben's."""

    def __init__(self, owner: int = 1, given: str = "2", mark: str | None = None) -> None:
        labels = {OWNER: str(owner), GIVEN: given}
        mark = f"{OWNER}={owner} {GIVEN}={given}" if mark is None else mark
        self.item: dict[str, object] = {"Id": "c" * 64, "State": "running", "Labels": labels}
        self._inspected = {**self.item, "Name": "/c", "HostConfig": {"ContainerIDFile": mark}}
        self.done: list[str] = []
        self.fails = False

    def another(self) -> Containers:
        return self

    def close(self) -> None:
        pass

    async def request(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        if method == "POST":
            self.done.append(target.rpartition("/")[2])
            return 204, b""
        if self.fails:
            return 500, b"[]"
        inspects = target == f"/containers/{'c' * 64}/json"
        return 200, json.dumps(self._inspected if inspects else [self.item]).encode()


def look(watch: mates.Watch, daemon: Containers, now: Policy) -> list[str]:
    """Have a look; tell what is done to the container."""
    daemon.done = []
    finish(watch.look(daemon, now))  # type: ignore[arg-type]
    while watch._loop._ready:
        watch._loop._step(watch._loop._ready.popleft())
    return daemon.done


@pytest.fixture
def told() -> list[dict[str, object]]:
    return []


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, told: list[dict[str, object]]) -> mates.Watch:
    monkeypatch.setattr(mates, "_exists", lambda group: True)
    return mates.Watch(Loop(), SimpleNamespace(outcome=told.append), "")  # type: ignore[arg-type]


def test_what_was_given_is_stopped_when_they_share_no_more(
    loaded: Policy, watch: mates.Watch, told: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Containers()
    assert look(watch, daemon, loaded) == []
    monkeypatch.setitem(PEOPLE, 2, ("ben", ("db",)))
    daemon.fails = True
    with pytest.raises(Unavailable, match="lists nothing"):
        look(watch, daemon, loaded)
    daemon.fails = False
    assert look(watch, daemon, loaded) == ["kill", "update"]
    assert [(record["ev"], record["why"]) for record in told] == [
        ("unshared", "uid 2, whose things c was given, shares nothing with its owner: stopped")
    ]
    assert look(watch, daemon, loaded) == ["kill", "update"]  # whoever has started it
    daemon.item["State"] = "exited"
    assert look(watch, daemon, loaded) == []
    monkeypatch.setitem(PEOPLE, 2, ("ben", ("web", "db")))
    assert look(watch, daemon, loaded) == []
    monkeypatch.setitem(PEOPLE, 2, ("ben", ("db",)))
    assert look(watch, daemon, loaded) == ["update"]


def test_who_owns_a_container_leaves(loaded: Policy, watch: mates.Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEOPLE, 1, ("ann", ("ann",)))
    assert look(watch, Containers(), loaded) == ["kill", "update"]


def test_nothing_is_stopped_where_nobody_can_tell(
    loaded: Policy, watch: mates.Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No account, no group: a directory that does not answer looks so, too."""
    for uid in (1, 2):
        with monkeypatch.context() as patch:
            patch.setitem(PEOPLE, uid, ("", ()))
            assert look(watch, Containers(), loaded) == []
    monkeypatch.setitem(PEOPLE, 1, ("ann", ("ann",)))
    monkeypatch.setattr(mates, "_exists", lambda group: group != "db")
    assert look(watch, Containers(), loaded) == []


def test_neither_who_sees_all_nor_an_images_label_is_stopped(loaded: Policy, watch: mates.Watch) -> None:
    assert look(watch, Containers(owner=0), loaded) == []
    for mark in ("", f"{OWNER}=1", f"{OWNER}=1 {GIVEN}=2", f"{OWNER}=2 {GIVEN}=3", f"{OWNER}=1 {GIVEN}=3 "):
        fresh = mates.Watch(Loop(), watch._recorder, "")
        assert look(fresh, Containers(given="3", mark=mark), loaded) == [], mark
    assert look(watch, Containers(given="x,3"), loaded) == []


def test_a_policy_by_which_nobody_shares_is_looked_at_once(loaded: Policy, watch: mates.Watch) -> None:
    text = POLICY.replace(b", share: group", b"")
    alone, daemon = Policy(dump(compile_text(text, "p.yaml"))), Containers()
    assert look(watch, daemon, loaded) == []
    assert look(watch, daemon, alone) == ["kill", "update"]
    assert look(watch, daemon, alone) == []
