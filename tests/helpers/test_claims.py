"""Whose a name of an image is: claims, what the daemon has made of them, what they may count, and names kept still."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from sockproxy_helpers.api import names
from sockproxy_helpers.api.names import familiar, full
from sockproxy_helpers.builder.kept import Kept
from sockproxy_helpers.builder.told import MOST
from sockproxy_helpers.channel.loop import Loop, Wait
from sockproxy_helpers.content import apart, described, loads, removals, still, withheld
from sockproxy_helpers.content.brought import owner, whose
from sockproxy_helpers.content.claims import Claim, Taken, Wish
from sockproxy_helpers.content.images import View
from sockproxy_helpers.content.ledger import LOADED, PULLED, Entry
from sockproxy_helpers.content.tags import Tags
from sockproxy_helpers.content.tar import Scan
from sockproxy_helpers.errors import Malformed, NotFound, Refused, Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.system.caller import Caller
from sockproxy_helpers.upstream import blobs, pulls
from sockproxy_helpers.upstream.objects import OWNER
from tests.helpers.asked import KIM, LEE, finish
from tests.helpers.support import run
from tests.helpers.test_tar import member, pack
from tests.support.judging import DEVELOPER, context

OLD, NEW = ("sha256:" + digit * 64 for digit in "12")


class Daemon:
    """A daemon with names of images; `config` is what is known of some, by their ID; it may not get to `removes`."""

    def __init__(self) -> None:
        self.images: dict[str, str] = {}
        self.config: dict[str, dict[str, Any]] = {}
        self.removes = True
        self.blobs: dict[str, bytes] = {}

    def set(self, name: str, identity: str | None) -> None:
        """Have a name name an image, or nothing."""
        self.images.pop(full(name), None)
        if identity:
            self.images[full(name)] = identity

    def _tags(self, identity: str) -> list[str]:
        return [familiar(name) for name, item in self.images.items() if item == identity]

    async def request(self, method: str, target: str, body: bytes = b"", **more: object) -> tuple[int, bytes]:
        if target.startswith("/images/json"):
            found = [
                {
                    "Id": item,
                    "RepoTags": [tag for tag in self._tags(item) if "@" not in tag],
                    "RepoDigests": [tag for tag in self._tags(item) if "@" in tag],
                    "Labels": self.config.get(item, {}).get("Labels"),
                    **({"Manifests": self.config.get(item, {}).get("Manifests")} if "manifests=1" in target else {}),
                }
                for item in dict.fromkeys(self.images.values())
            ]
            return 200, json.dumps(found).encode()
        reference = unquote(target.partition("?")[0].removeprefix("/images/").removesuffix("/json"))
        if method == "DELETE":
            while not self.removes:
                await Wait({}, None)
            self.set(reference, None)
            return 200, b"[]"
        identity = reference if reference in self.images.values() else self.images.get(names.known(reference))
        if not identity:
            return 404, json.dumps({"message": f"No such image: {reference}"}).encode()
        tags = self._tags(identity)
        config = self.config.get(identity, {})
        told = {"Id": identity, "RepoTags": tags, "Config": config, "RootFS": {"Layers": config.get("Layers")}}
        return 200, json.dumps({**told, "Created": config.get("Created", identity)}).encode()

    def close(self) -> None:
        """Be no more."""


class Blobs:
    """What its content service tells."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def read(self, digest: str) -> bytes | None:
        return self._daemon.blobs.get(digest)

    def close(self) -> None:
        """Be no more."""


class Keeper:
    """The ledger, before that daemon."""

    def __init__(self, folder: Path) -> None:
        self.loop, self.daemon = Loop(), Daemon()
        self.tags = Tags(self.loop, str(folder), lambda: self.daemon)  # type: ignore[arg-type,return-value]

    def claim(self, uid: int, *names: str, **wish: Any) -> Claim:
        return finish(self.tags.claim(of(uid), Wish([full(name) for name in names], **wish)))

    def set(self, uid: int, name: str, identity: str | None, **wish: Any) -> None:
        """Claim a name, have the daemon set it, or not, and settle."""
        claim = self.claim(uid, name, **wish)
        if identity != "":
            self.daemon.set(name, identity)
        finish(self.tags.settle(claim))

    def entry(self, name: str) -> tuple[int, str | None, str] | None:
        found = self.tags.ledger.get(full(name))
        return (found.uid, found.id, found.shared) if found else None


def of(uid: int, **totals: int) -> Context:
    rules = {**DEVELOPER, "totals": {**DEVELOPER["totals"], **totals}}  # type: ignore[dict-item]
    return context(rules, "ImageCreate", Caller(uid, uid, 0, f"u{uid}", [], "/"))


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    monkeypatch.setattr(apart, "Blobs", Blobs)
    monkeypatch.setattr(apart, "_known", {})
    monkeypatch.setattr(blobs, "_asked", [])
    return Keeper(tmp_path)


def test_a_name_is_whose_first_set_it(keeper: Keeper) -> None:
    keeper.set(KIM, "app", OLD)
    assert keeper.entry("app") == (KIM, OLD, "")
    for wish in ({}, {"shared": PULLED}, {"removing": True}):
        with pytest.raises(Taken, match="is not yours to"):
            keeper.claim(LEE, "app", **wish)
    keeper.set(KIM, "app", NEW)
    assert keeper.entry("app") == (KIM, NEW, "")
    keeper.set(KIM, "app", None)
    assert keeper.entry("app") is None
    keeper.set(LEE, "app", OLD)


def test_what_was_there_before_is_nobodys(keeper: Keeper) -> None:
    keeper.daemon.set("base", OLD)
    with pytest.raises(Taken, match="or all share it"):
        keeper.claim(KIM, "base")
    keeper.set(KIM, "app", OLD)
    keeper.daemon.set("app", NEW)  # past sockproxy
    with pytest.raises(Taken):
        keeper.claim(KIM, "app")
    digest = "base@sha256:" + "3" * 64
    keeper.daemon.set(digest, OLD)
    assert keeper.claim(KIM, digest).names == []  # names the same for ever


def test_one_at_a_time(keeper: Keeper) -> None:
    claim = keeper.claim(KIM, "app")
    with pytest.raises(Taken, match="is being set by somebody else"):
        keeper.claim(LEE, "app")
    assert keeper.claim(KIM, "app").names == claim.names
    finish(keeper.tags.settle(claim))
    with pytest.raises(Taken):  # the second is under way
        keeper.claim(LEE, "app")


def test_all_or_none(keeper: Keeper) -> None:
    keeper.set(LEE, "theirs", OLD)
    with pytest.raises(Taken, match="theirs"):
        keeper.claim(KIM, "mine", "theirs")
    run(keeper.loop, keeper.loop.wait({}, 0.01))  # what was granted is settled
    assert keeper.entry("mine") is None


@pytest.mark.parametrize(
    ("identity", "shared"),
    [("", PULLED), (OLD, PULLED), (NEW, "")],
    ids=["a build that fails", "one that changes nothing", "one that does"],
)
def test_who_may_use_what_was_pulled(keeper: Keeper, identity: str, shared: str) -> None:
    keeper.set(KIM, "app", OLD, shared=PULLED)
    claim = keeper.claim(KIM, "app")
    assert keeper.entry("app") == (KIM, None, "")  # nobody else, until it is known what it is
    finish(keeper.tags.settle(claim))
    keeper.set(KIM, "app", identity)
    assert keeper.entry("app") == (KIM, identity or OLD, shared)


def test_a_pull_of_what_is_there_shares_nothing(keeper: Keeper) -> None:
    keeper.set(KIM, "app", OLD)
    keeper.set(KIM, "app", "", shared=PULLED)
    assert keeper.entry("app") == (KIM, OLD, "")
    pull = keeper.claim(KIM, "app", shared=PULLED)
    with pytest.raises(Taken, match="app:latest is being set by another call of yours: try again"):
        keeper.claim(KIM, "app")  # whichever of the two it would be
    finish(keeper.tags.settle(pull))
    keeper.set(KIM, "app", NEW)
    finish(keeper.tags.share(LEE, full("app"), OLD))
    assert keeper.entry("app") == (KIM, NEW, "")
    finish(keeper.tags.share(LEE, full("app"), NEW))
    assert keeper.entry("app") == (KIM, NEW, PULLED)


def test_how_many(keeper: Keeper) -> None:
    for name in ("one", "two"):
        keeper.set(KIM, name, OLD)
    two = of(KIM, tags=2)
    with pytest.raises(
        Refused, match=r"may have 2 names of images, and you have 2: one:latest, two:latest: remove one"
    ):
        finish(keeper.tags.claim(two, Wish([full("three")])))
    finish(keeper.tags.settle(finish(keeper.tags.claim(two, Wish([full("two")])))))  # has it already
    keeper.daemon.set("one", NEW)  # moved past sockproxy: the administrator's
    assert finish(keeper.tags.claim(two, Wish([full("three")]))).names == [full("three")]
    with pytest.raises(Refused, match="may have no names of images"):
        finish(keeper.tags.claim(of(LEE, tags=0), Wish([full("four")])))
    assert keeper.tags.ledger.of(KIM) == [full("three"), full("two")]


def test_what_a_crash_has_left_open(keeper: Keeper, tmp_path: Path) -> None:
    keeper.claim(KIM, "set", "nothing")
    keeper.daemon.set("set", OLD)
    again = Keeper(tmp_path)
    again.daemon = keeper.daemon
    with pytest.raises(Taken):
        again.claim(LEE, "set")
    finish(again.tags.recover())
    assert again.entry("set") == (KIM, OLD, "")
    assert again.entry("nothing") is None


def test_a_name_that_is_kept_stays(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(still, "PATIENCE", 0.05)
    keeper.set(KIM, "app", OLD, shared=PULLED)
    bob = Claim(of(LEE))
    assert finish(keeper.tags.still.keep(bob, full("app"), OLD))
    assert not finish(keeper.tags.still.keep(bob, full("app"), NEW))
    assert finish(keeper.tags.still.keep_repository(bob, "docker.io/library/others"))

    async def claim(name: str) -> None:
        keeper.tags.release(await keeper.tags.claim(of(KIM), Wish([full(name)])))

    for name in ("app", "others:1"):
        with pytest.raises(Taken, match=f"the name {familiar(full(name))} is being used by somebody else"):
            run(keeper.loop, claim(name))
    run(keeper.loop, keeper.loop.wait({}, 0.01))
    own = Claim(of(KIM))
    assert finish(keeper.tags.still.keep(own, full("app"), OLD))  # keeps others only
    keeper.tags.still.until_looked_up(bob)()
    run(keeper.loop, claim("app"), claim("others:1"))
    run(keeper.loop, keeper.loop.wait({}, 0.01))
    claimed = keeper.claim(KIM, "app")
    assert not finish(keeper.tags.still.keep(bob, full("app"), OLD))  # it is about to change
    assert not finish(keeper.tags.still.keep_repository(bob, "docker.io/library/app"))
    finish(keeper.tags.settle(claimed))
    assert finish(keeper.tags.still.keep(bob, full("app"), OLD))


def test_a_volumes_name_is_ones_own_while_it_is_used(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(still, "PATIENCE", 0.05)
    kim, again, lee = Claim(of(KIM)), Claim(of(KIM)), Claim(of(LEE))
    keep = keeper.tags.still.keep_volume
    run(keeper.loop, keep(kim, "data"), keep(again, "data"), keep(lee, "other"))
    for late in keep(lee, "data"), keep(kim, "data", alone=True), keep(kim, "other"):
        with pytest.raises(Taken, match="is being used right now: try again"):
            run(keeper.loop, late)
    keeper.tags.release(kim)
    keeper.tags.release(again)
    run(keeper.loop, keep(lee, "data", alone=True))
    with pytest.raises(Taken, match="the volume data is being used"):
        run(keeper.loop, keep(Claim(of(LEE)), "data"))


def test_a_name_that_a_build_is_from_stays_from_its_owner_too(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(still, "PATIENCE", 0.05)
    keeper.set(KIM, "app", OLD)
    kept, setting = Kept(keeper.tags, of(KIM)), keeper.claim(KIM, "app")
    with pytest.raises(Taken, match="is being set right now: try again"):
        run(keeper.loop, kept.begin("app", None))
    key = finish(kept.begin("app", setting))  # by the build itself, when it is done
    finish(keeper.tags.settle(setting))
    with pytest.raises(Taken, match="is being used by somebody else, or by a build"):
        run(keeper.loop, keeper.tags.claim(of(KIM), Wish([full("app")])))
    run(keeper.loop, keeper.loop.wait({}, 0.01))
    finish(kept.end(key))
    finish(keeper.tags.settle(keeper.claim(KIM, "app")))
    key = finish(kept.begin("app", None))
    keeper.daemon.set("app", None)
    with pytest.raises(Refused, match="app:latest was removed meanwhile: try again"):
        finish(kept.end(key))
    with pytest.raises(Malformed, match="nothing is kept by this"):
        finish(kept.end(key))
    finish(keeper.tags.settle(keeper.claim(KIM, "app")))  # refused or not, it is let go
    for number in range(MOST):
        finish(kept.begin(f"app:{number}", None))
    with pytest.raises(Malformed, match="not more than 64 names"):
        finish(kept.begin("app", None))
    kept.drop()
    finish(keeper.tags.settle(keeper.claim(KIM, "app:0")))


def test_a_daemon_that_does_not_tell(keeper: Keeper) -> None:
    keeper.set(KIM, "app", OLD)
    claim = keeper.claim(KIM, "app")

    async def request(*_: object, **more: object) -> tuple[int, bytes]:
        return 500, b'{"message": "no"}'

    keeper.daemon.request = request  # type: ignore[method-assign]
    finish(keeper.tags.settle(claim))
    assert keeper.entry("app") == (KIM, None, "")  # open, and still Kim's
    with pytest.raises(Unavailable, match="the Docker daemon lists no images"):
        keeper.claim(LEE, "app")


def test_who_brings_anothers_label_does_not_make_the_other_pay(keeper: Keeper) -> None:
    """A name moves on, and what it named stays without one: whose label it is, is not believed all the same."""
    forged = {"Id": NEW, "Labels": {OWNER: str(LEE)}}
    keeper.daemon.config[NEW] = keeper.daemon.config[OLD] = {"Labels": {OWNER: str(LEE)}}
    keeper.set(LEE, "lees", OLD)
    for name, wish in (("loaded", {"shared": LOADED}), ("pulled", {"shared": PULLED})):
        assert whose(keeper.tags.ledger, forged) == LEE
        keeper.set(KIM, name, NEW, **wish)
        assert (owner(keeper.tags.ledger, forged), whose(keeper.tags.ledger, forged)) == (None, KIM)
        keeper.set(KIM, name, "sha256:" + "3" * 64)
        assert (owner(keeper.tags.ledger, forged), whose(keeper.tags.ledger, forged)) == (None, KIM)
        assert NEW in keeper.tags.ledger.brought()
        assert keeper.tags.ledger.of(KIM) == [full(name)]  # no name of Kim's
        finish(keeper.tags.recover())  # it is gone
        assert NEW not in keeper.tags.ledger.brought()
        keeper.set(KIM, name, None)
    own = {"Id": OLD, "RepoTags": ["lees:latest"], "Labels": {OWNER: str(LEE)}}
    keeper.set(KIM, "same", OLD, shared=LOADED)
    assert whose(keeper.tags.ledger, own) == LEE  # has a name of Lee's


@pytest.mark.parametrize("shared", [PULLED, LOADED])
def test_what_is_brought_counts_for_who_did(keeper: Keeper, shared: str) -> None:
    """On the disk until somebody else brings it, too; where lists have it, always."""
    base, ledger = {"Id": NEW, "Labels": None}, keeper.tags.ledger
    keeper.set(KIM, "base", NEW, shared=shared)
    keeper.set(LEE, "tagged", NEW)
    assert (whose(ledger, base), whose(ledger, base, disk=True)) == (KIM, KIM)
    keeper.set(LEE, "mirror", NEW, shared=shared)
    assert (whose(ledger, base), whose(ledger, base, disk=True)) == (KIM, None)
    for name in ("base", "tagged", "mirror"):
        keeper.daemon.set(name, None)
    keeper.set(LEE, "base", OLD, shared=shared)  # what is gone is forgotten
    keeper.set(LEE, "again", NEW, shared=shared)
    assert (whose(ledger, base), whose(ledger, base, disk=True)) == (LEE, LEE)


def test_who_pulls_what_another_has_pulled(keeper: Keeper) -> None:
    base, ledger = {"Id": NEW, "Labels": None}, keeper.tags.ledger
    keeper.daemon.set("before", OLD)
    keeper.set(KIM, "base", NEW, shared=PULLED)
    keeper.set(KIM, "mirror", OLD, shared=PULLED)  # was there
    assert ledger.brought() == [NEW]
    finish(keeper.tags.share(KIM, full("base"), NEW))
    assert whose(ledger, base, disk=True) == KIM
    finish(keeper.tags.share(LEE, full("base"), NEW))
    assert (whose(ledger, base), whose(ledger, base, disk=True)) == (KIM, None)


def test_who_brought_an_image_alone_may_see_and_remove_it(keeper: Keeper) -> None:
    """It counts for who did, and no name may be left of it, or one that all share."""
    digest = "base@sha256:" + "3" * 64
    keeper.set(KIM, "base", NEW, shared=PULLED)
    keeper.daemon.set(digest, NEW)
    keeper.daemon.set("base", OLD)
    for uid, seen in ((KIM, True), (LEE, False)):
        item = {"Id": NEW, "Labels": {OWNER: str(LEE + 1)}}
        assert (View(keeper.tags.ledger, uid).cut(item) is not None) == seen
    going = removals.removed(keeper.tags.ledger, keeper.daemon, of(KIM), NEW)  # type: ignore[arg-type]
    assert finish(going)[0] == NEW
    keeper.set(LEE, "mirror", NEW, shared=PULLED)
    keeper.daemon.set("mirror", None)
    going = removals.removed(keeper.tags.ledger, keeper.daemon, of(KIM), NEW)  # type: ignore[arg-type]
    assert finish(going)[0] == full(digest)


def test_what_is_noted_is_forgotten_with_it(keeper: Keeper) -> None:
    for number in range(9):
        identity = f"sha256:{number:064x}"
        keeper.daemon.config[identity] = {"Labels": {OWNER: str(LEE)}}
        keeper.set(KIM, "app", identity)
    assert len(keeper.tags.ledger.brought()) <= 2


def labels(size: int) -> dict[str, Any]:
    return {"Labels": {OWNER: str(KIM), "k": "x" * size}}


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described, "FEWEST", 0)


@pytest.mark.usefixtures("narrow")
def test_what_describes_images(keeper: Keeper) -> None:
    """What has come over the bound goes again, the largest first; what was there before stays."""
    three = of(KIM, tags=3)
    third = "sha256:" + "3" * 64
    keeper.daemon.config |= {OLD: labels(6000), NEW: labels(9000), third: labels(100)}
    keeper.set(KIM, "old", OLD)
    claim = finish(keeper.tags.claim(three, Wish([full("large"), full("small")])))
    keeper.daemon.set("large", NEW)
    keeper.daemon.set("small", third)
    finish(keeper.tags.settle(claim))
    assert set(keeper.daemon.images) == {full("old"), full("small")}
    assert keeper.tags.ledger.of(KIM) == [full("old"), full("small")]
    with pytest.raises(Refused, match=r"described in 12288 bytes together .*: removed again; remove some \(docker im"):
        withheld.refuse(claim)
    keeper.daemon.set("past", NEW)
    with pytest.raises(Refused, match=r"described in 12288 bytes together .*, and yours have 15\d+: remove some"):
        finish(keeper.tags.claim(three, Wish([])))
    assert finish(keeper.tags.claim(three, Wish([full("old")], removing=True))).names
    assert finish(keeper.tags.claim(of(KIM, tags=None), Wish([]))).had == {OLD, NEW, third}  # type: ignore[arg-type]
    assert finish(keeper.tags.claim(of(LEE, tags=2), Wish([]))).had == {OLD, NEW, third}


@pytest.mark.usefixtures("narrow")
def test_what_an_index_says_of_its_manifests(keeper: Keeper) -> None:
    """It is in everybody's lists, where they ask for it."""
    keeper.daemon.config[NEW] = {"Manifests": [{"Descriptor": {"annotations": {"k": "x" * 9000}}}]}
    claim = finish(keeper.tags.claim(of(KIM, tags=2), Wish([full("index")], shared=PULLED)))
    keeper.daemon.set("index", NEW)
    finish(keeper.tags.settle(claim))
    assert keeper.daemon.images == {}
    with pytest.raises(Refused, match="described in 8192 bytes together"):
        withheld.refuse(claim)


def test_a_tag_brings_nothing(keeper: Keeper) -> None:
    """So the daemon is not asked for all images, before nor after."""
    asked: list[str] = []
    request, ctx = keeper.daemon.request, of(KIM)

    async def noting(method: str, target: str, *rest: bytes, **more: object) -> tuple[int, bytes]:
        asked.append(target)
        return await request(method, target, *rest, **more)

    keeper.daemon.request = noting  # type: ignore[method-assign]
    for operation in ("ImageTag", "ImageCreate"):
        ctx.operation = operation
        claim = finish(keeper.tags.claim(ctx, Wish([full("new")])))
        keeper.daemon.set("new", OLD)
        finish(keeper.tags.settle(claim))
        assert keeper.entry("new") == (KIM, OLD, "")
        assert (
            sum(target.startswith("/images/json") for target in asked) == {"ImageTag": 0, "ImageCreate": 2}[operation]
        )


def test_who_may_have_few_names_builds_all_the_same(keeper: Keeper) -> None:
    keeper.daemon.config |= {OLD: labels(60_000), NEW: labels(6_000)}
    keeper.set(KIM, "old", OLD)
    assert finish(keeper.tags.claim(of(KIM, tags=1), Wish([]))).had
    keeper.set(KIM, "new", NEW)
    with pytest.raises(Refused, match="described in 65536 bytes together"):
        finish(keeper.tags.claim(of(KIM, tags=1), Wish([])))


@pytest.mark.usefixtures("narrow")
def test_what_describes_pulled_images(keeper: Keeper) -> None:
    """Whoever uses them: who brought them has lists grow. So do digests, of which one tag may have had many."""
    two = of(KIM, tags=2)
    keeper.daemon.config |= {NEW: {"Labels": {"k": "x" * 9000}}, OLD: {"Labels": None}}
    claim = finish(keeper.tags.claim(two, Wish([full("large")], shared=PULLED)))
    keeper.daemon.set("large", NEW)
    finish(keeper.tags.settle(claim))
    assert (keeper.daemon.images, "" in claim.withheld) == ({}, True)
    keeper.daemon.set("before", OLD)
    keeper.set(KIM, "mine", OLD)
    for number in range(100):
        keeper.daemon.set(f"mine@sha256:{number:064x}", OLD)
    with pytest.raises(Refused, match=r"described in 8192 bytes together"):
        finish(keeper.tags.claim(two, Wish([])))
    assert finish(keeper.tags.claim(of(LEE, tags=2), Wish([]))).had == {OLD}


@pytest.mark.usefixtures("narrow")
def test_an_image_that_can_not_be_removed(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    two = of(KIM, tags=2)
    keeper.daemon.config |= {NEW: labels(9000)}
    claim = finish(keeper.tags.claim(two, Wish([full("large")])))
    keeper.daemon.set("large", NEW)
    asked = keeper.daemon.request

    async def request(method: str, target: str, body: bytes = b"", **more: object) -> tuple[int, bytes]:
        return (409, b"{}") if method == "DELETE" else await asked(method, target, body)

    monkeypatch.setattr(keeper.daemon, "request", request)
    finish(keeper.tags.settle(claim))
    assert (claim.withheld, keeper.entry("large")) == ({}, (KIM, NEW, ""))
    with pytest.raises(Refused, match="described in 8192 bytes"):
        finish(keeper.tags.claim(two, Wish([])))


# Archives of images


def archive(manifest: Any, index: Any = None) -> Scan:
    found = Scan(loads.WANTED)
    parts = [("manifest.json", manifest), ("index.json", index)]
    found.feed(pack(*(member(name, json.dumps(value).encode()) for name, value in parts if value is not None)))
    return found


def written(members: bytes) -> list[Any]:
    """Read what is added to an archive."""
    found = Scan(loads.WANTED)
    found.feed(members + bytes(1024))
    return [json.loads(found.found[name].content) for name in loads.WANTED if name in found.found]


def judge(keeper: Keeper, scan: Scan, uid: int = KIM) -> list[Any]:
    return written(finish(loads.judge(keeper.tags, Claim(of(uid)), scan)))


def item(identity: str, *names: str) -> dict[str, Any]:
    return {"Config": f"{identity[7:]}.json", "RepoTags": list(names), "Layers": ["l"]}


def test_names_in_an_archive_are_claimed_and_written_in_full(keeper: Keeper) -> None:
    index = {"manifests": [{"digest": OLD, "annotations": {"io.containerd.image.name": "docker.io/library/b:1"}}, {}]}
    manifest, kept = judge(keeper, archive([item(OLD, "a:1")], index))
    assert [one["RepoTags"] for one in manifest] == [["docker.io/library/a:1"]]
    assert kept == {"manifests": index["manifests"][:1]}
    assert {keeper.entry(name) for name in ("a:1", "b:1")} == {(KIM, None, LOADED)}


def test_a_name_of_anothers_is_refused_unless_it_is_that_image(keeper: Keeper) -> None:
    keeper.set(LEE, "a:1", OLD)
    with pytest.raises(Taken):
        judge(keeper, archive([item(NEW, "a:1")]))
    index = {"manifests": [{"digest": OLD, "annotations": {"io.containerd.image.name": "a:1"}}]}
    with pytest.raises(Taken):
        judge(keeper, archive([item(NEW, "b:1")], index))
    manifest, kept = judge(keeper, archive([item(OLD, "a:1", "c:1")], index))
    assert manifest[0]["RepoTags"] == ["docker.io/library/c:1"]
    assert kept == {"manifests": []}
    assert judge(keeper, archive([item(OLD, "a:1")])) == [[]]  # without a name it is not loaded, whatever it really is
    assert keeper.entry("a:1") == (LEE, OLD, "")


@pytest.mark.parametrize(
    ("manifest", "index", "why"),
    [
        (None, {}, "has no manifest.json"),
        ({}, None, "manifest.json: not a list"),
        ([1], None, "not a list of objects"),
        ([{"repotags": ["a:1"]}], None, "not a list of objects"),
        ([{"RepoTags": "a:1"}], None, "RepoTags is not a list of names with tags"),
        ([{"RepoTags": ["a"]}], None, "RepoTags is not a list of names with tags"),
        ([{"RepoTags": None}], None, r"an image without a name would be nobody's \(allowed: docker save NAME:TAG\)"),
        ([{"RepoTags": [1]}], None, "RepoTags is not a list of names with tags"),
        ([{"RepoTags": [f"a:{number}" for number in range(1001)]}], None, "has 1001 names of images"),
        ([], {"manifests": [{"annotations": {"org.opencontainers.image.ref.name": 1}}]}, "is no string"),
        ([], {"Manifests": [], "manifests": []}, "differ only in case"),
    ],
)
def test_archives_that_are_none(keeper: Keeper, manifest: Any, index: Any, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        judge(keeper, archive(manifest, index))


# Pulls


class Registry:
    """A daemon that answers what it is told to, and takes notes."""

    def __init__(self, **answers: tuple[int, Any]) -> None:
        self._answers, self.asked = answers, []  # type: dict[str, tuple[int, Any]], list[tuple[str, object]]

    async def request(self, method: str, target: str, body: bytes = b"", more: object = None) -> tuple[int, bytes]:
        self.asked.append((target, more))
        status, answer = self._answers["distribution" if "/distribution/" in target else "images"]
        return status, answer if isinstance(answer, bytes) else json.dumps(answer).encode()


def test_pulling() -> None:
    registry = Registry(images=(200, b'{"status": "Pulling"}\n{"status": "done"}\n'))
    finish(pulls.pull(registry, "r.example/a/b:1", "linux/arm64", [("X-Registry-Auth", "e30=")]))  # type: ignore[arg-type]
    target = "/images/create?fromImage=r.example%2Fa%2Fb&tag=1&platform=linux%2Farm64"
    assert registry.asked == [(target, [("X-Registry-Auth", "e30=")])]
    for status, answer in ((404, b'{"message": "denied"}'), (200, b'{"status": "x"}\n{"error": "denied"}\n')):
        with pytest.raises(NotFound, match="denied"):
            finish(pulls.pull(Registry(images=(status, answer)), "a:1", "", []))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "has", "found"),
    [
        ((200, {"Descriptor": {"digest": "sha256:" + "a" * 64}}), "app@sha256:" + "a" * 64, True),
        ((200, {"Descriptor": {"digest": "sha256:" + "a" * 64}}), "app@sha256:" + "b" * 64, False),
        ((200, {"Descriptor": {"digest": "sha256:" + "a" * 64}}), "other@sha256:" + "a" * 64, False),
        ((403, {"message": "denied"}), "app@sha256:" + "a" * 64, False),
        ((200, {}), "app@", False),
    ],
)
def test_whether_an_image_is_what_its_registry_has(told: tuple[int, Any], has: str, found: bool) -> None:
    registry = Registry(distribution=told, images=(200, {"Id": OLD, "RepoDigests": [has]}))
    current = finish(pulls.current(registry, "docker.io/library/app:1", []))  # type: ignore[arg-type]
    assert current == (("sha256:" + "a" * 64, OLD) if found else None)


def test_logins() -> None:
    config = {"r.example": {"username": "kim"}, pulls.HUB: {"username": "hub"}, "odd.example": 1}
    text = base64.urlsafe_b64encode(json.dumps(config).encode()).decode()

    def user(name: str) -> Iterator[str]:
        for field, value in pulls.auth(text, full(name)):
            assert field == "X-Registry-Auth"
            yield json.loads(base64.urlsafe_b64decode(value))["username"]

    assert [list(user(name)) for name in ("r.example/a", "a", "odd.example/a", "s.example/a")] == [
        ["kim"],
        ["hub"],
        [],
        [],
    ]
    for odd in ("", "%%%", base64.b64encode(b"[]").decode(), base64.b64encode(b"{").decode()):
        assert pulls.auth(odd, full("a")) == []
    assert pulls.login_of({"x-registry-auth": "e30="}) == [("X-Registry-Auth", "e30=")]
    assert pulls.login_of({}) == []
    for odd in ("a\nb", "ä"):
        with pytest.raises(Malformed, match="not a header field"):
            pulls.login_of({"x-registry-auth": odd})


def test_an_entry_is_read_as_it_was_written(keeper: Keeper, tmp_path: Path) -> None:
    keeper.tags.ledger.put(full("a"), Entry(KIM, OLD, PULLED))
    keeper.tags.ledger.put(full("a"), Entry(LEE, OLD, PULLED))
    assert [keeper.tags.ledger.of(uid) for uid in (KIM, LEE)] == [[], [full("a")]]
    assert Keeper(tmp_path).tags.ledger.of(LEE) == [full("a")]
