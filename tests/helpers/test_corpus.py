"""What real clients sent is accepted for the developer role, and means the same afterwards, plus the role's defaults.

The requests were recorded from the clients that the files are named after, in front of a real engine; paths below the
home directory and object IDs are replaced.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sockproxy_helpers.judge import model
from sockproxy_helpers.upstream.objects import OWNER
from tests.support.judging import OWNED, judge

CORPUS = Path(__file__).parents[1] / "corpus"
REQUESTS = [
    pytest.param(request, id=f"{path.stem}:{number}:{request['operation']}")
    for path in sorted(CORPUS.glob("*.json"))
    for number, request in enumerate(json.loads(path.read_text()))
]
ADDED = {"CgroupParent", "LogConfig", "ContainerIDFile", "CapDrop", "SecurityOpt", "Memory", "NanoCpus", "PidsLimit"}
UNREAD = ("cgroupparent", "rm", "forcerm", "only_ids", "trunc_cmd", "memory", "cpuquota")


def meaning(value: Any) -> Any:
    """Drop what Go reads as not given."""
    if isinstance(value, dict):
        found = {key: meaning(item) for key, item in value.items()}
        return {key: item for key, item in found.items() if item}
    return [meaning(item) for item in value] if isinstance(value, list) else value


def parameter(text: str) -> Any:
    """Bring a parameter into one spelling."""
    if not text.startswith(("{", "[")):
        return {"True": "1", "true": "1", "False": "", "false": "", "0": ""}.get(text, text)
    value = json.loads(text)
    maps = isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())
    return {key: list(item) for key, item in value.items()} if maps else value


def spelled(query: list[Any]) -> list[Any]:
    """Leave out what the daemon does not read, what the role adds, and zeros."""
    pairs = [(key, parameter(value)) for key, value in query if key not in UNREAD and value not in ("null", "0")]
    return sorted((key, str(value)) for key, value in pairs if value)


def owned(field: str, operation: str) -> bool:
    """Tell whether an operation's field gets the owner's mark."""
    tables = [table[operation] for table in model.TABLES.values() if operation in table]
    fields = {name: field for table in tables for name, field in (table.body | table.query).items()}
    return field in fields and fields[field].rule in ("owned_labels", "own_filters")


def unowned(query: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Take the owner's mark out of a query again; it must be there."""
    found = []
    for key, text in query:
        if key == "labels":
            labels = json.loads(text)
            assert labels.pop(OWNER) == "1000"
            text = json.dumps(labels) if labels else "null"
        elif key == "filters" and f"{OWNER}=1000" in text:
            filters = json.loads(text)
            assert filters["label"].pop() == f"{OWNER}=1000"
            text = json.dumps({name: items for name, items in filters.items() if items})
        elif (key, text) == ("changes", f"LABEL {OWNER}=1000"):
            continue
        found.append((key, text))
    return found


@pytest.mark.parametrize("request_", REQUESTS)
def test_accepted_and_unchanged(request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    query, body = judge(request_["operation"], request_["body"], [(key, value) for key, value in request_["query"]])
    expected, got = meaning(request_["body"] or {}), meaning(body or {})
    expected |= {"Labels": {**expected.get("Labels", {}), **OWNED}} if owned("Labels", request_["operation"]) else {}
    expected.pop("Container" if request_["operation"] == "ContainerExec" else "", None)
    if request_["operation"] == "ContainerCreate":
        for side in (expected, got):
            for field in ADDED:
                side["HostConfig"].pop(field, None)
            side["HostConfig"]["CapAdd"] = [name.removeprefix("CAP_") for name in side["HostConfig"].get("CapAdd", [])]
        expected.get("NetworkingConfig", {}).pop("dpn", None)
        host = body["HostConfig"] if isinstance(body, dict) else {}
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
        assert host["NanoCpus"] > 0
        assert host["SecurityOpt"][0] == "no-new-privileges"
        assert "MKNOD" in host["CapDrop"] or "ALL" in host["CapDrop"]
    assert got == expected
    assert f"{OWNER}=1000" in str(query) or not owned("filters", request_["operation"])
    assert spelled(unowned(query)) == spelled(request_["query"])
