"""Who shares with whom, and what a list becomes."""

from __future__ import annotations

import json

import pytest

from sockproxy.policy.compile import compile_text, dump
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge import policy
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system.caller import Caller
from sockproxy_helpers.upstream.objects import OWNER
from sockproxy_helpers.who import mates
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
    monkeypatch.setattr(policy, "account", lambda uid: (*PEOPLE[uid], "/home"))
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
