"""What known clients ask passes under the role that is ready for them, and what they need not ask does not."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

import pytest

from sockproxy import paths
from sockproxy.explain.judge import judge
from sockproxy.policy.compile import compile_text, dump
from sockproxy.policy.document import Mapping, parse
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.judge.policy import Policy
from tests.support.judging import KIM

CLIENTS = Path(__file__).parents[1] / "clients"
READY = Path(paths.role_files()[1])
CALLS = [
    (file.stem, line)
    for file in sorted(CLIENTS.glob("*.txt"))
    for line in file.read_text().splitlines()
    if line and not line.startswith("#")
]


def bind(role: str) -> Policy:
    return Policy(dump(compile_text(f"version: 1\nbindings: [{{user: kim, role: {role}}}]".encode(), "p.yaml")))


def roles() -> list[str]:
    top = parse(READY.read_bytes(), READY.name)
    assert isinstance(top, Mapping)
    found = top.entries["roles"][1]
    assert isinstance(found, Mapping)
    return list(found.entries)


def test_each_ready_role_has_its_client_and_refuses_something() -> None:
    assert sorted(roles()) == sorted({name for name, _ in CALLS})
    for role in roles():
        assert any(name == role and line.startswith("!") for name, line in CALLS)


@pytest.mark.parametrize(("role", "line"), CALLS, ids=[f"{name}:{line[:60]}" for name, line in CALLS])
def test_each_call(role: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    refused = line.startswith("!")
    method, target, *body = line.removeprefix("! ").split(" ", 2)
    target = urllib.parse.quote(target, safe="/?&=:,._-")
    found = judge(bind(role), KIM, method, target, "".join(body).encode())
    assert not isinstance(found.refusal, Malformed)
    assert bool(found.refusal) == refused, found.refusal
    assert getattr(found.refusal, "status", 403) == 403


def test_a_ready_role_is_there_only_for_who_has_it_or_changes_it() -> None:
    assert "traefik" not in compile_text(b"version: 1", "p")["roles"]
    found = compile_text(b"version: 1\nroles: {mine: {extends: traefik}, student: {extends: student}}", "p")["roles"]
    assert "traefik" not in found
    assert found["mine"]["operations"].keys() >= {"ContainerInspect"}
    assert "student" in found
