"""Explain requests in tests: of kim, a person with a role, whose account need not exist."""

from __future__ import annotations

import io
import json
import pwd
import sys
from pathlib import Path
from typing import Any

import pytest

from sockproxy import cli
from sockproxy_helpers.system import caller
from tests.support.judging import KIM

CORPUS = Path(__file__).parents[1] / "corpus"
GROUPS = ("kim", "devs")
POLICY = "version: 1\nbindings:\n  - {group: devs, role: ROLE}\n"


class Explain:
    """Run the command for kim, whose group `devs` has a role."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._capsys, self._monkeypatch = folder, capsys, monkeypatch

        def named(name: str) -> pwd.struct_passwd:
            if name != KIM.user:
                raise KeyError(name)
            return pwd.struct_passwd((name, "x", KIM.uid, KIM.gid, "", KIM.home, "/bin/sh"))

        monkeypatch.setattr(pwd, "getpwnam", named)
        monkeypatch.setattr(caller, "account", lambda _: (KIM.user, GROUPS, KIM.home))
        monkeypatch.setattr("os.cpu_count", lambda: 64)

    def __call__(
        self, method: str, target: str, body: object = None, *options: str, role: str = "developer", policy: str = ""
    ) -> tuple[int, str, str]:
        """Return the exit code, and what was printed.

        Args:
            body: bytes go to standard input as they are, all else as JSON to a file; None for no body.
            policy: the file's text; else one that binds kim's group to `role`.
        """
        (self._folder / "p.yaml").write_text(policy or POLICY.replace("ROLE", role))
        arguments = ["explain", "--user", KIM.user, "--config", "p.yaml", *options, method, target]
        if isinstance(body, bytes):
            self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
            arguments += ["--body", "-"]
        elif body is not None:
            (self._folder / "body.json").write_text(json.dumps(body))
            arguments += ["--body", "body.json"]
        self._monkeypatch.chdir(self._folder)
        code = cli.main(arguments)
        out, err = self._capsys.readouterr()
        return code, out, err

    def json(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        """Return the finding as an object."""
        method, target, *rest = arguments
        body = rest[0] if rest else None
        code, out, err = self(method, target, body, "--format", "json", **named)
        found: dict[str, Any] = json.loads(out)
        assert err == ""
        assert code == (0 if found["allowed"] else 3)
        return found


def corpus() -> list[tuple[str, dict[str, Any]]]:
    """List what real clients sent, each with a name."""
    return [
        (f"{path.stem}:{number}:{request['operation']}", request)
        for path in sorted(CORPUS.glob("*.json"))
        for number, request in enumerate(json.loads(path.read_text()))
    ]
