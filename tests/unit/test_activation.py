"""Sockets by name, readiness to whoever wants to know."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sockproxy import activation
from sockproxy_helpers.channel import notify

TAKE = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[1]))
from sockproxy import activation
found = activation.sockets()
print({name: sock.getsockname() for name, sock in found.items()}, [sock.get_inheritable() for sock in found.values()])
"""


def take(folder: Path, names: str, count: str = "2", pid: int = 0) -> subprocess.CompletedProcess[str]:
    """Pass two sockets, bound to a and b, to a process that takes them."""
    with socket.socket(socket.AF_UNIX) as a, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as b:
        for name, sock in (("a", a), ("b", b)):
            (folder / name).unlink(missing_ok=True)
            sock.bind(str(folder / name))
        # The shell gives them the numbers 3 and 4.
        shell = f'exec "$@" 3<&{a.fileno()} 4<&{b.fileno()}'
        return subprocess.run(
            ["bash", "-c", shell, "bash", sys.executable, "-c", TAKE, str(pid)],
            pass_fds=(a.fileno(), b.fileno()),
            env={"LISTEN_FDS": count, "LISTEN_FDNAMES": names, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
        )


@pytest.mark.parametrize("names", ["docker:admin", "admin:docker"])
def test_sockets_go_by_their_names(tmp_path: Path, names: str) -> None:
    first, second = names.split(":")
    done = take(tmp_path, names)
    assert done.stdout == f"{ {first: str(tmp_path / 'a'), second: str(tmp_path / 'b')} } [False, False]\n"


@pytest.mark.parametrize(
    ("names", "count", "pid"),
    [
        ("a", "2", 0),
        ("a:a", "2", 0),
        ("", "2", 0),
        ("a:b", "+2", 0),
        ("a:b", "x", 0),
        ("a:b", "9999", 0),
        ("a:b", "2", 1),
    ],
)
def test_what_does_not_fit_is_not_taken(tmp_path: Path, names: str, count: str, pid: int) -> None:
    done = take(tmp_path, names, count, pid)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "LISTEN_" in done.stderr


def test_nothing_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)
    assert activation.sockets() == {}


@pytest.mark.parametrize("abstract", [False, True])
def test_readiness_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    address = f"\0sockproxy-test-{os.getpid()}" if abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
        notify.notify("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_that_it_lives_is_told_no_more_often_than_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("sockproxy_helpers.channel.notify.time.monotonic", lambda: clock[0])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "n"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        watchdog = notify.Watchdog()
        monkeypatch.setattr("sockproxy_helpers.channel.notify.socket.socket", None)  # it makes no more sockets
        assert watchdog.pause == 10
        for seconds, said in ((0, True), (0.1, False), (10, True)):
            clock[0] += seconds
            watchdog.alive()
            if said:
                assert sock.recv(100) == b"WATCHDOG=1"
            with pytest.raises(BlockingIOError):
                sock.recv(100)
        assert watchdog._socket
        watchdog._socket.close()
    monkeypatch.setenv("WATCHDOG_USEC", "0")
    assert notify.Watchdog().pause == 0


def test_nobody_wants_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.notify("READY=1")
    notify.Watchdog().alive()
