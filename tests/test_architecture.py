"""The tree keeps the shape that the design gives it: small files, and a small trusted base in the root helpers."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HELPERS = ROOT / "helpers"
NAMES = {"LICENSE", "CHANGELOG.md", "README.md", "pyproject.toml", "quickstart", "check"}
NAMES |= {"sockproxy", "helpers", "config", "tests", "systemd"}
MADE = {"build", "dist"}  # by packaging

# What the helpers may import by name. None of it starts processes, opens connections by itself or evaluates text.
STANDARD = {
    "__future__",
    "array",
    "base64",
    "binascii",
    "collections",
    "errno",
    "fcntl",
    "grp",
    "hashlib",
    "heapq",
    "json",
    "os",
    "pwd",
    "re",
}
STANDARD |= {"select", "signal", "socket", "struct", "sys", "time", "zlib"}
# What can do more than the rest, and the files that need it: these system calls Python makes by ctypes only.
ONLY_IN = {
    "codecs": ("cast.py",),
    "ctypes": ("confine.py", "kernel.py", "seccomp.py"),
    "stat": ("stage.py", "worker.py"),
}
# What those load in turn, in Python 3.11 to 3.13, beyond a bare interpreter; names that begin with _ are not listed.
LOADED = STANDARD | set(ONLY_IN) | {"copyreg", "ctypes._endian", "encodings.ascii", "enum", "functools", "genericpath"}
LOADED |= {"itertools", "keyword", "math", "operator", "posixpath", "reprlib", "selectors", "stat", "types"}
LOADED |= {"os.path", "collections.abc", "json.decoder", "json.encoder", "json.scanner"}
LOADED |= {"re._casefix", "re._compiler", "re._constants", "re._parser"}
# Lines of Python that run as root, comments included. Measured in 2026-11 on 3.11: 16,250 of the library,
# 13,400 of ours; raise it only for code that must run as root.
LIBRARY_LINES = 17_000
OUR_LINES = 14_200

MEASURE = """
import importlib, sys
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
importlib.import_module(f"sockproxy_helpers.{sys.argv[2]}")
import json
import re
print(json.dumps({name: getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - before}))
"""


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def lines(path: str | Path) -> int:
    return len(Path(path).read_text().splitlines())


def test_top_level_names() -> None:
    found = {p.name for p in ROOT.iterdir() if not p.name.startswith(".") and p.suffix != ".egg-info"} - MADE
    assert found - {"__pycache__"} <= NAMES


@pytest.mark.parametrize("path", python_files("sockproxy"), ids=lambda p: str(p.relative_to(ROOT)))
def test_module_fits_in_the_head(path: Path) -> None:
    assert lines(path) <= 300


@pytest.mark.parametrize("path", python_files("helpers"), ids=lambda p: str(p.relative_to(ROOT)))
def test_helper_file_is_short_and_imports_little(path: Path) -> None:
    assert lines(path) <= 200
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    allowed = {name for name, files in ONLY_IN.items() if path.name in files}
    assert names - {"sockproxy_helpers"} <= STANDARD | allowed


@pytest.mark.parametrize(
    ("main", "most"), [("calls.process", OUR_LINES), ("folders.binds", 2_950), ("folders.attacher", 1_300)]
)
def test_what_a_helper_loads(main: str, most: int) -> None:
    command = [sys.executable, "-I", "-S", "-B", "-c", MEASURE, HELPERS, main]
    done = subprocess.run(command, capture_output=True, check=True)
    modules: dict[str, str | None] = json.loads(done.stdout)
    ours = {name for name in modules if name.partition(".")[0] == "sockproxy_helpers"}
    assert {name for name in modules.keys() - ours if not name.startswith("_")} <= LOADED
    assert count(modules, modules.keys() - ours) <= LIBRARY_LINES
    assert count(modules, ours) <= most


def test_the_front_does_not_load_the_policy_s_compiler() -> None:
    """It takes the compiled policy; the reader of YAML would be 1.5 MiB more."""
    command = [sys.executable, "-I", "-c", "import sys, sockproxy.app; print(*sys.modules)"]
    loaded = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    assert "sockproxy.app" in loaded
    assert "yaml" not in loaded


def test_only_a_main_makes_stacks_small() -> None:
    """They are the whole process's: a test run in which one was small died of the JSON that another test has nested."""
    paths = python_files("sockproxy") + python_files("helpers") + python_files("tests")
    trees = [ast.parse(text) for text in (path.read_text() for path in paths) if "threading.stack_size" in text]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found = {node.name for node in functions if "threading.stack_size(" in ast.unparse(node)}
    assert found == {"main", test_only_a_main_makes_stacks_small.__name__}


def count(modules: dict[str, str | None], names: set[str]) -> int:
    return sum(lines(path) for path in {modules[name] for name in names} if path and path.endswith(".py"))


def _anchors(document: Path) -> set[str]:
    """The anchors that the headings of a Markdown file have, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


DOCUMENTS = [
    path for path in ROOT.rglob("*.md") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_links_to_is_there(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if not link.startswith("https://"):
            target, _, anchor = link.partition("#")
            there = (document.parent / target).resolve() if target else document
            assert there.exists(), link
            assert not anchor or anchor in _anchors(there), link
