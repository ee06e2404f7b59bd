"""Sessions: BuildKit's, named after their owner; recorded ones, where the role says so; what the mediator may ask."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sockproxy_helpers.builder import session
from sockproxy_helpers.builder.buildkit import Mediated
from sockproxy_helpers.calls.sessions import Sessions
from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.content.ledger import Ledger
from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.judge import engine
from sockproxy_helpers.judge.policy import Decision
from sockproxy_helpers.who import assertion
from tests.helpers.asked import finish
from tests.support.judging import DEVELOPER, KIM, context

UUID = session.PREFIX + "uuid"


def test_a_session_of_builds_is_its_callers() -> None:
    headers = {UUID: "abc", session.PREFIX + "name": "my build", session.PREFIX + "grpc-method": "/x, /y"}
    assert session.fields(headers, KIM)[0] == ("X-Docker-Expose-Session-Uuid", "u1000-abc")
    for uuid in ("", "a b", "../x", "x" * 129):
        with pytest.raises(Malformed, match="not the name of a BuildKit session"):
            session.fields({**headers, UUID: uuid}, KIM)
    for name in ("a\r\nX: y", "ä", "x" * 257):
        with pytest.raises(Malformed, match="not the label of a BuildKit session"):
            session.fields({**headers, session.PREFIX + "name": name}, KIM)


def test_what_has_no_form_to_be_recorded_in(tmp_path: Path) -> None:
    decision = Decision(True, "developer", "r:1", "", {"sessions": ({"output": 1 << 20}, "r:9")})
    call: Any = SimpleNamespace(operation=SimpleNamespace(name="ContainerAttachWebsocket"), query=[])
    begin = Sessions(Loop(), str(tmp_path)).begin(call, 1000, decision, None, [], None)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="a WebSocket, which can't be recorded as your role has it") as refusal:
        finish(begin)
    assert (refusal.value.rule, refusal.value.at) == ("sessions", "r:9")


class Engine:
    """A daemon of a version."""

    def __init__(self, version: str) -> None:
        self._answer = b'{"ApiVersion": "%b"}' % version.encode()

    async def request(self, *_: object) -> tuple[int, bytes]:
        return 200, self._answer


@pytest.mark.parametrize(
    ("version", "rules", "rule"),
    [
        ("1.41", {"registries": ["busybox"]}, "registries"),
        ("1.41", {"frontends": ["docker.io/docker/dockerfile:1"]}, "frontends"),
        ("1.41", {}, ""),
        ("1.43", {"registries": ["busybox"]}, ""),
    ],
)
def test_an_engine_that_can_not_be_held_to_a_list(version: str, rules: dict[str, Any], rule: str) -> None:
    bound = engine.bound(Engine(version), context(DEVELOPER | rules, "ImageBuild"))  # type: ignore[arg-type]
    if rule:
        with pytest.raises(Refused, match=f"can't be held to {rule.replace('_', ' ')} ") as refusal:
            finish(bound)
        assert refusal.value.rule == rule
    else:
        finish(bound)


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ({"ask": "policy"}, "no such question"),
        ({}, "no such question"),
        ({"ask": "solve", "tags": ["x"] * 65}, "not at most 64 names of images"),
        ({"ask": "solve", "tags": [1]}, "not at most 64 names of images"),
        ({"ask": "solve", "tags": "x"}, "not at most 64 names of images"),
    ],
)
def test_what_a_mediator_may_not_ask(tmp_path: Path, question: dict[str, object], why: str) -> None:
    rules = {name: (value, "r:1") for name, value in DEVELOPER.items() if name != "totals"}
    rules |= {"totals": (dict.fromkeys(DEVELOPER["totals"]), "r:1")}  # type: ignore[call-overload]
    decision = Decision(True, "developer", "r:1", "", rules)
    nothing: Any = None
    asked = Mediated(Loop(), "", nothing, Ledger(str(tmp_path)), nothing, nothing, KIM, decision, nothing, {})
    assert finish(asked._reply(question, nothing)) == {"error": 400, "message": why, "at": ""}


@pytest.mark.parametrize(("content", "mode"), [(b"k" * 32, 0o644), (b"k" * 31, 0o600), (b"k" * 33, 0o600)])
def test_a_key_that_others_may_know_is_none(tmp_path: Path, content: bytes, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(Refused, match="the key of assertions is not root's alone"):
        assertion.read_key(str(path))
