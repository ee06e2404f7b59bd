"""The commands of the command line, where there is nothing to ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from sockproxy import cli


@pytest.mark.parametrize("command", [["status"], ["accept", "kim"], ["audit", "mine"]])
def test_what_to_do_where_nothing_runs(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert cli.main([*command, "--runtime-dir", str(tmp_path)]) != 0
    said = capsys.readouterr().err
    assert ": No such file or directory. Start it (systemctl start sockproxy), or give the --runtime-dir" in said
