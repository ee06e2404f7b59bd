"""What the daemon is to build from, and to unpack, judged while the archive passes: each reason to refuse."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sockproxy_helpers.api.names import full
from sockproxy_helpers.calls import uploads
from sockproxy_helpers.calls.approved import Approved
from sockproxy_helpers.content import platforms
from sockproxy_helpers.content.builds import Build
from sockproxy_helpers.content.claims import Claim, Taken, Wish
from sockproxy_helpers.content.images import Image, NoImage
from sockproxy_helpers.content.naming import Naming
from sockproxy_helpers.content.tags import Tags
from sockproxy_helpers.content.tar import Scan
from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.upstream.objects import OWNER
from tests.helpers.asked import KIM, LEE, finish
from tests.helpers.test_claims import NEW, OLD, Keeper, keeper  # noqa: F401 (a fixture)
from tests.helpers.test_tar import member, pack
from tests.support.judging import ADMIN, DEVELOPER, context


def scanned(wanted: tuple[str, ...], archive: bytes) -> Scan:
    found = Scan(wanted)
    found.feed(archive)
    return found


def judge(keeper: Keeper, text: str, name: str = "Dockerfile", archive: bytes = b"", **query: str) -> str:  # noqa: F811
    """Judge a build of a Dockerfile; give what the builder will read."""
    ctx = context(DEVELOPER, "ImageBuild")
    build = Build(keeper.tags, ctx, Claim(ctx), list(query.items()), "")
    added = finish(build.judge(scanned(build.wanted, archive or pack(member(name, text.encode())))))
    return added[512:].rstrip(b"\0").decode()


def test_a_dockerfile_is_written_anew(keeper: Keeper) -> None:  # noqa: F811
    keeper.daemon.set("base", OLD)
    for name in ("Dockerfile", "dockerfile"):
        assert judge(keeper, "FROM base\nRUN x\n", name) == f"FROM base\nLABEL {OWNER}={KIM}\nRUN x\n"
    assert judge(keeper, "FROM base\n", "a/b", dockerfile="./a/b", platform="x").startswith(f"FROM {OLD}\n")


@pytest.mark.parametrize(
    ("text", "error", "why"),
    [
        ("FROM theirs\n", NoImage, "No such image: theirs"),
        (f"FROM {NEW}\n", NoImage, f"No such image: {NEW}"),
        ("FROM base\nCOPY --from=theirs / /\n", NoImage, "No such image: theirs"),
        ("FROM triggers\n", Refused, r'"docker.io/library/triggers:latest" makes builds copy from "base" \(ONBUILD\)'),
        ("FROM shared\n", Refused, "has ONBUILD instructions, which run before"),
        ("FROM labels\n", Refused, "sockproxy's own"),
        ("FROM missing\n", NoImage, "No such image: missing"),
    ],
)
def test_images_that_are_not_for_its_user(
    keeper: Keeper,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    error: type[Exception],
    why: str,
) -> None:
    keeper.daemon.set("base", OLD)
    keeper.set(LEE, "theirs", NEW)
    keeper.daemon.set("triggers", "sha256:" + "7" * 64)
    keeper.daemon.config["sha256:" + "7" * 64] = {
        "OnBuild": ["COPY --from=base / /"],
        "Labels": {OWNER: str(KIM)},
    }
    keeper.daemon.set("shared", "sha256:" + "8" * 64)
    keeper.daemon.config["sha256:" + "8" * 64] = {"OnBuild": ["RUN x"]}
    keeper.daemon.set("labels", "sha256:" + "9" * 64)
    keeper.daemon.config["sha256:" + "9" * 64] = {"OnBuild": [f"LABEL {OWNER}=0"], "Labels": {OWNER: str(KIM)}}

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(uploads.pulls, "pull", nothing)  # a registry that has nothing
    monkeypatch.setattr(uploads.pulls, "current", nothing)
    with pytest.raises(error, match=why):
        judge(keeper, text)


def test_each_platform_of_a_base_is_looked_at(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    async def see(ledger: object, daemon: object, uid: int, image: Image) -> None:
        raise Refused("", f"{image.name} for {uid}")

    keeper.daemon.set("base", OLD)
    monkeypatch.setattr(platforms, "see", see)
    for text in "FROM base\n", "FROM scratch\nCOPY --from=base / /\n":
        with pytest.raises(Refused, match=f"docker.io/library/base:latest for {KIM}"):
            judge(keeper, text)


def test_what_is_pulled_is_not_anothers(
    keeper: Keeper,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keeper.daemon.config[OLD] = {"Labels": {OWNER: str(LEE)}}
    keeper.set(LEE, "theirs", OLD)

    async def pull(daemon: object, name: str, *_: object) -> None:
        keeper.daemon.set(name, OLD if "evil" in name else NEW)

    monkeypatch.setattr(uploads.pulls, "pull", pull)
    ctx = context(DEVELOPER, "ImageBuild")
    for tags in ([], ["evil"]):  # it is no other when the build makes that name
        claim = finish(keeper.tags.claim(ctx, Wish([full(tag) for tag in tags])))
        build = Build(keeper.tags, ctx, claim, [], "")
        with pytest.raises(Refused, match="evil:latest is an image of somebody else's"):
            finish(build.judge(scanned(build.wanted, pack(member("Dockerfile", b"FROM evil\n")))))
        finish(keeper.tags.settle(claim))
        assert set(keeper.daemon.images) == {full("theirs")}
    claim = finish(keeper.tags.claim(ctx, Wish([full("good")])))
    build = Build(keeper.tags, ctx, claim, [], "")
    finish(build.judge(scanned(build.wanted, pack(member("Dockerfile", b"FROM good\n")))))
    assert claim.names == [full("good")]
    finish(keeper.tags.settle(claim))


def test_contexts_that_hold_no_dockerfile(keeper: Keeper) -> None:  # noqa: F811
    with pytest.raises(Malformed, match="Cannot locate specified Dockerfile: Dockerfile"):
        judge(keeper, "FROM base\n", "other")
    long = pack(member("x/../" * 40 + "dockerfile", b"FROM base\n"))
    with pytest.raises(Malformed, match="header of the Dockerfile in the context is too long"):
        judge(keeper, "", archive=long)
    with pytest.raises(Refused, match="a context that the daemon fetches can't be checked"):
        judge(keeper, "", remote="https://example.org/x.git")


@pytest.mark.parametrize("kind", [b"3", b"4"])
def test_devices_are_not_copied(keeper: Keeper, kind: bytes) -> None:  # noqa: F811
    for rules in (DEVELOPER, ADMIN):
        approved = prepare(keeper.tags, "PutContainerArchive", rules)
        if rules is ADMIN:
            assert approved.judge is None
        else:
            assert approved.judge
            assert approved.judge.member
            approved.judge.member(b"0", "file")
            with pytest.raises(Refused, match="may not copy the device disk") as refusal:
                approved.judge.member(kind, "disk")
            assert refusal.value.rule == "devices"


@pytest.mark.parametrize("operation", ["ImageBuild", "ImageLoad"])
@pytest.mark.parametrize("kind", [b"3", b"4", b"6"])
def test_the_daemon_opens_no_pipes(keeper: Keeper, operation: str, kind: bytes) -> None:  # noqa: F811
    judge = prepare(keeper.tags, operation, DEVELOPER).judge
    assert judge
    assert judge.member
    judge.member(b"5", "folder")
    with pytest.raises(Malformed, match="x in the archive is a named pipe or a device"):
        judge.member(kind, "x")


def test_a_name_that_is_being_set_is_not_kept(keeper: Keeper) -> None:  # noqa: F811
    """Whoever runs, saves or pushes an image means what the name meant when it was judged."""
    name = "docker.io/library/app:latest"
    claim = keeper.claim(LEE, "app")
    with pytest.raises(Taken, match="the name app:latest is being set right now: try again"):
        prepare(keeper.tags, "ImageGet", DEVELOPER, [(name, OLD)])
    finish(keeper.tags.settle(claim))


def prepare(
    tags: Tags, operation: str, rules: dict[str, object], still: list[tuple[str, str]] | None = None
) -> Approved:
    ctx = context(rules, operation)
    naming, approved = Naming(tags.ledger, None, ctx), Approved()  # type: ignore[arg-type]
    naming.still = still or []
    call: Any = SimpleNamespace(headers={}, request_id="")  # what it has more is of calls that claim a name
    finish(uploads.prepare(tags, ctx, call, [], naming, approved))
    return approved
