"""A tag belongs to who first set it: nobody else moves or removes it, nor what was there before, by whatever way."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.integration.conftest import People, idents
from tests.support.belongings import OWNER, Person, tar
from tests.support.engines import Engine
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Answer

pytestmark = [pytest.mark.daemon, pytest.mark.root]

Way = Callable[[Person, str], Answer]
TAKEN = "not yours to move"


def other(who: Person) -> str:
    """Build an image that is not busybox."""
    name = f"own-{who.label.get(OWNER)}"
    assert who.build("FROM busybox\nLABEL by=tag\n", f"t={name}").status == 200
    return name


def by_tag(who: Person, name: str) -> Answer:
    return who.ask("POST", f"/images/{other(who)}/tag?repo={name}")


def by_tag_apart(who: Person, name: str) -> Answer:
    repo, _, tag = name.rpartition(":")
    return who.ask("POST", f"/images/{other(who)}/tag?repo=docker.io/library/{repo}&tag={tag}&force=1")


def by_commit(who: Person, name: str) -> Answer:
    container = who.create()
    repo, _, tag = name.rpartition(":")
    return who.ask("POST", f"/commit?container={container}&repo={repo}&tag={tag}")


def by_commit_in_one(who: Person, name: str) -> Answer:
    return who.ask("POST", f"/commit?container={who.create()}&repo=index.docker.io/library/{name}")


def by_build(who: Person, name: str) -> Answer:
    return who.build("FROM busybox\nLABEL by=build\n", f"t={name}")


def by_second_name_of_a_build(who: Person, name: str) -> Answer:
    return who.build("FROM busybox\nLABEL by=second\n", f"t={other(who)}-2&t={name}")


def by_import(who: Person, name: str) -> Answer:
    return who.ask("POST", f"/images/create?fromSrc=-&repo={name}", tar(file="x"))


WAYS = [by_tag, by_tag_apart, by_commit, by_commit_in_one, by_build, by_second_name_of_a_build, by_import]


@pytest.mark.parametrize("way", WAYS)
def test_on_the_bare_daemon_every_way_moves_a_tag(named: People, way: Way) -> None:
    before = idents(named, "busybox:latest")
    named.root.get("POST", "/images/busybox/tag?repo=base&tag=1")
    way(named.root, "base:1")
    assert idents(named, "base:1") != before


@pytest.mark.parametrize("way", WAYS)
def test_no_way_moves_what_is_not_ones_own(named: People, way: Way) -> None:
    named.root.get("POST", "/images/busybox/tag?repo=base&tag=1")
    named.alice.build("FROM busybox\nLABEL alices=secret\n", "t=alices:1")
    named.alice.get("POST", "/images/busybox/tag?repo=alices-base&tag=1")
    theirs = ("base:1", "alices:1", "alices-base:1", "busybox:latest")
    before = idents(named, *theirs)
    for name in theirs:
        answer = way(named.bob, name)
        assert answer.status == 403, (name, answer)
        assert TAKEN in answer.message
    assert idents(named, *theirs) == before
    assert way(named.bob, "bobs:1").status in (200, 201)
    assert way(named.bob, "bobs:1").status in (200, 201)
    assert named.alice.ask("POST", "/images/busybox/tag?repo=bobs&tag=1").status == 403
    assert way(named.alice, "alices:1").status in (200, 201)
    assert idents(named, "alices:1") != before[1:2]


def test_a_refused_name_of_several_leaves_no_trace(named: People) -> None:
    assert by_second_name_of_a_build(named.bob, "busybox").status == 403
    assert by_build(named.alice, f"{other(named.bob)}-2").status == 200


def test_names_that_look_like_ids_are_not_set(named: People) -> None:
    named.alice.build("FROM busybox\nLABEL alices=secret\n", "t=alices:1")
    identity = idents(named, "alices:1")[0].removeprefix("sha256:")
    for name in (identity[:12], identity, f"sha256:{identity[:8]}", f"sha256:{identity}"):
        assert named.bob.ask("POST", f"/images/busybox/tag?repo={name}").status == 400, name
        assert named.bob.build("FROM busybox\n", f"t={name}").status == 400
    for name in (identity[:6], identity[:3]):
        named.bob.get("POST", f"/images/busybox/tag?repo={name}")
        assert named.alice.get("GET", f"/images/{name}/json")["Id"] == "sha256:" + identity
        assert named.bob.get("GET", f"/images/{name}/json")["Id"] == idents(named, "busybox")[0]
        named.bob.get("DELETE", f"/images/{name}")


def test_removing(named: People) -> None:
    alice, bob, root = named.alice, named.bob, named.root
    root.get("POST", "/images/busybox/tag?repo=base&tag=1")
    alice.build("FROM busybox\nLABEL alices=secret\n", "t=alices:1&t=alices:2")
    alice.get("POST", "/images/busybox/tag?repo=alices-base")
    before = root.state()
    mine, shared = idents(named, "alices:1", "busybox")
    for name in (
        "alices:1",
        "docker.io/library/alices:1",
        mine,
        mine[7:],
        mine[7:19],
        mine[7:10],
        "alices-base",
    ):
        for query in ("", "?force=1", "?force=1&noprune=1"):
            answer = bob.ask("DELETE", f"/images/{name}{query}")
            assert answer.status == 404, (name, answer.body)
    for name in ("base:1", "busybox", shared, shared[7:], shared[7:19]):
        for query in ("", "?force=1", "?force=1&noprune=1"):
            assert bob.ask("DELETE", f"/images/{name}{query}").status == 403, name
            assert alice.ask("DELETE", f"/images/{name}{query}").status == 403, name
    for path in ("/images/prune", '/images/prune?filters={"dangling":["0"]}'):
        bob.get("POST", path.replace('"', "%22"))
    assert root.state() == before
    alice.get("DELETE", "/images/alices:1")
    alice.get("DELETE", f"/images/{mine[7:19]}")
    alice.get("DELETE", "/images/alices-base?force=1")
    assert by_build(bob, "alices:1").status == 200
    assert by_build(alice, "alices:1").status == 403


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_a_prune_takes_no_name_of_anothers(named: People) -> None:
    """Alice has Bob's image, from an archive of his, under a name of her own: it bears his label, and stays."""
    alice, bob, root, every = (
        named.alice,
        named.bob,
        named.root,
        "/images/prune?filters=%7B%22dangling%22:%5B%220%22%5D%7D",
    )
    bob.build("FROM busybox\nLABEL bobs=own\n", "t=bobs:1&t=copy:1")
    archive = bob.ask("GET", "/images/copy:1/get").body
    bob.get("DELETE", "/images/copy:1")
    eventually(lambda: alice.ask("POST", "/images/load", archive).status == 200, "the name is free")
    assert bob.get("POST", every)["ImagesDeleted"] == [{"Untagged": "bobs:1"}]
    assert ["copy:1"] in root.state()["images"].values()
    alice.get("DELETE", "/images/copy:1")
    assert "copy:1" not in str(root.state()["images"])


def test_several_names_by_id(named: People) -> None:
    named.alice.build("FROM busybox\nLABEL alices=secret\n", "t=alices:1&t=others:2")
    identity = idents(named, "alices:1")[0]
    assert named.alice.ask("DELETE", f"/images/{identity}").status == 409
    named.alice.get("DELETE", f"/images/{identity}?force=1")
    assert named.bob.ask("POST", "/images/busybox/tag?repo=others&tag=2").status == 201


def test_what_the_administrator_does_counts(named: People) -> None:
    alice, bob, root, admin = named.alice, named.bob, named.root, named.admin
    alice.get("POST", "/images/busybox/tag?repo=first")
    root.get("DELETE", "/images/first")
    bob.get("POST", "/images/busybox/tag?repo=first")  # removed past sockproxy: free
    assert alice.ask("DELETE", "/images/first").status == 404
    bob.build("FROM busybox\nLABEL a=b\n", "t=other")
    admin.get("POST", "/images/other/tag?repo=first")  # moved: the administrator's, so everybody's
    for who in (alice, bob):
        assert who.ask("POST", "/images/busybox/tag?repo=first").status == 403
        assert who.ask("DELETE", "/images/first").status in (403, 404)


def test_a_claim_that_came_to_nothing_is_free(named: People) -> None:
    alice, bob = named.alice, named.bob
    for who in (alice, bob):
        assert b"non-zero code" in who.build("FROM busybox\nRUN exit 3\n", "t=failing").body
        assert who.ask("POST", "/images/no-such-image/tag?repo=failing").status == 404
        assert who.ask("POST", "/commit?container=nothing&repo=failing").status == 404
    eventually(lambda: by_tag(alice, "failing").status == 201, "the name is free")


def test_one_of_two_gets_a_name(named: People) -> None:
    """Bob's build has not set the name yet when Alice wants it."""
    started = named.bob.proxy.start(
        named.bob.user,
        [
            "curl",
            "-sN",
            "--unix-socket",
            str(named.bob.proxy.listen),
            "-H",
            "Content-Type: application/x-tar",
            "--data-binary",
            "@-",
            "http://d/build?t=contested",
        ],
        stdin=-1,
        stdout=-1,
    )
    assert started.stdin
    started.stdin.write(tar(Dockerfile="FROM busybox\nRUN echo started; sleep 30\n"))
    started.stdin.close()
    assert started.stdout
    while b"started" not in started.stdout.readline():
        pass
    for way in WAYS:
        answer = way(named.alice, "contested:latest")
        assert answer.status == 403, way
        assert "is being set by somebody else" in answer.message
    started.kill()  # the name comes free when the daemon has ended the build
    started.wait()
    started.stdout.close()
    eventually(lambda: by_build(named.alice, "contested").status == 200, "the name is free")
    assert named.bob.ask("DELETE", "/images/contested").status == 404


def test_owners_outlive_a_restart(named: People, proxy: Proxy) -> None:
    named.alice.get("POST", "/images/busybox/tag?repo=kept")
    pid = proxy.processes["filesystem"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: proxy.processes.get("filesystem", pid) != pid, "another filesystem helper")
    eventually(lambda: named.bob.ask("GET", "/images/busybox/json").status == 200, "it serves")
    assert named.bob.ask("DELETE", "/images/kept").status == 404
    assert by_build(named.bob, "kept").status == 403
    named.alice.get("DELETE", "/images/kept")


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_buildkit_moves_ones_own(named: People, proxy: Proxy, engine: Engine) -> None:
    named.alice.get("POST", "/images/busybox/tag?repo=alices&tag=1")
    before = idents(named, "alices:1", "busybox")

    def build(who: Person, name: str) -> subprocess.CompletedProcess[str]:
        return proxy.docker(who.user, "build", "-q", "-t", name, "-", input="FROM busybox\nLABEL by=buildkit\n")

    for name in ("alices:1", "busybox"):
        done = build(named.bob, name)
        assert (done.returncode, TAKEN in done.stderr) == (1, True), done.stderr
    assert idents(named, "alices:1", "busybox") == before
    for _ in range(2):
        assert build(named.bob, "bobs:1").returncode == 0
    assert build(named.alice, "bobs:1").returncode == 1
    named.bob.get("DELETE", "/images/bobs:1")
