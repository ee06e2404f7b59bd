"""What a frontend says is told when the images are judged that it may be of, and of no others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from sockproxy.buildkit import loads, words
from tests.buildkit.mediated import Mediated, facts, mediated
from tests.buildkit.test_bases import ASKED, NO, PIN, answer, config
from tests.support import llb
from tests.support.grpc import BRIDGE, CONTROL, SCHEMA, Reply, message
from tests.support.judging import ADMIN

NAME, AMD64 = "docker.io/library/busybox:latest", "linux/amd64"
BUSYBOX = llb.operation(
    source={"identifier": f"docker-image://{NAME}{PIN}"}, platform={"OS": "linux", "Architecture": "amd64"}
)
SAID = "invalid containerPort: s3cret"
RESULT = message("gateway.SolveResponse", result={"metadata": {"result.txt": b"s3cret"}})


def vertex(
    name: str,
    platform: str = AMD64,
    at: int = 1,
    context: str = "[internal]",
    scheme: str = "docker-image://",
    **fields: object,
) -> dict[str, Any]:
    digest = hashlib.sha256(f"{scheme}{name}{platform}".encode()).hexdigest()
    return {
        "digest": f"sha256:{digest}",
        "name": f"{context} load metadata for {name}",
        "started": {"seconds": at},
        **fields,
    }


class Builder:
    """Answer as BuildKit does.

    Attributes:
        runs: of each run, what it loads and what it says: an error, or an answer.
        asked: for which images' configs.
        solved: the settings of each run.
        marks: warnings.
    """

    def __init__(
        self, *runs: tuple[list[dict[str, Any]], str | bytes | None], replays: bool = True, config: bytes = config()
    ) -> None:
        self.runs, self.solved, self.asked, self.marks = list(runs), list[dict[str, str]](), list[str](), list[Any]()
        self._progress: list[dict[str, Any]] = []
        pong = message("gateway.PongResponse", LLBCaps=[{"ID": "source.policy" if replays else "source.image"}])
        self.answers: Any = {
            BRIDGE + "Ping": [pong],
            BRIDGE + "Solve": self._solve,
            BRIDGE + "Warn": self._warn,
            CONTROL + "Status": self._status,
            ASKED: lambda body: self._config(body, config),
        }

    def _solve(self, body: bytes) -> list[bytes] | str | None:
        found, says = self.runs[len(self.solved)]
        self.solved.append(dict(SCHEMA.parse("gateway.SolveRequest", body).FrontendOpt))
        self._progress += found
        return [says] if isinstance(says, bytes) else says

    def _config(self, body: bytes, told: bytes) -> list[bytes]:
        asked = SCHEMA.parse("gateway.ResolveImageConfigRequest", body)
        platform = f"{asked.Platform.OS}/{asked.Platform.Architecture}"
        self.asked.append(f"{asked.Ref} {platform}")
        self._progress.append(vertex(asked.Ref, platform, 100 + len(self._progress)))
        return [told]

    def _warn(self, body: bytes) -> list[bytes]:
        told = SCHEMA.parse("gateway.WarnRequest", body)
        self.marks.append({"vertex": told.digest, "short": told.short})
        return [b""]

    def _status(self, body: bytes) -> list[bytes]:
        assert SCHEMA.parse("control.StatusRequest", body).Ref == "u1000-b"
        return [
            message("control.StatusResponse", vertexes=self._progress),
            message("control.StatusResponse", warnings=self.marks),
        ]


Reply_ = Callable[[dict[str, Any]], dict[str, Any]]


def yes(_: dict[str, Any]) -> dict[str, Any]:
    return {"rid": ""}


def no(question: dict[str, Any]) -> dict[str, Any]:
    return NO if question["ask"] == "base" else {"rid": ""}


def ask(around: Mediated, **options: str) -> Reply:
    solve = message(
        "gateway.SolveRequest",
        Frontend="dockerfile.v0",
        FrontendOpt={key.replace("__", ":"): value for key, value in options.items()},
    )
    return around.client.call(BRIDGE + "Solve", solve, buildkit_controlapi_buildid="b")


def says(builder: Builder, reply: Reply_ = yes, **options: str) -> Reply:
    with mediated(builder.answers, reply=reply) as around:
        return ask(around, **options)


@pytest.mark.parametrize("said", [SAID, RESULT], ids=["error", "answer"])
@pytest.mark.parametrize(
    "loaded",
    [
        vertex(NAME),
        vertex(f"{NAME}{PIN}"),
        vertex(NAME, "linux/arm64"),
        vertex(NAME, context="[linux/amd64 internal]"),
        vertex(NAME, context="[context a load metadata for x]"),
        vertex(NAME, context="[context a\n]"),
    ],
)
def test_nothing_of_anothers_image_is_told(said: str | bytes, loaded: dict[str, Any]) -> None:
    reply = says(Builder(([loaded], said)), no)
    assert (reply.status, reply.messages, "s3cret" in reply.text) == (7, [], False)
    assert "is an image of somebody else's" in reply.text


@pytest.mark.parametrize("said", [SAID, RESULT], ids=["error", "answer"])
def test_what_is_of_no_image_or_of_one_by_digest_is_told(said: str | bytes) -> None:
    begun = vertex(NAME)
    for loaded in ([], [vertex(f"{NAME}{PIN}")], [begun, begun | {"error": "not found"}]):
        builder = Builder((loaded, said))
        reply = says(builder)
        assert (reply.text, reply.messages) == ((said, []) if isinstance(said, str) else ("", [said]))
        assert len(builder.solved) == 1


def test_images_that_the_definition_has_are_judged_once() -> None:
    builder = Builder(([vertex(NAME)], answer(BUSYBOX)))
    assert says(builder).messages == [answer(BUSYBOX)]
    assert builder.asked == [f"{NAME}{PIN} {AMD64}"]


def test_images_that_the_definition_has_not_are_judged() -> None:
    """One without layers is nothing but its config, and all of that is in the answer."""
    bare = f"docker.io/library/bare@{PIN[1:]}"
    builder = Builder(([vertex(NAME), vertex(bare)], answer(BUSYBOX)))
    reply = says(builder, lambda question: NO if question.get("name") == bare else {"rid": ""})
    assert (reply.status, reply.messages) == (7, [])


@pytest.mark.parametrize("local", [False, True])
def test_a_name_is_asked_again_by_what_was_judged(local: bool) -> None:
    """It may have meant another image: what was said of that is not told. A local one is kept from being set."""
    second = vertex(NAME if local else f"{NAME}{PIN}", at=200)
    builder = Builder(([vertex(NAME)], SAID), ([second], "as it is now"), config=config("" if local else PIN[1:]))
    asks = []

    def reply(question: dict[str, Any]) -> dict[str, Any]:
        asks.append((question["ask"], len(builder.solved)))
        return {"kept": "k"} if question["ask"] == "keep" else {}

    assert says(builder, reply).text == "as it is now"
    assert builder.asked == [f"{NAME} {AMD64}"]
    assert builder.solved[1].get("context:busybox") == (None if local else f"docker-image://{NAME}{PIN}")
    assert asks[1:4] == [("keep", 1), ("base", 1), ("kept", 2 if local else 1)]


@pytest.mark.parametrize("refused", ["keep", "base", "kept"])
def test_a_name_that_was_kept_is_let_go(refused: str) -> None:
    builder = Builder(([vertex(NAME)], SAID), ([vertex(NAME, at=200)], "now"), config=config(""))
    with mediated(builder.answers, reply=lambda one: NO if one["ask"] == refused else {"kept": "k"}) as around:
        assert ask(around).status == 7
        asks = [one["ask"] for one in around.helper.asked]
        assert asks.count("kept") == (refused != "keep")


def test_nobody_is_kept_from_setting_a_name_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "KEPT", 0.1)
    builder = Builder(([vertex(NAME)], SAID), ([], None), config=config(""))
    with mediated(builder.answers, reply=lambda _: {"kept": "k"}) as around:
        reply = ask(around)
        assert (reply.status, "does not say it again" in reply.text) == (14, True)
        assert [one["ask"] for one in around.helper.asked].count("kept") == 1


@pytest.mark.parametrize("said", [SAID, answer(BUSYBOX)], ids=["error", "answer"])
def test_a_refusal_tells_not_whether_there_was_an_error(said: str | bytes) -> None:
    """Of a name it is asked again in both ways, as it may mean another image by now."""
    replies = iter([NO, {}, {}] if said != SAID else [{}, {}])
    builder = Builder(([vertex(NAME)], said), ([vertex(f"{NAME}{PIN}", at=200)], "as it is now"))
    reply = says(builder, lambda question: next(replies) if question["ask"] == "base" else {"rid": ""})
    assert reply.text == "as it is now"


def test_named_contexts_are_pinned_and_layouts_are_asked_for() -> None:
    builder = Builder(([vertex(NAME)], SAID), ([], "now"))
    says(builder, context__a="docker-image://busybox", context__b="docker-image://other")
    pinned = f"docker-image://{NAME}{PIN}"
    assert [builder.solved[1][f"context:{name}"] for name in ("a", "b", "busybox")] == [
        pinned,
        "docker-image://other",
        pinned,
    ]


@pytest.mark.parametrize(("scheme", "store"), [("docker-image://", ""), ("oci-layout://", "mine"), ("", "mine")])
def test_a_layout_is_asked_for(scheme: str, store: str) -> None:
    loaded = vertex(f"docker.io/library/a{PIN}", scheme=scheme)
    with mediated(Builder(([loaded], SAID)).answers, reply=yes) as around:
        assert ask(around, context__a=f"oci-layout://mine:tag{PIN}").text == SAID
        (call,) = [call for call in around.daemon.calls if call[0] == ASKED]
        asked = SCHEMA.parse("gateway.ResolveImageConfigRequest", call[2])
        assert (asked.StoreID, asked.ResolverType) == (store, bool(store))


@pytest.mark.parametrize(
    "loaded",
    [
        vertex(NAME, "plan9/amd64"),
        vertex(NAME) | {"name": "[internal] load metadata for docker.io/library/alpine:latest"},
        vertex("No Name"),
        vertex(f"docker.io/library/a{PIN}", scheme="oci-layout://"),
        vertex(NAME) | {"name": "[internal] load metadata for UPPER"},
    ],
)
def test_what_can_not_be_told_of_is_not_told(loaded: dict[str, Any]) -> None:
    reply = says(Builder(([loaded], SAID)))
    assert (reply.status, "is not told" in reply.text, "s3cret" in reply.text) == (7, True, False)


def test_no_end_of_names_is_none() -> None:
    runs = [([vertex(f"docker.io/library/a:{number}", at=number)], SAID) for number in range(20)]
    builder = Builder(*runs)
    assert "is not told" in says(builder).text
    assert len(builder.solved) == 8


def test_a_builder_that_does_not_tell_what_was_before() -> None:
    early = (
        "failed to solve with frontend dockerfile.v0: failed to create LLB definition: dockerfile parse error line 2: x"
    )
    for said, told in ((SAID, False), (RESULT, False), (early, True)):
        reply = says(Builder(([], said), replays=False))
        assert (reply.text == early, "is not told" in reply.text, reply.messages) == (told, not told, [])


def test_a_builder_that_does_not_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "PATIENCE", 0.1)
    builder = Builder(([], SAID))
    builder.answers[CONTROL + "Status"] = lambda _: None
    reply = says(builder)
    assert (reply.status, "does not tell what it has loaded" in reply.text, "s3cret" in reply.text) == (14, True, False)
    builder = Builder(([], SAID))
    builder.answers[CONTROL + "Status"] = [b""]
    assert "the builder does not tell: no reason given" in says(builder).text


def test_who_needs_none_of_it() -> None:
    for told in (facts({"registries": ["docker.io/*"]}), facts({"sees_all": True})):
        builder = Builder(([vertex(NAME)], SAID))
        with mediated(builder.answers, told, reply=no) as around:
            assert ask(around).text == SAID
            assert [call[0] for call in around.daemon.calls] == [BRIDGE + "Solve"]  # of no other is it asked


def warnings(around: Mediated) -> list[bytes]:
    reply = around.client.call(CONTROL + "Status", message("control.StatusRequest", Ref="b"))
    found = [SCHEMA.parse("control.StatusResponse", data) for data in reply.messages]
    return [one.short for progress in found for one in progress.warnings]


def mark(short: bytes) -> dict[str, object]:
    return {"vertex": loads.MARK, "short": short}


S3CRET = {"vertex": "sha256:1", "short": b"s3cret"}
OPENED, CLOSED = mark(loads.OPENED), mark(loads.CLOSED)


@pytest.mark.parametrize(
    ("warnings", "told"),
    [
        ([[S3CRET]], 0),
        ([[OPENED, S3CRET], [mark(b"other")]], 0),
        ([[OPENED, S3CRET], [CLOSED]], 1),
        ([[OPENED, S3CRET, CLOSED, OPENED, S3CRET]], 0),  # another call of the same build's, on any connection
        ([[OPENED, S3CRET, CLOSED], [OPENED, S3CRET]], 1),
        ([[OPENED, OPENED, S3CRET, CLOSED]], 0),
        ([[OPENED, S3CRET, OPENED, CLOSED], [CLOSED, S3CRET]], 2),
    ],
)
def test_warnings_wait_until_the_images_are_judged(warnings: list[list[dict[str, object]]], told: int) -> None:
    progress = [message("control.StatusResponse", warnings=some) for some in warnings]
    for about, count in ((facts(), told), (facts({**ADMIN, "sees_all": True}), str(warnings).count("s3cret"))):
        with mediated({CONTROL + "Status": progress}, about) as around:
            reply = around.client.call(CONTROL + "Status", message("control.StatusRequest", Ref="b"))
            found = [one for data in reply.messages for one in SCHEMA.parse("control.StatusResponse", data).warnings]
            assert [one.short for one in found] == [b"s3cret"] * count


@pytest.mark.parametrize(
    ("runs", "reply", "closed"),
    [
        ([([vertex(NAME)], answer(BUSYBOX))], yes, True),
        ([([vertex(NAME)], answer(BUSYBOX))], no, False),
        # What was said in the first run may be of another image.
        ([([vertex(NAME)], SAID), ([vertex(f"{NAME}{PIN}", at=200)], answer(BUSYBOX))], yes, False),
    ],
)
def test_a_call_is_closed_when_all_that_it_said_may_be_told(
    runs: list[tuple[list[dict[str, Any]], str | bytes]], reply: Reply_, closed: bool
) -> None:
    builder = Builder(*runs)
    says(builder, reply)
    marks = [one["short"] for one in builder.marks]
    assert (marks[0], marks[-1] == loads.CLOSED) == (loads.OPENED, closed)


def test_nobody_else_marks() -> None:
    with mediated() as around:
        reply = around.client.call(BRIDGE + "Warn", message("gateway.WarnRequest", digest=loads.MARK, short=b"closed"))
        assert (reply.status, around.daemon.calls) == (7, [])


def test_the_history_has_no_logs() -> None:
    record = {"Ref": "u1000-b", "logs": {"digest": "sha256:1"}, "trace": {"digest": "sha256:2"}, "Frontend": "f"}
    answers: Any = {CONTROL + "ListenBuildHistory": [message("control.BuildHistoryEvent", record=record)]}
    for told, kept in ((facts(), ""), (facts({**ADMIN, "sees_all": True}), "sha256:1")):
        with mediated(answers, told) as around:
            (data,) = around.client.call(CONTROL + "ListenBuildHistory").messages
            found = SCHEMA.parse("control.BuildHistoryEvent", data).record
            assert (found.logs.digest, found.Frontend, found.HasField("trace")) == (kept, "f", bool(kept))
