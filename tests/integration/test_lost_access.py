"""Who is taken out of a group loses access within seconds, streams under way included where the role says so."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from typing import Any

import pytest

from sockproxy_helpers.system import caller
from tests.support import containers
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.raw import Connection, call
from tests.support.users import User, Users

SCRIPT = "while echo x; do sleep 0.2; done"
BOUND = 20.0  # seconds: groups are looked up every 5, streams looked at every 5; the rest is the machine's


@pytest.mark.daemon
@pytest.mark.root
@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_taken_out_of_the_group(engine: Engine, users: Users, start_proxy: Any) -> None:
    keeper = f"  - {{user: {users.bob.name}, role: keeper}}\n"
    roles = "roles:\n  keeper: {extends: developer, revoke_streams: false}\n"
    policy = default_policy(users).replace("bindings:\n", "bindings:\n" + keeper) + roles
    proxy = start_proxy(engine, policy)
    streams = {
        user.name: containers.follow(proxy, user, containers.run(proxy, user, SCRIPT))
        for user in (users.alice, users.bob)
    }
    attached = containers.attach(
        proxy, users.alice, containers.run(proxy, users.alice, "cat", **containers.interactive())
    )
    try:
        subprocess.run(["gpasswd", "-d", users.alice.name, users.developers], check=True, capture_output=True)
        began = time.monotonic()
        eventually(lambda: call(proxy.listen, "GET", "/v1.41/info", None, users.alice).status == 403, "refused", BOUND)
        streams[users.alice.name].rest()  # comes to an end
        attached.rest()
        assert time.monotonic() - began < BOUND
        proxy.reload(default_policy(users).replace(users.developers, "no-such-group"))  # now bob has none either
        assert call(proxy.listen, "GET", "/v1.41/info", None, users.bob).status == 403
        for _ in range(10):
            assert streams[users.bob.name].chunk()  # his role lets it go on
    finally:
        subprocess.run(["gpasswd", "-a", users.alice.name, users.developers], check=True, capture_output=True)
        for stream in (*streams.values(), attached):
            stream.close()


@pytest.mark.daemon
@pytest.mark.root
@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_what_a_revoked_token_has_begun_ends(proxy: Proxy, users: Users) -> None:
    subprocess.run(["chpasswd"], input=f"{users.alice.name}:correct horse 9", text=True, check=True)
    basic = "Basic " + base64.b64encode(f"{users.alice.name}:correct horse 9".encode()).decode()
    given = call(proxy.listen, "POST", "/_sockproxy/tokens", None, users.mallory, Authorization=basic)
    bearer = f"Bearer {given.json['token']}"
    container = containers.run(proxy, users.alice, SCRIPT)
    own, target = containers.follow(proxy, users.alice, container), f"/v1.41/containers/{container}"
    with own, Connection(proxy.listen, users.mallory) as stream, Connection(proxy.listen, users.mallory) as idle:
        stream.request("GET", f"{target}/logs?follow=1&stdout=1", Authorization=bearer)
        assert stream.head().status == 200
        assert idle.call("GET", f"{target}/json", Authorization=bearer).status == 200
        assert call(proxy.listen, "DELETE", "/_sockproxy/tokens", None, users.mallory, Authorization=bearer).json
        began = time.monotonic()
        stream.rest()
        # Nor is it good on connections for which it was asked about before.
        eventually(lambda: idle.call("GET", f"{target}/json", Authorization=bearer).status == 403, "refused", BOUND)
        assert time.monotonic() - began < BOUND
        for _ in range(10):
            assert own.chunk()  # whose word was the kernel's


@pytest.mark.root
def test_groups_are_those_of_id(users: Users) -> None:
    """The host's NSS is asked as `id` does."""
    for user in (users.alice, users.carol, users.root):
        said = subprocess.run(["id", "-Gn", user.name], capture_output=True, text=True, check=True).stdout.split()
        assert sorted(caller.account(user.uid)[1]) == sorted(said)


@pytest.mark.daemon
@pytest.mark.root
@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_a_uid_that_another_account_has_now(proxy: Proxy, users: Users) -> None:
    """Who gets a uid that was somebody's does not get that person's things, until an administrator says so."""
    old, new = (f"{name}{users.alice.name.removeprefix('alice')}" for name in ("dave", "eve"))
    accept = [sys.executable, "-I", "-m", "sockproxy", "accept", "--runtime-dir", str(proxy.runtime)]
    subprocess.run(["useradd", "-M", "-G", users.developers, old], check=True)
    try:
        dave = User(old)
        container = call(proxy.listen, "POST", "/containers/create", {"Image": "busybox"}, dave).json["Id"]
        subprocess.run(["usermod", "-l", new, old], check=True)
        target = f"/containers/{container}/json"
        eventually(lambda: call(proxy.listen, "GET", target, None, dave).status == 403, "refused", BOUND)
        why = call(proxy.listen, "GET", target, None, dave).message
        assert f"its uid, {dave.uid}, was {old}'s" in why
        assert f"sockproxy accept {new}" in why
        assert subprocess.run([*accept, old], capture_output=True).returncode == 1
        assert f"which was {old}'s" in subprocess.run([*accept, new], capture_output=True, text=True, check=True).stdout
        proxy.reload()  # what was answered before is forgotten
        assert call(proxy.listen, "GET", target, None, dave).status == 200
        assert call(proxy.listen, "DELETE", f"/containers/{container}", None, dave).status == 204
    finally:
        subprocess.run(["userdel", "-f", new], capture_output=True)
        subprocess.run(["userdel", "-f", old], capture_output=True)
