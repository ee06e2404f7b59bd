"""Every reason that the helpers have to refuse is given in some test without a daemon: each such sentence is said."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("helpers/sockproxy_helpers", "sockproxy/buildkit")
MAKING = {"Refused", "Crowded", "Taken", "Malformed", "NotFound", "NoImage"}  # the types whose fault is the client's
MAKING |= {"refusal", "_refuse", "refuse_unknown", "wrong"}  # what makes them, or raises them


def reasons(path: Path) -> dict[str, int]:
    """List where a file makes an error of the client's fault, or the role's: what stands there, and its line."""
    text = path.read_text()
    found = {}
    for statement in ast.walk(ast.parse(text)):
        if isinstance(statement, (ast.Raise, ast.Return, ast.Assign, ast.Expr)):
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in MAKING:
                    source = ast.get_source_segment(text, node) or ""
                    found[f"{path.stem}: {' '.join(source.split())}"] = statement.lineno
    return found


def test_every_reason_is_given(tmp_path: Path) -> None:
    tests = sorted((ROOT / "tests" / "helpers").glob("test_*.py"))
    slow = {"relay", "peer", "loop", "daemon", "record", "wire", "confine", "cgroupfs"}
    tests = [path for path in tests if path.stem.removeprefix("test_") not in slow]
    tests += [*sorted((ROOT / "tests" / "buildkit").glob("test_*.py")), ROOT / "tests" / "unit" / "test_auth_desk.py"]
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
    assert left == set()
