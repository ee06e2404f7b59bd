"""The daemon's calls of our volume plugin, and whose policy they are judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import Refused
from sockproxy_helpers.folders.resolver import Resolver
from tests.helpers.asked import finish
from tests.helpers.test_serve import policy, pretend

NONE = {"Err": "sockproxy: no such bind: it is made with its container, by sockproxy alone"}


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    (tmp_path / "policy.json").write_bytes(policy("developer"))
    pretend(monkeypatch, 0, 0o644)
    names = {"POLICY": "policy.json", "BINDS": "binds", "ATTACHER": "attacher.sock"}
    return {f"SOCKPROXY_{key}": str(tmp_path / name) for key, name in names.items()}


@pytest.mark.parametrize(("uid", "mode"), [(1000, 0o644), (0, 0o664), (0, 0o646)])
def test_the_policy_is_roots_alone(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, uid: int, mode: int
) -> None:
    found = Resolver(Loop(), environment)
    pretend(monkeypatch, uid, mode)
    with pytest.raises(Refused, match="the compiled policy is not root's alone"):
        found.reload()


@pytest.mark.parametrize(
    ("method", "message", "expected"),
    [
        ("VolumeDriver.Create", {"Name": "sockproxy-1000-x"}, NONE),
        ("VolumeDriver.Get", {"Name": "../../etc"}, NONE),
        ("VolumeDriver.Mount", {"Name": "x", "ID": "0a"}, NONE),
        ("VolumeDriver.List", {}, {"Volumes": []}),
    ],
)
def test_only_what_is_on_record_is_there(
    environment: dict[str, str], method: str, message: dict[str, object], expected: object
) -> None:
    nobody: Any = None
    assert finish(Resolver(Loop(), environment)._answer(method, message, nobody)) == expected


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("VolumeDriver.Other", {}),
        ("VolumeDriver.Mount", {"ID": "../x"}),
        ("VolumeDriver.Create", {"Opts": {"device": "/"}}),
    ],
)
def test_other_calls(environment: dict[str, str], method: str, more: dict[str, object]) -> None:
    nobody: Any = None
    found = Resolver(Loop(), environment)
    found._ledger.read = lambda name: None  # type: ignore[assignment,method-assign,return-value]
    assert finish(found._answer(method, {"Name": "x", **more}, nobody)) == {"Err": f"sockproxy: no {method} here"}
