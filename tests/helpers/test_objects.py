"""Whose an object is, and what is remembered of it."""

from __future__ import annotations

from typing import Any

import pytest

from sockproxy_helpers.errors import Malformed, NotFound, Unavailable
from sockproxy_helpers.upstream.objects import Ambiguous, Objects, owner_of
from tests.helpers.asked import KIM, LEE, Asked, finish, identity

KEY = "io.sockproxy.owner"


@pytest.mark.parametrize(
    ("found", "owner"),
    [
        ({"Labels": {KEY: "1000"}}, 1000),
        ({"Config": {"Labels": {KEY: "0"}}}, 0),
        ({"Config": {"Labels": {}}, "Labels": {KEY: "7"}}, None),
        ({"Labels": {KEY.upper(): "1000"}}, None),
        *(({"Labels": {KEY: text}}, None) for text in ("", "01", "-1", "1 ", "1\n", "x", "0x1", "\u0661", "9" * 11)),
        *(({"Labels": labels}, None) for labels in (None, {}, [], "x", {KEY: 1000}, {KEY: None})),
        ({"Config": {"Labels": None}}, None),
        ({"Config": None}, None),
        ({}, None),
    ],
)
def test_the_label_is_read_strictly(found: dict[str, object], owner: int | None) -> None:
    assert owner_of(found) == owner


@pytest.mark.parametrize("kind", ["container", "network"])
def test_an_object_is_found_by_each_reference_and_known_by_its_id_alone(kind: str) -> None:
    daemon, objects = Asked(), Objects()
    full = getattr(daemon, kind)(0xA1, "name", KIM)
    for reference in ("name", full[:12], "a1", full):
        item = finish(objects.find(daemon, kind, reference))
        assert (item.kind, item.id, item.name, item.owner, item.shared) == (kind, full, "name", KIM, False)
    assert len(daemon.asked) == 3  # the ID was known by then
    daemon.remove(kind + "s", full)
    getattr(daemon, kind)(0xB1, "name", LEE)
    assert finish(objects.find(daemon, kind, "name")).owner == LEE
    assert finish(objects.find(daemon, kind, full)).owner == KIM


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sockproxy_helpers.upstream.objects.REMEMBERED", 2)
    daemon, objects = Asked(), Objects()
    for number in range(1, 6):
        finish(objects.find(daemon, "container", daemon.container(number, f"c{number}", KIM)))
        assert len(objects._known) <= 2
    asked = len(daemon.asked)
    for number in (5, 4):  # the last ones; the first was forgotten
        finish(objects.find(daemon, "container", identity(number)))
    assert len(daemon.asked) == asked
    finish(objects.find(daemon, "container", identity(1)))
    assert len(daemon.asked) == asked + 1


def test_a_volume_is_asked_for_each_time() -> None:
    daemon, objects = Asked(), Objects()
    for name in ("data", identity(1)):  # anyone may call one like an ID
        assert finish(objects.find(daemon, "volume", daemon.volume(name, KIM))).owner == KIM
        daemon.remove("volumes", name)
        assert finish(objects.find(daemon, "volume", daemon.volume(name, LEE))).owner == LEE


def test_an_exec_is_its_containers() -> None:
    daemon, objects = Asked(), Objects()
    exec_id = daemon.exec(5, daemon.container(1, "c", LEE))
    item = finish(objects.find(daemon, "exec", exec_id))
    assert (item.id, item.owner) == (exec_id, LEE)


def test_an_exec_whose_container_is_gone_is_gone() -> None:
    daemon, objects = Asked(), Objects()
    exec_id = daemon.exec(5, identity(1))
    with pytest.raises(NotFound, match=f"^No such exec instance: {exec_id}$"):
        finish(objects.find(daemon, "exec", exec_id))


@pytest.mark.parametrize("mark", [None, LEE])
def test_a_container_with_its_images_label_is_nobodys(mark: int | None) -> None:
    """A step of Lee's build from an image of Kim's."""
    daemon = Asked()
    full = daemon.container(1, "step", KIM)
    daemon._objects["containers"][0]["HostConfig"] = {"ContainerIDFile": "" if mark is None else f"{KEY}={mark}"}
    assert finish(Objects().find(daemon, "container", full)).owner is None


def test_only_what_the_daemon_made_itself_is_shared() -> None:
    daemon, objects = Asked(), Objects()
    for number, name in enumerate(("bridge", "host", "none", "ingress", "docker_gwbridge"), 1):
        found = finish(objects.find(daemon, "network", daemon.network(number, name, None)))
        assert found.shared == (number < 4)
    assert not finish(objects.find(daemon, "network", daemon.network(9, "none", LEE))).shared
    assert not finish(objects.find(daemon, "container", daemon.container(1, "bridge", None))).shared


@pytest.mark.parametrize("kind", ["container", "exec", "network", "volume"])
def test_words_are_the_daemons(kind: str) -> None:
    daemon, objects = Asked(), Objects()
    with pytest.raises(NotFound) as there_is_none:
        finish(objects.find(daemon, kind, "x.y"))
    asked = len(daemon.asked)
    for _ in range(2):
        assert str(finish(objects.missing(daemon, kind, "x.y"))) == str(there_is_none.value)
    assert len(daemon.asked) == asked + 1  # learnt once


def test_words_with_braces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("tests.helpers.asked").helpers.asked.WORDS, "containers", "{{no}} {}")
    assert str(finish(Objects().missing(Asked(), "container", "x"))) == "{no} x"


def test_several_of_a_beginning() -> None:
    daemon = Asked()
    daemon.container(0xA1, "one", KIM)
    daemon.container(0xA2, "two", LEE)
    with pytest.raises(Ambiguous):
        finish(Objects().find(daemon, "container", "a"))


@pytest.mark.parametrize("kind", ["container", "network"])
def test_among_ones_own(kind: str) -> None:
    daemon, objects = Asked(), Objects()
    add = getattr(daemon, kind)
    one, two = add(0xA1, "one", KIM), add(0xA2, "two", KIM)
    add(0xA3, "a1", LEE)  # called as another's ID begins

    def own(reference: str) -> str | None:
        item = finish(objects.find_own(daemon, kind, reference, KIM))
        return item.id if item else None

    assert own("one") == own("a1") == own(one[:12]) == one
    assert own("two") == own("a2") == two
    assert own("a3") is None
    assert own("nope") is None
    with pytest.raises(Malformed, match=f"^a is ambiguous: several of your {kind}s"):
        own("a")


def test_a_build_step_is_not_among_ones_own() -> None:
    daemon = Asked()
    daemon.container(1, "step", KIM, mark=LEE)
    assert finish(Objects().find_own(daemon, "container", "step", KIM)) is None


@pytest.mark.parametrize("answer", [b"", b"[]", b'"x"', b'{"Name": "no ID"}', b'{"Id": 7}', b"{"])
def test_an_odd_answer_stops_the_call(answer: bytes) -> None:
    class Odd:
        async def request(self, *_: Any) -> tuple[int, bytes]:
            return 200, answer

    with pytest.raises(Unavailable):
        finish(Objects().find(Odd(), "container", "x"))  # type: ignore[arg-type]
    if answer != b"[]":
        with pytest.raises(Unavailable):
            finish(Objects().find_own(Odd(), "container", "x", KIM))  # type: ignore[arg-type]
