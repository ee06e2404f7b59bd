"""What the kernel tells of the process at the other end, and what of it may be believed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockproxy_helpers.system import caller, cgroups, peer
from tests.support import needs

ONE, TWO = "1" * 64, "ab" * 32

PATHS = {
    "docker, cgroupfs": (f"/docker/{ONE}", [ONE]),
    "docker, systemd": (f"/system.slice/docker-{ONE}.scope", [ONE]),
    "a parent of its own": (f"/sockproxy/1000/{ONE}", [ONE]),
    "a slice of its own": (f"/sockproxy.slice/sockproxy-1000.slice/docker-{ONE}.scope", [ONE]),
    "a folder in the container": (f"/docker/{ONE}/init.scope", [ONE]),
    "a container in a container": (f"/docker/{ONE}/docker/{TWO}", [ONE, TWO]),
    "kubepods, cgroupfs": (f"/kubepods/burstable/pod8a4e3c1e-aaaa-bbbb-cccc-0123456789ab/{ONE}", [ONE]),
    "kubepods, systemd": (f"/kubepods.slice/kubepods-pod8a.slice/cri-containerd-{ONE}.scope", [ONE]),
    "podman": (f"/machine.slice/libpod-{ONE}.scope/container", [ONE]),
    "podman in podman": (f"/libpod_parent/libpod-{ONE}/libpod-{TWO}", [ONE, TWO]),
    "a session": ("/user.slice/user-1000.slice/session-3.scope", []),
    "a service": ("/system.slice/docker.service", []),
    "the root": ("/", []),
    "above ours": (f"/../{ONE}", [ONE]),
    "too short": ("/docker/" + "1" * 63, []),
    "too long": ("/docker/" + "1" * 65, []),
    "capitals": ("/docker/" + "A" * 64, []),
}


@pytest.mark.parametrize("name", PATHS)
def test_ids_of_containers_in_a_path(name: str) -> None:
    path, found = PATHS[name]
    assert cgroups.containers(cgroups.parse([f"0::{path}"])) == found
    assert cgroups.containers(cgroups.parse([f"9:name=systemd:{path}", "8:pids:/", "0::/"])) == found


def test_a_path_may_hold_colons() -> None:
    assert cgroups.parse(["4:cpu,cpuacct:/a:b", "0::/c"]) == {"cpu,cpuacct": "/a:b", "": "/c"}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(b"")  # the kernel chooses an abstract name
        sock.listen()
        sock.settimeout(10)
        yield sock


CLIENT = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect("\\0" + sys.argv[1])
if sys.argv[2] == "leave":
    os._exit(0)
sys.stdin.read()
"""


@contextlib.contextmanager
def client(listener: socket.socket, *wrap: str, then: str = "stay", code: str = CLIENT) -> Iterator[socket.socket]:
    """Have a process connect, and give the accepted end; it stays until the end of the block."""
    name = listener.getsockname()[1:].decode()
    process = subprocess.Popen([*wrap, "/usr/bin/python3", "-c", code, name, then], stdin=subprocess.PIPE)
    with process, listener.accept()[0] as accepted:
        if then == "leave":
            process.wait()
        yield accepted


def test_a_process_of_the_host(listener: socket.socket) -> None:
    with client(listener) as accepted:
        found = peer.of(accepted)
        login = int(Path("/proc/self/loginuid").read_text())
        assert (found.uid, found.gid, found.trouble, found.containers) == (os.geteuid(), os.getegid(), "", [])
        assert (found.comm, found.loginuid) == ("python3", None if login == peer.UNSET else login)
        assert found.cgroups == {}  # no container's: nobody will ask
        who = caller.from_socket(accepted)
        assert (who.via, who.trouble, who.user) == ("peer", "", caller.account(os.geteuid())[0])
        assert who.record()["comm"] == "python3"


@pytest.mark.root
def test_who_logged_in_stands_behind_whatever_the_process_became(listener: socket.socket) -> None:
    """As behind `sudo docker`."""
    needs.root()
    script = 'echo "$1" >/proc/self/loginuid && shift && exec "$@"'  # as pam_loginuid(8) does at a login
    with client(listener, "sh", "-c", script, "sh", "1") as accepted:
        record = caller.from_socket(accepted).record()
        assert (record["user"], record["peer_uid"]) == ("root", 0)
        assert (record["loginuid"], record["login"]) == (1, "daemon")


def test_a_process_that_is_gone_is_nobody(listener: socket.socket) -> None:
    """What passed its connection on and left could have been anywhere."""
    with client(listener, then="leave") as accepted:
        assert (peer.of(accepted).trouble, peer.of(accepted).comm) == (peer.GONE, "")
        who = caller.from_socket(accepted)
        assert (who.uid, who.user, who.groups, who.home) == (os.geteuid(), "", [], "")


def test_a_connection_has_one_peer_also_after_it_left(listener: socket.socket) -> None:
    with client(listener) as accepted:
        found, copy = peer.of(accepted), accepted.dup()
    with copy:
        assert peer.of(copy) is found
        assert found.trouble == ""


def test_without_the_kernels_pidfd_the_number_is_taken(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "SO_PEERPIDFD", 9999)
    with client(listener) as accepted:
        assert peer.of(accepted).trouble == ""
    with client(listener, then="leave") as accepted:
        assert peer.of(accepted).trouble == peer.GONE


NAMESPACES = {
    "pid": ("unshare", "--pid", "--fork"),
    "user": ("unshare", "--user", "--map-root-user"),
    "another user's": ("setpriv", "--reuid=65533", "--clear-groups", "unshare", "--user", "--map-root-user"),
}


@pytest.mark.root
@pytest.mark.parametrize("name", NAMESPACES)
def test_a_namespace_of_ones_own_that_is_no_containers(listener: socket.socket, name: str) -> None:
    needs.root()
    with client(listener, *NAMESPACES[name]) as accepted:
        found = peer.of(accepted)
        assert (found.trouble, found.comm) == (peer.FOREIGN, "python3")
        assert caller.from_socket(accepted).user == ""


@pytest.mark.root
@pytest.mark.parametrize("end", ["\v", "\f", "\x1c", "\x85", "\u2028", "\n"])
def test_what_a_process_calls_itself_is_no_line_of_the_kernels(listener: socket.socket, end: str) -> None:
    """What ends a line for Python (str.splitlines) does not for the kernel, which lets a name have all but newlines."""
    needs.root()
    name = f"x{end}NSpid:\t1"
    code = f"import ctypes; ctypes.CDLL(None).prctl(15, {name!r}.encode(), 0, 0, 0)\n{CLIENT}"  # PR_SET_NAME
    with client(listener, *NAMESPACES["pid"], code=code) as accepted:
        assert peer.of(accepted).trouble == peer.FOREIGN


@pytest.mark.root
def test_processes_that_proc_does_not_show(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.root()
    monkeypatch.setattr(peer, "_PROC", "/proc/self/fdinfo")
    with client(listener) as accepted:
        assert peer.of(accepted).trouble == peer.HIDDEN


def test_no_control_character_of_a_process_gets_into_a_record(listener: socket.socket) -> None:
    code = f"open('/proc/self/comm', 'w').write('a\\x1b[2J \\n'); exec({CLIENT!r})"
    name = listener.getsockname()[1:].decode()
    process = subprocess.Popen([sys.executable, "-c", code, name, "stay"], stdin=subprocess.PIPE)
    with process, listener.accept()[0] as accepted:
        assert set(peer.of(accepted).comm) <= set("a?[2Jn\\")


def test_what_is_remembered_is_bounded(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "REMEMBERED", len(peer._known) + 2)
    with contextlib.ExitStack() as stack:
        accepted = [stack.enter_context(client(listener)) for _ in range(4)]
        for sock in accepted:
            peer.of(sock)
        assert len(peer._known) <= peer.REMEMBERED
