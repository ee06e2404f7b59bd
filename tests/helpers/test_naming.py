"""Which images a caller may name, and which names of theirs a call may set or remove: each reason to refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from sockproxy_helpers.content.images import NoImage
from sockproxy_helpers.content.ledger import LOADED, PULLED, Entry, Ledger, Writer
from sockproxy_helpers.content.naming import Naming
from sockproxy_helpers.errors import Malformed, NotFound, Refused
from sockproxy_helpers.judge import model
from sockproxy_helpers.totals import counts
from sockproxy_helpers.upstream.objects import OWNER
from tests.helpers.asked import KIM, LEE, Asked, finish
from tests.support.judging import DEVELOPER, context, judge

MINE, THEIRS, SHARED = ("sha256:" + digit * 64 for digit in "123")
SECOND = "sha256:11" + "4" * 62
DIGEST = "@sha256:" + "5" * 64
IMAGES: list[dict[str, Any]] = [
    {"Id": MINE, "RepoTags": ["mine:1", "theirs:2"], "RepoDigests": ["mine" + DIGEST], "Labels": {OWNER: str(KIM)}},
    {"Id": SECOND, "RepoTags": ["mine:2"], "RepoDigests": [], "Labels": {OWNER: str(KIM)}},
    {"Id": THEIRS, "RepoTags": ["theirs:1"], "RepoDigests": [], "Labels": {OWNER: str(LEE)}},
    {"Id": SHARED, "RepoTags": ["base:1", "base:2"], "RepoDigests": ["base" + DIGEST], "Labels": {}},
]


class Daemon:
    """A daemon with images."""

    async def request(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        if target == "/images/json":
            return 200, json.dumps(IMAGES).encode()
        reference = unquote(target.removeprefix("/images/").removesuffix("/json"))
        reference = reference.removeprefix("docker.io/library/")
        if reference == "broken":
            return 500, b'{"message": "invalid reference"}'
        for image in IMAGES:
            named = reference in (*image["RepoTags"], *image["RepoDigests"], image["Id"], image["Id"][7:])
            if named or reference + ":latest" in image["RepoTags"]:
                return 200, json.dumps({**image, "Config": {"Labels": image["Labels"]}}).encode()
        return 404, json.dumps({"message": f"No such image: {reference}"}).encode()


@pytest.fixture
def naming(tmp_path: Path) -> Naming:
    writer = Writer(str(tmp_path))
    for name, identity in (("mine:1", MINE), ("mine:2", SECOND)):
        writer.put(f"docker.io/library/{name}", Entry(KIM, identity, ""))
    for name, identity, shared in (("theirs:1", THEIRS, ""), ("theirs:2", MINE, ""), ("base:1", SHARED, PULLED)):
        writer.put(f"docker.io/library/{name}", Entry(LEE, identity, shared))
    return Naming(Ledger(str(tmp_path)), Daemon(), context(DEVELOPER, "ImageDelete"))  # type: ignore[arg-type]


def change(naming: Naming, form: str, name: str = "", **query: str) -> Any:
    naming._ctx.operation = {"pushed": "ImagePush", "saved": "ImageGetAll"}.get(form, "ImageDelete")
    return finish(naming.change(form, {"name": name}, list(query.items())))


def test_what_is_there(naming: Naming) -> None:
    assert finish(naming.image("id", "mine:1")) == MINE
    assert finish(naming.image("id", SHARED)) == SHARED
    for reference in ("theirs:1", THEIRS, THEIRS[7:], "theirs:2"):
        with pytest.raises(NotFound, match="No such image"):
            finish(naming.image("id", reference))


def test_the_record_has_an_images_digest_also_for_who_sees_all(naming: Naming) -> None:
    shared = {"kind": "image", "id": SHARED, "name": "docker.io/library/base:1", "owner": None, "digest": DIGEST[1:]}
    finish(naming.image("name", "base:1"))
    admin = Naming(naming._ledger, naming._daemon, context({"sees_all": True}, "ContainerCreate"))
    for reference in ("base:1", "mine:2", "none:1", "a b", ""):
        assert finish(admin.image("name", reference)) == reference
    assert [item.record() for item in naming._ctx.found] == [shared]
    mine = {"kind": "image", "id": SECOND, "name": "docker.io/library/mine:2", "owner": KIM}
    assert [item.record() for item in admin._ctx.found] == [shared, mine]


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("a b", "is not the name of an image"),
        ("broken", "invalid reference"),
        ("11", "is ambiguous: the IDs of several"),
    ],
)
def test_references_that_are_none(naming: Naming, reference: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        finish(naming.image("id", reference))


def test_pulls(naming: Naming) -> None:
    assert change(naming, "pulled", fromImage="busybox", tag="1") == [
        ("fromImage", "docker.io/library/busybox"),
        ("tag", "1"),
    ]
    for other in ({"fromSrc": "-"}, {"repo": "x"}):
        with pytest.raises(Malformed, match="two ways to create an image"):
            change(naming, "pulled", fromImage="busybox", **other)
    with pytest.raises(Refused, match="all tags of a repository at once"):
        change(naming, "pulled", fromImage="busybox")


def test_pushes(naming: Naming) -> None:
    change(naming, "pushed", "mine", tag="1")
    change(naming, "pushed", "mine")
    with pytest.raises(Malformed, match="push by tag, not by digest"):
        change(naming, "pushed", "mine" + DIGEST)
    with pytest.raises(NotFound):
        change(naming, "pushed", "theirs", tag="1")
    with pytest.raises(Refused, match="the name base:1 is somebody else's to push"):
        change(naming, "pushed", "base", tag="1")
    with pytest.raises(Refused, match="not all tags of base are yours to push"):
        change(naming, "pushed", "base")
    for name in ("theirs", "nothing"):  # what is hidden and what is not there, in the same words
        with pytest.raises(NoImage, match=f"^No such image: {name}$"):
            change(naming, "pushed", name)


def test_saves(naming: Naming, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    naming._ctx.operation = "ImageGet"
    finish(naming.change("saved", variables := {"name": "mine"}, []))
    assert variables == {"name": "mine"}
    monkeypatch.setitem(IMAGES[2], "RepoTags", ["theirs:1", "mine:3"])
    Writer(str(tmp_path)).put("docker.io/library/mine:3", Entry(LEE, THEIRS, ""))
    naming._ledger.refresh()
    with pytest.raises(Refused, match="not all tags of that name are yours to save"):
        finish(naming.change("saved", {"name": "mine"}, []))


@pytest.mark.parametrize(("shared", "there"), [("", False), (LOADED, False), (PULLED, True)])
def test_whose_label_is_on_it(naming: Naming, tmp_path: Path, shared: str, there: bool) -> None:
    """An image of Lee's own making that Lee saves and loads stays Lee's; one that a registry gave is everybody's."""
    Writer(str(tmp_path)).put("docker.io/library/theirs:1", Entry(LEE, THEIRS, shared))
    if there:
        assert finish(naming.image("id", "theirs:1")) == THEIRS
    else:
        with pytest.raises(NoImage):
            finish(naming.image("id", "theirs:1"))


def test_removals(naming: Naming) -> None:
    change(naming, "removed", "mine:1")
    with pytest.raises(Refused, match="removed by its names, one by one"):
        change(naming, "removed", SHARED)
    with pytest.raises(Refused, match="theirs:2 would go with it, and is not yours to remove"):
        change(naming, "removed", MINE)


class Full:
    """A daemon with as many of Kim's things as there may be."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self._items = list(items)

    async def request(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        found: Any = {"Volumes": self._items} if target.startswith("/volumes") else self._items
        return 200, json.dumps(found).encode()


def test_totals() -> None:
    rules = {**DEVELOPER, "totals": {**DEVELOPER["totals"], "networks": 1, "volumes": 1}}  # type: ignore[dict-item]
    one = {"Name": "first", "Labels": {OWNER: str(KIM)}}
    with pytest.raises(Refused, match="may have 1 networks, and you have 1: first: remove one"):
        finish(counts.networks(Full(one), context(rules, "NetworkCreate")))  # type: ignore[arg-type]
    with pytest.raises(Refused, match="may have 1 volumes, and you have 1: first: remove one"):
        finish(counts.one(Full(one), context(rules, "VolumeCreate"), {"Name": "second"}))  # type: ignore[arg-type]
    finish(counts.one(Full(one), context(rules, "VolumeCreate"), {"Name": "first"}))  # type: ignore[arg-type]
    none = {**rules, "totals": {**rules["totals"], "networks": 0}}  # type: ignore[dict-item]
    with pytest.raises(Refused, match="may have no networks"):
        finish(counts.networks(Full(), context(none, "NetworkCreate")))  # type: ignore[arg-type]


def test_containers() -> None:
    rules = {**DEVELOPER, "limits": {**DEVELOPER["limits"], "containers": 1}}  # type: ignore[dict-item]
    one = {"Names": ["/first"], "State": "exited", "Labels": {OWNER: str(KIM)}}
    with pytest.raises(
        Refused, match=r"may have 1 containers, and you have 1 \(1 stopped\): first: remove one"
    ) as told:
        finish(counts.containers(Full(one), context(rules, "ContainerCreate"), {}, "busybox"))  # type: ignore[arg-type]
    assert told.value.rule == "limits"


def test_what_describes_containers() -> None:
    """The daemon forms a list of all of them for each of hundreds of requests, before it sends any of it."""
    ctx = context({**DEVELOPER, "limits": {**DEVELOPER["limits"], "containers": 3}}, "ContainerCreate")  # type: ignore[dict-item]
    small: dict[str, Any] = {"Names": ["/small"], "Labels": {OWNER: str(KIM)}}
    large = {"Names": ["/large"], "Labels": {OWNER: str(KIM), "k": "x" * counts.EACH * 2}}
    finish(counts.containers(Full(small, large), ctx, {}, "busybox"))  # type: ignore[arg-type]
    large["Labels"]["k"] *= 2  # type: ignore[index]
    with pytest.raises(Refused, match=r"described in 98304 bytes together .* you have 2 in 131\d+: large, small"):
        finish(counts.containers(Full(small, large), ctx, {}, "busybox"))  # type: ignore[arg-type]


def test_exposed_ports() -> None:
    """A list has them while a container runs, and counts of what is made later would come too late."""
    ctx, daemon = context({**DEVELOPER, "limits": {**DEVELOPER["limits"], "containers": 2}}, "ContainerCreate"), Asked()  # type: ignore[dict-item]
    many = {f"{port}/tcp": {} for port in range(1, 1601)}
    daemon.image("some", ExposedPorts={"80/tcp": {}, "81/udp": {}})
    daemon.image("many", ExposedPorts=many)

    def count(image: str, *ports: str) -> dict[str, str]:
        part = {"ExposedPorts": {port: {} for port in ports}}
        return finish(counts.containers(daemon, ctx, part, image))  # type: ignore[arg-type]

    assert count("some", "80/tcp", "90") == {counts.EXPOSED: "3"}
    assert count("many") == {counts.EXPOSED: "1600"}  # 64,000 of 65,536 bytes
    with pytest.raises(Refused, match=r"may not expose 1700 ports, the image's included \(allowed: 1638 beside your 0"):
        count("many", *(f"{port}/udp" for port in range(100)))
    with pytest.raises(NotFound, match="No such image: none"):
        count("none")
    labels = {OWNER: str(KIM), counts.EXPOSED: "1600"}
    listed = [{"PrivatePort": port, "Type": "tcp"} for port in range(1, 1601)]
    for state, ports in (("created", []), ("running", listed)):
        first = daemon.container(1, "first", KIM, State=state, Ports=ports, Labels=labels)
        with pytest.raises(Refused, match=r"may not expose 1600 ports, .*allowed: \d\d beside your 1 containers\)"):
            count("many")
        assert count("some") == {counts.EXPOSED: "2"}
        daemon.remove("containers", first)


def test_ports_of_all_containers() -> None:
    rules = {**DEVELOPER, "totals": {**DEVELOPER["totals"], "ports": 2}}  # type: ignore[dict-item]
    one = {"Names": ["/first"], "Labels": {OWNER: str(KIM), counts.PORTS: "2"}}
    part = {"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}}
    with pytest.raises(Refused, match="may publish 2 ports, you have 2 and want 1 more"):
        finish(counts.containers(Full(one), context(rules, "ContainerCreate"), part, "busybox"))  # type: ignore[arg-type]


def test_names_of_users_bridges() -> None:
    with pytest.raises(Refused, match="names like sockproxy-1000 are for the bridges"):
        judge("NetworkCreate", {"Name": "sockproxy-1000"})


def test_nobody_reads_the_dockerfiles_of_who_sees_all() -> None:
    judge("ImageBuild", rules={**DEVELOPER, "registries": []})
    with pytest.raises(Refused, match="may not use the classic builder"):
        judge("ImageBuild", rules={**DEVELOPER, "registries": [], "sees_all": True})


LISTED = ["docker.io/library/*", "r.example:5000/team/app", "ghcr.io/a/b:1", "quay.io/*/open:1.*"]


@pytest.mark.parametrize(
    ("image", "tag", "may"),
    [
        ("busybox", "latest", True),
        ("index.docker.io/busybox", "1", True),
        ("busybox", "sha256:" + "a" * 64, True),
        ("evil/busybox", "latest", False),
        ("docker.io.evil.example/library/busybox", "1", False),
        ("r.example:5000/team/app", "any", True),
        ("r.example:5000/team/app:own", "", True),
        ("r.example:5000/team/app@sha256:" + "a" * 64, "", True),
        ("r.example:5000/team/app2", "any", False),
        ("r.example:5000/team/app/x", "any", False),
        ("r.example/team/app", "any", False),
        ("ghcr.io/a/b", "1", True),
        ("ghcr.io/a/b:2", "1", True),  # the parameter counts
        ("ghcr.io/a/b", "11", False),
        ("ghcr.io/a/b", "", False),  # all of its tags
        ("ghcr.io/a/b", "sha256:" + "a" * 64, False),
        ("quay.io/x/y/open", "1.2", True),
        ("quay.io/x/open", "1", False),
        ("ghcrxio/a/b", "1", False),
    ],
)
def test_what_may_be_pulled(image: str, tag: str, may: bool) -> None:
    query = [("fromImage", image), ("tag", tag)] if tag else [("fromImage", image)]
    rules = {**DEVELOPER, "registries": LISTED}
    if may:
        judge("ImageCreate", query=query, rules=rules)
        return
    with pytest.raises(
        Refused, match=r"may not have the daemon ask a registry for .*\(allowed: docker.io/library/"
    ) as why:
        judge("ImageCreate", query=query, rules=rules)
    assert why.value.rule == "registries"
    judge("ImageCreate", query=query, rules={**rules, "registries": ["ALL"]})


def test_what_is_no_pull_is_not_judged_as_one() -> None:
    judge(
        "ImageCreate",
        query=[("fromSrc", "-"), ("repo", "evil.example/x"), ("tag", "1")],
        rules={**DEVELOPER, "registries": []},
    )


@pytest.mark.parametrize(
    ("term", "listed", "may"),
    [
        ("nginx", ["docker.io/library/*"], True),
        ("someone/nginx", ["docker.io/library/*"], True),
        ("nginx", ["r.example/*"], False),
        ("r.example/nginx", ["r.example/*"], True),
        ("r.example/nginx", ["docker.io/*"], False),
        ("localhost/nginx", ["docker.io/*"], False),
    ],
)
def test_where_images_are_searched(term: str, listed: list[str], may: bool) -> None:
    rules = {**DEVELOPER, "registries": listed, "fetch": True}
    if may:
        judge("ImageSearch", query=[("term", term)], rules=rules)
        return
    with pytest.raises(Refused, match="may not have the daemon ask a registry for "):
        judge("ImageSearch", query=[("term", term)], rules=rules)


def test_which_registries_are_asked_what_they_have() -> None:
    for name, may in (("busybox", True), ("r.example:5000/team/app:1", True), ("evil.example/x", False)):
        ctx = context({**DEVELOPER, "registries": LISTED}, "DistributionInspect")
        ctx.variables = {"name": name}
        if may:
            model.approve("filesystem", "DistributionInspect", [], None, ctx)
        else:
            with pytest.raises(Refused, match=r"^\{name\}: role \S+ may not have the daemon ask a registry"):
                model.approve("filesystem", "DistributionInspect", [], None, ctx)
