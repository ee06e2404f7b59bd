"""Mutate requests of real clients: whatever comes out has rows, spelled as the tables spell them, or it was refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy_helpers.api import strict
from sockproxy_helpers.api.fields import Field
from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.judge import model
from sockproxy_helpers.upstream.objects import OWNER
from tests.support.judging import DEVELOPER, OPERATIONS, judge

CORPUS = [item for path in Path(__file__).parents[1].glob("corpus/*.json") for item in json.loads(path.read_text())]
WORDS = [
    "Privileged",
    "privileged",
    "HostConfig",
    "Bind\u017f",
    "\u212aernelMemory",
    "Binds",
    "Labels",
    "io.sockproxy.owner",
    "",
    "a\nb",
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(WORDS),
    st.sampled_from(["host", "container:x", "/:/h", "ALL", "unconfined", "/etc", "00080", "10.0.0.0/8"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner, max_size=2)
    ),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """List each (container, key) in a value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]], Any]:
    """Take a recorded request and change some places in it."""
    request = json.loads(json.dumps(draw(st.sampled_from(CORPUS))))
    query = [(key, value) for key, value in request["query"]]
    for _ in range(draw(st.integers(0, 3))):
        found = places({"body": request["body"]})
        holder, key = draw(st.sampled_from(found))
        how = draw(st.integers(0, 4))
        if how == 0 and holder is not request and key != "body":
            holder[key] = draw(VALUES)
        elif how == 1 and isinstance(holder, dict) and key != "body":
            holder[draw(st.sampled_from([key.lower(), key.upper(), key.replace("s", "\u017f"), key + "X"]))] = (
                holder.pop(key)
            )
        elif how == 2 and isinstance(holder.get(key) if isinstance(holder, dict) else None, dict):
            holder[key][draw(st.sampled_from(WORDS))] = draw(VALUES)
        elif how == 3 and query:
            index = draw(st.integers(0, len(query) - 1))
            query[index] = (query[index][0], draw(st.text(max_size=6)))
        elif query:
            query.append(draw(st.sampled_from(query)))
    return request["operation"], query, request["body"]


def check(fields: dict[str, Field], value: Any) -> None:
    """Assert that an object holds nothing but fields with rows that may leave."""
    assert value.keys() <= fields.keys()
    for key, item in value.items():
        field = fields[key]
        assert field.rule != "never"
        check_kind(field, field.kind, item)


def check_kind(field: Field, kind: str, value: Any) -> None:
    if kind == "object":
        check(field.children, value)
    elif kind.startswith("["):
        for item in value:
            check_kind(field, kind[1:-1], item)
    elif kind.startswith("{") and kind != "{}":
        for item in value.values():
            check_kind(field, kind[1:-1], item)
    elif kind in ("string", "bool", "int", "strings", "{}"):
        assert type(value) is {"string": str, "bool": bool, "int": int, "strings": list, "{}": dict}[kind]


@settings(max_examples=400, deadline=None)
@given(mutated())
def test_only_rows_leave(request: tuple[str, list[tuple[str, str]], Any]) -> None:
    name, query, body = request
    try:
        sent, built = judge(name, body, query)
    except (Refused, Malformed):
        return
    scopes = model.SCOPES if name == "ContainerCreate" else [OPERATIONS[name].scope]
    for scope in scopes:
        operation = model.TABLES[scope][name]
        if built is not None:
            part = model.split(built)[scope] if name == "ContainerCreate" else built
            check(operation.body, part)
    assert {key for key, _ in sent} <= {
        key for table in model.TABLES.values() if name in table for key in table[name].query
    }
    if name == "ContainerCreate":
        check_safe(built)
    again = unowned(json.loads(json.dumps(built)))
    query = [(key, text) for key, text in sent if text != f"LABEL {OWNER}=1000"]
    query = [(key, json.dumps(unowned(json.loads(text))) if "io.sock" in text else text) for key, text in query]
    assert judge(name, again, query) == (sent, built)  # what was approved is approved, unchanged


def unowned(value: Any) -> Any:
    """Take away what makes an object, or a question, the caller's own."""
    for key in ("Labels", "label", ""):
        place = value.get(key, value if not key else {}) if isinstance(value, dict) else {}
        if isinstance(place, dict):
            place.pop(OWNER, None)
        elif f"{OWNER}=1000" in place:
            place.remove(f"{OWNER}=1000")
    return value


def check_safe(body: Any) -> None:
    """Assert what must hold of any container of the role, by other means than the rules."""
    host = body["HostConfig"]
    assert not host.get("Privileged")
    assert not host.get("Devices")
    assert "no-new-privileges" in host["SecurityOpt"]
    assert "unconfined" not in str(host["SecurityOpt"])
    assert {"MKNOD", "ALL"} & set(host["CapDrop"])
    assert host.get("MaskedPaths") is None
    assert host.get("ReadonlyPaths") is None
    assert 0 < host["Memory"] <= 8 << 30
    assert 0 < host["PidsLimit"] <= 2048
    for key in ("NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode"):
        assert host.get(key, "") != "host"
    for bind in host.get("Binds", []):
        assert not bind.startswith("/") or ":" not in bind or bind.startswith(("/home/kim", "/srv/data"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_json_is_read_or_malformed(text: bytes) -> None:
    try:
        value = strict.parse(text)
    except Malformed:
        return
    assert json.loads(text) == value


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(OPERATIONS.keys() - {"SystemOptions"})),
    st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=3),
    VALUES,
)
def test_anything_is_judged_or_refused(name: str, query: list[tuple[str, str]], body: Any) -> None:
    try:
        sent, built = judge(name, body, query, DEVELOPER)
    except (Refused, Malformed):
        return
    if name == "ContainerCreate":
        check_safe(built)
    else:
        assert {key for key, _ in sent} <= {"filters"} or name == "ImageBuild"
