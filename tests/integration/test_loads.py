"""Loading an archive sets the names in it: those that are the user's to set, and no others."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import tarfile
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.conftest import People, idents
from tests.support.belongings import Person
from tests.support.cli import MEBIBYTE, write_random
from tests.support.engines import Engine
from tests.support.proxy import Proxy
from tests.support.raw import Answer
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

Members = list[tuple[tarfile.TarInfo, bytes]]
TAKEN = "not yours to move"


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def pack(members: Members) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def image(*names: str, mark: str = "x") -> tuple[list[dict[str, object]], Members]:
    """Form an image of one layer: its manifest, and the other members of its archive."""
    layer = pack([member("file", mark.encode())])
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": [f"MARK={mark}"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        }
    ).encode()
    file = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": file, "RepoTags": list(names), "Layers": ["layer.tar"]}]
    return manifest, [member(file, config), member("layer.tar", layer)]


def plain(*names: str, mark: str = "x") -> bytes:
    manifest, members = image(*names, mark=mark)
    return pack([*members, member("manifest.json", json.dumps(manifest).encode())])


def manifest_first(name: str) -> bytes:
    manifest, members = image(name)
    return pack([member("manifest.json", json.dumps(manifest).encode()), *members])


def manifest_twice(name: str) -> bytes:
    manifest, members = image("own:1")
    last = image(name)[0]
    return pack(
        [
            member("manifest.json", json.dumps(manifest).encode()),
            *members,
            member("./manifest.json", json.dumps(last).encode()),
        ]
    )


def behind_a_link(name: str) -> bytes:
    """The manifest that is seen is harmless; the daemon, which follows links, would find another one."""
    manifest, members = image("own:1")
    other = json.dumps(image(name)[0]).encode()
    return pack([
        *members,
        member("manifest.json", json.dumps(manifest).encode()),
        member("sub", type=tarfile.SYMTYPE, linkname="."),
        member("sub/manifest.json", other),
    ])  # fmt: skip


def as_a_link(name: str) -> bytes:
    manifest, members = image("own:1")
    other = json.dumps(image(name)[0]).encode()
    return pack([
        *members,
        member("manifest.json", json.dumps(manifest).encode()),
        member("other", other),
        member("manifest.json", type=tarfile.SYMTYPE, linkname="other"),
    ])  # fmt: skip


def only_a_link(name: str) -> bytes:
    manifest, members = image(name)
    return pack([
        *members,
        member("other", json.dumps(manifest).encode()),
        member("manifest.json", type=tarfile.SYMTYPE, linkname="other"),
    ])  # fmt: skip


def in_two_images(name: str) -> bytes:
    (first, members), (second, more) = image("own:1"), image(name, mark="y")
    second[0]["Layers"] = ["layer2.tar"]
    more[1][0].name = "layer2.tar"
    return pack([*members, *more, member("manifest.json", json.dumps(first + second).encode())])


def other_case(name: str) -> bytes:
    manifest, members = image("own:1")
    text = json.dumps(manifest).replace('"Layers"', f'"repotags": ["{name}"], "Layers"')
    return pack([*members, member("manifest.json", text.encode())])


def zipped(name: str, mark: str = "x") -> bytes:
    return gzip.compress(plain(name, mark=mark))


def zipped_in_two(name: str) -> bytes:
    data = plain(name)
    return gzip.compress(data[:700]) + gzip.compress(data[700:])


def otherwise_packed(name: str) -> bytes:
    return lzma.compress(plain(name))


def legacy(name: str) -> bytes:
    repo, _, tag = name.rpartition(":")
    layer = json.dumps({"id": "a" * 64, "os": "linux", "architecture": "amd64"}).encode()
    files = {"VERSION": b"1.0", "json": layer, "layer.tar": pack([member("x", b"y")])}
    members = [member("a" * 64 + "/" + file, content) for file, content in files.items()]
    return pack([*members, member("repositories", json.dumps({repo: {tag: "a" * 64}}).encode())])


WAYS: list[Callable[[str], bytes]] = [
    plain, manifest_first, manifest_twice, behind_a_link, as_a_link, only_a_link, in_two_images, other_case, zipped,
    zipped_in_two, otherwise_packed, legacy,
]  # fmt: skip


def load(who: Person, archive: bytes) -> Answer:
    return who.ask("POST", "/images/load", archive)


@pytest.mark.parametrize("way", [plain, manifest_twice, behind_a_link, as_a_link, only_a_link, zipped])
def test_on_the_bare_daemon_a_load_moves_a_tag(named: People, way: Callable[[str], bytes]) -> None:
    named.root.get("POST", "/images/busybox/tag?repo=base&tag=1")
    before = idents(named, "base:1")
    load(named.root, way("base:1"))
    assert idents(named, "base:1") != before


@pytest.mark.parametrize("way", WAYS)
def test_no_archive_moves_what_is_not_ones_own(named: People, way: Callable[[str], bytes]) -> None:
    named.root.get("POST", "/images/busybox/tag?repo=base&tag=1")
    named.alice.build("FROM busybox\nLABEL alices=secret\n", "t=alices:1")
    theirs = ("base:1", "alices:1", "busybox:latest")
    before = idents(named, *theirs)
    for name in theirs:
        answer = load(named.bob, way(name))
        if way in (behind_a_link, as_a_link):
            assert answer.status == 200, answer.body
            assert b"own:1" in answer.body
        else:
            assert answer.status in (400, 403), (name, answer.status, answer.body)
    assert idents(named, *theirs) == before


def test_names_are_the_users(named: People) -> None:
    assert b"Loaded image: new:1" in load(named.bob, plain("new:1", "docker.io/library/second:2")).body
    before = idents(named, "new:1")
    for name in ("new:1", "second:2"):
        answer = load(named.alice, zipped(name, mark="y"))
        assert (answer.status, TAKEN in answer.message) == (403, True)
    assert idents(named, "new:1") == before
    assert named.alice.ask("GET", "/images/new:1/json").status == 200  # what was loaded is for all
    assert named.alice.ask("DELETE", "/images/new:1").status == 403
    assert load(named.bob, plain("new:1", mark="y")).status == 200
    assert idents(named, "new:1") != before
    for name in ("new:1", "second:2"):
        named.bob.get("DELETE", f"/images/{name}")


def test_the_same_image_again(named: People) -> None:
    """Who loads what is there gets it, and moves nothing."""
    archive = plain("base:1")
    load(named.root, archive)
    before = idents(named, "base:1")
    for who in (named.alice, named.bob):
        answer = load(who, archive)
        assert answer.status == 200
        assert b"error" not in answer.body
    assert idents(named, "base:1") == before
    named.root.get("POST", "/images/busybox/tag?repo=base&tag=1")
    assert load(named.bob, archive).status == 403


def test_a_load_that_is_refused_leaves_no_trace(named: People) -> None:
    before = named.root.state()
    assert load(named.bob, plain("free:1", "busybox:latest")).status == 403
    assert load(named.bob, plain("free:1")[:2000]).status == 400
    assert named.root.state() == before
    assert load(named.alice, plain("free:1")).status == 200


def test_an_admin_loads_anything(named: People) -> None:
    named.root.get("POST", "/images/busybox/tag?repo=base&tag=1")
    before = idents(named, "base:1")
    assert load(named.admin, plain("base:1")).status == 200
    assert idents(named, "base:1") != before


def test_docker_save_and_load(named: People, proxy: Proxy, users: Users) -> None:
    named.alice.build("FROM busybox\nLABEL a=b\n", "t=mine:1&t=mine:2")
    named.alice.get("POST", "/images/busybox/tag?repo=plain")
    identity = idents(named, "mine:1")
    for pipe in ("", "gzip | "):
        script = "docker save mine plain >saved && docker rmi mine:1 mine:2 plain >rmi && cat saved | "
        done = proxy.run(users.alice, ["sh", "-c", f"{script}{pipe}docker load"])
        assert done.returncode == 0, done.stderr
        loaded = {f"Loaded image: {name}" for name in ("mine:1", "mine:2", "plain:latest")}
        assert loaded <= set(done.stdout.splitlines())
        assert idents(named, "mine:1", "mine:2") == identity * 2
        assert named.bob.ask("GET", "/images/mine:1/json").status == 404
        assert named.alice.get("GET", "/images/mine:1/json")["Id"] == identity[0]


@pytest.mark.parametrize("engine", ["28"], indirect=True)  # the memory is the helper's
def test_a_large_archive(named: People, proxy: Proxy, users: Users, engine: Engine) -> None:
    """Nothing is kept of it: the helper's memory stays what it was."""
    home = users.alice.home
    write_random(home / "content", 300 * MEBIBYTE, users.alice)
    proxy.run(
        users.alice, ["sh", "-c", "tar -c content | docker import - large && docker save large >large.tar"], timeout=200
    )
    named.root.get("DELETE", "/images/large")
    seconds = {}
    for way in ("direct", "proxied"):
        started = time.monotonic()
        if way == "direct":
            engine.docker("load", "-i", str(home / "large.tar"))
        else:
            assert proxy.docker(users.alice, "load", "-i", "large.tar", timeout=200).returncode == 0
        seconds[way] = time.monotonic() - started
        named.root.get("DELETE", "/images/large")
    (home / "large.tar").unlink()
    (home / "content").unlink()
    assert seconds["proxied"] < 3 * seconds["direct"] + 3, seconds
    with open(f"/proc/{proxy.processes['filesystem']}/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert peak < 80_000, peak


def test_saving_a_repository_saves_what_one_sees_of_it(named: People) -> None:
    """A name without a tag stands for all tags of the repository, and some are another user's."""
    for who, name in ((named.alice, "both:secret"), (named.bob, "both:1"), (named.bob, "both:2")):
        who.build(f"FROM busybox\nLABEL of={name}\n", f"t={name}")
    assert b"both:secret" in named.root.ask("GET", "/images/both/get").body
    for target in ("/images/get?names=both", "/images/get?names=busybox&names=docker.io/library/both"):
        answer = named.bob.ask("GET", target)
        assert answer.status == 200
        assert b"both:secret" not in answer.body
        assert b"both:1" in answer.body
        assert b"both:2" in answer.body
    assert named.bob.ask("GET", "/images/both/get").status == 403
    assert named.bob.ask("GET", "/images/both:1/get").status == 200
    for target in ("/images/both:secret/get", "/images/get?names=both:1&names=both:secret"):
        assert named.bob.ask("GET", target).status == 404
    assert named.bob.ask("POST", "/images/both/push", X_Registry_Auth="e30=").status == 403
