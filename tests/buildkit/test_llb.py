"""Low-level definitions through the mediator: each operation is judged, and made anew."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from tests.buildkit.mediated import Mediated, facts, mediated
from tests.support import llb
from tests.support.grpc import BRIDGE, CONTROL, SCHEMA, message
from tests.support.judging import ADMIN

BASE = llb.source("docker-image://busybox")
OWN = "sockproxy-1000"
LISTED = {"registries": ["docker.io/*", "r.example:5000/*"]}  # others' images are not there: see bases.py


def solve(definition: dict[str, object], **fields: object) -> bytes:
    return message("control.SolveRequest", Ref="r", Session="s", Definition=definition, **fields)


def sent(around: Mediated, kind: str = "control.SolveRequest") -> tuple[Any, list[Any]]:
    """Decode the definition that the daemon has got; each operation's inputs stand before it."""
    found = around.sent(kind).Definition
    encoded = list(getattr(found, "def"))
    operations = [SCHEMA.parse("pb.Op", data) for data in encoded]
    for index, operation in enumerate(operations):
        assert {item.digest for item in operation.inputs} <= {llb.digest(data) for data in encoded[:index]}
    return found, operations


def test_a_step_is_made_the_users() -> None:
    mounts = (llb.cache("shared"), llb.cache("", "/d"), llb.cache(OWN + "/own", "/e"), llb.cache(f"{OWN}x/y", "/f"))
    step = llb.step(BASE, "true", mounts=mounts, meta={"hostname": "sockproxy-7"})
    copied = llb.operation(step, file={"actions": [{"copy": {"src": "/", "owner": {"user": {"byID": 0}}}}]})
    definition = llb.definition(BASE, step, copied)
    definition["metadata"] = {llb.digest(step): {"ignore_cache": True}, "sha256:0": {"ignore_cache": True}}
    definition["Source"] = {"locations": {llb.digest(copied): {"locations": [{"sourceIndex": 1}]}}}
    with mediated(told=facts({"build_bridge": False} | LISTED) | {"cgroup": "/own"}) as around:
        assert around.client.call(CONTROL + "Solve", solve(definition)).status == 0
        found, (base, exec_, file, _) = sent(around)
        assert base.source.identifier == "docker-image://docker.io/library/busybox:latest"
        step = exec_.exec
        assert (step.meta.hostname, step.meta.cgroupParent, step.network) == (OWN, "/own", 2)
        names = [mount.cacheOpt.ID for mount in step.mounts]
        assert names == ["", f"{OWN}/shared", f"{OWN}//d", f"{OWN}/own", f"{OWN}/{OWN}x/y"]
        assert file.file.actions[0].copy.owner.user.HasField("byID")  # root, which is not the same as none
        encoded = [llb.digest(data) for data in getattr(found, "def")]
        assert list(found.metadata) == [encoded[1]]
        assert list(found.Source.locations) == [encoded[2]]
        assert around.helper.asked[0]["build"]["origins"] == ["docker-image://docker.io/library/busybox:latest"]


@pytest.mark.parametrize("kind", ["control.SolveRequest", "gateway.SolveRequest"])
def test_inputs_of_a_frontend_are_judged_like_definitions(kind: str) -> None:
    path = (CONTROL if kind.startswith("control") else BRIDGE) + "Solve"
    given = {"Ref": "r", "Session": "s"} if kind.startswith("control") else {}
    with mediated(told=facts(LISTED)) as around:
        bad = message(kind, FrontendInputs={"a": llb.definition(BASE, llb.step(BASE, "true", network=1))}, **given)
        reply = around.client.call(path, bad)
        assert "FrontendInputs[a].def[1].exec.network" in reply.text
        good = message(kind, FrontendInputs={"a": llb.definition(BASE, llb.step(BASE, "true"))}, **given)
        assert around.client.call(path, good).status == 0
        step = SCHEMA.parse("pb.Op", getattr(around.sent(kind).FrontendInputs["a"], "def")[1])
        assert step.exec.meta.hostname == OWN


SESSION = "http://buildkit-session/x"
REFUSED: list[tuple[list[bytes], str]] = [
    ([BASE, llb.step(BASE, "true", network=1)], "host's network namespace"),
    ([BASE, llb.step(BASE, "true", network=3)], "no such network mode"),
    ([BASE, llb.step(BASE, "true", security=1)], "may not have a privileged step"),
    ([BASE, llb.step(BASE, "true", cdiDevices=[{"name": "v/c=d"}])], "cdiDevices: is not served"),
    ([BASE, llb.step(BASE, "true", meta={"cgroupParent": "/x"})], "parent cgroup"),
    ([BASE, llb.step(BASE, "true", meta={"ulimit": [{"Name": "rtprio", "Hard": 9}]})], "may not set the ulimit"),
    ([BASE, llb.step(BASE, "true", meta={"ulimit": [{"Hard": 9}]})], "may not set the ulimit"),
    ([BASE, llb.step(BASE, "true", mounts=({"dest": "/x", "mountType": 5},))], "no such kind of mount"),
    ([BASE, llb.step(BASE, "true") + b"\x42\x00"], "field number 8"),
    ([BASE, llb.operation(BASE, build={"builder": -1})], "build: is not served"),
    ([BASE, llb.operation(BASE, file={}, merge={})], "more than one operation"),
    ([llb.step(BASE, "true")], "does not stand before it"),
    ([b"\xff"], ""),
    ([llb.source("git://example.org/x")], "speak to any host"),
    ([llb.source("https://example.org/x")], "speak to any host"),
    ([llb.source(SESSION + "/../y")], "speak to any host"),
    ([llb.source("docker-image+blob://x/y@sha256:" + "0" * 64)], "no kind of source"),
    ([llb.source("/etc")], "no kind of source"),
    ([llb.source("")], "no kind of source"),
    ([llb.source("docker-image://" + "0" * 64)], "is not the name of an image"),
    ([llb.source("local://context", local_new="x")], "local.new: is not known"),
    ([llb.source("local://context", git_keepgitdir="x")], "git.keepgitdir: is not known"),
    ([llb.source("local://context", local_session="x:y")], "not the name"),
    ([BASE] * 20_001, "more than 20000 operations"),
]


@pytest.mark.parametrize(("operations", "why"), REFUSED, ids=lambda value: str(value)[-40:])
def test_what_a_developer_may_not(operations: list[bytes], why: str) -> None:
    with mediated() as around:
        reply = around.client.call(CONTROL + "Solve", solve(llb.definition(*operations)))
        assert reply.status in (7, 3)
        assert why in reply.text
        assert around.daemon.calls == []


def test_sources_are_of_ones_own_session() -> None:
    sources = [
        llb.source("local://context", local_session="u7-s", local_sharedkeyhint="h"),
        llb.source("local://context", local_session="u1000-s"),  # as the daemon's own definitions have it
        llb.source("oci-layout://s@sha256:" + "0" * 64, oci_session="s", oci_store="x"),
        llb.source(SESSION, http_filename="context"),
        llb.source("docker-image://r.example:5000/a:1@sha256:" + "0" * 64, image_resolvemode="local"),
    ]
    with mediated(told=facts(LISTED)) as around:
        assert around.client.call(CONTROL + "Solve", solve(llb.definition(*sources))).status == 0
        _, operations = sent(around)
        found = [dict(operation.source.attrs) for operation in operations[:3]]
        assert [one.get("local.session", one.get("oci.session")) for one in found] == [
            "u1000-u7-s",
            "u1000-s",
            "u1000-s",
        ]
        assert operations[4].source.identifier == "docker-image://r.example:5000/a:1@sha256:" + "0" * 64


def test_who_may_do_anything_may_do_so_in_a_definition() -> None:
    step = llb.step(BASE, "true", network=1, security=1, meta={"cgroupParent": "/x"})
    operations = [BASE, step, llb.source("git://me:secret@example.org/x", git_keepgitdir="true")]
    with mediated(told=facts(ADMIN) | {"cgroup": ""}) as around:
        assert around.client.call(CONTROL + "Solve", solve(llb.definition(*operations))).status == 0
        _, found = sent(around)
        step = found[1].exec
        assert (step.network, step.security, step.meta.cgroupParent, step.meta.hostname) == (1, 1, "/x", OWN)
        assert "secret" not in str(around.helper.asked)


def test_an_image_of_a_definition_would_be_nobodys() -> None:
    definition = llb.definition(BASE, llb.step(BASE, "true"))
    images: list[dict[str, object]] = [
        {"Exporters": [{"Type": "moby", "Attrs": {"name": "x"}}]}, {"Exporters": [{"Type": "image"}]},
        {"ExporterDeprecated": "moby"},
    ]  # fmt: skip
    with mediated(told=facts(LISTED)) as around:
        for fields in images:
            reply = around.client.call(CONTROL + "Solve", solve(definition, **fields))
            assert "would make an image that is nobody's" in reply.text
        assert around.daemon.calls == []
        assert around.client.call(CONTROL + "Solve", solve(definition, Exporters=[{"Type": "tar"}])).status == 0


CONFIG = b'{"config":{"Labels":{"io.sockproxy.owner":"1000"}}}'
PLATFORM = b'{"Platforms":[{"ID":"linux/a"}]}'
ONE = {"ref": {"id": "r"}, "metadata": {"containerimage.config": CONFIG}}
MANY = {"refs": {"refs": {"linux/a": {"id": "r"}}}}
TOLD = {"containerimage.config/linux/a": CONFIG, "refs.platforms": PLATFORM, "other": b"x"}


@pytest.mark.parametrize(
    ("result", "passes"),
    [
        (ONE, True),
        ({"metadata": {"other": b"x"}}, True),  # an answer to a question, not an image
        ({"ref": {"id": ""}}, True),
        (MANY | {"metadata": TOLD}, True),
        ({"ref": {"id": "r"}}, False),
        ({"refDeprecated": "r"}, False),
        ({"ref": {"id": "r"}, "metadata": {"containerimage.config": b"x"}}, False),  # said, but of something else
        ({"ref": {"id": "r"}, "metadata": TOLD}, False),
        (MANY | {"metadata": {"containerimage.config/linux/a": CONFIG}}, False),
        (MANY | {"metadata": {"refs.platforms": PLATFORM}}, False),
        ({"refs": {"refs": {"linux/b": {"id": "r"}}}, "metadata": TOLD}, False),
        ({"refsDeprecated": {"refs": {"linux/a": "r"}}}, False),
    ],
)
def test_a_result_has_its_owners_configuration(result: dict[str, object], passes: bool) -> None:
    answers = [message("gateway.SolveResponse", result=one) for one in (ONE, MANY | {"metadata": TOLD})]
    for answer in answers:
        SCHEMA.parse("gateway.SolveResponse", answer)
    with mediated({BRIDGE + "Solve": answers}, facts(LISTED)) as around:
        around.client.call(BRIDGE + "Solve", message("gateway.SolveRequest", Frontend="dockerfile.v0"))
        reply = around.client.call(BRIDGE + "Return", message("gateway.ReturnRequest", result=result))
        assert (reply.status == 0) == passes, reply.text


def test_another_target_is_built_upon_as_the_daemon_made_it() -> None:
    """An operation of the daemon's own keeps its bytes, whatever their order: it is the same step then."""
    canonical = llb.source("docker-image://docker.io/library/busybox:latest")
    swapped = b"\x52\x00" + canonical  # the platform first
    own = llb.step(swapped, "true", meta={"hostname": OWN})
    result = {"ref": {"id": "r", "def": llb.definition(swapped, own)}, "metadata": {"containerimage.config": CONFIG}}
    told = json.dumps({"containerimage.config": b64encode(CONFIG).decode()})
    attrs = {"context:base": "input:base", "input-metadata:base": told}
    asked = message("gateway.SolveRequest", FrontendOpt=attrs, FrontendInputs={"base": llb.definition(swapped, own)})
    with mediated({BRIDGE + "Solve": [message("gateway.SolveResponse", result=result)]}, facts(LISTED)) as around:
        assert "not what the builder returned" in around.client.call(BRIDGE + "Solve", asked).text
        around.client.call(BRIDGE + "Solve", message("gateway.SolveRequest", Frontend="dockerfile.v0"))
        assert around.client.call(BRIDGE + "Solve", asked).status == 0
        got = around.sent("gateway.SolveRequest")
        assert getattr(got.FrontendInputs["base"], "def")[0] == swapped
        assert json.loads(got.FrontendOpt["input-metadata:base"]) == json.loads(told)
