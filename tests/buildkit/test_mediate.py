"""Calls through the mediator: what passes, as what, and what does not."""

from __future__ import annotations

import json
import socket
from typing import Any

import h2.events
import pytest
from h2.settings import SettingCodes

from sockproxy.buildkit import methods, treatments
from sockproxy.buildkit.helper import Helper
from sockproxy.buildkit.schema import Schema
from sockproxy_helpers.errors import Malformed, Unavailable
from tests.buildkit.mediated import Daemon, facts, mediated
from tests.support.grpc import BRIDGE, CONTROL, SCHEMA, Ended, message
from tests.support.judging import ADMIN

TABLE = methods.load()
DENIED, INVALID, UNAVAILABLE = 7, 3, 14


def solve(**fields: object) -> bytes:
    return message("control.SolveRequest", **({"Ref": "ref1", "Session": "s1"} | fields))


def test_a_solve_is_made_anew() -> None:
    answer = message("control.SolveResponse", ExporterResponse={"containerimage.config.digest": "sha256:1"})
    attrs = {"target": "t", "label:a": "b", "build-arg:X": "secret", "local-sessionid:context": "s1"}
    exporter = {"Type": "moby", "Attrs": {"name": "a:1,b:2", "unpack": "true"}}
    with mediated({CONTROL + "Solve": [answer]}) as around:
        reply = around.client.call(CONTROL + "Solve", solve(FrontendAttrs=attrs, Exporters=[exporter]))
        assert (reply.status, reply.messages) == (0, [answer])
        sent = around.sent("control.SolveRequest")
        assert (sent.Ref, sent.Session) == ("u1000-ref1", "u1000-s1")
        assert dict(sent.FrontendAttrs) == {
            "target": "t",
            "label:a": "b",
            "build-arg:X": "secret",
            "local-sessionid:context": "u1000-s1",
            "label:io.sockproxy.owner": "1000",
            "build-arg:BUILDKIT_CACHE_MOUNT_NS": "sockproxy-1000",
            "hostname": "sockproxy-1000",
            "cmdline": "sockproxy",
        }
        rules = [(rule.action, rule.selector.identifier) for rule in sent.SourcePolicy.rules]
        assert rules[1:4] == [(1, "http://*"), (1, "https://*"), (1, "git://*")]
        asked = around.helper.asked
        assert [one["ask"] for one in asked] == ["solve", "outcome"]
        assert asked[0]["tags"] == ["a:1", "b:2"]
        assert "secret" not in str(asked)
        assert asked[1] == {"ask": "outcome", "rid": "11" * 8, "status": "0", "image": "sha256:1"}


def test_a_frontends_call_has_an_outcome_of_its_own() -> None:
    with mediated({BRIDGE + "Solve": [b""]}) as around:
        around.client.call(BRIDGE + "Solve", message("gateway.SolveRequest"))
        asked = around.helper.asked
        assert [one["ask"] for one in asked] == ["frontend", "outcome"]
        assert asked[1] == {"ask": "outcome", "rid": "11" * 8, "status": "0", "image": ""}


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"Frontend": "gateway.v0"}, "may not use the frontend"),
    ({"FrontendAttrs": {"source": "image"}}, "FrontendAttrs.source: is not known"),
    ({"FrontendAttrs": {"cmdline": "x"}}, "cmdline: is not known"),
    ({"FrontendAttrs": {"hostname": "sockproxy-1"}}, "hostname: is not known"),
    ({"FrontendAttrs": {"build-arg:BUILDKIT_CACHE_MOUNT_NS": "sockproxy-1"}}, "is set by sockproxy"),
    ({"FrontendAttrs": {"build-arg:BUILDKIT_SANDBOX_HOSTNAME": "x"}}, "is set by sockproxy"),
    ({"FrontendAttrs": {"build-arg:BUILDKIT_SYNTAX": "x"}}, "frontend's image"),
    ({"FrontendAttrs": {"attest:sbom": ""}}, "scanner's image"),
    ({"FrontendAttrs": {"attest:SBOM": "generator=x"}}, "scanner's image"),
    ({"FrontendAttrs": {"build-arg:BUILDKIT_ATTEST_SBOM": "generator=x"}}, "scanner's image"),
    ({"FrontendAttrs": {"build-arg:BUILDKIT_ATTEST_Sbom": "generator=x"}}, "scanner's image"),
    ({"FrontendAttrs": {"label:io.sockproxy.owner": "0"}}, "sockproxy's own"),
    ({"FrontendAttrs": {"label:IO.sockproxy.x": "0"}}, "sockproxy's own"),
    ({"FrontendAttrs": {"force-network-mode": "host"}}, "host's network namespace"),
    ({"FrontendAttrs": {"cgroup-parent": "/x"}}, "parent cgroup"),
    ({"FrontendAttrs": {"ulimit": "memlock=-1"}}, "may not set the ulimit"),
    ({"FrontendAttrs": {"ulimit": "nofile=1024,nofile=99999999:99999999"}}, "may not have a ulimit"),
    ({"FrontendAttrs": {"ulimit": "nofile"}}, "NAME=SOFT"),
    ({"FrontendAttrs": {"shm-size": "1g"}}, "is not a size in bytes"),
    ({"FrontendAttrs": {"shm-size": "99999999999999"}}, "may not use shared memory"),
    ({"FrontendAttrs": {"context": "https://127.0.0.1/x.git"}}, "fetch a build context"),
    ({"FrontendAttrs": {"context": "http://buildkit-session/../x"}}, "fetch a build context"),
    ({"FrontendAttrs": {"context": "git@host:x"}}, "fetch a build context"),
    ({"FrontendAttrs": {"input-metadata:y": '{"containerimage.config": "e30="}'}}, "not what the builder returned"),
    ({"FrontendAttrs": {"input-metadata:y": "e30="}}, "no JSON map"),
    ({"FrontendAttrs": {"cache-imports": '[{"Type":"s3","Attrs":{"bucket":"x"}}]'}}, "speak to any host"),
    ({"FrontendAttrs": {"cache-imports": "[["}}, "no JSON list"),
    ({"FrontendAttrs": {"cache-imports": '[{"Type":"registry","X":1}]'}}, "unknown field"),
    ({"FrontendAttrs": {"cache-imports": '[{"Type":"registry","Attrs":{"ref":1}}]'}}, "no strings"),
    ({"FrontendAttrs": {"local-sessionid:context": "x:u1-s"}}, "not the name of a build or session"),
    ({"Session": "x:u1-s"}, "not the name of a build or session"),
    ({"Entitlements": ["network.host"]}, "may not give a build"),
    ({"Entitlements": ["security.insecure"]}, "may not give a build"),
    ({"Entitlements": ["device"]}, "may not give a build"),
    ({"SourcePolicy": {"version": 1}}, "SourcePolicy: is not served"),
    ({"SourcePolicySession": "x"}, "SourcePolicySession: is not served"),
    ({"EnableSessionExporter": True}, "EnableSessionExporter: is not served"),
    ({"ProxyNetwork": True}, "ProxyNetwork: is not served"),
    ({"Exporters": [{"Type": "other"}]}, "output type"),
    ({"Exporters": [{"Type": "moby", "Attrs": {"containerimage.config": "{}"}}]}, "is not known"),
    ({"Exporters": [{"Type": "moby", "Attrs": {"name": "a b"}}]}, "not the name of an image"),
    (
        {"Exporters": [{"Type": "moby", "Attrs": {"name": ",".join(f"a{n}" * 40 for n in range(999))}}]},
        "too much to record",
    ),
    ({"Exporters": [{"Type": "moby", "Attrs": {"registry.insecure": "true"}}]}, "speak to any host"),
    ({"ExporterDeprecated": "moby", "ExporterAttrsDeprecated": {"dangling-name-prefix": "x"}}, "is not known"),
    ({"Cache": {"Imports": [{"Type": "gha", "Attrs": {"url": "http://127.0.0.1"}}]}}, "speak to any host"),
    ({"Cache": {"Exports": [{"Type": "exec"}]}}, "cache type"),
    ({"Cache": {"ExportRefDeprecated": "x"}}, "is not served"),
    ({"Ref": ""}, "needs a name"),
    ({"Ref": "../x"}, "not the name"),
]


@pytest.mark.parametrize(("fields", "why"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_a_developer_may_not(fields: dict[str, object], why: str) -> None:
    with mediated() as around:
        reply = around.client.call(CONTROL + "Solve", solve(**fields))
        assert reply.status in (DENIED, INVALID)
        assert why in reply.text
        assert around.daemon.calls == []
        assert [one["ask"] for one in around.helper.asked] == ["refused"]


def test_who_may_do_anything_is_still_the_owner() -> None:
    attrs = {"source": "x"}
    told = facts(ADMIN)
    with mediated(told=told) as around:
        assert around.client.call(CONTROL + "Solve", solve(FrontendAttrs=attrs)).status == DENIED  # has no row
        fields: dict[str, Any] = {"Frontend": "gateway.v0", "FrontendAttrs": {"build-arg:BUILDKIT_SYNTAX": "x"}}
        assert around.client.call(CONTROL + "Solve", solve(**fields)).status == 0
        sent = around.sent("control.SolveRequest")
        assert sent.FrontendAttrs["label:io.sockproxy.owner"] == "1000"
        assert "cmdline" not in sent.FrontendAttrs
        assert around.client.call(CONTROL + "Status", message("control.StatusRequest", Ref="u7-x")).status == 0
        assert around.sent("control.StatusRequest").Ref == "u7-x"


@pytest.mark.parametrize(("asked", "sent"), [({}, "none"), ({"force-network-mode": "sandbox"}, "none")])
def test_steps_have_no_network_where_the_role_gives_none(asked: dict[str, str], sent: str) -> None:
    with mediated(told=facts({"build_bridge": False})) as around:
        around.client.call(CONTROL + "Solve", solve(FrontendAttrs=asked))
        assert around.sent("control.SolveRequest").FrontendAttrs["force-network-mode"] == sent
    with mediated() as around:
        around.client.call(CONTROL + "Solve", solve(FrontendAttrs=asked))
        assert around.sent("control.SolveRequest").FrontendAttrs.get("force-network-mode") == asked.get(
            "force-network-mode"
        )


@pytest.mark.parametrize("filled", [False, True])
def test_who_may_not_fill_the_cache_builds_without(filled: bool) -> None:
    imports: dict[str, Any] = {"Type": "registry", "Attrs": {"ref": "r.example/a"}}
    attrs = {"cache-from": "a", "cache-imports": json.dumps([imports])}
    with mediated(told=facts({"cache_imports": filled})) as around:
        body = solve(FrontendAttrs=attrs, Cache={"Imports": [imports], "Exports": [{"Type": "inline"}]})
        assert around.client.call(CONTROL + "Solve", body).status == 0
        sent = around.sent("control.SolveRequest")
        assert (len(sent.Cache.Imports), len(sent.Cache.Exports)) == (int(filled), 1)
        assert [key in sent.FrontendAttrs for key in attrs] == [filled] * 2
        body = message("gateway.SolveRequest", FrontendOpt=attrs, CacheImports=[imports])
        assert around.client.call(BRIDGE + "Solve", body).status == 0
        sent = around.sent("gateway.SolveRequest")
        assert len(sent.CacheImports) == int(filled)
        assert [key in sent.FrontendOpt for key in attrs] == [filled] * 2


def test_steps_run_in_the_users_cgroup() -> None:
    own = "/sockproxy/1000/builds"
    with mediated(told=facts() | {"cgroup": own}) as around:
        around.client.call(CONTROL + "Solve", solve())
        assert around.sent("control.SolveRequest").FrontendAttrs["cgroup-parent"] == own
        around.client.call(BRIDGE + "Solve", message("gateway.SolveRequest"))
        assert around.sent("gateway.SolveRequest").FrontendOpt["cgroup-parent"] == own


def test_pushing_needs_the_operation() -> None:
    exporter = {"Type": "moby", "Attrs": {"name": "r.example/a", "push": "true"}}
    cache = {"Exports": [{"Type": "registry", "Attrs": {"ref": "r.example/a"}}]}
    with mediated(told=facts(operations=())) as around:
        for fields in ({"Exporters": [exporter]}, {"Cache": cache}):
            reply = around.client.call(CONTROL + "Solve", solve(**fields))
            assert (reply.status, "does not allow ImagePush" in reply.text) == (DENIED, True)
    with mediated() as around:
        assert around.client.call(CONTROL + "Solve", solve(Exporters=[exporter], Cache=cache)).status == 0


def test_only_listed_images_are_bases() -> None:
    with mediated(told=facts({"registries": ["docker.io/library/*"], "fetch": True})) as around:
        around.client.call(CONTROL + "Solve", solve())
        (*rules, frontend) = around.sent("control.SolveRequest").SourcePolicy.rules
        found = [(one.action, one.selector.identifier, len(one.selector.constraints)) for one in rules]
        images = [(1, "docker-image://*", 0), (0, "docker-image://docker.io/library/*", 0)]
        assert found == [(1, "oci-layout://*", 0), *images]
        assert (frontend.action, frontend.selector.constraints[0].value) == (1, "frontend")


def test_who_trusts_any_frontend_trusts_any_scanner() -> None:
    for more, status in ({}, 0), ({"registries": ["docker.io/library/*"]}, DENIED):
        with mediated(told=facts({"frontends": ["ALL"], **more})) as around:
            asked = solve(FrontendAttrs={"attest:sbom": "", "attest:provenance": "mode=max"})
            assert around.client.call(CONTROL + "Solve", asked).status == status


def test_only_listed_registries_fill_the_cache() -> None:
    frontend = [{"cache-from": "r.example/a,evil.example/b"}]
    frontend += [{"cache-imports": json.dumps([{"Type": "registry", "Attrs": {"ref": "evil.example/b"}}])}]
    for ref, rules, status in (
        ("evil.example/b", {"cache_imports": True}, DENIED),
        ("r.example/a", {"cache_imports": True}, 0),
        ("evil.example/b", {}, 0),  # it is left out
    ):
        with mediated(told=facts({"registries": ["r.example/*"], **rules})) as around:
            entry = {"Type": "registry", "Attrs": {"ref": ref}}
            assert around.client.call(CONTROL + "Solve", solve(Cache={"Imports": [entry]})).status == status
            asked = message("gateway.SolveRequest", CacheImports=[entry])
            assert around.client.call(BRIDGE + "Solve", asked).status == status
            for attrs in frontend if status else []:
                assert around.client.call(CONTROL + "Solve", solve(FrontendAttrs=attrs)).status == DENIED


def test_only_listed_images_are_frontends() -> None:
    syntax = {"build-arg:BUILDKIT_SYNTAX": "docker/dockerfile:1"}
    listed = "docker.io/docker/dockerfile:1*"
    with mediated(told=facts({"frontends": [listed], "registries": ["docker.io/library/*"]})) as around:
        assert around.client.call(CONTROL + "Solve", solve(Frontend="gateway.v0")).status == DENIED
        assert around.client.call(CONTROL + "Solve", solve(FrontendAttrs=syntax)).status == 0
        sent = around.sent("control.SolveRequest")
        assert "cmdline" not in sent.FrontendAttrs
        rules = sent.SourcePolicy.rules[1:6]
        marks = [{item.key: item.value for item in one.selector.constraints} for one in rules]
        assert marks == [{}, {}, {}, {"image.recordtype": "frontend"}, {"image.recordtype": "frontend"}]
        assert [one.action for one in rules] == [1, 0, 0, 1, 0]
        found = [one.selector.identifier.partition("docker-image://")[2] for one in rules]
        assert found == ["*", "docker.io/library/*", listed, ".*$", "docker[.]io/docker/dockerfile:1.*$"]


def test_others_images_are_no_bases() -> None:
    foreign = ["docker.io/library/bobs:1", "docker.io/library/bobs*@sha256:2"]
    with mediated(reply=lambda _: {"rid": "", "foreign": foreign}) as around:
        around.client.call(CONTROL + "Solve", solve())
        rules = [
            (one.action, one.selector.match_type, one.selector.identifier)
            for one in around.sent("control.SolveRequest").SourcePolicy.rules
        ]
        assert rules[-2:] == [(1, 1, "docker-image://" + foreign[0]), (1, 0, "docker-image://" + foreign[1])]


def test_nothing_is_done_that_the_helper_refuses() -> None:
    no = {"error": 503, "message": "the audit record cannot be written", "at": ""}
    with mediated(reply=lambda _: no) as around:
        for path, body in ((CONTROL + "Solve", solve()), (BRIDGE + "Solve", message("gateway.SolveRequest"))):
            reply = around.client.call(path, body)
            assert (reply.status, "audit record" in reply.text) == (UNAVAILABLE, True)
        assert around.daemon.calls == []


def test_a_frontend_hands_back_what_it_was_given() -> None:
    result = {"ref": {"id": "r", "def": {"def": [b"x"]}}, "metadata": {"containerimage.config": b"{}"}}
    answer = message("gateway.SolveResponse", result=result)
    with mediated({BRIDGE + "Solve": [answer]}, facts({"registries": []})) as around:
        build = {"buildkit_controlapi_buildid": "ref1"}
        forged = message("gateway.ReturnRequest", result=result)
        assert around.client.call(BRIDGE + "Return", forged, **build).status == DENIED
        reply = around.client.call(BRIDGE + "Solve", message("gateway.SolveRequest", Frontend="dockerfile.v0"), **build)
        assert around.daemon.calls[-1][1]["buildkit-controlapi-buildid"] == "u1000-ref1"
        assert around.sent("gateway.SolveRequest").FrontendOpt["label:io.sockproxy.owner"] == "1000"
        (got,) = reply.messages
        assert SCHEMA.parse("gateway.SolveResponse", got).result.ref.HasField("def")
        assert around.client.call(BRIDGE + "Return", forged, **build).status == 0
        assert not around.sent("gateway.ReturnRequest").result.ref.HasField("def")
        other = message("gateway.ReturnRequest", result={"metadata": {"containerimage.config": b'{"Labels":{}}'}})
        assert around.client.call(BRIDGE + "Return", other, **build).status == DENIED


def test_of_a_clients_error_the_daemon_gets_where_it_is() -> None:
    details = [
        {"type_url": f"github.com/moby/buildkit/{kind}", "value": b"{}"} for kind in ("errdefs.Source+json", "x")
    ]
    with mediated() as around:
        returned = message("gateway.ReturnRequest", error={"code": 2, "message": "no", "details": details})
        assert around.client.call(BRIDGE + "Return", returned, buildkit_controlapi_buildid="b").status == 0
        (kept,) = around.sent("gateway.ReturnRequest").error.details
        assert (kept.type_url, kept.value) == ("github.com/moby/buildkit/errdefs.Source+json", b"{}")


def test_the_history_is_ones_own() -> None:
    def event(ref: str, digest: str) -> bytes:
        named = {"logs": {"digest": "sha256:9"}, "externalError": {"digest": digest}}
        return message(
            "control.BuildHistoryEvent",
            record={"Ref": ref, "FrontendAttrs": {"label:io.sockproxy.owner": "1000"}, **named},
        )

    answers = {
        CONTROL + "ListenBuildHistory": [
            event("u1000-a", "sha256:1"),
            event("u10001-b", "sha256:2"),
            event("c", "sha256:3"),
        ]
    }
    with mediated(answers) as around:
        reply = around.client.call(CONTROL + "ListenBuildHistory", message("control.BuildHistoryRequest"))
        found = [SCHEMA.parse("control.BuildHistoryEvent", one).record.Ref for one in reply.messages]
        assert found == ["a"]
        for digest, status in (("sha256:1", 0), ("sha256:2", DENIED), ("sha256:9", DENIED)):
            read = "/containerd.services.content.v1.Content/Read"
            assert around.client.call(read, message("content.ReadRequest", digest=digest)).status == status
        around.client.call(
            CONTROL + "UpdateBuildHistory", message("control.UpdateBuildHistoryRequest", Ref="b", Delete=True)
        )
        assert around.sent("control.UpdateBuildHistoryRequest").Ref == "u1000-b"


def test_the_cache_is_nobodys() -> None:
    with mediated({CONTROL + "DiskUsage": [b"x"]}) as around:
        assert around.client.call(CONTROL + "DiskUsage").messages == [b""]
        assert around.client.call(CONTROL + "Prune", message("control.PruneRequest", all=True)).messages == []
        assert around.daemon.calls == []
    with mediated(told=facts(ADMIN)) as around:
        assert around.client.call(CONTROL + "Prune", message("control.PruneRequest", all=True)).status == 0
        assert len(around.daemon.calls) == 1
    with mediated(told=facts(ADMIN, operations=())) as around:
        assert around.client.call(CONTROL + "Prune").status == DENIED


NOT_SERVED = [
    CONTROL + "Session",
    BRIDGE + "NewContainer",
    BRIDGE + "ExecProcess",
    BRIDGE + "ReleaseContainer",
    BRIDGE + "ResolveImageConfig",
    BRIDGE + "ResolveSourceMeta",
    BRIDGE + "Inputs",
    "/containerd.services.content.v1.Content/List",
    "/containerd.services.content.v1.Content/Write",
    "/grpc.health.v1.Health/Watch",
    CONTROL + "solve",
    CONTROL + "Solve/",
    "/" + CONTROL + "Solve",
    "*",
]


@pytest.mark.parametrize("path", NOT_SERVED)
def test_a_call_without_a_row_is_refused(path: str) -> None:
    with mediated() as around:
        reply = around.client.call(path, b"")
        assert (reply.status, "is not served" in reply.text, around.daemon.calls) == (DENIED, True, [])


@pytest.mark.parametrize("path", TABLE)
def test_every_call_refuses_what_it_does_not_know(path: str) -> None:
    method = TABLE[path]
    if method.treat == "ignored":
        return
    with mediated() as around:
        for body, why in ((b"\xfa\x3f\x01x", "is not known to this version"), (b"\x0a\xff", "")):
            reply = around.client.call(path, body)
            assert reply.status in (DENIED, INVALID)
            assert why in reply.text
        assert around.daemon.calls == []


def test_an_unknown_field_deep_inside_is_refused() -> None:
    exporter = message("control.Exporter", Type="moby") + b"\xf8\x01\x01"
    body = solve() + b"\x6a" + bytes([len(exporter)]) + exporter
    with mediated() as around:
        reply = around.client.call(CONTROL + "Solve", body)
        assert "SolveRequest.Exporters[0]: field number 31" in reply.text
        assert around.daemon.calls == []


def test_a_call_of_another_form_is_refused() -> None:
    with mediated() as around:
        path = CONTROL + "Info"
        for headers in ({"content_type": "text/plain"}, {"grpc_encoding": "gzip"}, {"grpc_timeout": "forever"}):
            assert around.client.call(path, b"", **headers).status == INVALID
        number = around.client.start(path, b"\x00\x00\x00\x00\x00" * 2, framed=False)  # two messages
        assert around.client.wait(number).status == INVALID
        for data in (b"", b"\x00\x00", b"\x00\x00\x00\x00\x09x", b"\x01\x00\x00\x00\x01x", b"\x00\xff\xff\xff\xffx"):
            assert around.client.wait(around.client.start(path, data, framed=False)).status == INVALID
        assert around.daemon.calls == []
        assert around.client.call(path, b"", grpc_timeout="5S").status == 0
        assert around.daemon.calls[-1][1]["grpc-timeout"] == "5S"


def test_each_message_and_rule_of_the_tables_is_there() -> None:
    from sockproxy.buildkit import attributes, treatments

    schema = Schema()
    for method in TABLE.values():
        assert {method.request, method.answer} <= schema.fields.keys()
        assert method.treat in treatments.TREATMENTS or method.treat == "ignored"
    used = {field.rule for fields in schema.fields.values() for field in fields}
    used |= {rule for rows in attributes.ATTRIBUTES.values() for _, rule in rows}
    assert used - {"free", "never", "dropped", "unsent"} == attributes.RULES.keys()


def test_an_answer_waits_for_the_clients_window() -> None:
    with mediated({CONTROL + "Info": [b"\x0a\x00"]}) as around:
        client = around.client
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        number = client.start(CONTROL + "Info", b"")
        while not around.daemon.calls:
            client.receive()
        assert client.call(CONTROL + "solve").status == DENIED  # has no body, and is not held up by the other
        assert client.replies[number].data == b""
        client.h2.increment_flow_control_window(4, number)
        client.flush()
        while len(client.replies[number].data) < 4:
            client.receive()
        client.h2.increment_flow_control_window(3, number)
        client.flush()
        assert client.wait(number).messages == [b"\x0a\x00"]


@pytest.mark.parametrize(("status", "code"), [(403, DENIED), (404, 5), (400, INVALID), (503, UNAVAILABLE)])
def test_what_the_root_helper_says_is_told(status: int, code: int) -> None:
    def reply(question: dict[str, Any]) -> dict[str, Any]:
        return {"error": status, "message": "no more of it", "at": "r:7"} if question["ask"] == "solve" else {}

    with mediated(reply=reply) as around:
        answer = around.client.call(CONTROL + "Solve", solve())
        assert answer.status == code
        assert "no more of it" in answer.text
        assert ("rule r:7" in answer.text) == (status == 403)
        assert around.daemon.calls == []


def test_heads_that_are_none() -> None:
    method = TABLE[CONTROL + "Info"]
    good = [(":method", "POST"), ("content-type", "application/grpc"), ("te", "trailers")]
    methods.request_head(method, good)
    with pytest.raises(Malformed, match="a header field for the second time"):
        methods.request_head(method, [*good, ("te", "trailers")])


def test_no_message_holds_itself() -> None:
    """So that judging one ends, however deep it is nested."""

    def within(kind: str, around: tuple[str, ...]) -> None:
        assert kind not in around, around
        for field in SCHEMA.fields[kind]:
            if field.message and field.rule not in ("never", "dropped", "unsent"):
                within(field.message, (*around, kind))

    for kind in SCHEMA.fields:
        within(kind, ())


def test_what_breaks_the_protocol_ends_the_connection() -> None:
    overlong = b"\x00\x40\x01\xff" + bytes(5 + 0x4001)
    for garbage in (bytes(64), overlong, b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\xff\xff\xff\xff"):
        with mediated() as around:
            around.client.sock.sendall(garbage)
            with pytest.raises((Ended, ConnectionError)):
                around.client.call(CONTROL + "Info")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (".", "."),
        ("docker-image://busybox:1", "docker-image://busybox:1"),
        ("https://user:hush@h.example:8443/a/b.git?token=hush#ref", "https://…@h.example:8443/a/b.git?…"),
        ("https://hush@h.example", "https://…@h.example"),
        ("https://h.example/a@b", "https://h.example/a@b"),
    ],
)
def test_secrets_in_urls_are_not_told(source: str, told: str) -> None:
    noted = treatments._noted({"context": source, "context:x": source, "build-arg:A": "hush"}, [source])
    assert noted == {"context": told, "contexts": [f"x={told}"], "origins": [told]}


@pytest.mark.parametrize(
    ("head", "words"),
    [([(":status", "404")], "the Docker daemon does not serve BuildKit"), ([], "the Docker daemon broke off the call")],
)
def test_a_daemon_that_serves_no_buildkit(
    head: list[tuple[str, str]], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(self: Daemon, connection: Any, event: Any) -> None:
        if isinstance(event, h2.events.StreamEnded):
            if head:
                connection.send_headers(event.stream_id, head, end_stream=True)
            else:
                connection.reset_stream(event.stream_id)

    monkeypatch.setattr(Daemon, "_take", take)
    with mediated() as around:
        reply = around.client.call(CONTROL + "Info", message("control.InfoRequest"))
        assert (reply.status, words in reply.text) == (UNAVAILABLE, True)


async def test_a_root_helper_that_is_gone() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with ours, pytest.raises(Unavailable, match="the filesystem helper is gone"):
        await Helper(ours).ask({"ask": "solve"})


def test_what_is_asked_about_a_build_that_is_refused_ends() -> None:
    """BuildKit would wait for it, and clients for the answer."""
    waiting = {CONTROL + "Status": lambda _: None, BRIDGE + "Ping": lambda _: None}
    with mediated(waiting) as around:  # type: ignore[arg-type]
        client = around.client

        def status(ref: str) -> int:
            return client.start(CONTROL + "Status", message("control.StatusRequest", Ref=ref))

        early, other = status("r"), status("other")
        ping = client.start(BRIDGE + "Ping", b"", buildkit_controlapi_buildid="r")
        solve = {"Ref": "r", "Session": "s"}
        attrs = {"force-network-mode": "host"}
        assert client.call(CONTROL + "Solve", message("control.SolveRequest", FrontendAttrs=attrs, **solve)).status == 7
        assert [client.wait(number).status for number in (early, ping, status("r"))] == [0, 5, 0]
        assert not client.replies[other].done
        assert client.call(CONTROL + "Solve", message("control.SolveRequest", **solve)).status == 0  # another try
        assert not client.replies[number := status("r")].done
        client.call(CONTROL + "Info")
        assert not client.replies[number].done
        denied = [question["ask"] for question in around.helper.asked].count("refused")
        assert denied == 1
