"""`sockproxy explain` of what real clients sent: allowed for a developer, and in words that stay the same.

EXPLAIN_GOLDEN=write makes the texts anew; policy lines and digests are left out of them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.explaining import Explain, corpus
from tests.support.judging import OPERATIONS, judge

GOLDEN = Path(__file__).parent / "explain"
REQUESTS = corpus()
# The first `docker run` of each docker CLI
RUNS = {name.partition(":")[0]: request for name, request in reversed(REQUESTS) if name.endswith(":ContainerCreate")}


@pytest.fixture
def explain(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Explain:
    return Explain(tmp_path, capsys, monkeypatch)


def target(request: dict[str, Any]) -> str:
    operation = OPERATIONS[request["operation"]]
    names = {segment[1:-1]: "x1" for segment in operation.segments if segment.startswith("{")}
    return operation.target("v1.41", names, [(key, value) for key, value in request["query"]])


@pytest.mark.parametrize("name", [name for name in RUNS if name.startswith("docker-")])
def test_docker_run(explain: Explain, name: str) -> None:
    code, out, _ = explain("POST", target(RUNS[name]), RUNS[name]["body"])
    assert code == 0
    text = re.sub(r"roles\.yaml:\d+", "roles.yaml:N", re.sub("[0-9a-f]{64}", "DIGEST", out))
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("EXPLAIN_GOLDEN") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("request_", [pytest.param(request, id=name) for name, request in REQUESTS])
def test_what_the_helpers_would_send(explain: Explain, request_: dict[str, Any]) -> None:
    operation = OPERATIONS[request_["operation"]]
    found = explain.json(operation.method, target(request_), request_["body"])
    assert found["allowed"]
    assert found["operation"]["name"] == operation.name
    rules = {rule["name"] for row in found["fields"] for rule in row["policy"]}
    assert operation.name != "ContainerCreate" or {"capabilities", "no_new_privileges", "limits.memory"} <= rules


def test_judging_is_the_helpers(explain: Explain) -> None:
    """The same request in the tests' own developer role: where the two roles agree, the bodies do."""
    body = {"Image": "a", "HostConfig": {"Binds": ["/home/kim/x:/y"], "PidsLimit": 7}}
    sent = explain.json("POST", "/containers/create", body)["request"]["body"]
    _, judged = judge("ContainerCreate", body)
    assert isinstance(judged, dict)
    assert sent == judged
