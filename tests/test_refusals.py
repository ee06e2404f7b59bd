"""Every reason that the helpers have to refuse is given in some test without a daemon: each such `raise` is run."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HELPERS = ROOT / "helpers" / "sockproxy_helpers"
REASON = re.compile(r"(?:refusal|Refused|Malformed|wrong|refuse_unknown)\(")
# The files that judge requests, by themselves or by a few questions to the daemon. What else refuses has a real peer,
# daemon or kernel before it: see tests/root, tests/integration and tests/buildkit.
JUDGING = ("bounds", "counts", "filesystem", "images", "lifecycle", "logs", "model", "mounts", "names", "naming")
JUDGING += ("network", "objects", "parameters", "references", "routes", "rules", "strict", "tar", "tarheaders")
JUDGING += (
    "claims",
    "disk",
    "dockerfile",
    "loads",
    "pulls",
    "removals",
    "still",
    "tags",
    "variables",
    "volumes",
    "walk",
)
# What none of these tests runs, and why. The list only shrinks: what has come to be run must leave it.
UNRUN = {
    'naming: raise Refused("", "not all tags of that name are yours to save (allowed: by name)")': (
        "needs a repository that several people have tags of: tests/integration/test_loads.py"
    ),
}


def reasons(path: Path) -> dict[str, int]:
    """List where a file raises for the client's fault, or the role's: what stands there, and its line."""
    text = path.read_text()
    found = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Raise) and node.exc is not None:
            source = ast.get_source_segment(text, node) or ""
            if REASON.search(source):
                found[f"{path.stem}: {' '.join(source.split())}"] = node.lineno
    return found


def test_every_reason_is_given(tmp_path: Path) -> None:
    tests = sorted((ROOT / "tests" / "helpers").glob("test_*.py"))
    slow = {"exchange", "relay", "caller", "peer", "loop", "daemon", "record", "serve", "wire", "confine", "cgroupfs"}
    tests = [path for path in tests if path.stem.removeprefix("test_") not in slow]
    data, report = tmp_path / "coverage", tmp_path / "report.json"
    coverage = [sys.executable, "-m", "coverage"]
    command = [*coverage, "run", f"--data-file={data}", f"--include={HELPERS}/*", "-m", "pytest", "-q"]
    done = subprocess.run([*command, "-p", "no:cacheprovider", *tests], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    subprocess.run([*coverage, "json", f"--data-file={data}", "-o", report], cwd=ROOT, check=True, capture_output=True)
    measured = {
        Path(name).stem: item["executed_lines"] for name, item in json.loads(report.read_text())["files"].items()
    }
    left = set()
    for name in JUDGING:
        lines = set(measured[name])
        left |= {reason for reason, line in reasons(HELPERS / f"{name}.py").items() if line not in lines}
    assert left == set(UNRUN)
