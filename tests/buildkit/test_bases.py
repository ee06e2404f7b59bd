"""No build is from an image that is somebody else's alone, whatever manifest names it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.buildkit.mediated import Mediated, facts, mediated
from tests.support import llb
from tests.support.grpc import BRIDGE, CONTROL, SCHEMA, message

ASKED = BRIDGE + "ResolveImageConfig"
PIN = "@sha256:" + "0" * 64
CONFIG = json.dumps(
    {
        "created": "2026-01-02T03:04:05.6Z",
        "config": {"Labels": {"io.sockproxy.owner": "1001"}, "Env": ["SECRET=x"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:a", "sha256:b"]},
    }
).encode()
TOLD = {
    "id": f"sha256:{hashlib.sha256(CONFIG).hexdigest()}",
    "owner": "1001",
    "layers": ["sha256:a", "sha256:b"],
    "created": "2026-01-02T03:04:05.6Z",
}
NO = {"error": 403, "message": "is an image of somebody else's", "at": ""}
BUSYBOX = llb.source(f"docker-image://docker.io/library/busybox:latest{PIN}", image_resolvemode="pull")
NAMED = llb.source("docker-image://docker.io/library/busybox:latest")
LAYOUT = llb.source(f"oci-layout://x{PIN}", oci_session="u1000-s", oci_store="there")
COPIED = llb.operation(BUSYBOX, LAYOUT, file={"actions": []})


def answer(*operations: bytes, **result: object) -> bytes:
    ref = {"id": "r", "def": llb.definition(*operations)}
    return message("gateway.SolveResponse", result=result or {"ref": ref, "metadata": {"containerimage.config": b"{}"}})


def asked(around: Mediated, **fields: object) -> Any:
    build = {"buildkit_controlapi_buildid": "b"}
    return around.client.call(BRIDGE + "Solve", message("gateway.SolveRequest", **fields), **build)


def config(digest: str = PIN[1:], text: bytes = CONFIG) -> bytes:
    return message("gateway.ResolveImageConfigResponse", Digest=digest, Config=text)


def test_each_image_is_looked_at_before_the_answer_goes_on() -> None:
    answers = {BRIDGE + "Solve": [answer(BUSYBOX, LAYOUT, COPIED)], ASKED: [config()]}
    with mediated(answers, reply=lambda _: {"rid": ""}) as around:
        assert asked(around, Evaluate=True).status == 0
        solved, first, second = around.daemon.calls
        assert SCHEMA.parse("gateway.SolveRequest", solved[2]).Evaluate is False  # nothing runs before
        one, other = (SCHEMA.parse("gateway.ResolveImageConfigRequest", call[2]) for call in (first, second))
        assert (one.Ref, one.ResolveMode, one.ResolverType) == (f"docker.io/library/busybox:latest{PIN}", "pull", 0)
        assert (other.Ref, other.ResolverType, other.SessionID, other.StoreID) == (f"x{PIN}", 1, "u1000-s", "there")
        assert first[1]["buildkit-controlapi-buildid"] == "u1000-b"
        questions = [question for question in around.helper.asked if question["ask"] == "base"]
        assert [question["config"] for question in questions] == [TOLD, TOLD]
        assert "SECRET" not in str(questions)
        assert asked(around).status == 0
        assert len(around.daemon.calls) == 4  # what was looked at is known on this connection


def test_what_a_frontend_is_given_is_looked_at_before_it_has_it() -> None:
    given = {"FrontendInputs": {"dockerfile": llb.definition(BUSYBOX)}, "Frontend": "dockerfile.v0"}
    answers = {BRIDGE + "Solve": [answer(BUSYBOX)], ASKED: [config()]}
    with mediated(answers, reply=lambda question: NO if question["ask"] == "base" else {"rid": ""}) as around:
        assert (asked(around, **given).status, [call[0] for call in around.daemon.calls]) == (7, [ASKED])
    with mediated(answers, reply=lambda _: {"rid": ""}) as around:
        assert asked(around, **given).status == 0
        assert [call[0] for call in around.daemon.calls] == [ASKED, BRIDGE + "Ping", BRIDGE + "Solve"]


MANY = {"refs": {"refs": {"linux/a": {"id": "r", "def": llb.definition(BUSYBOX)}}}}
ATTESTED = {"attestations": {"linux/a": {"attestation": [{"ref": {"id": "r", "def": llb.definition(BUSYBOX)}}]}}}


@pytest.mark.parametrize("result", [{}, MANY, ATTESTED], ids=["one", "platforms", "attestations"])
def test_an_answer_with_anothers_image_is_none(result: dict[str, object]) -> None:
    answers = {BRIDGE + "Solve": [answer(BUSYBOX, **result)], ASKED: [config()]}
    with mediated(answers, reply=lambda question: NO if question["ask"] == "base" else {"rid": ""}) as around:
        reply = asked(around)
        assert (reply.status, reply.messages) == (7, [])
        assert "is an image of somebody else's" in reply.text


NO_DEFINITION = {"ref": {"id": "r"}}


@pytest.mark.parametrize(
    ("solved", "told", "why"),
    [
        (answer(NAMED), config(), "has to name docker.io/library/busybox:latest by its digest: "),
        (answer(BUSYBOX), config(text=b"no JSON"), "the builder tells no image's config"),
        (answer(BUSYBOX), config(text=b"[]"), "the builder tells no image's config"),
        (message("gateway.SolveResponse", result=NO_DEFINITION), config(), "does not tell what it is going to build"),
        (message("gateway.SolveResponse", result={"refDeprecated": "r"}), config(), "update the client"),
        (message("gateway.SolveResponse", ref="r"), config(), "update the client"),
    ],
)  # fmt: skip
def test_what_can_not_be_told_is_not_built(solved: bytes, told: bytes, why: str) -> None:
    with mediated({BRIDGE + "Solve": [solved], ASKED: [told]}, reply=lambda _: {"rid": ""}) as around:
        reply = asked(around)
        assert (reply.status != 0, reply.messages, why in reply.text) == (True, [], True), reply.text


def test_a_builder_that_does_not_tell() -> None:
    with mediated({BRIDGE + "Solve": [answer(BUSYBOX)], ASKED: []}, reply=lambda _: {"rid": ""}) as around:
        reply = asked(around)
        assert (reply.status, "the builder does not tell" in reply.text) == (14, True), reply.text


def test_a_local_image_without_a_digest_is_taken_while_nobody_sets_its_name() -> None:
    """The classic store has none to tell; by which names images are another's, the source policy has."""
    answers = {BRIDGE + "Solve": [answer(NAMED)], ASKED: [config("")]}
    stat, replies = BRIDGE + "StatFile", {"keep": {"kept": "k"}}
    answers[stat] = [message("gateway.StatFileResponse")]
    with mediated(answers, reply=lambda question: replies.get(str(question["ask"]), {})) as around:
        assert asked(around).status == 0
        assert [call[0] for call in around.daemon.calls] == [BRIDGE + "Solve", ASKED, BRIDGE + "Solve", stat]
        taken = SCHEMA.parse("gateway.SolveRequest", around.daemon.calls[2][2])
        assert list(getattr(taken.Definition, "def")) == llb.definition(NAMED)["def"]
        questions = [question for question in around.helper.asked if question["ask"] in ("keep", "base", "kept")]
        assert [question["ask"] for question in questions] == ["keep", "base", "kept"]
        assert questions[0] == {"ask": "keep", "name": "docker.io/library/busybox:latest", "rid": ""}
        assert questions[2]["kept"] == "k"
        assert asked(around).status == 0  # nor is it remembered: in another build it may be another
        assert [question["ask"] for question in around.helper.asked].count("kept") == 2


@pytest.mark.parametrize("no", ["keep", "base", "kept"])
def test_a_name_that_is_kept_is_let_go(no: str) -> None:
    answers = {BRIDGE + "Solve": [answer(NAMED)], ASKED: [config("")]}
    answers[BRIDGE + "StatFile"] = [message("gateway.StatFileResponse")]
    with mediated(answers, reply=lambda question: NO if question["ask"] == no else {"kept": "k"}) as around:
        reply = asked(around)
        assert (reply.status, reply.messages) == (7, [])
        asks = [question["ask"] for question in around.helper.asked]
        assert asks.count("kept") == (no != "keep")


def test_what_is_solved_at_once_has_no_images() -> None:
    definition = llb.definition(BUSYBOX)
    with mediated(reply=lambda _: {"rid": ""}) as around:
        for fields in (
            {"Definition": definition},
            {"FrontendInputs": {"a": definition}},
            {"Frontend": "dockerfile.v0"},
        ):
            reply = around.client.call(
                CONTROL + "Solve", message("control.SolveRequest", Ref="r", Session="s", **fields)
            )
            assert (reply.status, "may not build at once what images are in" in reply.text) == (7, True)
        assert around.daemon.calls == []
    for rules in ({"registries": ["docker.io/*"]}, {"sees_all": True}):
        answers = {BRIDGE + "Solve": [answer(BUSYBOX)]}
        with mediated(answers, facts(rules), reply=lambda _: {"rid": ""}) as around:
            assert (
                around.client.call(
                    CONTROL + "Solve", message("control.SolveRequest", Ref="r", Session="s", Definition=definition)
                ).status
                == 0
            )
            assert asked(around, Evaluate=True).status == 0
            assert [call[0] for call in around.daemon.calls] == [CONTROL + "Solve", BRIDGE + "Solve"]
