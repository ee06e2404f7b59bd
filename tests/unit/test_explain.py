"""`sockproxy explain`: each verdict, what it is based on, and what it takes to ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sockproxy import cli, paths
from sockproxy.explain.show import ACCESS
from sockproxy.http.body import MAX_BODY
from sockproxy_helpers.content import references
from tests.support.explaining import POLICY, Explain

PLAIN = "version: 1\nbindings: [{user: kim, role: developer}]"
CREATE = "/v1.45/containers/create"


@pytest.fixture
def explain(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Explain:
    return Explain(tmp_path, capsys, monkeypatch)


def fields(found: dict[str, Any]) -> dict[str, tuple[str, object]]:
    return {row["field"]: (row["effect"], row["sent"]) for row in found["fields"]}


def test_allowed(explain: Explain) -> None:
    code, out, err = explain("GET", "/v1.45/containers/json?all=true")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].startswith("allowed: role developer, rule roles.yaml:")
    assert "user       kim (uid 1000; groups: kim, devs; home: /home/kim)" in lines
    assert "binding    group devs: role developer (p.yaml:3)" in lines
    assert "operation  ContainerList: GET /containers/json" in lines
    assert "           scope lifecycle, request none, response json" in lines
    assert any(line.split() == ["?all", "bool", "free", "kept:", "true"] for line in lines)
    assert lines[-1].startswith("GET /v1.45/containers/json?all=1&filters=%7B")


def test_refused_field(explain: Explain) -> None:
    code, out, _ = explain("POST", CREATE, {"Image": "a", "HostConfig": {"Privileged": True}})
    verdict, *lines = out.splitlines()
    assert code == 3
    assert verdict.startswith("refused: HostConfig.Privileged: role developer may not run privileged containers")
    at = verdict.rpartition(": rule ")[2]
    assert at.startswith("roles.yaml:")
    assert any(line.startswith("operation  ContainerCreate") for line in lines)
    row = next(line for line in lines if line.startswith("HostConfig.Privileged"))
    assert row.split(None, 2)[1] == "bool"
    assert f"privileged: privileged=false ({at})" in row
    assert row.endswith("refused: true")
    assert "POST" not in lines[-1]  # nothing is sent


def test_refused_operation(explain: Explain) -> None:
    found = explain.json("POST", "/swarm/init", {"AnyThing": 1})
    assert found["verdict"] == f"refused: role developer does not allow SwarmInit: rule {found['at']}"
    assert (found["status"], found["fields"], found["request"]) == (403, [], None)
    assert found["operation"]["scope"] == "lifecycle"


def test_unchecked_body(explain: Explain) -> None:
    found = explain.json("POST", "/swarm/init", {"AnyThing": 1}, role="admin")
    assert found["unmodelled"]["value"] is True
    assert found["request"]["body"] == {"AnyThing": 1}
    assert "query and body pass unchecked: unmodelled=true" in explain("POST", "/swarm/init", {}, role="admin")[1]


def test_unchecked_body_without_the_rule(explain: Explain) -> None:
    policy = "version: 1\nroles: {r: {allow: [SwarmInit]}}\nbindings: [{user: kim, role: r}]"
    found = explain.json("POST", "/swarm/init", {"AnyThing": 1}, policy=policy)
    assert found["verdict"].endswith("sockproxy does not check what is in it: rule p.yaml:2")
    assert found["unmodelled"] == {"value": False, "at": "p.yaml:2"}


def test_what_can_not_be_recorded(explain: Explain) -> None:
    policy = POLICY.replace("ROLE", "r") + "roles: {r: {extends: developer, sessions: {output: 1m}}}\n"
    found = explain.json("GET", "/containers/x/attach/ws?stream=1", policy=policy)
    assert found["verdict"].startswith("refused: a WebSocket, which can't be recorded as your role has it")
    assert found["verdict"].endswith(": rule p.yaml:4")
    assert found["request"] is None
    assert explain("POST", "/containers/x/attach?stream=1", policy=policy)[0] == 0
    assert explain("GET", "/containers/x/attach/ws?stream=1")[0] == 0


def test_no_binding(explain: Explain) -> None:
    policy = "version: 1\nbindings: []"
    code, out, _ = explain("GET", "/info", policy=policy)
    assert code == 3
    assert out.startswith(
        "refused: no binding matches user kim (groups: kim, devs): ask the administrator for one, or a "
    )
    assert "bound group (none is): rule p.yaml\n" in out
    assert "binding    none matches" in out
    code, out, _ = explain("GET", "/_ping", policy=policy)
    assert (code, out.splitlines()[0]) == (0, "allowed: everybody may, also without a role")


def test_what_may_have_been_meant(explain: Explain) -> None:
    for asked, near in [
        (("GET", "/v1.45/containers/jso?all=1"), "near it: GET /containers/json"),
        (("get", "/info"), "near it: GET /info"),
        (("POST", "/container/web/start"), "near it: POST /containers/{id}/start"),
    ]:
        assert near in explain(*asked)[1]
    assert "near it" not in explain("FROB", "/x")[1]


def test_binding_that_wins(explain: Explain) -> None:
    policy = "version: 1\nbindings:\n  - {group: kim, role: viewer}\n  - {user: kim, role: admin}\n"
    assert explain.json("GET", "/info", policy=policy)["binding"] == {
        "who": "group kim", "role": "viewer", "at": "p.yaml:3",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "verdict"),
    [
        ("GET", "/nonsense", None, 404, "page not found"),
        ("get", "/info", None, 404, "page not found"),
        ("GET", "/v1.45/containers/..%2f..%2finfo", None, 404, "page not found"),
        ("GET", "info", None, 400, "malformed request target: only a path is accepted"),
        ("GET", "/v1.12/info", None, 400, "client version 1.12 is too old"),
        ("GET", "/containers/json?all=1;b", None, 400, "malformed query: semicolon"),
        ("GET", "/containers/json?a=%1b", None, 400, "malformed query: control character"),
        ("GET", "/containers/json?nonsense=1", None, 403, "?nonsense: unknown"),
        ("GET", "/containers/json?limit=x", None, 400, '?limit: expected a whole number, got "x"'),
        ("POST", "/containers/a/start", b'{"a":1}', 400, "ContainerStart takes no body"),
        ("POST", CREATE, b'{"Image":"a","Image":"b"}', 400, 'the key "Image" twice in one JSON object'),
        ("POST", CREATE, b'{"image":"a"}', 403, "image: spelled Image"),
        ("POST", CREATE, b'{"Nonsense":1}', 403, "Nonsense: unknown"),
        ("POST", CREATE, b'{"HostConfig":{"Nonsense":1}}', 403, "HostConfig.Nonsense: unknown"),
        ("POST", CREATE, b'{"HostConfig":1}', 400, "HostConfig: expected an object, got int"),
        ("POST", CREATE, b'{"Image":1}', 400, "Image: expected a string, got int"),
        ("POST", CREATE, b"{}{}", 400, "not JSON: Extra data"),
        ("POST", CREATE, b" " * (MAX_BODY + 1), 413, "request body too large"),
    ],
)  # fmt: skip
def test_refused_as_front_or_helper_would(
    explain: Explain, method: str, target: str, body: bytes | None, status: int, verdict: str
) -> None:
    found = explain.json(method, target, body)
    assert (found["status"], found["request"]) == (status, None)
    assert found["verdict"].startswith(f"refused: {verdict}")


def test_field_where_it_ended(explain: Explain) -> None:
    mounts = [{"Type": "bind", "Source": "/home/kim//x", "Target": "/a"}, {"Type": "bind", "Source": "/etc"}]
    found = explain.json("POST", CREATE, {"HostConfig": {"Mounts": mounts}})
    assert found["verdict"].startswith('refused: HostConfig.Mounts[1].Source: role developer may not bind "/etc"')
    shown = fields(found)
    assert shown["HostConfig.Mounts"] == ("refused", None)
    assert shown["HostConfig.Mounts[0].Source"] == ("changed", "/home/kim/x")
    assert shown["HostConfig.Mounts[0].Target"] == ("kept", "/a")
    assert fields(explain.json("POST", CREATE, {"Image": 1}))["Image"] == ("refused", None)


def test_what_becomes_of_fields(explain: Explain) -> None:
    host = {"CapAdd": ["cap_chown"], "Memory": 0, "PidMode": None, "ContainerIDFile": "/x", "AutoRemove": True}
    found = explain.json("POST", CREATE + "?name=web", {"Image": "a", "Labels": {"b": "c"}, "HostConfig": host})
    assert fields(found) == {
        "?name": ("kept", "web"),
        "Image": ("kept", "a"),
        "Labels": ("changed", {"b": "c", "io.sockproxy.owner": "1000"}),
        "HostConfig.ContainerIDFile": ("changed", "io.sockproxy.owner=1000"),
        "HostConfig.AutoRemove": ("kept", True),
        "HostConfig.CapAdd": ("changed", ["CHOWN"]),
        "HostConfig.CapDrop": ("added", ["MKNOD", "SETFCAP"]),
        "HostConfig.PidMode": ("dropped", None),
        "HostConfig.SecurityOpt": ("added", ["no-new-privileges"]),
        "HostConfig.Memory": ("changed", 8 << 30),
        "HostConfig.NanoCpus": ("added", 4_000_000_000),
        "HostConfig.PidsLimit": ("added", 4096),
        "HostConfig.CgroupParent": ("added", "/sockproxy/1000"),
        "HostConfig.LogConfig.Config": ("added", {"max-file": "2", "max-size": str(50 << 20)}),
    }
    assert found["request"]["body"]["HostConfig"]["CapAdd"] == ["CHOWN"]
    assert found["request"]["target"] == CREATE + "?name=web"
    policy = next(row["policy"] for row in found["fields"] if row["field"] == "HostConfig.Memory")
    assert [(rule["name"], rule["value"]) for rule in policy] == [("limits.memory", 8 << 30)]
    assert policy[0]["at"].startswith("roles.yaml:")


def test_null_where_rules_add(explain: Explain) -> None:
    found = explain.json("POST", CREATE, {"Image": "a", "HostConfig": None})
    assert fields(found)["HostConfig.CapDrop"][0] == "added"
    assert "HostConfig" not in fields(found)


def test_names_are_left_to_the_call(explain: Explain) -> None:
    found = explain.json("POST", CREATE, {"Image": "a", "HostConfig": {"NetworkMode": "n", "PidMode": ""}})
    named = [("HostConfig.NetworkMode", "network", "join"), ("Image", "image", "use")]
    assert found["references"] == [{"field": field, "kind": kind, "access": way} for field, kind, way in named]
    out = explain("POST", "/containers/web/start")[1]
    assert "No daemon was asked. Left to the call itself:" in out
    assert "{id} (container: the user's own)" in out
    assert out.endswith("\nPOST /containers/web/start\n")
    found = explain.json("POST", CREATE, {"HostConfig": {"VolumesFrom": ["a:ro"], "Links": ["b"]}})
    assert {row["field"] for row in found["references"]} == {"HostConfig.VolumesFrom[]", "HostConfig.Links[]"}


def test_answers(explain: Explain) -> None:
    assert "answer     the daemon's, cut to what the user may know" in explain("GET", "/networks")[1]
    assert "answer" not in explain("GET", "/networks", role="admin")[1]
    assert "answer     sockproxy's own; the daemon is not asked" in explain("OPTIONS", "/x")[1]
    assert "body: it streams to the daemon" in explain("POST", "/build?t=a", b"not read")[1]


def test_unused_parameters_are_named_together(explain: Explain) -> None:
    out = explain("POST", "/build?rm=0&q=0&t=a", role="admin")[1]
    assert "given, but null, zero or empty:\n  query: q, rm\n" in out


@pytest.mark.parametrize(
    ("role", "allowed"),
    [("viewer", [True, False, False]), ("ci", [True, True, False]),
     ("developer", [True, True, False]), ("admin", [True, True, True])],
)  # fmt: skip
def test_roles(explain: Explain, role: str, allowed: list[bool]) -> None:
    found = [
        explain.json("GET", "/info", role=role),
        explain.json("POST", CREATE, {"Image": "a"}, role=role),
        explain.json("POST", CREATE, {"Image": "a", "HostConfig": {"Privileged": True}}, role=role),
    ]
    assert [one["allowed"] for one in found] == allowed
    assert {one["binding"]["role"] for one in found} == {role}


def test_nothing_that_a_terminal_obeys(explain: Explain) -> None:
    evil = "\x1b[31m\x7f\u009b\u202e\r"
    bodies: list[object] = [
        {"Image": evil, "Env": [evil], "Labels": {"a": evil}},
        {"Image": evil, evil: evil},
        {"HostConfig": {"Binds": [f"/etc/{evil}:/a"]}},
        {"HostConfig": {"PortBindings": {evil: []}}},
        {"HostConfig": {"Runtime": evil, "CapAdd": [evil]}},
    ]
    for body in bodies:
        for form in ("text", "json"):
            out = explain("POST", CREATE, body, "--format", form)[1]
            assert all(line.isprintable() for line in out.split("\n"))
    assert explain.json("POST", CREATE, bodies[0])["request"]["body"]["Image"] == evil


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--user", "no-such\x1b"], r"--user: no account on this host has the name no-such\x1b"),
        (
            ["--body", "no-such"],
            "no-such: can't be read: No such file or directory, expected a file's name after --body, or - for",
        ),
        (["--body", "\x00"], r"\x00: can't be read: embedded null byte"),
        (["--config", "no-such"], "no-such: "),
    ],
)
def test_configuration_errors(
    explain: Explain, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain("GET", "/info")[0] == 0
    assert cli.main(["explain", "--user", "kim", "--config", "p.yaml", *arguments, "GET", "/info"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(words)
    assert err.removesuffix("\n").isprintable()


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/info HTTP/1.1\r\nX: y"), ("GET", ""), ("", "/"), ("GET", "/\xe4"), ("G T", "/")]
)
def test_what_is_no_request_line(explain: Explain, method: str, target: str) -> None:
    code, out, err = explain(method, target)
    assert (code, out) == (2, "")
    assert "not visible ASCII" in err


@pytest.mark.parametrize("arguments", [[], ["GET"], ["--user", "kim", "GET"], ["--user", "kim", "--format", "x"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["explain", *arguments])
    assert end.value.code == 2
    assert "usage: sockproxy explain" in capsys.readouterr().err


def test_who_runs_it_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text(PLAIN)
    asked = ["explain", "--config", str(tmp_path / "p.yaml"), "GET", "/_ping"]
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert cli.main(asked) == 0
    assert "user       root (uid 0;" in capsys.readouterr().out
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert cli.main(asked) == 2
    assert "no account on this host has the uid 3999999999" in capsys.readouterr().err


def run(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    call = (
        "import sys; from sockproxy import cli; code = cli.main(sys.argv[1:]); print('trio' in sys.modules); exit(code)"
    )
    path = {"PYTHONPATH": f"{Path(paths.helpers_dir()).parent}:{paths.helpers_dir()}"}
    command = [sys.executable, "-B", "-c", call, "explain", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=path, timeout=30, **settings)


def test_without_trio(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("version: 1\nbindings: [{user: root, role: admin}]")
    asked = ("--user", "root", "--config", str(tmp_path / "p"), "--format", "json", "POST", CREATE, "--body", "-")
    done = run(*asked, input='{"Image": "a"}')
    assert (done.returncode, done.stderr) == (0, "")
    text, _, loaded = done.stdout.rstrip().rpartition("\n")
    assert loaded == "False"
    assert json.loads(text)["user"]["name"] == "root"


@pytest.mark.root
def test_without_root() -> None:
    done = run("--user", "root", "--config", os.devnull, "GET", "/info", user=65534, group=65534, extra_groups=[])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("allowed: role admin")


def test_every_access_has_words() -> None:
    assert {row.access for rows in references.TABLE.values() for row in rows} <= ACCESS.keys()


def test_warn_mode(explain: Explain) -> None:
    policy = "version: 1\nbindings: [{group: devs, role: r}]\nroles: {r: {extends: viewer, mode: warn}}\n"
    code, out, _ = explain("POST", "/containers/x/stop", policy=policy)
    assert code == 0
    assert out.splitlines()[0].endswith("; mode: warn, else refused: role r does not allow ContainerStop")
    code, out, _ = explain("POST", CREATE, {"Image": "a", "HostConfig": {"Privileged": True}}, policy=policy)
    assert code == 3
    assert out.startswith("refused: HostConfig.Privileged")
    assert explain("POST", "/swarm/init", {}, policy=policy)[0] == 3


def test_the_readme_shows_what_is_said_today(explain: Explain) -> None:
    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text().split())
    for host in ({"Privileged": True}, {"PidMode": "host"}):
        _, out, _ = explain("POST", CREATE, {"Image": "busybox", "HostConfig": host}, policy=PLAIN)
        assert out.splitlines()[0].partition(": ")[2] in readme
