"""A build with the classic builder uses images that its user may use, however the Dockerfile names them."""

from __future__ import annotations

import io
import json
import re
import tarfile
from urllib.parse import quote

import pytest

from tests.integration.conftest import People, idents
from tests.support.belongings import Person, tar
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Answer
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

SECRET = "FROM busybox\nRUN echo alices-secret >/secret\n"
STEAL = "RUN cat /secret"
# Each reads REF; {"t"} is what would be shown if it came through.
THIEVES = [
    f"FROM REF\n{STEAL}\n",
    f"from\tREF\n{STEAL}\n",
    f"  FROM \\\n REF\n{STEAL}\n",
    f"FROM \\\n# a comment\n\n  REF \\\n AS x\n{STEAL}\n",
    f"ARG BASE=REF\nFROM $BASE\n{STEAL}\n",
    f"ARG BASE\nFROM ${{BASE:-REF}}\n{STEAL}\n",
    f'ARG A="REF" B=$A\nFROM ${{B}} AS x\n{STEAL}\n',
    f"FROM busybox AS x\nFROM REF AS y\n{STEAL}\n",
    f"FROM busybox\nCOPY --from=REF /secret /secret\n{STEAL}\n",
    f"FROM busybox\nCOPY --chown=0:0 \\\n --from=REF /secret /secret\n{STEAL}\n",
    f"FROM busybox AS x\nONBUILD COPY --from=REF /secret /secret\nFROM x\n{STEAL}\n",
    f"FROM busybox\nADD --from=REF /secret /secret\n{STEAL}\n",
    f'FROM busybox\nCOPY --from="REF" /secret /secret\n{STEAL}\n',
    f"FROM busybox\nCOPY --fr\\om=REF /secret /secret\n{STEAL}\n",
    f"FROM busybox\nCOPY --fr\\\nom=REF /secret /secret\n{STEAL}\n",
    f"FROM --platform=linux/amd64 REF\n{STEAL}\n",
    f"# escape=`\nFROM busybox\nCOPY --fr`\nom=REF /secret /secret\n{STEAL}\n",
    f"FROM busybox\nRUN echo a \\\n   # \\\nFROM REF\n{STEAL}\n",
    f"FROM busybox\nRUN <<#x\necho \\\n#x\nFROM REF\n{STEAL}\n",
]


def spellings(identity: str) -> list[str]:
    bare = identity.removeprefix("sha256:")
    return ["alices:1", "docker.io/library/alices:1", identity, bare, bare[:12], bare[:3]]


@pytest.mark.parametrize("thief", THIEVES)
def test_no_build_reads_what_is_anothers(named: People, thief: str) -> None:
    named.alice.build(SECRET, "t=alices:1")
    for reference in spellings(idents(named, "alices:1")[0]):
        answer = named.bob.build(thief.replace("REF", reference), "nocache=1")
        assert b"alices-secret" not in answer.body, reference
        assert b"Successfully built" not in answer.body, reference


def test_on_the_bare_daemon_builds_read_anything(named: People) -> None:
    named.alice.build(SECRET, "t=alices:1")
    for thief in (THIEVES[0], THIEVES[4], THIEVES[8], THIEVES[10]):
        assert b"alices-secret" in named.root.build(thief.replace("REF", "alices:1"), "nocache=1").body


def test_arguments_of_a_build(named: People) -> None:
    named.alice.build(SECRET, "t=alices:1")
    given = "nocache=1&buildargs=" + quote(json.dumps({"BASE": "alices:1"}))
    for text in (f"ARG BASE=busybox\nFROM $BASE\n{STEAL}\n", f"ARG BASE\nFROM ${{BASE:+alices:1}}\n{STEAL}\n"):
        answer = named.bob.build(text, given)
        assert (answer.status, b"alices-secret" in answer.body) == (404, False)
        assert b"alices-secret" in named.alice.build(text, given).body
    given = "nocache=1&buildargs=" + quote(json.dumps({"BASE": "busybox", "UNSET": None}))
    for text in (
        "ARG BASE=alices:1\nFROM $BASE\nRUN echo fine\n",
        'ARG TAG="latest"\nARG BASE\nFROM ${BASE}:${TAG} AS one\nFROM one\nCOPY --from=0 /bin/sh /a\nRUN echo fine\n',
        "FROM busybox AS one\nFROM busybox\nCOPY --from=ONE /bin/sh /b\nRUN echo fine\n",
        "ARG UNSET\nFROM busybox${UNSET:+x}\nARG LATER=$UNSET\nRUN echo fine\n",
    ):
        assert b"fine" in named.bob.build(text, given).body, text


def test_ones_own_images(named: People) -> None:
    named.alice.build(SECRET, "t=mine:1")
    references = ["mine:1", *spellings(idents(named, "mine:1")[0])[2:]]
    for reference, thief in zip(references, (THIEVES[i] for i in (0, 3, 7, 8, 10)), strict=True):
        answer = named.alice.build(thief.replace("REF", reference), "nocache=1")
        assert b"alices-secret" in answer.body, (reference, answer.body)


def test_a_name_that_changes_hands_meanwhile(named: People) -> None:
    """The builder looks a name up when it gets there: what stands in the Dockerfile then is no name."""
    named.bob.build("FROM busybox\nRUN echo bobs >/secret\n", "t=app:dev")
    answer = named.bob.build(f"FROM busybox\nCOPY --from=app:dev /secret /secret\n{STEAL}\n", "nocache=1")
    assert b"bobs" in answer.body
    assert b"--from=app:dev" not in answer.body
    assert b"--from=sha256:" in answer.body


def context(*members: tuple[str, str | None]) -> bytes:
    """Pack a context; a member without content is a link to the folder it is in."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in members:
            info = tarfile.TarInfo(name)
            if text is None:
                info.type, info.linkname = tarfile.SYMTYPE, "."
                archive.addfile(info)
            else:
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()


def test_where_the_dockerfile_is(named: People) -> None:
    named.alice.build(SECRET, "t=alices:1")
    bad, good = THIEVES[0].replace("REF", "alices:1"), "FROM busybox\nRUN echo fine\n"

    def build(query: str, *members: tuple[str, str | None]) -> Answer:
        return named.bob.ask("POST", f"/build?nocache=1&{query}", context(*members))

    for query, members, fine in (
        ("", [("Dockerfile", good), ("other", bad)], True),
        ("dockerfile=other", [("Dockerfile", good), ("other", bad)], False),
        ("dockerfile=./a/../other", [("Dockerfile", bad), ("other", good)], True),
        ("dockerfile=sub/file", [("sub/file", good), ("Dockerfile", bad)], True),
        ("", [("dockerfile", good)], True),
        ("", [("dockerfile", bad)], False),
        ("", [("dockerfile", good), ("s", None), ("s/Dockerfile", bad)], True),
        ("", [("Dockerfile", good), ("s", None), ("s/Dockerfile", bad)], True),
        ("dockerfile=s/file", [("s", None), ("file", bad), ("s/file", good)], True),
        ("dockerfile=s/file", [("s", None), ("s/file", good), ("file", bad)], True),
        ("", [("Dockerfile", bad), ("Dockerfile", good)], True),
        ("", [("s", None), ("s/Dockerfile", bad)], False),
        ("dockerfile=nothing", [("Dockerfile", good)], False),
    ):
        answer = build(query, *members)
        assert b"alices-secret" not in answer.body, (query, members)
        assert (b"fine" in answer.body) == fine, (query, members, answer.body)


def test_the_context_is_as_it_was(named: People) -> None:
    """A Dockerfile without other people's names in it is the same file, also in the context, but for labels."""
    people = (named.bob, named.root)
    text = "# a comment\nFROM  busybox  AS x\n\nCOPY . /all\nRUN grep -v LABEL /all/Dockerfile | md5sum \\\n\n | cat\n"
    found = [re.findall(rb"[0-9a-f]{32}  -", who.build(text, "nocache=1").body) for who in people]
    assert found[0] == found[1] != []


def test_triggers_of_a_base(named: People) -> None:
    named.alice.build(SECRET, "t=alices:1")
    made = named.bob.create()
    for name, *triggers in (
        ("trap", "COPY --from=alices:1 /secret /secret"),
        ("tool", "COPY --from=one /own /own", "RUN cat /own"),
    ):
        named.bob.get("POST", f"/commit?container={made}&repo={name}&tag=1", {"OnBuild": triggers})
    answer = named.bob.build(f"FROM trap:1\n{STEAL}\n", "nocache=1")
    assert (answer.status, b"alices-secret" in answer.body) == (403, False)
    assert "makes builds copy" in answer.message
    text = "FROM busybox AS one\nRUN echo fine >/own\nFROM tool:1\n"
    assert b"fine" in named.bob.build(text, "nocache=1").body


def test_triggers_of_anothers_base(named: People, registry: str) -> None:
    """They run before a step is of the caller's own image: by its cache for everybody, and for whom the base names."""
    base, (alice, bob, root) = f"{registry}/trigger", (named.alice, named.bob, named.root)
    trigger = "ONBUILD RUN grep made.example /etc/hosts || :\nONBUILD COPY . /all\n"
    bob.build(f"FROM busybox\n{trigger}", f"t={base}:1")
    assert bob.ask("POST", f"/images/{base}/push?tag=1", X_Registry_Auth="e30=").status == 200
    assert alice.ask("POST", f"/images/create?fromImage={base}&tag=1").status == 200
    text, hosts = f"FROM {base}:1\nRUN cat /all/Dockerfile\n", "extrahosts=made.example:192.0.2.66"
    root.build(text, hosts)
    again = root.build(text)
    assert b"Using cache" in again.body, "not so on the bare daemon"
    steps = re.findall(r"---(?:>|\\u003e) ([0-9a-f]{12})", again.body.decode())
    seen = [bob.ask("GET", f"/images/{step}/json").status == 200 for step in steps[1:]]
    assert any(seen), "her steps are not his on the bare daemon"
    answer = alice.build(text)
    assert (answer.status, "ONBUILD" in answer.message) == (403, True)
    for change in (f"LABEL io.sockproxy.owner={bob.user.uid}", "LABEL $A=1"):
        made = root.create("labels")
        given = {"OnBuild": [change], "Labels": alice.label}
        root.get("POST", f"/commit?container={made}&repo={base}&tag=2", given)
        root.ask("DELETE", f"/containers/{made}")
        assert root.ask("POST", f"/images/{base}/push?tag=2", X_Registry_Auth="e30=").status == 200
        root.ask("DELETE", f"/images/{base}:2")
        alice.ask("POST", f"/images/create?fromImage={base}&tag=2")
        answer = alice.build(f"FROM {base}:2\n")
        assert answer.status == 403, answer.body


def test_caches_to_build_from(named: People) -> None:
    named.alice.build("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/u && echo alices-step\n", "t=alices:1")
    text = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/u && echo alices-step\n"
    answer = named.bob.build(text, "cachefrom=" + quote(json.dumps(["alices:1"])))
    assert b"Using cache" not in answer.body


def test_a_cache_of_ones_own(named: People) -> None:
    """What a step finds depends on more than the builder's cache knows: here, on what the builder is told of a host."""
    text = "FROM busybox AS one\nRUN grep made.example /etc/hosts >/made || :\nFROM one\nRUN cat /made\n"
    hosts = "extrahosts=made.example:192.0.2.66"
    assert b"192.0.2.66" in named.bob.build(text, hosts).body
    alices = named.alice.build(text).body
    assert (b"192.0.2.66" in alices, b"Using cache" in alices, b"Successfully built" in alices) == (False, False, True)
    assert named.alice.build(text).body.count(b"Using cache") >= 3  # it is a cache
    assert b"Using cache" in named.root.build(text, hosts).body + named.root.build(text).body  # and one for all


def test_pulling_what_a_build_needs(named: People, proxy: Proxy, users: Users, registry: str) -> None:
    base, root = f"{registry}/base:1", named.root
    root.build("FROM busybox\nRUN echo from-the-registry >/file\n", f"t={base}")
    assert root.ask("POST", f"/images/{registry}/base/push?tag=1", X_Registry_Auth="e30=").status == 200
    root.get("DELETE", f"/images/{base}?force=1")
    text = f"FROM {base}\nRUN cat /file\n"
    answer = named.bob.build(text, "nocache=1")
    assert b"from-the-registry" in answer.body, answer.body
    assert named.alice.ask("DELETE", f"/images/{base}").status == 403  # Bob has pulled it, all use it
    assert b"from-the-registry" in named.alice.build(text, "nocache=1&pull=1").body
    done = proxy.docker(users.alice, "pull", base)
    assert (done.returncode, "Image is up to date" in done.stdout) == (0, True), done.stderr
    root.build("FROM busybox\nRUN echo newer >/file\n", f"t={registry}/other:1")
    other = idents(named, f"{registry}/other:1")[0]
    root.get("POST", f"/images/{other}/tag?repo={registry}/base&tag=2")
    before = idents(named, base)
    root.get("POST", f"/images/{other}/tag?repo={registry}/push&tag=1")
    missing = named.bob.build(f"FROM {registry}/nothing:1\n", "nocache=1")
    assert missing.status == 404
    assert idents(named, base) == before
    named.bob.get("DELETE", f"/images/{base}?force=1")


def test_pulls_move_ones_own(named: People, proxy: Proxy, users: Users, registry: str) -> None:
    """A tag that somebody else has pulled stays what it is when the registry has something newer."""
    name, root = f"{registry}/moving:1", named.root

    def publish(text: str) -> None:
        root.build(f"FROM busybox\nRUN echo {text} >/file\n", f"t={name}")
        assert root.ask("POST", f"/images/{registry}/moving/push?tag=1", X_Registry_Auth="e30=").status == 200
        root.ask("DELETE", f"/images/{name}?force=1")

    publish("first")
    assert proxy.docker(users.alice, "pull", name).returncode == 0
    old = idents(named, name)
    second = f"{registry}/moving:new"
    root.build("FROM busybox\nRUN echo second >/file\n", f"t={second}")
    new = idents(named, second)[0]
    root.get("POST", f"/images/{new}/tag?repo={registry}/moving&tag=staged")
    assert proxy.docker(users.bob, "pull", name).returncode == 0  # is up to date
    assert idents(named, name) == old
    assert proxy.docker(users.alice, "pull", name).returncode == 0
    assert named.bob.ask("DELETE", f"/images/{name}").status == 403
    named.alice.get("DELETE", f"/images/{name}?force=1")


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_who_gets_from_the_registry_what_another_has_pushed(named: People, proxy: Proxy, registry: str) -> None:
    """Its label says whose it is, here or on another host; a registry that hands it out says who may use it."""
    name, alice, bob = f"{registry}/app:1", named.alice, named.bob

    def publish(text: str) -> None:
        assert alice.build(f"FROM busybox\nRUN echo {text} >/file\n", f"t={name}").status == 200
        assert proxy.docker(alice.user, "push", name).returncode == 0

    def reads(who: Person) -> str:
        return proxy.docker(who.user, "run", "--pull", "never", "--rm", name, "cat", "/file").stdout

    publish("first")
    assert bob.ask("GET", f"/images/{name}/json").status == 404
    for _ in range(2):
        assert proxy.docker(bob.user, "pull", name).returncode == 0
        assert [reads(who) for who in (alice, bob)] == ["first\n"] * 2
    assert bob.ask("DELETE", f"/images/{name}").status == 403
    assert alice.build("FROM busybox\nRUN echo secret >/file\n", f"t={name}").status == 200  # not pushed
    assert [reads(who) for who in (alice, bob)] == ["secret\n", ""]
    assert proxy.docker(bob.user, "pull", name).returncode == 1
    assert alice.build(f"FROM {registry}/nothing:1\n", f"t={name}").status == 404
    assert [reads(who) for who in (alice, bob)] == ["secret\n", ""]
    alice.get("DELETE", f"/images/{name}?force=1")
    assert proxy.docker(alice.user, "pull", name).returncode == 0
    assert [reads(who) for who in (alice, bob)] == ["first\n"] * 2  # bears Alice's label, and was pulled
    assert b"non-zero code" in alice.build("FROM busybox\nRUN exit 3\n", f"t={name}").body
    eventually(lambda: reads(bob) == "first\n", "a build that failed has changed nothing")
    alice.get("DELETE", f"/images/{name}?force=1")


def test_a_large_context_passes(named: People) -> None:
    data = tar(Dockerfile="FROM busybox\nCOPY big /big\nRUN wc -c /big\n", big="x" * (20 << 20))
    assert b"20971520 /big" in named.bob.ask("POST", "/build?nocache=1", data).body
