"""`sockproxy explain` of any request says what the helpers do with it: the same query and body, or a refusal."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings

from sockproxy.errors import RequestError
from sockproxy.explain.judge import judge as explain
from sockproxy.http.body import parse_query
from sockproxy.policy.compile import compile_text, dump
from sockproxy_helpers.api import strict
from sockproxy_helpers.api.operations import load
from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.judge.policy import Policy
from tests.property.test_model_mutated import mutated
from tests.support.judging import KIM, judge

COMPILED = compile_text(b"version: 1\nbindings: [{user: kim, role: developer}]", "p")
OPERATIONS = {row.name: row for row in reversed(load())}  # of several paths the first is sent
POLICY = Policy(dump(COMPILED))
RULES: dict[str, object] = {name: value for name, (value, _) in COMPILED["roles"]["developer"]["rules"].items()}


def sent(name: str, target: str, content: bytes) -> tuple[str, object] | None:
    """Say what the helpers send; None for nothing."""
    operation = OPERATIONS[name]
    query = target.partition("?")[2]
    try:
        body = None if operation.request in ("raw", "tar") else strict.parse(content)
        pairs, built = judge(name, body, parse_query(query.encode()), RULES)
    except (Malformed, Refused, RequestError):
        return None
    return operation.target("", variables(name), pairs), built


def variables(name: str) -> dict[str, str]:
    return {segment[1:-1]: "x1" for segment in OPERATIONS[name].segments if segment.startswith("{")}


@settings(max_examples=300, deadline=None)
@given(mutated())
def test_same_request(request: tuple[str, list[tuple[str, str]], Any]) -> None:
    name, query, body = request
    operation = OPERATIONS[name]
    target, content = operation.target("", variables(name), query), json.dumps(body).encode()
    found = explain(POLICY, KIM, operation.method, target, content)
    expected = sent(name, target, content)
    assert (found.refusal is None) == (expected is not None)
    if expected:
        assert found.request
        assert (found.request.target, found.request.body) == expected
        assert all(row.effect != "refused" for row in found.rows)
        check_rows(found.rows)


def check_rows(rows: list[Any]) -> None:
    """Each field that is sent as it was given, and only such a one, is said to be kept."""
    for row in rows:
        if row.effect == "kept":
            assert row.sent == row.given or row.field.children
        elif row.effect in ("added", "changed"):
            assert row.sent is not None
            assert row.sent != row.given
