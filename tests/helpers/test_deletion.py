"""Which removals of images are sent with force, since nothing is passed over, and how they go on."""

from __future__ import annotations

import json
from typing import cast
from urllib.parse import unquote

import pytest

from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.content import deletion
from sockproxy_helpers.content.deletion import Instead
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.upstream.daemon import Daemon
from tests.helpers.support import OPERATIONS, run

ONE, TWO, THREE = ("sha256:" + digit * 64 for digit in "123")


class Scripted:
    """A daemon that has images and containers, and removes steps."""

    def __init__(self, *images: dict[str, object], containers: object = ()) -> None:
        self.images = {str(item["Id"]): item for item in images}
        self.containers, self.removed = containers, list[str]()

    def connect(self) -> Daemon:
        return cast(Daemon, self)

    async def request(self, method: str, target: str) -> tuple[int, bytes]:
        if target == "/containers/json?all=1":
            return 200, json.dumps(self.containers).encode()
        if target.startswith("/images/json?"):
            return 200, json.dumps(
                [{"Id": i, "ParentId": item.get("Parent")} for i, item in self.images.items()]
            ).encode()
        name = unquote(target).removeprefix("/images/").partition("/json")[0].partition("?")[0]
        found = [item for i, item in self.images.items() if name in (i, i[7:19], *cast(list[str], item["RepoTags"]))]
        if method == "DELETE":
            assert target.endswith("?force=1&noprune=1")
            self.removed.append(name)
            return 200, json.dumps([{"Deleted": name}]).encode()
        return (200, json.dumps(found[0]).encode()) if found else (404, b'{"message": "no such image"}')


def image(identity: str, *tags: str, digests: tuple[str, ...] = (), parent: str = "") -> dict[str, object]:
    return {"Id": identity, "RepoTags": list(tags), "RepoDigests": list(digests), "Parent": parent}


def begin(daemon: Scripted, name: str, **query: str) -> tuple[Instead | None, str]:
    found: list[Instead | None] = []
    variables = {"name": name}

    async def play() -> None:
        asked = daemon.connect, OPERATIONS["ImageDelete"], variables, list(query.items())
        found.append(await deletion.begin(*asked))

    run(Loop(), play())
    return found[0], variables["name"]


def go_on(one: Instead, answered: object) -> object:
    found: list[tuple[bytes, str]] = []

    async def pause(seconds: float) -> None:
        raise AssertionError(seconds)

    async def play() -> None:
        found.append(await one.run(json.dumps(answered).encode(), pause))

    run(Loop(), play())
    return json.loads(found[0][0])


DIGEST = "a@sha256:" + "9" * 64


@pytest.mark.parametrize("name", ["a:1", "1" * 12, ONE])
@pytest.mark.parametrize("digests", [(), (DIGEST,)])
def test_the_last_name_goes_with_force(name: str, digests: tuple[str, ...]) -> None:
    others = [{"ImageID": TWO, "Mounts": [{"Type": "volume", "Name": ONE}, {"Type": "image", "Name": TWO}]}]
    one, sent = begin(Scripted(image(ONE, "a:1", digests=digests), containers=others), name)
    assert one
    assert (one.operation.name, one.query, sent) == ("ImageDelete", [("force", "1"), ("noprune", "1")], name)


def test_what_the_daemon_answers_at_once() -> None:
    """It is sent as it is: nothing there, names that stay, children, one platform."""
    several = image(ONE, "a:1", "a:2"), image(TWO, "b:1", digests=(DIGEST,)), image(THREE, "c:1")
    daemon = Scripted(*several, image("sha256:" + "4" * 64, "d:1", parent=THREE))
    for name in ("nothing", "a:1", ONE, "b:1", "c:1"):
        assert begin(daemon, name) == (None, name)
    assert begin(Scripted(image(ONE, "a:1")), "a:1", platforms="{}") == (None, "a:1")


@pytest.mark.parametrize(
    "using", [{"ImageID": ONE, "Mounts": None}, {"ImageID": TWO, "Mounts": [{"Type": "image", "Name": ONE}]}]
)
def test_what_is_in_use_is_refused_by_name(using: dict[str, object]) -> None:
    daemon = Scripted(image(ONE, "a:1"), containers=[using])
    assert begin(daemon, "a:1") == (None, "a:1")
    assert begin(daemon, ONE) == (None, "a:1")
    assert begin(Scripted(image(ONE), containers=[using]), ONE) == (None, ONE)
    one, _ = begin(daemon, "a:1", force="1")
    assert one, "that is asked for"


def test_no_list_of_containers_no_removal() -> None:
    with pytest.raises(Unavailable):
        begin(Scripted(image(ONE, "a:1"), containers={"message": "no"}), "a:1")


@pytest.mark.parametrize(
    ("step", "containers", "removed"),
    [
        (image(TWO, parent=THREE), [], [TWO, THREE]),
        (image(TWO), [], [TWO]),
        (image(TWO, "b:1", parent=THREE), [], []),
        (image(TWO, parent=THREE), [{"ImageID": THREE}], [TWO]),
        (image(TWO, parent="sha256:" + "5" * 64), [], [TWO]),
    ],
)
def test_steps_go_until_one_is_of_use(step: dict[str, object], containers: list[object], removed: list[str]) -> None:
    daemon = Scripted(image(ONE, "a:1", parent=TWO), step, image(THREE), containers=containers)
    one, _ = begin(daemon, "a:1")
    assert one
    answered = [{"Untagged": "a:1"}, {"Deleted": ONE}]
    assert go_on(one, answered) == [*answered, *({"Deleted": identity} for identity in removed)]
    assert daemon.removed == removed


def test_steps_stay() -> None:
    """Where that is asked for, or the image is still there."""
    daemon = Scripted(image(ONE, "a:1", parent=TWO), image(TWO))
    for query, answered in (({"noprune": "1"}, {"Deleted": ONE}), ({}, {"Untagged": "a:1"})):
        one, _ = begin(daemon, "a:1", **query)
        assert one
        assert go_on(one, [answered]) == [answered]
    assert daemon.removed == []
