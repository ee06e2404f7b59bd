"""An image that is another's alone is not had by its digest: what a pull or a load brings, and what was pushed."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
from contextlib import suppress
from urllib.parse import unquote

import pytest

from sockproxy_helpers.api import names
from sockproxy_helpers.api.names import full
from sockproxy_helpers.calls import uploads
from sockproxy_helpers.calls.approved import Approved
from sockproxy_helpers.content import platforms, pushes, withheld
from sockproxy_helpers.content.claims import Taken
from sockproxy_helpers.content.concluded import Concluded
from sockproxy_helpers.content.images import Image, View
from sockproxy_helpers.content.ledger import LOADED, PULLED, Entry
from sockproxy_helpers.content.loads import MANIFEST
from sockproxy_helpers.content.naming import Naming
from sockproxy_helpers.content.proof import Proof
from sockproxy_helpers.content.tar import Scan
from sockproxy_helpers.errors import Refused, Unavailable
from sockproxy_helpers.stream.chunks import Chunks
from sockproxy_helpers.upstream.objects import OWNER
from tests.helpers.asked import KIM, LEE, finish
from tests.helpers.test_claims import NEW, OLD, Keeper, keeper, of  # noqa: F401 (a fixture)
from tests.helpers.test_tar import member, pack

REPOSITORY = "docker.io/library/evil"


@pytest.fixture
def kims(keeper: Keeper) -> Keeper:  # noqa: F811
    """Kim has an image."""
    keeper.daemon.config[OLD] = {"Labels": {OWNER: str(KIM)}}
    keeper.set(KIM, "kims", OLD)
    return keeper


def sees(keeper: Keeper, uid: int, identity: str) -> bool:  # noqa: F811
    _, items = finish(keeper.daemon.request("GET", "/images/json"))
    return any(item["Id"] == identity and View(keeper.tags.ledger, uid).cut(item) for item in json.loads(items))


@pytest.mark.parametrize("shared", [PULLED, LOADED])
def test_what_is_brought_is_looked_at_first(kims: Keeper, shared: str) -> None:
    claim = kims.claim(LEE, "evil", shared=shared)
    kims.daemon.set("evil", OLD)
    assert not sees(kims, LEE, OLD)
    finish(kims.tags.settle(claim))
    assert claim.withheld == {full("evil"): withheld.sentence(full("evil"))}
    assert set(kims.daemon.images) == {full("kims")}
    assert kims.entry("evil") is None
    assert not sees(kims, LEE, OLD)
    assert sees(kims, KIM, OLD)


def test_a_name_under_way_means_meanwhile_what_it_did(kims: Keeper) -> None:
    kims.daemon.config[NEW] = {"Labels": {OWNER: str(LEE + 1)}}
    kims.set(LEE, "mine", NEW, shared=PULLED)
    first, second = (kims.claim(LEE, "mine", shared=PULLED) for _ in "12")
    assert sees(kims, LEE, NEW)
    kims.daemon.set("mine", OLD)
    finish(kims.tags.settle(first))
    assert (kims.entry("mine"), sees(kims, LEE, OLD)) == ((LEE, None, PULLED), False)
    finish(kims.tags.settle(second))
    assert kims.entry("mine") is None


def test_the_only_name_of_an_image_goes_to_its_owner(kims: Keeper) -> None:
    claim = kims.claim(LEE, "evil", shared=PULLED)
    kims.daemon.set("kims", None)
    kims.daemon.set("evil", OLD)
    finish(kims.tags.settle(claim))
    assert kims.entry("evil") == (KIM, OLD, "")
    assert not sees(kims, LEE, OLD)


def test_another_manifest_with_the_same_config(kims: Keeper) -> None:
    kims.daemon.config[NEW] = kims.daemon.config[OLD] = {**kims.daemon.config[OLD], "Created": "x"}
    kims.set(LEE, "evil", NEW, shared=PULLED)
    assert set(kims.daemon.images) == {full("kims")}


def test_what_comes_from_elsewhere_with_anothers_label(kims: Keeper) -> None:
    """As an image does that was built on another machine with the same accounts."""
    kims.daemon.config[NEW] = {"Labels": {OWNER: str(KIM)}}
    kims.set(LEE, "elsewhere", NEW, shared=PULLED)
    assert kims.entry("elsewhere") == (LEE, NEW, PULLED)
    kims.daemon.set("elsewhere", None)
    kims.tags.ledger.put(NEW, None)
    pull = kims.claim(LEE, "evil", shared=PULLED)
    kims.set(KIM, "made-meanwhile", NEW)
    kims.daemon.set("evil", NEW)
    finish(kims.tags.settle(pull))
    assert kims.entry("evil") is None


def test_what_was_pushed_there(kims: Keeper) -> None:
    kims.set(KIM, "evil:1", OLD)
    assert not finish(kims.tags.share(LEE, full("evil:1"), OLD))
    withheld.pushed(kims.tags.ledger, KIM, REPOSITORY, OLD)
    withheld.pushed(kims.tags.ledger, KIM, REPOSITORY, OLD)
    assert len(kims.tags.ledger.pushes()) == 1
    assert finish(kims.tags.share(LEE, full("evil:1"), OLD))
    kims.daemon.set("evil:1", None)
    kims.set(LEE, "evil", OLD, shared=PULLED)
    assert kims.entry("evil") == (LEE, OLD, PULLED)
    assert full("evil") in kims.tags.ledger.of(LEE)
    assert kims.tags.ledger.of(KIM) == [full("evil:1"), full("kims")]  # a push counts as no name


def test_a_build_that_pushes_what_it_makes(kims: Keeper) -> None:
    claim = kims.claim(KIM, "evil")
    claim.pushes = True
    kims.daemon.set("evil", OLD)
    finish(kims.tags.settle(claim))
    assert kims.tags.ledger.pushes(KIM) == [f"{REPOSITORY} {OLD}"]


def test_a_build_whose_push_failed(kims: Keeper) -> None:
    claim = kims.claim(KIM, "kims")
    finish(kims.tags.settle(claim))
    assert kims.tags.ledger.pushes() == []
    claim = kims.claim(KIM, "kims")
    claim.pushes = True  # of what it was already
    finish(kims.tags.settle(claim))
    assert kims.tags.ledger.pushes(KIM) == [f"{names.repository(full('kims'))} {OLD}"]


TAKEN = b'6e\r\n{"status":"latest: digest: ' + OLD.encode() + b' size: 527"}\r\n\r\n'


@pytest.mark.parametrize(
    ("tail", "taken"),
    [
        (TAKEN, True),
        (b"", False),
        (b'{"status":"Preparing"}\r\n', False),
        (TAKEN + b'{"errorDetail":{"message":"denied"},"error":"denied"}\r\n', True),  # of the next tag
        (TAKEN.replace(b"latest", b"other"), False),
        (json.dumps({"errorDetail": {"message": TAKEN.decode()}}).encode()[-1000:], False),
    ],
)
@pytest.mark.parametrize(("name", "tag"), [("kims", "latest"), ("kims:latest", ""), ("kims", "")])
@pytest.mark.parametrize("sees_all", [False, True])
def test_a_push_counts_when_the_registry_took_it(
    kims: Keeper, tail: bytes, taken: bool, name: str, tag: str, sees_all: bool
) -> None:
    uid = LEE if sees_all else KIM
    ctx = of(uid)
    ctx.operation, ctx.rules = "ImagePush", {**ctx.rules, "sees_all": (sees_all, "")}
    query, approved, ledger = [("tag", tag)] if tag else [], Approved(), kims.tags.ledger
    call = type("", (), {"variables": {"name": name}, "query": query, "headers": {}, "request_id": "1"})
    naming = Naming(ledger, kims.daemon, ctx)  # type: ignore[arg-type]
    finish(naming.change("pushed", call.variables, query))  # type: ignore[attr-defined]
    finish(uploads.prepare(kims.tags, ctx, call, query, naming, approved))  # type: ignore[arg-type]
    assert approved.last
    assert finish(approved.last(tail)) == b""
    assert ledger.pushes(uid) == ([f"{names.repository(full('kims'))} {OLD}"] if taken else [])


@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_of_several_tags_those_count_that_the_registry_took(kims: Keeper, size: int) -> None:
    """However the answer is cut, and whatever lies between: of the third its error's words are none of the daemon's."""
    kims.set(KIM, "kims:two", NEW)
    kims.set(KIM, "kims:three", OLD)
    parts = [b'{"status":"The push refers to repository"}\r\n' * 60, *(
        b'{"status":"%b: digest: %b size: 527"}\r\n' % (tag, NEW.encode()) for tag in (b"two", b"latest")
    ), b'{"status":"Pushing"}\r\n' * 60, withheld.line('"status":"three: digest: ' + OLD + ' size: 1"')]  # fmt: skip
    data = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    (source, far), (sink, near) = socket.socketpair(), socket.socketpair()
    for sock in (source, sink, near):
        sock.setblocking(False)
    flow = Concluded(source, sink, data[:9], chunks := Chunks())
    assert chunks.feed(memoryview(data[:9])) == 9
    for start in range(9, len(data), size):
        far.sendall(data[start : start + size])
        for _ in range(9):
            flow.step()
        with suppress(BlockingIOError):
            near.recv(100_000)
    assert flow.held
    pushed = {full(name): identity for name, identity in (("kims", OLD), ("kims:two", NEW), ("kims:three", OLD))}
    finish(pushes.taken(kims.tags, KIM, {name: f"{pushed[name]}{name[-3:]}" for name in pushed})(flow.told))  # type: ignore[arg-type]
    repository = names.repository(full("kims"))
    assert kims.tags.ledger.pushes(KIM) == [f"{repository} {OLD}est", f"{repository} {NEW}two"]
    for sock in (source, far, sink, near):
        sock.close()


def test_a_push_that_can_not_be_written_down(kims: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kims.tags.ledger, "put", full_disk)
    last = pushes.taken(kims.tags, KIM, {full("kims"): OLD})
    assert b"so nobody else may pull it: No space left on device" in finish(last(TAKEN))


def test_a_push_of_what_is_no_name(kims: Keeper) -> None:
    call = type("", (), {"variables": {"name": "a..b//"}})
    assert finish(uploads.named(kims.tags, call, [])) == {}  # type: ignore[arg-type]


def test_so_many_pushes_are_remembered(kims: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withheld, "MOST", 2)
    for name in "abc":
        withheld.pushed(kims.tags.ledger, KIM, name, OLD)
    assert kims.tags.ledger.pushes(KIM) == [f"b {OLD}", f"c {OLD}"]
    kims.tags.ledger.put("gone", Entry(KIM, NEW, "pushed"))
    kims.tags.ledger.put(f"d {NEW}", Entry(KIM, NEW, "pushed"))
    finish(kims.tags.recover())
    assert kims.tags.ledger.pushes(KIM) == [f"b {OLD}", f"c {OLD}"]


def test_no_build_is_from_it(kims: Keeper) -> None:
    ctx = of(LEE, sees_all=False)
    digest = f"*@{OLD}"
    assert finish(withheld.foreign(kims.tags.ledger, kims.daemon, ctx)) == [full("kims"), digest]  # type: ignore[arg-type]


def config(**other: object) -> dict[str, object]:
    told = {"id": NEW, "owner": str(KIM), "layers": ["sha256:one"], "created": "2026-01-02T03:04:05.678Z"}
    return {"name": f"{REPOSITORY}:1@{NEW}", "config": told | other}


@pytest.mark.parametrize(
    ("told", "uid", "hers"),
    [
        (config(), LEE, True),  # containerd's store: the ID is another digest
        (config(id=OLD, owner="", layers=[], created=""), LEE, True),  # the classic one: it is the config's
        (config(), KIM, False),
        (config(owner=""), LEE, False),
        (config(layers=["sha256:two"]), LEE, False),
        (config(layers=[]), LEE, False),
        (config(created="2026-01-02T03:04:06Z"), LEE, False),
        ({"name": "x", "config": None}, LEE, False),
    ],
)
def test_no_build_is_from_what_has_its_config(kims: Keeper, told: dict[str, object], uid: int, hers: bool) -> None:
    kims.daemon.config[OLD] |= {"Layers": ["sha256:one"], "Created": "2026-01-02T03:04:05.6Z"}
    judge_base(kims, told, uid, hers)


@pytest.mark.parametrize("written", [None, "0001-01-01T00:00:00Z", ""])
def test_nor_from_one_without_layers(kims: Keeper, written: str | None) -> None:
    """BuildKit says of none when it was made; engines write that in their own ways."""
    kims.daemon.config[OLD] |= {"Layers": None, "Created": written}
    judge_base(kims, config(layers=[], created=""), LEE, True)


def judge_base(kims: Keeper, told: dict[str, object], uid: int, hers: bool) -> None:
    asked = withheld.base(kims.tags.ledger, kims.daemon, of(uid, sees_all=False), told)  # type: ignore[arg-type]
    if not hers:
        finish(asked)
        return
    with pytest.raises(Refused, match=r"^evil:1 is an image of somebody else"):
        finish(asked)
    withheld.pushed(kims.tags.ledger, KIM, REPOSITORY, OLD)
    finish(withheld.base(kims.tags.ledger, kims.daemon, of(uid, sees_all=False), told))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("behind", [b"", b"NEXT"])
def test_the_end_of_an_answer_waits(size: int, behind: bytes) -> None:
    """No byte of the end is passed before it is said what belongs there; all others are, at once."""
    body = b"5\r\n0\r\n0\n\r\n3\r\nabc\r\n"
    data, (source, far), (sink, near) = body + b"0\r\n\r\n" + behind, socket.socketpair(), socket.socketpair()
    for sock in (source, sink, near):
        sock.setblocking(False)
    got, chunks = b"", Chunks()
    flow = Concluded(source, sink, b"Content-Length: 0\r\n\r\n", chunks)
    for start in range(0, len(data), size):
        far.sendall(data[start : start + size])
        for _ in range(9):
            flow.step()
    got += near.recv(1000)
    assert (flow.held, flow.done) == (True, False)
    assert got == b"Content-Length: 0\r\n\r\n" + body
    flow.finish(b"more")
    flow.step()
    assert near.recv(1000) == b"4\r\nmore\r\n0\r\n\r\n"
    assert flow.complete
    for sock in (source, far, sink, near):
        sock.close()


@pytest.mark.parametrize("size", [1, 700, 100_000])
def test_what_an_archive_has(size: int) -> None:
    layer = b"layer" * 500
    members = {
        "plain": layer,
        "packed": gzip.compress(b"x" + layer),
        "twice": gzip.compress(b"a") + gzip.compress(b"b"),
    }
    odd = {"odd": b"\x1f\x8bno gzip", "bomb": gzip.compress(bytes(8 << 20)), "empty": b"", MANIFEST: b"[]"}
    archive, proof = pack(*(member(name, content) for name, content in (members | odd).items())), Proof()
    scan = Scan((MANIFEST,), proof=proof)
    for start in range(0, len(archive), size):
        scan.feed(archive[start : start + size])
    assert scan.found[MANIFEST].content == b"[]"
    kept = [*members.values(), b"x" + layer, b"ab", odd["odd"], odd["bomb"], b""]
    assert proof.digests == {"sha256:" + hashlib.sha256(content).hexdigest() for content in kept}


@pytest.mark.parametrize(
    ("has", "brings"),
    [([OLD, "sha256:one", "sha256:two"], True), ([OLD, "sha256:one"], False), (["sha256:one", "sha256:two"], False)],
)
def test_a_load_brings_what_the_archive_has(kims: Keeper, has: list[str], brings: bool) -> None:
    """An image of somebody else's may be had as a whole, from a file; not what a file only names."""
    kims.daemon.config[OLD]["Layers"] = ["sha256:one", "sha256:two"]
    claim = kims.claim(LEE, "loaded", shared=LOADED)
    claim.brought = set(has)
    kims.daemon.set("loaded", OLD)
    finish(kims.tags.settle(claim))
    assert kims.entry("loaded") == ((LEE, OLD, LOADED) if brings else None)


@pytest.mark.parametrize("lacks", [["sha256:one"], ["sha256:nobodys"]])
def test_an_archive_that_lacks_layers(kims: Keeper, lacks: list[str]) -> None:
    kims.daemon.config |= {OLD: {**kims.daemon.config[OLD], "Layers": ["sha256:one"]}, NEW: {"Layers": lacks}}
    claim = kims.claim(LEE, "loaded", shared=LOADED)
    claim.brought = {NEW}
    kims.daemon.set("loaded", NEW)
    finish(kims.tags.settle(claim))
    assert (kims.entry("loaded") is None) == (lacks == ["sha256:one"])


def test_others_do_not_wait_while_a_name_is_taken_away(kims: Keeper) -> None:
    """The daemon removes no image while a container hangs, anybody's: it waits, and for ever."""
    claim = kims.claim(LEE, "evil", shared=LOADED)
    kims.daemon.set("evil", OLD)
    kims.daemon.removes = False
    settling = kims.tags.settle(claim)
    for _ in range(9):
        settling.send(None)  # as far as it goes
    assert kims.entry("evil") == (LEE, None, LOADED)
    assert not sees(kims, LEE, OLD)
    kims.set(KIM, "another", OLD)
    with pytest.raises(Taken):
        kims.claim(KIM, "evil")
    kims.daemon.removes = True
    finish(settling)
    assert set(kims.daemon.images) == {full("kims"), full("another")}
    assert kims.entry("evil") is None


class Indexed:
    """A daemon with one index: what it has, by the platform's name; whose images list is the keeper's."""

    def __init__(self, keeper: Keeper, **items: dict[str, object]) -> None:  # noqa: F811
        self._keeper, self._items, self.blobs = keeper, items, keeper.daemon.blobs

    async def request(self, method: str, target: str, *more: object) -> tuple[int, bytes]:
        if not target.startswith("/images/docker.io/library/index"):
            return await self._keeper.daemon.request(method, target)
        _, _, asked = unquote(target).partition("?platform=")
        first = {"Id": NEW, "Created": "own", "Config": {}}
        if asked:
            return 200, json.dumps({**first, **self._items[json.loads(asked)["architecture"]]}).encode()
        listed = [
            {"ID": f"id-{name}", "Kind": "image", "Available": True, "ImageData": {"Platform": {"architecture": name}}}
            for name in self._items
        ]
        return 200, json.dumps({**first, "Manifests": listed}).encode()


@pytest.mark.parametrize(
    ("arm", "other"),
    [
        ({"Id": "id-arm", "Created": "theirs"}, ""),
        ({"Id": "id-arm", "Created": OLD, "Config": {"Labels": {OWNER: str(KIM)}}}, OLD),
        ({"Id": "the first of that platform"}, platforms.UNTOLD),
    ],
)
def test_each_platform_of_an_index(kims: Keeper, arm: dict[str, object], other: str) -> None:
    name, item = full("index"), {"Id": NEW, "Created": "own", "Config": {}}
    hers = {"RootFS": {"Layers": None}} if other == OLD else {}
    daemon = Indexed(kims, amd={"Id": "id-amd"}, arm={**arm, **hers})
    found = finish(platforms.taken(kims.tags.ledger, daemon, LEE, name, item, None, False))  # type: ignore[arg-type]
    assert found == other
    index = Image(name, {}, {**item, "Descriptor": {"mediaType": "application/vnd.oci.image.index.v1+json"}})
    if other:
        with pytest.raises(Refused, match="two images for one platform" if other == platforms.UNTOLD else "somebody"):
            finish(platforms.see(kims.tags.ledger, daemon, LEE, index))  # type: ignore[arg-type]
    else:
        finish(platforms.see(kims.tags.ledger, daemon, LEE, index))  # type: ignore[arg-type]


CONFIG, INNER, SEEN, LAYER, NEWER = ("sha256:" + digit * 64 for digit in "abcde")


def described(digest: str, kind: str = "application/vnd.oci.image.layer.v1.tar+gzip") -> dict[str, str]:
    return {"mediaType": kind, "digest": digest}


def manifest(*layers: dict[str, str], config: str = NEWER) -> bytes:
    return json.dumps({"config": described(config, "config"), "layers": layers}).encode()


HERS = {
    OLD: json.dumps({"manifests": [described(INNER, "m"), described("sha256:" + "9" * 64, "m")]}).encode(),
    INNER: manifest(described(LAYER), described(SEEN, "application/vnd.in-toto+json"), config=CONFIG),
}


@pytest.mark.parametrize(
    ("blobs", "taken"),
    [
        ({NEW: manifest(described(LAYER))}, False),  # which digests are no secret to who can name them: see the README
        ({NEW: manifest(described(CONFIG))}, True),
        ({NEW: manifest(described(CONFIG, "foreign"))}, True),
        ({NEW: manifest(described(INNER))}, True),
        ({NEW: manifest(described(OLD))}, True),
        ({NEW: manifest(described(SEEN))}, True),
        ({NEW: manifest(config=INNER)}, True),
        ({NEW: b'{"layers": [], "LAYER\\u017f": [{"Digest": "%s"}]}' % CONFIG.encode()}, True),
        ({NEW: b'{"layers": [{"digest": "%s"}], "layers": []}' % CONFIG.encode()}, True),
        ({NEW: b'{"\xff": "\\u0073%s"}' % CONFIG[1:].encode()}, True),
        ({NEW: b'{"manifests": [{"digest": "%s"}]}' % SEEN.encode()}, True),
        ({NEW: json.dumps({"manifests": [described(NEWER)]}).encode(), NEWER: manifest(described(CONFIG))}, True),
        ({NEW: json.dumps({"manifests": [described(NEWER)]}).encode()}, False),  # it is not there
        ({NEW: manifest(), OLD: b"no JSON"}, False),
        ({}, False),  # the classic store
    ],
)
def test_nothing_that_is_no_layer_is_named_as_one(kims: Keeper, blobs: dict[str, bytes], taken: bool) -> None:
    kims.daemon.blobs = HERS | blobs
    kims.daemon.config[NEW] = {"Env": ["A=b"]}
    claim = kims.claim(LEE, "evil", shared=PULLED)
    kims.daemon.set("evil", NEW)
    finish(kims.tags.settle(claim))
    assert (full("evil") in kims.daemon.images, full("evil") in claim.withheld) == (not taken, taken)
    told = {"name": f"{full('evil')}@{NEW}", "config": {"id": NEWER}}
    base = withheld.base(kims.tags.ledger, kims.daemon, of(LEE), told)  # type: ignore[arg-type]
    if taken:
        with pytest.raises(Refused, match="is an image of somebody else's"):
            finish(base)
    else:
        finish(base)
    withheld.pushed(kims.tags.ledger, KIM, names.repository(full("evil")), OLD)
    claim = kims.claim(LEE, "evil", shared=PULLED)
    kims.daemon.set("evil", NEW)
    finish(kims.tags.settle(claim))
    assert full("evil") in kims.daemon.images  # its owner has given it to that registry


@pytest.mark.parametrize("text", [b"{", b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"])
def test_a_manifest_that_can_not_be_read(kims: Keeper, text: bytes) -> None:
    kims.daemon.blobs = {**HERS, NEW: text}
    kims.daemon.config[NEW] = {"Env": ["A=b"]}
    claim = kims.claim(LEE, "evil", shared=PULLED)
    kims.daemon.set("evil", NEW)
    finish(kims.tags.settle(claim))
    assert kims.entry("evil") == (LEE, None, PULLED)  # it is nobody's yet
    many = {"manifests": [described(f"sha256:{number:064x}") for number in range(600)]}
    kims.daemon.blobs = {**HERS, NEW: json.dumps(many).encode()}
    with pytest.raises(Unavailable, match="can't be told"):
        finish(withheld.base(kims.tags.ledger, kims.daemon, of(LEE), {"name": f"{full('evil')}@{NEW}"}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("brought", "taken"), [({CONFIG}, False), (set(), True)])
def test_what_an_archive_has_itself(kims: Keeper, brought: set[str], taken: bool) -> None:
    kims.daemon.blobs = HERS | {NEW: manifest(described(CONFIG))}
    kims.daemon.config[NEW] = {"Env": ["A=b"]}
    claim = kims.claim(LEE, "evil", shared=LOADED)
    claim.brought = brought
    kims.daemon.set("evil", NEW)
    finish(kims.tags.settle(claim))
    assert (full("evil") in claim.withheld) == taken
