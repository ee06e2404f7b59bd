"""Calls that come again: judged once for the same bytes, person and policy, anew when one of them is another."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sockproxy.policy import compile as compiler
from sockproxy_helpers.calls import approve, repeats
from sockproxy_helpers.channel import wire
from sockproxy_helpers.system import caller, peer
from sockproxy_helpers.system.peer import Peer
from tests.helpers.support import message
from tests.helpers.test_serve import Stage, stage  # noqa: F401

PEOPLE = {1500: ("alice", ("alice", "team")), 1501: ("bob", ("bob", "team")), 1502: ("carol", ("carol",))}
POLICY = """version: 1
auth: {accounts: none}
bindings:
  - {user: alice, role: developer}
  - {group: team, role: viewer}
  - {user: root, role: admin}
"""
LIST = {"op": "ContainerList"}


class Scene:
    """A helper to which one connection after the other says the same."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
        self.stage, self.judged, self.replies = stage, [], []
        self.people = dict(PEOPLE)
        self.process = Peer(4000, 1500, 1500)
        monkeypatch.setattr(peer, "of", lambda sock: self.process)
        monkeypatch.setattr(caller, "_look_up", self.look_up)
        monkeypatch.setattr(caller, "CACHE_SECONDS", 0.0)
        call = approve.Approval.call

        async def judge(approval, asked, *rest):
            self.judged.append(asked.operation.name)
            return await call(approval, asked, *rest)

        monkeypatch.setattr(approve.Approval, "call", judge)
        self.policy(POLICY)
        self.helper = stage.helper()

    def look_up(self, uid: int) -> tuple[str, tuple[str, ...], str]:
        user, groups = self.people.get(uid, ("", ()))
        return user, groups, f"/home/{user}" if user else ""

    def policy(self, text: str) -> None:
        compiled = compiler.dump(compiler.compile_text(text.encode(), "test.yaml"))
        (self.stage.folder / "policy.json").write_bytes(compiled)

    def be(self, uid: int) -> None:
        self.process = Peer(4000 + uid, uid, uid)

    def run(self, *steps: dict | Callable[[], object], records: int | None = None) -> None:
        """Ask, one after the other, or do something between; then wait for so many records."""

        async def part() -> None:
            _, sock = await self.stage.user()
            front = self.stage.front()
            for number, step in enumerate(steps):
                if callable(step):
                    step()
                    continue
                header = {"rid": f"{number:016x}"} | {key: item for key, item in message("x").items() if key != "rid"}
                reply, _ = await self.stage.ask(front, header | step, [sock.fileno()])
                self.replies.append(reply)
            while records is not None and len(self.stage.records) < records:
                await self.stage.loop.wait({}, 0.01)

        self.stage.run(part())

    @property
    def kept(self) -> int:
        return sum(map(len, self.helper._repeats.values()))


@pytest.fixture
def scene(stage, monkeypatch):  # noqa: F811
    return Scene(stage, monkeypatch)


def test_the_same_call_is_judged_once_and_recorded_each_time(scene):
    scene.run(LIST, LIST, lambda: setattr(scene.process, "comm", "curl"), LIST, records=6)
    assert scene.judged == ["ContainerList"]
    assert len(scene.stage.requests) == 3
    assert len(set(scene.stage.requests)) == 1
    assert b"io.sockproxy.owner%3D1500" in scene.stage.requests[0]
    intents = [record for record in scene.stage.records if record["ev"] == "intent"]
    outcomes = [record for record in scene.stage.records if record["ev"] == "outcome"]
    assert [record["rid"] for record in intents] == [f"{number:016x}" for number in (0, 1, 3)]
    assert [record["rid"] for record in outcomes] == [record["rid"] for record in intents]
    assert [record["who"]["comm"] for record in intents] == ["", "", "curl"]
    for record in intents[1:]:
        assert {**record, "rid": "", "who": {}} == {**intents[0], "rid": "", "who": {}}
    assert [record["change"] for record in outcomes] == [outcomes[0]["change"]] * 3


def test_somebody_else_is_judged_anew(scene):
    scene.run(LIST, lambda: scene.be(1501), LIST, LIST, lambda: scene.be(1502), LIST, lambda: scene.be(1500), LIST)
    assert scene.judged == ["ContainerList"] * 3
    assert [reply.get("error") for reply in scene.replies] == [None, None, None, 403, None]
    owners = [request.partition(b"owner%3D")[2][:4] for request in scene.stage.requests]
    assert owners == [b"1500", b"1501", b"1501", b"1500"]


def test_who_left_a_group_or_is_no_more_is_refused(scene):
    def leave() -> None:
        scene.people[1501] = ("bob", ("bob",))

    def rename() -> None:
        scene.people[1501] = ("alice", ("alice",))

    scene.be(1501)
    scene.run(LIST, LIST, leave, LIST, scene.people.clear, LIST, rename, LIST)
    assert [reply.get("error") for reply in scene.replies] == [None, None, 403, 403, None]
    assert len(scene.judged) == 4


def test_what_is_in_trouble_or_in_a_container_is_judged_anew(scene):
    def hide() -> None:
        scene.process.trouble = peer.GONE

    def enclose() -> None:
        scene.be(1500)
        scene.process.containers = ["c" * 64]
        scene.process.container = caller.Container("c" * 64, "web", "nginx", {}, None, "")

    scene.run(LIST, hide, LIST, enclose, LIST)
    assert [reply.get("error") for reply in scene.replies] == [None, 403, 403]
    assert len(scene.judged) == 3


def test_a_container_s_owner_is_not_the_person_by_the_memo(scene):
    def enclose() -> None:
        scene.process = Peer(4001, 0, 0)
        scene.process.containers = ["c" * 64]
        scene.process.container = caller.Container("c" * 64, "web", "nginx", {}, 1500, "")

    scene.run(LIST, enclose, LIST, LIST, records=6)
    assert len(scene.judged) == 3  # of those in containers nothing is kept
    assert [r["who"]["via"] for r in scene.stage.records if r["ev"] == "intent"] == ["peer", "container", "container"]


def test_a_new_policy_judges_anew(scene):
    def reload() -> None:
        scene.policy(POLICY.replace("user: alice", "user: dave").replace("team", "others"))
        scene.helper.reload()

    scene.run(LIST, LIST, reload, LIST)
    assert [reply.get("error") for reply in scene.replies] == [None, None, 403]


def test_a_policy_that_comes_while_a_call_waits_for_its_turn_judges_it(scene, monkeypatch):
    turns = scene.helper._approval.turns
    of = turns.of

    def wait(*asked):
        if scene.replies:
            scene.policy(POLICY.replace("user: alice", "user: dave").replace("team", "others"))
            scene.helper.reload()
        return of(*asked)

    monkeypatch.setattr(turns, "of", wait)
    scene.run(LIST, LIST)
    assert [reply.get("error") for reply in scene.replies] == [None, 403]


def test_a_policy_that_comes_while_a_call_is_judged_does_not_keep_it(scene, monkeypatch):
    """What was judged by the old one is not found by the new one."""
    call = approve.Approval.call

    async def judge(approval, *rest):
        approved = await call(approval, *rest)
        scene.policy(POLICY.replace("role: developer", "role: viewer"))
        scene.helper.reload()
        return approved

    monkeypatch.setattr(approve.Approval, "call", judge)
    scene.run(LIST)
    assert scene.kept == 0
    assert scene.replies[0].get("keep") is True


OTHERS = {
    "operation": {"op": "SystemInfo"},
    "version": {"api": "v1.24"},
    "query": {"query": [["all", "1"]]},
    "header": {"headers": {"user-agent": "x"}},
    "minor": {"minor": 0},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_other_bytes_are_another_call(scene, other):
    scene.run(LIST, LIST | other, LIST)
    assert len(scene.judged) == 2
    sent = scene.stage.requests + scene.stage.lookups  # an answer that is cut is asked for with HTTP/1.0
    assert len(sent) == 3
    assert len(set(sent)) == 2


NOT_KEPT = {
    "an object": {"op": "ContainerInspect", "vars": {"id": "x"}},
    "an object in a filter": LIST | {"query": [["filters", json.dumps({"before": ["x"]})]]},
    "a change": {"op": "ContainerPrune"},
    "a stream into a container": {"op": "ContainerAttachWebsocket", "vars": {"id": "x"}},
    "a secret": LIST | {"headers": {"x-registry-auth": "e30="}},
    "much": LIST | {"headers": {"user-agent": "x" * repeats.LARGEST}},
    "a refusal": {"op": "SystemDataUsage", "query": [["bogus", "1"]]},
}


@pytest.mark.parametrize("step", NOT_KEPT.values(), ids=NOT_KEPT)
def test_what_names_something_or_changes_it_is_not_kept(scene, step):
    scene.run(step, step)
    assert scene.kept == 0
    assert len(scene.judged) == 2


@pytest.mark.parametrize("rule", ["share: group", "mode: warn"])
def test_roles_whose_decisions_depend_on_more_are_not_kept(scene, rule):
    scene.policy(POLICY + f"roles:\n  developer: {{extends: developer, {rule}}}\n")
    scene.helper.reload()
    scene.run(LIST, LIST)
    assert scene.kept == 0
    assert len(scene.judged) == 2


def test_the_memo_has_a_bound(scene, monkeypatch):
    monkeypatch.setattr(repeats, "MOST", 4)
    scene.run(*({**LIST, "headers": {"user-agent": str(number)}} for number in range(10)))
    assert 0 < scene.kept <= 4


def test_a_call_that_comes_again_is_not_served_unrecorded(scene, monkeypatch):
    monkeypatch.setattr("sockproxy_helpers.audit.record.TIMEOUT", 0.01)

    def end() -> None:
        (scene.stage.folder / "audit/audit.sock").unlink()
        scene.helper.recorder._drop()

    scene.run(LIST, LIST, end, LIST)
    assert [reply.get("error") for reply in scene.replies] == [None, None, 503]
    assert len(scene.judged) == 1
    assert len(scene.stage.requests) == 2


def test_a_call_that_comes_again_is_counted(scene):
    """`traffic.streams` holds for it as well."""
    scene.policy(POLICY + "roles:\n  developer: {extends: developer, traffic: {streams: 1}}\n")
    scene.helper.reload()
    scene.run(LIST, lambda: scene.helper._streams._counts.update({1500: 1}), LIST)
    assert [reply.get("error") for reply in scene.replies] == [None, 429]


def test_a_message_of_another_form_is_not_taken_for_one_that_is_known(scene):
    """Only an id may stand in the id's place."""
    text = wire.pack({"rid": "0" * 16} | {key: item for key, item in message("ContainerList").items() if key != "rid"})
    known = text[26:]
    for untrusted in (b'{"rid":"' + b"x" * 16 + b'",' + known, b'{"rid":"' + b"0" * 15 + b'",' + known, known, b"{}\n"):
        assert b"rid" not in known
        try:
            assert repeats.Asked(untrusted, {known: {}}).key != known
        except wire.WireError:
            pass
    assert repeats.Asked(text, {known: {}}).key == known


def test_who_sent_it_first_need_not_be_who_sends_it_again(scene):
    """A message that is known of others is read in full."""
    scene.run(LIST, lambda: scene.be(1501), LIST | {}, records=4)
    assert [record["who"]["user"] for record in scene.stage.records if record["ev"] == "intent"] == ["alice", "bob"]
    assert scene.stage.requests[0] != scene.stage.requests[1]
