"""A container has so many execs that run, or were made and never started: each is in the daemon's memory."""

from __future__ import annotations

import pytest

from sockproxy_helpers.errors import Refused, Unavailable
from sockproxy_helpers.totals import execs
from sockproxy_helpers.upstream.objects import Object
from tests.helpers.asked import KIM, Asked, finish, identity
from tests.support.judging import ADMIN, DEVELOPER, context


def room(asked: Asked, operation: str = "ContainerExec", rules: dict[str, object] = DEVELOPER) -> None:
    ctx = context(rules, operation)
    ctx.found.append(Object("container", identity(1), "app", KIM, False))
    finish(execs.room(asked, ctx))  # type: ignore[arg-type]


@pytest.mark.parametrize("ids", [None, [], ["x"] * (execs.MOST - 1)])
def test_room(ids: list[str] | None) -> None:
    asked = Asked()
    asked.container(1, "app", KIM, ExecIDs=ids)
    room(asked)


def test_no_room() -> None:
    asked = Asked()
    asked.container(1, "app", KIM, ExecIDs=["x"] * execs.MOST)
    with pytest.raises(
        Refused, match=r"may not have more execs \(allowed: 200 of a container; 200 of the container app"
    ):
        room(asked)
    room(asked, rules=ADMIN)
    room(asked, "ContainerStart")


def test_what_is_gone_is_the_daemons_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked()
    room(asked)
    monkeypatch.setattr(asked, "_answer", lambda *given: (500, {}))
    with pytest.raises(Unavailable, match="does not tell which execs there are"):
        room(asked)
