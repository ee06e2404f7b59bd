"""People see their own lines of the record, and never anybody else's; what auditors may do at the daemon."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys

import pytest

from tests.support.cli import assert_done, assert_refused
from tests.support.proxy import Proxy, eventually
from tests.support.raw import acting_as
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]


def mine(proxy: Proxy, user: User, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-I",
        "-m",
        "sockproxy",
        "audit",
        "mine",
        *arguments,
        "--runtime-dir",
        str(proxy.runtime),
    ]
    return proxy.run(user, command)


def asked(proxy: Proxy, user: User, question: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        with acting_as(user):
            sock.connect(str(proxy.runtime / "own-lines.sock"))
        told = b""
        with contextlib.suppress(BrokenPipeError):  # it has answered, and does not want to know the question
            sock.sendall(question)
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(1 << 16):
                told += data
        return told


def test_own_lines_and_nobody_elses(proxy28: Proxy, users: Users) -> None:
    assert_done(proxy28.docker(users.alice, "run", "--rm", "--name", "alices", "busybox", "true"))
    assert_done(proxy28.docker(users.bob, "run", "--rm", "--name", "bobs", "busybox", "true"))
    rid = assert_refused(proxy28.docker(users.alice, "run", "--privileged", "busybox"), 125)
    eventually(lambda: "alices" in mine(proxy28, users.alice).stdout, "lines")
    told = mine(proxy28, users.alice)
    assert told.stderr == ""
    assert "alices" in told.stdout
    assert "bobs" not in told.stdout
    assert users.bob.name not in told.stdout
    story = mine(proxy28, users.alice, rid, "--story").stdout
    assert f"request    {rid}" in story
    assert "refused: HostConfig.Privileged" in story
    assert mine(proxy28, users.alice, "--verdict", "deny").stdout.count("\n") >= 1
    assert mine(proxy28, users.bob, rid).returncode == 1
    assert mine(proxy28, users.carol, "alices").returncode == 1
    read = [one for one in proxy28.records() if one["ev"] == "read" and "own lines" in str(one["what"])]
    assert f"own lines of uid {users.alice.uid} ({users.alice.name})" in {one["what"] for one in read}


def test_whatever_is_asked_it_is_for_ones_own(proxy28: Proxy, users: Users) -> None:
    assert_done(proxy28.docker(users.bob, "version"))
    others = json.dumps({"since": "", "until": "", "uid": users.bob.uid, "user": users.bob.name}).encode()
    for question in (b"{}", others, b'{"since": "0", "until": "~"}'):
        lines = [json.loads(line) for line in asked(proxy28, users.carol, question).splitlines()]
        assert {one["who"]["uid"] for one in lines if "who" in one} <= {users.carol.uid}
        assert {one["rid"] for one in lines if "who" not in one} <= {one["rid"] for one in lines if "who" in one}
    for question in (b"[]", b"\xff", b'{"since": 7}', b'{"since": "' + b"x" * 100 + b'"}', b"[" * 4000):
        assert asked(proxy28, users.carol, question) == b""


def test_root_and_containers_are_nobody_here(proxy28: Proxy, users: Users) -> None:
    """A container's root, and whoever has somebody's uid in there, would get that person's."""
    assert "people on the host" in str(json.loads(asked(proxy28, users.root, b"{}")))
    box = assert_done(proxy28.docker(users.bob, "run", "-d", "busybox", "sleep", "1000")).strip()
    pid = proxy28.engine.docker("inspect", "-f", "{{.State.Pid}}", box).stdout.strip()
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{proxy28.runtime}/own-lines.sock')\n"
    code += "print(s.recv(4096))"
    joined = [
        "nsenter",
        "-t",
        pid,
        "-p",
        "setpriv",
        f"--reuid={users.alice.uid}",
        "--clear-groups",
        sys.executable,
        "-I",
    ]
    done = subprocess.run([*joined, "-c", code], capture_output=True, text=True, timeout=30)
    assert "people on the host" in done.stdout, done.stderr


def test_an_auditor_sees_lists_of_all_and_no_secrets(proxy28: Proxy, users: Users) -> None:
    policy = proxy28.config.read_text()
    try:
        proxy28.reload(policy.replace("bindings:\n", f"bindings:\n  - {{user: {users.carol.name}, role: auditor}}\n"))
        box = assert_done(
            proxy28.docker(users.alice, "run", "-d", "--name", "seen", "busybox", "sleep", "1000")
        ).strip()
        assert "seen" in proxy28.docker(users.carol, "ps").stdout
        for command in (
            ["inspect", box],
            ["logs", box],
            ["rm", "-f", box],
            ["exec", box, "true"],
            ["events", "--until", "0s"],
        ):
            assert "auditor" in proxy28.docker(users.carol, *command).stderr
    finally:
        proxy28.reload(policy)
