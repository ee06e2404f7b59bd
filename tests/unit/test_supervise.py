"""The supervisor's parts that need no root: the table, the paths, what it prints."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path

import pytest

from sockproxy import supervise
from sockproxy.supervise import child, host
from sockproxy.supervise.host import UpError
from sockproxy.supervise.table import GRACE, SCOPES, Row, Settings, table

SETTINGS = Settings(None, "/d/docker.sock", "/l/docker.sock", "/run/s", "/state", "/log", "/plugins")
ROWS = table(SETTINGS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_row_keeps_the_rules_of_trust(row: Row) -> None:
    assert row.groups == {"auth": ("shadow",), "own-lines": ("sockproxy-audit",)}.get(row.name, ())
    assert (row.user == "root") == (row.name.removesuffix("-helper") in SCOPES)
    assert ("SOCKPROXY_DOCKER_SOCKET" in row.environment) == (row.user == "root")
    assert row.argv[1] == "-I"
    if row.user == "root":
        assert row.argv[:4] == (os.path.realpath(row.argv[0]), "-I", "-S", "-B")
    for name, endpoint in row.sockets.items():
        expected = {
            "docker": (0o666, "root"),
            "own": (0o666, "root"),
            "attacher": (0o660, "sockproxy-binds"),
            "readers": (0o660, "sockproxy-audit"),
            "status": (0o660, "sockproxy-status"),
        }
        expected |= dict.fromkeys(("plugin", "checks", "build"), (0o600, "root"))
        assert (endpoint.mode, endpoint.group) == expected.get(name, (0o660, "sockproxy"))
    assert bool(row.capabilities) == (row.name in ("binds", "attacher"))
    assert row.capabilities == () or row.user not in ("root", "sockproxy")


def test_the_table_is_in_order_and_no_socket_belongs_to_two() -> None:
    assert [row.order for row in ROWS] == sorted(row.order for row in ROWS)
    assert len({row.name for row in ROWS}) == len(ROWS)
    paths = [endpoint.path for row in ROWS for endpoint in row.sockets.values()]
    assert len(set(paths)) == len(paths)
    assert [row.name for row in ROWS if "docker" in row.sockets] == ["front"]


def test_the_front_may_end_its_streams_before_it_is_killed() -> None:
    from sockproxy.server import listen

    assert listen.GRACE < GRACE


def test_settings_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("config", "docker_socket", "listen", "runtime_dir", "state_dir", "log_dir", "plugin_dir")
    settings = Settings.of(argparse.Namespace(**{name: f"x/../{name}" for name in names}))
    assert settings == tuple(str(tmp_path / name) for name in names)
    assert settings.policy == str(tmp_path / "state_dir/policy.json")
    assert Settings.of(argparse.Namespace(**{**dict.fromkeys(names, "/x"), "config": None})).config is None


def test_only_root_runs_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert supervise.main(argparse.Namespace()) == 2
    assert "must be run by root" in capsys.readouterr().err


def test_a_stale_socket_is_removed_a_living_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    host._replace(path, socket.SOCK_STREAM)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen(0)
        with pytest.raises(UpError, match="in use"):
            host._replace(path, socket.SOCK_STREAM)
        with pytest.raises(UpError, match="in use"):  # now with a full backlog: nobody has accepted the first
            host._replace(path, socket.SOCK_STREAM)
        with pytest.raises(UpError, match="in use"):
            host._replace(path, socket.SOCK_SEQPACKET)  # another kind, but somebody's
    assert os.path.exists(path)
    host._replace(path, socket.SOCK_STREAM)
    assert not os.path.exists(path)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/nowhere", path)])
def test_what_is_no_socket_is_not_removed(tmp_path: Path, make: object) -> None:
    path = str(tmp_path / "s")
    make(path)  # type: ignore[operator]
    with pytest.raises(UpError, match="in the way"):
        host._replace(path, socket.SOCK_STREAM)
    assert os.path.lexists(path)


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    fd = host.lock(str(tmp_path))
    with pytest.raises(UpError, match="another sockproxy"):
        host.lock(str(tmp_path))
    os.close(fd)
    os.close(host.lock(str(tmp_path)))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"caf\xc3\xa9 ok", "café ok"),
        (b"\x1b[2J\r", "\\x1b[2J\\x0d"),
        (b"\xff", "\ufffd"),
        ("\u202e".encode(), "\\x202e"),
    ],
)
def test_lines_are_made_harmless(line: bytes, text: str) -> None:
    assert child._printable(line) == text
