"""Passwords, tokens and accounts: who is known by what, before a daemon that takes notes. Real users, real PAM."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from sockproxy.policy.least import LEAST_TRAFFIC
from tests.support.engines import Engine
from tests.support.fake_daemon import FakeDaemon
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Answer, BrokenOff, Connection, call
from tests.support.users import User, Users

pytestmark = pytest.mark.root
PASSWORD = "correct horse 9"
TOKENS = "/_sockproxy/tokens"
LIST = "/v1.41/containers/json"


def basic(user: User | str, password: str = PASSWORD) -> str:
    name = user if isinstance(user, str) else user.name
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def shared(users: Users, folder: Path) -> Iterator[User]:
    """A uid that several people use; it has no role of its own."""
    name = f"spsh{os.getpid() % 100000}"
    subprocess.run(["useradd", "-d", folder / "home" / name, "-m", "-s", "/bin/sh", name], check=True)
    for user in (users.alice, users.bob, users.carol):
        subprocess.run(["chpasswd"], input=f"{user.name}:{PASSWORD}", text=True, check=True)
    yield User(name)
    subprocess.run(["userdel", "-rf", name], check=True, capture_output=True)
    for user in (users.alice, users.bob, users.carol):
        subprocess.run(["faillock", "--dir", "/var/lib/sockproxy/faillock", "--user", user.name, "--reset"])


@pytest.fixture(scope="module")
def _door(fake_daemon: FakeDaemon, users: Users, shared: User, folder: Path) -> Iterator[Proxy]:
    place = folder / "door"
    place.mkdir()
    policy = f"""version: 1
auth: {{cache: 0, token_hours: 1}}
bindings:
  - {{user: root, role: admin}}
  - {{group: {users.developers}, role: developer}}
  - {{user: {users.carol.name}, role: viewer}}
"""
    running = Proxy(cast(Engine, fake_daemon), place, policy)
    yield running
    running.stop()


@pytest.fixture
def door(_door: Proxy, fake_daemon: FakeDaemon) -> Iterator[Proxy]:
    """A sockproxy that asks about accounts each time."""
    fake_daemon.forget()
    yield _door
    assert "Traceback" not in _door.errors()


def ask(door: Proxy, user: User, authorization: str = "", target: str = LIST) -> Answer:
    return call(door.listen, "GET", target, None, user, **({"Authorization": authorization} if authorization else {}))


def token(door: Proxy, by: User, authorization: str) -> str:
    answer = call(door.listen, "POST", TOKENS, None, by, Authorization=authorization)
    assert answer.status == 200, answer.body
    return "Bearer " + str(answer.json["token"])


def last(door: Proxy, event: str, **who: object) -> dict:  # type: ignore[type-arg]
    """Wait for a record about this caller (what only reads is written a little later), and give the last."""

    def found() -> list[dict]:  # type: ignore[type-arg]
        return [one for one in door.records() if one["ev"] == event and who.items() <= one["who"].items()]  # type: ignore[attr-defined]

    eventually(found, f"record of {event} by {who}", 10)
    return found()[-1]


def test_who_presents_a_password_is_that_user(door: Proxy, users: Users, shared: User, fake_daemon: FakeDaemon) -> None:
    assert ask(door, shared).status == 403
    answer = ask(door, shared, basic(users.alice))
    assert answer.status == 200
    who = last(door, "intent", via="password", user=users.alice.name)["who"]
    assert (who["user"], who["uid"], who["via"]) == (users.alice.name, users.alice.uid, "password")
    assert (who["peer_uid"], who["peer_user"]) == (shared.uid, shared.name)
    # Also who has a role of his own: what is presented counts.
    assert ask(door, users.bob, basic(users.carol)).status == 200
    who = last(door, "intent", via="password", user=users.carol.name)["who"]
    assert (who["user"], who["peer_user"]) == (users.carol.name, users.bob.name)
    assert b"uthorization" not in fake_daemon.received


def test_one_connection_can_change_who_it_is(door: Proxy, users: Users, shared: User) -> None:
    with Connection(door.listen, shared) as connection:
        assert connection.call("GET", LIST, Authorization=basic(users.alice)).status == 200
        assert connection.call("GET", LIST, Authorization=basic(users.carol)).status == 200
        last(door, "intent", user=users.carol.name, peer_user=shared.name)
        assert connection.call("GET", LIST).status == 403


def test_what_is_said_once_holds_for_the_connection_alone(door: Proxy, users: Users, shared: User) -> None:
    with Connection(door.listen, shared) as connection:
        assert connection.call("PUT", TOKENS).status == 401
        assert connection.call("PUT", TOKENS, Authorization=basic(users.alice)).status == 200
        assert connection.call("GET", LIST).status == 200
        last(door, "intent", user=users.alice.name, peer_user=shared.name, via="password")
        assert connection.call("GET", LIST, Authorization=basic(users.carol)).status == 200  # as long as that is said
        last(door, "intent", user=users.carol.name, peer_user=shared.name)
        assert connection.call("PUT", TOKENS, Authorization="Bearer x").status == 401
        assert connection.call("PUT", TOKENS, b"{}", Authorization=basic(users.alice)).status == 404
    assert ask(door, shared).status == 403


BAD = {
    "wrong": basic("{alice}", "wrong"),
    "empty": basic("{alice}", ""),
    "unknown user": basic("no-such-user"),
    "root": basic("root"),
    "no scheme": "x",
    "another scheme": "Digest x",
    "no base64": "Basic !!!",
    "no colon": "Basic YWxpY2U=",
    "NUL": basic("{alice}", PASSWORD + "\0"),
    "a path": basic("../alice"),
    "too long": basic("{alice}", "x" * 600),
    "no token": "Bearer spx_" + "a" * 43,
    "malformed token": "Bearer x",
}


def test_what_is_not_good_is_refused_alike(door: Proxy, users: Users, shared: User, fake_daemon: FakeDaemon) -> None:
    """The answers and their times do not tell which accounts there are."""
    seen: dict[str, tuple[int, str, float]] = {}

    def attempt(name: str, connection: Connection) -> None:
        word = BAD[name]
        if name in ("wrong", "empty", "NUL", "too long"):
            word = basic(users.alice, base64.b64decode(word[6:]).decode().partition(":")[2])
        began = time.monotonic()
        answer = connection.call("GET", LIST, Authorization=word)
        seen[name] = answer.status, answer.json["message"].partition(" (request")[0], time.monotonic() - began

    connections = [Connection(door.listen, shared) for _ in BAD]  # here: who connects is the whole process's affair
    threads = [threading.Thread(target=attempt, args=each) for each in zip(BAD, connections, strict=True)]
    for thread in threads:
        thread.start()
    for thread, connection in zip(threads, connections, strict=True):
        thread.join(30)
        connection.close()
    assert {status for status, _, _ in seen.values()} == {401}, seen
    assert len({message for _, message, _ in seen.values()}) == 1
    assert all(2.0 <= spent < 10 for _, _, spent in seen.values()), seen
    assert not [line for line in fake_daemon.requests if "/v1.41/" in line]  # its other requests are the helpers' own
    reasons = {
        str(record["decision"]["reason"])
        for record in door.records()
        if record["ev"] == "deny" and "reason" in record["decision"]
    }
    assert {"PAM 7", "PAM 6"} & reasons  # pam_unix says 7; a service of before, which had pam_faillock, 6


def test_unknown_user_and_wrong_password_take_as_long(door: Proxy, users: Users, shared: User) -> None:
    times: dict[str, list[float]] = {"known": [], "unknown": []}
    for _ in range(2):
        for kind, word in (("known", basic(users.bob, "wrong")), ("unknown", basic("nobody-here", "wrong"))):
            began = time.monotonic()
            assert ask(door, shared, word).status == 401
            times[kind].append(time.monotonic() - began)
    assert min(times["known"] + times["unknown"]) >= 2.0  # to the same moment: tests/unit/test_auth_desk.py
    assert abs(min(times["known"]) - min(times["unknown"])) < 1.0, times
    subprocess.run(
        ["faillock", "--dir", "/var/lib/sockproxy/faillock", "--user", users.bob.name, "--reset"], check=True
    )


def test_a_ping_needs_no_password(door: Proxy, shared: User) -> None:
    assert ask(door, shared, "Bearer spx_stale", "/_ping").status == 200


def test_tokens(door: Proxy, users: Users, shared: User, fake_daemon: FakeDaemon) -> None:
    word = token(door, shared, basic(users.alice))
    fake_daemon.forget()
    assert ask(door, shared, word).status == 200
    who = last(door, "intent", via="token", user=users.alice.name)["who"]
    assert (who["user"], who["via"], who["peer_user"]) == (users.alice.name, "token", shared.name)
    # Stolen: by another user, root included, it is worth nothing.
    for thief in (users.bob, users.alice, users.mallory, users.root):
        assert ask(door, thief, word).status == 401
    # A token gives no token.
    assert call(door.listen, "POST", TOKENS, None, shared, Authorization=word).status == 401
    # Revoked: that one, then all.
    others = [token(door, shared, basic(users.alice)), token(door, users.bob, basic(users.alice))]
    assert call(door.listen, "DELETE", TOKENS, None, users.bob, Authorization=word).status == 401
    assert call(door.listen, "DELETE", TOKENS, None, shared, Authorization=word).json == {"revoked": 1}
    assert ask(door, shared, word).status == 401
    assert ask(door, shared, others[0]).status == 200
    assert call(door.listen, "DELETE", f"{TOKENS}?all=1", None, shared, Authorization=others[0]).json["revoked"] >= 2
    assert ask(door, users.bob, others[1]).status == 401
    # They are nowhere to be read.
    secrets = [text.partition(" ")[2] for text in (word, *others)] + [PASSWORD, basic(users.alice)[6:]]
    kept = b"".join(path.read_bytes() for path in door.folder.rglob("*") if path.is_file())
    assert not [secret for secret in secrets if secret.encode() in kept + fake_daemon.received]


def test_tokens_survive_the_auth_process(door: Proxy, users: Users, shared: User) -> None:
    word, before = token(door, shared, basic(users.alice)), door.processes["auth"]
    subprocess.run(["kill", "-KILL", str(before)], check=True)
    eventually(lambda: door.processes.get("auth", before) != before, "the auth process again")
    eventually(lambda: ask(door, shared, word).status == 200, "the token is good")


def test_a_role_that_is_not_held_by_password(door: Proxy, users: Users, shared: User) -> None:
    before = door.config.read_text()
    door.reload(before + "roles: {viewer: {extends: viewer, via: [peer]}}\n")
    assert ask(door, users.carol).status == 200
    answer = ask(door, shared, basic(users.carol))
    assert (answer.status, "role viewer may not be held by who is known by password" in answer.json["message"]) == (
        403,
        True,
    )
    door.reload(before)


def login(door: Proxy, user: User, *arguments: str, secret: str = PASSWORD) -> subprocess.CompletedProcess[str]:
    return door.run(user, [sys.executable, "-I", "-m", "sockproxy", *arguments], input=secret + "\n")


def test_login_and_logout(door: Proxy, users: Users, shared: User) -> None:
    """The command puts a token where docker takes it from, and takes it out again."""
    config = shared.home / ".docker" / "config.json"
    config.parent.mkdir(exist_ok=True)
    before = {"HttpHeaders": {"X-Meta": "1", "Authorization": "mine"}, "detachKeys": "ctrl-x"}
    config.write_text(json.dumps(before))
    subprocess.run(["chown", "-R", shared.name, config.parent], check=True)
    wrong = login(door, shared, "login", "--user", users.bob.name, "--password-stdin", secret="wrong")
    assert (wrong.returncode, json.loads(config.read_text())) == (3, before)
    done = login(door, shared, "login", "--user", users.bob.name, "--password-stdin")
    assert done.returncode == 0, done.stderr
    assert f"Logged in as {users.bob.name}" in done.stdout
    assert config.stat().st_mode & 0o077 == 0
    assert PASSWORD not in config.read_text()
    version = door.docker(shared, "--config", str(config.parent), "events", "--until", "1s")
    assert "sockproxy" not in version.stderr
    last(door, "intent", user=users.bob.name, via="token", peer_user=shared.name)
    assert login(door, shared, "login", "--user", users.bob.name, "--password-stdin").returncode == 0
    assert login(door, shared, "logout", "--all").stdout == "Logged out: 2 tokens revoked\n"
    assert json.loads(config.read_text()) == before
    assert login(door, shared, "logout").returncode == 2


def test_sudo_docker_is_recorded_as_the_person_behind_it(door: Proxy, users: Users) -> None:
    script = 'echo "$1" >/proc/self/loginuid && exec docker events --until 1s'  # as a login leaves it
    door.run(users.root, ["sh", "-c", script, "sh", str(users.alice.uid)])
    assert last(door, "intent", user="root", loginuid=users.alice.uid)["who"]["login"] == users.alice.name


def test_a_command_with_a_token_that_is_not_good_is_told_so(door: Proxy, shared: User) -> None:
    config = shared.home / ".docker" / "config.json"
    config.parent.mkdir(exist_ok=True)
    config.write_text(json.dumps({"HttpHeaders": {"Authorization": "Bearer spx_" + "a" * 43}}))
    done = login(door, shared, "with-token", "docker", "--config", "/nonexistent", "ps")
    assert (done.returncode, "the token is not valid here" in done.stderr) == (1, True), done.stderr
    assert login(door, shared, "with-token", "/no/such/command").returncode == 127
    assert login(door, shared, "with-token").returncode == 2
    config.unlink()


def test_accounts_that_may_not_be_used(door: Proxy, users: Users) -> None:
    assert ask(door, users.bob).status == 200
    subprocess.run(["chage", "-E", "0", users.bob.name], check=True)
    answer = ask(door, users.bob)
    assert (answer.status, "it has expired" in answer.json["message"]) == (403, True), answer.body
    assert last(door, "deny")["who"]["user"] == users.bob.name
    subprocess.run(["chage", "-E", "-1", users.bob.name], check=True)
    eventually(lambda: ask(door, users.bob).status == 200, "bob may again")


def test_unless_the_policy_leaves_accounts_alone(door: Proxy, users: Users) -> None:
    before = door.config.read_text()
    door.reload(before.replace("cache: 0", "cache: 0, accounts: none"))
    subprocess.run(["chage", "-E", "0", users.bob.name], check=True)
    assert ask(door, users.bob).status == 200
    door.reload(before)
    eventually(lambda: ask(door, users.bob).status == 403, "accounts are checked again")
    subprocess.run(["chage", "-E", "-1", users.bob.name], check=True)


def test_nobody_gets_in_when_accounts_can_not_be_asked(door: Proxy, users: Users, fake_daemon: FakeDaemon) -> None:
    sock = door.runtime / "auth/auth.sock"
    sock.rename(sock.with_name("away"))
    try:
        answer = ask(door, users.alice)
        assert (answer.status, "the auth process does not answer" in answer.json["message"]) == (503, True)
        assert ask(door, users.root).status == 200  # who could repair it otherwise
    finally:
        sock.with_name("away").rename(sock)
    eventually(lambda: ask(door, users.alice).status == 200, "answers again")


def test_only_the_front_and_root_speak_to_it(door: Proxy, users: Users) -> None:
    for path in ("auth/auth.sock", "key/assertions"):
        done = subprocess.run(users.alice.command(["test", "-r", door.runtime / path]), capture_output=True)
        assert done.returncode == 1
    front = subprocess.run(
        [
            "setpriv",
            "--reuid=sockproxy",
            "--regid=sockproxy",
            "--clear-groups",
            "test",
            "-r",
            door.runtime / "key/assertions",
        ]
    )
    assert front.returncode == 1
    status = Path(f"/proc/{door.processes['auth']}/status").read_text()
    words = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {words[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert words["NoNewPrivs"] == "1"


def test_many_logins_at_once_do_not_hold_up_others(door: Proxy, users: Users, shared: User) -> None:
    def median(count: int) -> float:
        times = []
        for _ in range(count):
            began = time.monotonic()
            assert ask(door, users.carol).status == 200
            times.append(time.monotonic() - began)
        return sorted(times)[count // 2]

    before = median(20)
    answers: list[int] = []

    def attempt(number: int, connection: Connection) -> None:
        with (
            connection,
            contextlib.suppress(BrokenOff),
        ):  # who has no role has few connections, and is told so of as many
            answers.append(connection.call("GET", LIST, Authorization=basic(f"nobody{number}", "x")).status)

    connections = [Connection(door.listen, shared, timeout=120) for _ in range(200)]
    threads = [threading.Thread(target=attempt, args=each) for each in enumerate(connections)]
    for thread in threads:
        thread.start()
    during = median(20)
    for thread in threads:
        thread.join(120)
    assert len(answers) >= LEAST_TRAFFIC["connections"]
    assert set(answers) <= {401, 429}
    assert during < 0.25 + 5 * before, (before, during)
    print(f"median of others' calls: {before * 1000:.1f} ms before, {during * 1000:.1f} ms during 200 logins")
