"""Every row of every table: its kind is enforced, `never` never leaves, and nothing without a row gets through."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockproxy_helpers.api import operations
from sockproxy_helpers.api.fields import Field, Rules, load
from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.judge import model
from tests.support.judging import ADMIN, OPERATIONS, OWNED, context, judge

MODELLED = ("System", "Container", "Exec", "Image", "Distribution", "Volume", "Network")
WRONG: dict[str, list[object]] = {
    "string": [1, True, [], {}],
    "bool": ["true", 1, 0, "", [], {}],
    "int": ["1", 1.0, 1e8, True, [], {}, 2**63],
    "strings": [1, {}, [1], [None], [[]]],
    "{}": [[], "", {"a": 1}, 1],
}


def rows() -> Iterator[tuple[str, str, list[tuple[str, Field]]]]:
    """List (scope, operation, way to the field) of each row."""
    for scope, table in model.TABLES.items():
        for name, operation in table.items():
            for top in (operation.body, operation.query):
                for way in ways(top):
                    yield scope, name, way


def ways(fields: dict[str, Field]) -> Iterator[list[tuple[str, Field]]]:
    for name, field in fields.items():
        yield [(name, field)]
        for rest in ways(field.children):
            yield [(name, field), *rest]


def build(way: list[tuple[str, Field]], value: object) -> dict[str, object]:
    """Form a body in which only this field is given, inside the lists and maps of its parents."""
    (name, _), *rest = way
    inner: object = build(rest, value) if rest else value
    if rest:
        for bracket in reversed(way[0][1].kind.split("object")[0]):
            inner = [inner] if bracket == "[" else {"a": inner} if bracket == "{" else inner
    return {name: inner}


def wrongs(kind: str) -> list[object]:
    if kind.startswith("["):
        return ["a", {}, 1, [None], *([item] for item in wrongs(kind[1:-1]))]
    if kind.startswith("{") and kind != "{}":
        return ["a", [], 1, *({"a": item} for item in wrongs(kind[1:-1]))]
    return WRONG.get(kind, WRONG["string"] if kind == "string?" else [1, "a", []] if kind == "object" else [])


BODY = [
    pytest.param(scope, name, way, id=f"{name}:{'.'.join(part for part, _ in way)}")
    for scope, name, way in rows()
    if way[0][0] in model.TABLES[scope][name].body and way[0][1] is model.TABLES[scope][name].body[way[0][0]]
]


@pytest.mark.parametrize(("scope", "name", "way"), BODY)
def test_kind(scope: str, name: str, way: list[tuple[str, Field]]) -> None:
    for value in wrongs(way[-1][1].kind):
        with pytest.raises(Malformed):
            model.approve(scope, name, [], build(way, value), context(ADMIN, name))


@pytest.mark.parametrize(("scope", "name", "way"), BODY)
def test_letters_are_those_of_the_api(scope: str, name: str, way: list[tuple[str, Field]]) -> None:
    field = way[-1][0]
    for other in {field.lower(), field.upper(), field.swapcase(), field.replace("s", "\u017f")} - {field}:
        with pytest.raises(Refused, match=f"spelled {field}"):
            model.approve(scope, name, [], build([*way[:-1], (other, way[-1][1])], 1), context(ADMIN, name))
    with pytest.raises(Refused, match="unknown"):
        model.approve(scope, name, [], build([*way[:-1], (field + "X", way[-1][1])], 1), context(ADMIN, name))


@pytest.mark.parametrize(
    ("scope", "name", "way"),
    [row for row in BODY if isinstance(row.values[2], list) and row.values[2][-1][1].rule == "never"],
)
def test_never_leaves(scope: str, name: str, way: list[tuple[str, Field]]) -> None:
    some = {"string": "a", "int": 1, "any": {"a": 1}, "strings": ["a"]}[way[-1][1].kind]
    with pytest.raises(Refused, match="shared daemon"):
        model.approve(scope, name, [], build(way, some), context(ADMIN, name))
    if "Mounts" in build(way, some).get("HostConfig", {}):  # type: ignore[operator]  # a mount needs more than this
        return
    zero = {"string": "", "int": 0, "any": {}, "strings": []}[way[-1][1].kind]
    _, body = model.approve(scope, name, [], build(way, zero), context(ADMIN, name))
    assert way[-1][0] not in json.dumps(body)


def test_tables_are_complete() -> None:
    described = {name for table in model.TABLES.values() for name in table}
    expected = {operation.name for operation in OPERATIONS.values() if operation.tag in MODELLED}
    assert expected - described == {"SystemOptions", "ContainerCopy"}  # the front's own; unmodelled
    for scope, table in model.TABLES.items():
        for name in table.keys() - {"ContainerCreate"}:
            assert OPERATIONS[name].scope == scope
            assert bool(table[name].body) <= (OPERATIONS[name].request == "json")


def test_parents_have_the_kind_that_the_path_says() -> None:
    for scope in model.TABLES:
        kinds = {(name, path): kind for name, path, kind, _ in operations.read_table(scope, 4)}
        for name, path in kinds:
            parent = path.rpartition(".")[0]
            base = re.sub(r"(\.\*|\[\])*$", "", parent)
            kind = "object"
            for bracket in reversed(re.findall(r"\*|\[", parent[len(base) :])):
                kind = f"[{kind}]" if bracket == "[" else f"{{{kind}}}"
            assert not parent or kinds[name, base].strip("()") == kind, path


def test_scopes_share_objects_only() -> None:
    trees = [table["ContainerCreate"].body for table in model.TABLES.values()]
    paths = [{".".join(name for name, _ in way): way[-1][1] for way in ways(tree)} for tree in trees]
    for one in paths:
        for other in paths:
            for path in one.keys() & other.keys() if one is not other else ():
                assert one[path].kind == other[path].kind == "object"


@pytest.mark.parametrize(
    "row", ["A B.C string free", "A B string no_such_rule", "A B text free", "A B string free\nA B string free"]
)
def test_bad_rows_stop_the_start(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lifecycle.txt").write_text(row)
    monkeypatch.setattr(operations, "TABLES", str(tmp_path))
    rules: Rules = {}
    with pytest.raises(ValueError, match=r"lifecycle\.txt: A B"):
        load("lifecycle", rules)


def test_null_is_absent() -> None:
    _, body = judge("NetworkConnect", {"Container": "a", "EndpointConfig": None})
    assert body == {"Container": "a"}


def test_null_in_a_map_is_the_zero_value() -> None:
    endpoints = {"EndpointsConfig": {"n": None}, "n": None}
    host = {"PortBindings": {"80/tcp": None}}
    maps = {"Labels": {"a": None}, "Volumes": {"/a": None}, "ExposedPorts": {"80/tcp": None}}
    _, body = judge("ContainerCreate", {**maps, "NetworkingConfig": endpoints, "HostConfig": host})
    assert isinstance(body, dict)
    assert body["Labels"] == {"a": "", **OWNED}
    assert body["Volumes"] == {"/a": {}}
    assert body["ExposedPorts"] == {"80/tcp": {}}
    assert body["NetworkingConfig"] == {"EndpointsConfig": {"n": {}}}
    assert body["HostConfig"]["PortBindings"] == {"80/tcp": []}


def test_null_does_not_excuse_letters() -> None:
    with pytest.raises(Refused, match="spelled HostConfig"):
        judge("ContainerCreate", {"hostconfig": None})


@pytest.mark.parametrize("field", ["Privileged", "Binds", "CapAdd", "NetworkMode", "Memory", "Foo", "\u212a"])
def test_host_config_at_the_top_is_unknown(field: str) -> None:
    with pytest.raises(Refused, match="unknown"):
        judge("ContainerCreate", {field: [], "HostConfig": None})


def test_control_characters_in_keys() -> None:
    with pytest.raises(Malformed, match="control"):
        judge("ContainerCreate", {"Labels": {"a\nb": ""}})


@pytest.mark.parametrize("body", [[], "a", 1, True])
def test_body_is_an_object(body: object) -> None:
    for name in ("ContainerCreate", "ContainerExec", "NetworkCreate"):
        with pytest.raises(Malformed, match="an object"):
            judge(name, body)


def test_no_body_where_none_belongs() -> None:
    assert judge("ImagePush", {}) == ([], None)  # docker-py
    with pytest.raises(Malformed, match="takes no body"):
        judge("ContainerStart", {"Privileged": True})
    assert judge("ImageCommit") == ([], None)


def test_a_part_of_another_scope_is_no_approval() -> None:
    with pytest.raises(Refused, match="network helper"):
        model.merge({"lifecycle": {}, "network": {"HostConfig": {"Binds": ["/:/h"]}}})
    with pytest.raises(Refused, match="unknown"):
        model.merge({"network": {"Foo": 1}})
    with pytest.raises(Malformed):
        model.merge({"network": []})


def test_without_rows_only_where_the_role_says_so() -> None:
    assert judge("SwarmInspect") == ([], None)
    with pytest.raises(Refused, match="SwarmInit") as refusal:
        judge("SwarmInit", {"ListenAddr": "a"})
    assert refusal.value.at == f"roles.yaml:{sorted(ADMIN).index('unmodelled') + 1}"
    with pytest.raises(Refused):
        judge("CheckpointDelete", query=[("dir", "/etc")])
    assert judge("SwarmInit", {"ListenAddr": "a"}, rules=ADMIN) == ([], {"ListenAddr": "a"})
    with pytest.raises(Malformed):
        judge("SwarmInit", {"a": 1, "A": 2}, rules=ADMIN)


@pytest.mark.parametrize("rule", ["limits", "capabilities", "no_new_privileges"])
def test_what_the_policy_does_not_say_is_refused(rule: str) -> None:
    rules = {name: value for name, value in ADMIN.items() if name != rule}
    with pytest.raises(Refused, match=f"says nothing about {rule}"):
        judge("ContainerCreate", {}, rules=rules)


def test_a_limit_that_is_not_a_number_is_refused() -> None:
    for limits in ({"memory": None, "cpus": None}, {"memory": None, "cpus": None, "pids": True}, []):
        with pytest.raises(Refused, match=r"says nothing about limits\.(logs|pids|memory)"):
            judge("ContainerCreate", {}, rules=ADMIN | {"limits": limits})


# Query parameters


@pytest.mark.parametrize(
    ("name", "query", "sent"),
    [
        ("ContainerList", [("all", "True"), ("limit", "-1")], [("all", "1"), ("limit", "-1")]),
        ("ContainerList", [("size", " No ")], [("size", "0")]),
        ("ContainerList", [("limit", "")], []),
        ("ContainerList", [("filters", '{"b":{"x":false}}')], [("filters", '{"b":["x"]}')]),
        ("ContainerList", [("filters", '{"b":["x"]}')], [("filters", '{"b":["x"]}')]),
        ("NetworkList", [("filters", LONG := '{"id":["' + '","'.join(["ab" * 32] * 256) + '"]}')], [("filters", LONG)]),
        ("ImageGetAll", [("names", "a"), ("names", "b")], [("names", "a"), ("names", "b")]),
        ("ContainerStart", [("checkpoint", "")], []),
        ("ImageList", [("only_ids", "0")], []),
        ("ImagePush", [("platform", '{"os": "linux"}')], [("platform", '{"os":"linux"}')]),
        ("ImageGet", [("platform", '{"os":"linux"}')] * 2, [("platform", '{"os":"linux"}')] * 2),
    ],
)
def test_query(name: str, query: list[tuple[str, str]], sent: list[tuple[str, str]]) -> None:
    assert judge(name, query=query, rules=ADMIN) == (sent, None)


@pytest.mark.parametrize(
    ("name", "query", "why"),
    [
        ("ContainerList", [("All", "1")], r"\?All: spelled all"),
        ("ContainerList", [("foo", "1")], r"\?foo: unknown"),
        ("ExecInspect", [("a", "")], "unknown"),
        ("ContainerList", [("all", "1"), ("all", "0")], "given 2 times"),
        ("ContainerList", [("limit", "1e3")], "whole number"),
        ("ContainerList", [("limit", "+1")], "whole number"),
        ("ContainerList", [("limit", "9223372036854775808")], "whole number"),
        ("ContainerList", [("limit", "\u0661")], "whole number"),
        ("ContainerList", [("filters", "[]")], "JSON object"),
        ("ContainerList", [("filters", '{"a":"b"}')], "neither"),
        ("ContainerList", [("filters", '{"a":{"b":1}}')], "neither"),
        ("ContainerList", [("filters", '{"a":[1]}')], "neither"),
        ("ContainerList", [("filters", '{"name":["x{1000}"]}')], "too long"),
        ("NetworkList", [("filters", '{"name":["' + "x" * 1025 + '"]}')], "too long"),
        ("NetworkList", [("filters", '{"id":["' + '","'.join(["ab" * 32] * 257) + '"]}')], "too long"),
        ("ContainerList", [("filters", '{"a":[],"a":[]}')], "twice"),
        ("ContainerLogs", [("since", "a\0")], "NUL"),
        ("ContainerLogs", [("since", "\ud800")], "UTF-8"),
        ("ContainerStart", [("checkpoint", "a")], "shared daemon"),
        ("ContainerStart", [("checkpoint-dir", "/etc")], "shared daemon"),
        ("ImagePush", [("platform", '{"os": 1}')], "strings only"),
        ("ImagePush", [("platform", '{"a": "b"}')], "not a platform"),
        ("ImageGet", [("platform", "linux")], "not JSON"),
        ("ImageBuild", [("ulimits", '[{"name": "a"}]')], "spelled Name"),
        ("ImageBuild", [("labels", '{"a": 1}')], "a string"),
    ],
)
def test_query_refused(name: str, query: list[tuple[str, str]], why: str) -> None:
    with pytest.raises((Refused, Malformed), match=why):
        judge(name, query=query)


def test_a_body_that_is_said_in_the_query_too_does_not_leave_there() -> None:
    body = {"name": "n", "Image": "a", "Env": ["A=secret"], "HostConfig": {"Memory": 1}}  # as dockerode does it
    query = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in body.items()]
    sent, built = judge("ContainerCreate", body, [*query, ("NetworkingConfig", "{}")])
    assert sent == [("name", "n")]
    assert isinstance(built, dict)
    assert built["Image"] == "a"
    assert "name" not in built
    assert judge("NetworkCreate", {"Name": "n"}, [("Name", "other"), ("Driver", "host")])[0] == []
    with pytest.raises(Refused, match=r"\?Memory: unknown"):
        judge("ContainerCreate", body, [("Memory", "1"), ("Privileged", "1")])
