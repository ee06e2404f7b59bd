"""The systemd units are the process table in other words, and confine what they start."""

from __future__ import annotations

import configparser
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from sockproxy.supervise import units
from sockproxy.supervise.table import Row, Settings, accounts, folders, groups, table
from tests.support import needs

SETTINGS = Settings(None, "/run/real/docker.sock", "/run/docker.sock", "/run/s", "/state", "/log")
ROWS = table(SETTINGS)
UNITS = units.units(SETTINGS)
MOST = 1.0  # exposure, of at most 10
MOST_OF_MOUNTERS = 3.0  # who mounts in the host's namespace can't have one of its own


def parse(text: str) -> configparser.RawConfigParser:
    parsed = configparser.RawConfigParser(strict=False, delimiters="=", interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(text)
    return parsed


def values(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_service_starts_what_up_starts(row: Row) -> None:
    text = UNITS[units.service_name(row)]
    assert values(text, "ExecStart") == [" ".join(row.argv)]
    assert values(text, "User") == [row.user]
    assert values(text, "SupplementaryGroups") == [" ".join(row.groups)]
    assert dict(value.split("=", 1) for value in values(text, "Environment")) == row.environment
    assert bool(values(text, "ExecReload")) == row.reloads
    assert values(text, "OOMScoreAdjust") == [str(row.oom)]
    assert values(text, "Sockets")[0].split() == [units.socket_name(row, name) for name in row.sockets]
    for other in ROWS:
        assert (units.service_name(other) in values(text, "After")) == (other.order < row.order)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_process_is_watched(row: Row) -> None:
    assert row.watchdog == float(values(UNITS[units.service_name(row)], "WatchdogSec")[0])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_socket_is_as_up_makes_it(row: Row) -> None:
    for name, endpoint in row.sockets.items():
        own = parse(UNITS[units.socket_name(row, name)])["Socket"]
        word = {socket.SOCK_STREAM: "ListenStream", socket.SOCK_SEQPACKET: "ListenSequentialPacket"}[endpoint.kind]
        assert own[word] == endpoint.path
        assert own["FileDescriptorName"] == name
        assert (own["SocketUser"], own["SocketGroup"]) == ("root", endpoint.group)
        assert int(own["SocketMode"], 8) == endpoint.mode


@pytest.mark.parametrize("name", [units.service_name(row) for row in ROWS])
def test_no_option_breaks_who_the_callers_are(name: str) -> None:
    for word in ("PrivateUsers", "ProtectProc", "DynamicUser"):
        assert values(UNITS[name], word) == []


def test_only_the_sockets_outlive_a_restart() -> None:
    for name, text in UNITS.items():
        if name.endswith(".socket"):
            assert values(text, "StopPropagatedFrom") == [units.MAIN]
            assert values(text, "PartOf") == []
        elif name != units.MAIN:
            assert values(text, "PartOf") == [units.MAIN]


def test_accounts_and_folders_are_those_of_the_table() -> None:
    assert re.findall(r"^u (\S+)", units.sysusers(SETTINGS), re.MULTILINE) == accounts(ROWS)
    assert re.findall(r"^g (\S+)", units.sysusers(SETTINGS), re.MULTILINE) == [*groups(ROWS), units.USERS]
    lines = [line.split() for line in units.tmpfiles(SETTINGS).splitlines()]
    assert [(path, int(mode, 8), user, group) for _, path, mode, user, group, _ in lines] == list(folders(SETTINGS))


@pytest.mark.parametrize(
    ("word", "written"),
    [("plain", "plain"), ("", '""'), ("a b", '"a b"'), ('"', '"\\""'), ("50%", "50%%"), ("a;b", '"a;b"')],
)
def test_words_are_quoted(word: str, written: str) -> None:
    assert units._quoted(word) == written


def test_no_variable_is_expanded() -> None:
    assert units._command(["/bin/x", "$HOME"]) == "/bin/x $$HOME"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("systemd-analyze"):
        needs.missing("no systemd-analyze on this host (package systemd)")
    folder = tmp_path_factory.mktemp("units")
    for name, text in UNITS.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith(".service")])
def test_exposure_is_small(name: str, written: Path) -> None:
    most = MOST_OF_MOUNTERS if "SYS_ADMIN" in values(UNITS[name], "CapabilityBoundingSet")[0] else MOST
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={most * 10:.0f}"]
    done = subprocess.run([*command, written / name], capture_output=True, text=True)
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout


def test_systemd_understands_every_line(written: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", written / units.MAIN],
        capture_output=True,
        text=True,
        env={"SYSTEMD_UNIT_PATH": f"{written}:", "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stderr) == (0, "")
