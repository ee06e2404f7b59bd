"""Each volume that a container is given has an owner before the container is made."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sockproxy_helpers.calls import volumes
from sockproxy_helpers.errors import Malformed, NotFound, Refused, Unavailable
from tests.helpers.asked import KIM, LEE, Asked, finish, identity
from tests.support.judging import ADMIN, DEVELOPER, OWNED, context


class Kept(list[str]):
    """Take notes of what is kept."""

    async def keep_volume(self, claim: object, name: str) -> None:
        self.append(name)


KEPT = Kept()


def prepare(
    asked: Asked, host: dict[str, Any] | None = None, image: str = "busybox", rules: Any = DEVELOPER, **top: Any
) -> dict[str, Any]:
    """Prepare a container's filesystem part; give its HostConfig."""
    part = {"HostConfig": host or {}, **top}
    finish(volumes.prepare(asked, context(rules, "ContainerCreate"), part, image, (KEPT, None)))  # type: ignore[arg-type]
    assert isinstance(part["HostConfig"], dict)
    return part["HostConfig"]


@pytest.fixture
def asked() -> Asked:
    daemon = Asked()
    daemon.image("busybox")
    daemon.image("database", "/var/lib/data/", "/etc/x")
    daemon.image("odd", "/a", "./relative")
    daemon.volume("mine", KIM, project="p")
    daemon.volume("theirs", LEE)
    daemon.volume("nobodys", None)
    return daemon


def anonymous(*targets: str) -> list[dict[str, Any]]:
    return [{"Type": "volume", "Target": target, "VolumeOptions": {"Labels": OWNED}} for target in targets]


def test_nothing_is_nothing(asked: Asked) -> None:
    assert prepare(asked) == {}
    assert prepare(asked, {"Binds": ["/home/kim:/h:ro"]}) == {"Binds": ["/home/kim:/h:ro"]}
    assert asked.made == []


def test_named_volumes_are_made_with_their_owner(asked: Asked) -> None:
    mount = {"Type": "volume", "Source": "second", "Target": "/b", "VolumeOptions": {"Labels": {"a": "b"}}}
    host = prepare(asked, {"Binds": ["first:/a:ro"], "Mounts": [mount]})
    assert host["Binds"] == ["first:/a:ro"]
    assert host["Mounts"] == [mount]
    assert [(wish["Name"], wish["Labels"]) for wish in asked.made] == [
        ("first", OWNED),
        ("second", {"a": "b", **OWNED}),
    ]


def test_an_images_volume_that_no_mount_can_stand_for(asked: Asked) -> None:
    with pytest.raises(Refused, match="is no absolute path"):
        prepare(asked, image="odd")
    assert prepare(asked, image="odd", rules=ADMIN)["Mounts"]


def test_names_are_kept_before_they_are_used(asked: Asked) -> None:
    KEPT.clear()
    with pytest.raises(Refused, match="the volume name theirs is taken"):
        prepare(asked, {"Binds": ["second:/a", "theirs:/b", "first:/c"]})
    assert (KEPT, asked.made) == (["first", "second"], [])


def test_a_mounts_driver_and_options_are_not_lost(asked: Asked) -> None:
    driver = {"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs"}}
    mount = {"Type": "volume", "Source": "v", "Target": "/b", "VolumeOptions": {"DriverConfig": driver}}
    prepare(asked, {"Binds": ["w:/w"], "VolumeDriver": "nfs", "Mounts": [mount]}, rules=ADMIN)
    assert [(wish["Driver"], wish.get("DriverOpts")) for wish in asked.made] == [
        ("nfs", None),
        ("local", driver["Options"]),
    ]


@pytest.mark.parametrize("name", ["theirs", "nobodys"])
@pytest.mark.parametrize("form", ["bind", "mount"])
def test_what_is_not_ones_own_is_refused(asked: Asked, name: str, form: str) -> None:
    mount = {"Type": "volume", "Source": name, "Target": "/a"}
    host: dict[str, Any] = {"Binds": [f"{name}:/a"]} if form == "bind" else {"Mounts": [mount]}
    with pytest.raises(Refused, match=f"the volume name {name} is taken"):
        prepare(asked, host)
    prepare(asked, host, rules=ADMIN)


def test_ones_own_is_used_again(asked: Asked) -> None:
    assert prepare(asked, {"Binds": ["mine:/a"]}) == {"Binds": ["mine:/a"]}


def test_anonymous_volumes_become_mounts_with_an_owner(asked: Asked) -> None:
    host = prepare(asked, {"Binds": ["/b", "mine:/a"]}, Volumes={"/c": {}, "/a": {}})
    assert host == {"Binds": ["mine:/a"], "Mounts": anonymous("/b", "/c")}
    assert prepare(asked, {"Mounts": [{"Type": "volume", "Target": "/d"}]}) == {"Mounts": anonymous("/d")}


def test_volumes_of_the_image(asked: Asked) -> None:
    assert prepare(asked, image="database") == {"Mounts": anonymous("/etc/x", "/var/lib/data")}


@pytest.mark.parametrize(
    "host",
    [
        {"Binds": ["mine:/var/lib/data"]},
        {"Binds": ["/home/kim:/var/lib//data/:ro"]},
        {"Mounts": [{"Type": "tmpfs", "Target": "/var/lib/./data"}]},
        {"Tmpfs": {"/var/lib/data": ""}},
    ],
)
def test_a_place_that_is_taken_gets_no_second_mount(asked: Asked, host: dict[str, Any]) -> None:
    prepared = prepare(asked, host, "database")
    targets = [mount["Target"] for mount in prepared["Mounts"] if mount["Type"] == "volume"]
    assert targets == ["/etc/x"]


def test_places_that_come_from_another_container(asked: Asked) -> None:
    asked.container(1, "c", KIM, Mounts=[{"Destination": "/etc/x"}])
    host = prepare(asked, {"VolumesFrom": [f"{identity(1)}:ro"]}, "database")
    assert host["Mounts"] == anonymous("/var/lib/data")


@pytest.mark.parametrize(
    ("image", "fault", "words"),
    [
        ("missing", NotFound, "No such image: missing"),
        ("None", NotFound, "No such image: None"),
        ("", Malformed, 'Image: "" is not the name of an image'),
        ("-x", Malformed, "is not the name of an image"),
        ("[::1]:5000/x", Malformed, "is not the name of an image"),
        ("a b", Malformed, "is not the name of an image"),
    ],
)
def test_without_an_image_the_call_ends(asked: Asked, image: str, fault: type[Exception], words: str) -> None:
    """The daemon makes containers of nothing, and by the time that it looks a missing image may be there.

    A volume that was left behind would be one that nobody asked for.
    """
    for bind in ("new:/a", "theirs:/a", "/b"):
        with pytest.raises(fault, match=re.escape(words)):
            prepare(asked, {"Binds": [bind]}, image)
    assert asked.made == []


def test_an_older_engines_words_for_a_missing_image(asked: Asked) -> None:
    class Older(Asked):
        def _answer(self, *_: Any) -> tuple[int, object]:
            return 404, {"message": "no such image: x: No such image: x:latest"}

    with pytest.raises(NotFound, match=r"^No such image: x:latest$"):
        prepare(Older(), image="x")


def test_what_the_daemon_does_not_make_ends_the_call(asked: Asked) -> None:
    class Full(Asked):
        def _answer(self, method: str, *rest: Any) -> tuple[int, object]:
            return (500, {"message": "no space left"}) if method == "POST" else super()._answer(method, *rest)

    daemon = Full()
    daemon.image("busybox")
    with pytest.raises(Malformed, match="volume v: no space left"):
        prepare(daemon, {"Binds": ["v:/a"]})


def test_an_odd_answer_ends_the_call() -> None:
    class Odd:
        async def request(self, *_: Any) -> tuple[int, bytes]:
            return 200, b"{"

    with pytest.raises(Unavailable):
        prepare(Odd())  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["Interval", "StartInterval"])
def test_probes_that_an_image_brings(asked: Asked, key: str) -> None:
    """What a container has of its own counts field by field, as the daemon takes it."""
    test = ["CMD", "true"]
    asked.image("often", Healthcheck={"Test": test, key: 1_000_000})
    asked.image("seldom", Healthcheck={"Test": test, key: 10**9})
    asked.image("never", Healthcheck={"Test": ["NONE"], key: 1_000_000})

    def judge(image: str, health: object, rules: Any = DEVELOPER) -> None:
        part: dict[str, object] = {}
        finish(volumes.prepare(asked, context(rules, "ContainerCreate"), part, image, (KEPT, None), health))  # type: ignore[arg-type]

    for given in (None, {}, {"Test": test}, {key: 0}):
        with pytest.raises(Refused, match=r"the image's health check every 1000000 ns \(allowed: --health-\S+ 1s, "):
            judge("often", given)
        judge("often", given, ADMIN)
        judge("seldom", given)
    judge("often", {key: 10**9})
    judge("often", {"Test": ["NONE"]})
    judge("never", None)
