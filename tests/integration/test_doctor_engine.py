"""`sockproxy doctor` on a real daemon: what it finds is there, and it is quiet where nothing is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.proxy import Proxy
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.parametrize("engine", ["28"], indirect=True)]


def doctor(proxy: Proxy, user: User) -> dict[str, Any]:
    command = [sys.executable, "-I", "-m", "sockproxy", "doctor", "--format", "json", "--config", proxy.config]
    command += ["--docker-socket", proxy.engine.socket, "--listen", proxy.listen, "--runtime-dir", proxy.runtime]
    command += ["--state-dir", proxy.folder / "state", "--log-dir", proxy.log]
    done = subprocess.run(user.command(command), capture_output=True, text=True, cwd="/")
    told = {row["check"]: row for row in json.loads(done.stdout)}
    assert done.returncode == any(row["findings"] for row in told.values()), done.stderr
    return told


def test_a_served_daemon_is_sound(proxy: Proxy, users: Users) -> None:
    told = doctor(proxy, users.root)
    for name in ("daemon", "daemon-socket", "containers", "serving", "accounts", "tcp", "confinement", "limits"):
        assert told[name]["result"] == "ok", told[name]
    assert "28." in told["daemon"]["facts"][0]


def test_ways_around_are_found(proxy: Proxy, users: Users) -> None:
    socket = proxy.engine.socket
    made = proxy.engine.docker("run", "-d", "--name", "owns", "-v", f"{socket}:/s", "busybox", "sleep", "300")
    before = os.stat(socket)
    os.chown(socket, 0, users.alice.gid)
    os.chmod(socket, 0o660)
    try:
        told = doctor(proxy, users.root)
    finally:
        os.chown(socket, before.st_uid, before.st_gid)
        os.chmod(socket, before.st_mode & 0o777)
    assert "'owns'" in told["containers"]["findings"][0]["text"], made.stderr
    assert users.alice.name in told["daemon-socket"]["findings"][0]["text"]


def test_a_user_is_told_what_a_user_can_see(proxy: Proxy, users: Users) -> None:
    told = doctor(proxy, users.bob)
    assert told["serving"]["result"] == "ok"
    assert told["daemon"]["result"] == told["containers"]["result"] == told["tcp"]["result"] == "unknown"
