"""Every reason to refuse is given in some test: each sentence that can reach a user is said, most without a daemon."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("helpers/sockproxy_helpers", "sockproxy/buildkit")
FOLDERS += tuple(f"sockproxy/{part}" for part in ("http", "api", "server", "dispatch"))
MAKING = {"Refused", "Taken", "Malformed", "NotFound", "NoImage"}  # the types whose fault is the client's
MAKING |= {"refusal", "_refuse", "refuse_unknown", "wrong"}  # what makes them, or raises them
MAKING |= {"Denied", "Crowded", "RequestError", "Unacceptable", "LoginFailed"}  # the front's
MAKING |= {"Unavailable", "HelperGone", "AuditGone"}  # whose fault is ours, or the daemon's
UNIT = ("auth_desk", "front_refuses", "http_body", "http_head", "payload", "route", "traffic_accounts", "channel")
# Given in a process that no coverage follows: by which test.
ELSEWHERE = {
    "session: Denied(decision.why, decision.at)": (
        "integration/test_http_wire.py::test_what_the_front_refuses_by_itself"
    ),
    "session: RequestError(UNSEEN[request.operation.name].format(**request.variables), 404)": (
        "integration/test_http_wire.py::test_what_the_front_refuses_by_itself"
    ),
    'worker: Unavailable(f"the bind can\'t be made: {error.strerror}", 500)': (
        "helpers/test_worker.py::test_each_end_is_told"
    ),
}


def reasons(path: Path) -> dict[str, int]:
    """List where a file makes an error of the client's fault, or the role's: what stands there, and its line."""
    text = path.read_text()
    found = {}
    for statement in ast.walk(ast.parse(text)):
        if isinstance(statement, (ast.Raise, ast.Return, ast.Assign, ast.Expr)):
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and _called(node.func) in MAKING:
                    source = ast.get_source_segment(text, node) or ""
                    found[f"{path.stem}: {' '.join(source.split())}"] = statement.lineno
    return found


def _called(function: ast.expr) -> str:
    """Name what is called; a session's own `_refuse` answers, and is none of those that make a reason."""
    if isinstance(function, ast.Attribute):
        return "" if function.attr == "_refuse" else function.attr
    return getattr(function, "id", "")


def test_every_reason_is_given(tmp_path: Path) -> None:
    tests = sorted((ROOT / "tests" / "helpers").glob("test_*.py"))
    slow = {"relay", "peer", "loop", "wire", "confine", "cgroupfs"}
    tests = [path for path in tests if path.stem.removeprefix("test_") not in slow]
    tests += sorted((ROOT / "tests" / "buildkit").glob("test_*.py"))
    tests += [ROOT / "tests" / "unit" / f"test_{name}.py" for name in UNIT]
    data, report = tmp_path / "coverage", tmp_path / "report.json"
    coverage = [sys.executable, "-m", "coverage"]
    include = ",".join(f"{ROOT}/{folder}/*" for folder in FOLDERS)
    command = [*coverage, "run", f"--data-file={data}", f"--include={include}", "-m", "pytest", "-q"]
    done = subprocess.run([*command, "-p", "no:cacheprovider", *tests], cwd=ROOT, capture_output=True, text=True)
    # One that fails does so in its own right, too; here it counts what was run.
    assert done.returncode in (0, 1), done.stdout[-2000:]
    subprocess.run([*coverage, "json", f"--data-file={data}", "-o", report], cwd=ROOT, check=True, capture_output=True)
    measured = {name: set(item["executed_lines"]) for name, item in json.loads(report.read_text())["files"].items()}
    left: set[str] = set()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            lines = measured.get(str(path.relative_to(ROOT)), set())
            left |= {reason for reason, line in reasons(path).items() if line not in lines}
    assert left == ELSEWHERE.keys()


@pytest.mark.parametrize("name", sorted(set(ELSEWHERE.values())))
def test_what_gives_others_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text())
    assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
