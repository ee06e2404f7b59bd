"""The auth process's answers: who gets one, when, and what of it is kept."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from sockproxy.auth import accounts, desk
from sockproxy.auth.desk import Desk, read
from sockproxy.auth.limits import Limit
from sockproxy.auth.tokens import Token, Tokens
from sockproxy.auth.uids import Uids, names
from sockproxy.policy.compile import compile_text, dump
from sockproxy_helpers.errors import Refused
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system import peer
from sockproxy_helpers.system.peer import Peer
from sockproxy_helpers.who import assertion

KEY = b"k" * 32
POLICY = Policy(dump(compile_text(b"version: 1\nauth: {token_hours: 1}\n", "p.yaml")))
PEOPLE = {"kim": 7001, "lee": 7002, "root": 0}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Asked:
    """Stand in for PAM: the password is "right"; it takes as long as the password says."""

    def __init__(self) -> None:
        self.passwords: list[tuple[str, str]] = []
        self.code = 0

    def password(self, user: str, secret: str) -> int:
        self.passwords.append((user, secret))
        return 0 if user in PEOPLE and secret == "right" else 7 if user in PEOPLE else 10

    def account(self, user: str) -> int:
        return self.code


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    stub = Asked()
    monkeypatch.setattr(accounts, "password", stub.password)
    monkeypatch.setattr(accounts, "account", stub.account)
    monkeypatch.setattr(desk, "_uid", lambda user: PEOPLE.get(user, 0))
    return stub


@pytest.fixture
def client() -> Iterator[socket.socket]:
    one, two = socket.socketpair()
    with one, two:
        yield one


@pytest.fixture
def counter(asked: Asked, tmp_path: Path) -> Desk:
    return Desk(POLICY, Tokens(str(tmp_path)), Uids(str(tmp_path)), KEY)


async def test_the_right_password_is_vouched_for_on_that_connection(counter: Desk, client: socket.socket) -> None:
    reply = await counter.identify(basic("kim", "right"), client)
    assert (reply["uid"], reply["via"]) == (7001, "password")
    assert assertion.verify(KEY, str(reply["assertion"]), peer.cookie_of(client)) == (7001, "password")
    with pytest.raises(Refused, match="another connection"):
        assertion.verify(KEY, str(reply["assertion"]), peer.cookie_of(client) + 1)


@pytest.mark.parametrize(
    "word", [basic("kim", "wrong"), basic("nobody", "wrong"), basic("root", "right"), "Bearer x", ""]
)
async def test_each_failure_comes_at_the_same_moment(
    counter: Desk, client: socket.socket, autojump_clock: MockClock, word: str
) -> None:
    began = trio.current_time()
    reply = await counter.identify(word, client)
    assert (reply["error"], reply["message"]) == (401, desk.WRONG)
    assert trio.current_time() - began == pytest.approx(desk.FLOOR, abs=0.2)


async def test_a_right_password_is_asked_about_once_for_a_while(
    counter: Desk, client: socket.socket, asked: Asked, autojump_clock: MockClock
) -> None:
    for _ in range(3):
        assert "assertion" in await counter.identify(basic("kim", "right"), client)
    assert len(asked.passwords) == 1
    await trio.sleep(desk.REMEMBERED_SECONDS + 1)
    await counter.identify(basic("kim", "right"), client)
    assert len(asked.passwords) == 2


def come_from(monkeypatch: pytest.MonkeyPatch, uid: int, container: str = "") -> None:
    found = Peer(1, uid, uid)
    found.containers = (container,) if container else ()
    monkeypatch.setattr(peer, "of", lambda client: found)


async def test_guessing_locks_who_guesses(
    counter: Desk, client: socket.socket, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    come_from(monkeypatch, PEOPLE["lee"])
    codes = [(await counter.login(basic("kim", "wrong"), client))["error"] for _ in range(7)]
    assert codes == [401] * 5 + [429] * 2
    assert (await counter.login(basic("kim", "right"), client))["error"] == 429
    assert "token" in await counter.login(basic("lee", "right"), client)
    for uid in (PEOPLE["kim"], 7003):  # her own, and one that many share
        come_from(monkeypatch, uid)
        assert "token" in await counter.login(basic("kim", "right"), client)
        counter._right.clear()
    come_from(monkeypatch, PEOPLE["lee"])
    await trio.sleep(120)
    assert "token" in await counter.login(basic("kim", "right"), client)


async def test_guessing_from_many_containers_is_slow_and_leaves_a_person_what_is_own(
    counter: Desk, client: socket.socket, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = []
    come_from(monkeypatch, 7003)
    word = (await counter.login(basic("kim", "right"), client))["token"]
    for number in range(40):
        come_from(monkeypatch, PEOPLE["lee"], f"c{number}")
        codes.append((await counter.login(basic("kim", "wrong"), client))["error"])
    assert codes.count(401) in (20, 21, 22)
    counter._right.clear()
    come_from(monkeypatch, 7003)
    assert (await counter.identify(f"Bearer {word}", client))["via"] == "token"
    come_from(monkeypatch, PEOPLE["kim"])
    assert "token" in await counter.login(basic("kim", "right"), client)


async def test_attempts_are_limited_for_each_peer(
    counter: Desk, client: socket.socket, autojump_clock: MockClock
) -> None:
    replies = []

    async def attempt(user: str) -> None:
        replies.append((await counter.identify(basic(user, "wrong"), client))["error"])

    async with trio.open_nursery() as nursery:
        for number in range(80):
            nursery.start_soon(attempt, f"nobody{number}")
    assert replies.count(429) in range(15, 21)


async def test_no_tokens_where_the_policy_gives_none(counter: Desk, client: socket.socket) -> None:
    counter.load(Policy(dump(compile_text(b"version: 1\nauth: {token_hours: 0}\n", "p.yaml"))))
    assert (await counter.login(basic("kim", "right"), client))["error"] == 403


async def test_an_account_that_can_not_be_asked_about(
    counter: Desk, monkeypatch: pytest.MonkeyPatch, asked: Asked
) -> None:
    asked.code = 13
    assert await counter.account("kim") == {"code": 13, "why": "it has expired"}

    def missing(user: str) -> int:
        raise accounts.NoPam("there is no file")

    monkeypatch.setattr(accounts, "account", missing)
    assert await counter.account("kim") == {"code": -1, "why": "there is no file"}


@pytest.mark.parametrize(
    "word",
    [
        *("", "Basic", "Basic ", "Basic =", "Digest a", "Basic YQ==", "Basic " + "/" * 40, basic("", "x")),
        *(
            basic("a b", "x"),
            basic("-a", "x"),
            basic("a", ""),
            basic("a", "x" * 512),
            basic("a", "\0"),
            basic("a\n", "x"),
        ),
    ],
)
def test_what_is_no_credential(word: str) -> None:
    assert read(word) is None


def test_a_password_may_hold_colons_and_any_letter() -> None:
    assert read(basic("DOM\\kim", "a:b ü")) == ("", "DOM\\kim", "a:b ü")
    assert read("bearer spx_x") == ("spx_x", "", "")


def test_tokens_are_bound_and_end(tmp_path: Path) -> None:
    tokens, now = Tokens(str(tmp_path)), 1000.0
    word = tokens.issue(Token(7001, 0, "c1", 2000), now)
    assert tokens.find(word, 0, "c1", 1999) == (7001, 0, "c1", 2000)
    for peer_uid, container, when in ((1, "c1", now), (0, "c2", now), (0, "", now), (0, "c1", 2000.0)):
        assert tokens.find(word, peer_uid, container, when) is None
    assert Tokens(str(tmp_path)).find(word, 0, "c1", now)  # kept
    assert word not in (tmp_path / "tokens.json").read_text()
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600
    assert tokens.revoke(7002) == 0
    assert tokens.revoke(7001, "spx_" + "x" * 43) == 0
    assert tokens.revoke(7001, word) == 1
    assert Tokens(str(tmp_path)).find(word, 0, "c1", now) is None


def test_tokens_of_a_user_are_bounded_and_damaged_files_are_empty(tmp_path: Path) -> None:
    tokens = Tokens(str(tmp_path))
    words = [tokens.issue(Token(7001, 1, "", 2000), 1.0) for _ in range(40)]
    assert sum(tokens.find(word, 1, "", 1.0) is not None for word in words) == 32
    assert tokens.find(words[-1], 1, "", 1.0)
    (tmp_path / "tokens.json").write_text('{"a": [1]}')
    assert Tokens(str(tmp_path)).find(words[-1], 1, "", 1.0) is None


def test_a_limit_fills_again() -> None:
    limit = Limit(2, 10)
    assert [limit.take("a", 0.0) for _ in range(3)] == [True, True, False]
    assert (limit.take("b", 0.0), limit.take("a", 9.0), limit.take("a", 10.0)) == (True, False, True)
    limit.give_back("a", 10.0)
    assert limit.take("a", 10.0)


FORGED = {
    "empty": "",
    "no form": "7001.token",
    "another user": lambda good: good.replace("7001", "0", 1),
    "later": lambda good: ".".join([*good.split(".")[:3], "999999999999", good.split(".")[4]]),
    "another way": lambda good: good.replace("token", "password"),
    "sign": lambda good: "+" + good,
    "newline": lambda good: good + "\n",
    "other digits": lambda good: good.replace("7", "\u0667"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_assertions(name: str) -> None:
    good, _ = assertion.sign(KEY, 7001, "token", 5)
    assert assertion.verify(KEY, good, 5) == (7001, "token")
    forged = FORGED[name](good) if callable(FORGED[name]) else FORGED[name]
    with pytest.raises(Refused):
        assertion.verify(KEY, forged, 5)
    with pytest.raises(Refused, match="not made by"):
        assertion.verify(b"x" * 32, good, 5)


def test_an_assertion_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    good, until = assertion.sign(KEY, 7001, "token", 5)
    now = time.monotonic()
    assert now < until <= now + assertion.LIFETIME
    monkeypatch.setattr(assertion.time, "monotonic", lambda: until + 1.0)
    with pytest.raises(Refused, match="expired"):
        assertion.verify(KEY, good, 5)


async def test_a_uid_is_whose_it_was_first(
    counter: Desk, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await counter.account("kim") == {"code": 0, "why": ""}
    monkeypatch.setitem(PEOPLE, "pat", PEOPLE["kim"])
    for again in (counter, Desk(POLICY, Tokens(str(tmp_path)), Uids(str(tmp_path)), KEY)):
        refused = await again.account("pat")
        assert refused["code"] == 1
        assert "uid, 7001, was kim's, and what is kim's here would be pat's" in str(refused["why"])
        assert "sockproxy accept pat" in str(refused["why"])
    assert counter.accept("root")["why"] == "root is no account that can have anything here"
    assert counter.accept("pat") == {"code": 0, "uid": 7001, "old": "kim"}
    assert await counter.account("pat") == {"code": 0, "why": ""}
    assert (await counter.account("kim"))["code"] == 1
    assert names((tmp_path / "uids").read_text() + "7001 ki") == {7001: "pat"}  # half a line does not count


async def test_whose_a_uid_is_must_be_written_down(counter: Desk, asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "uids").mkdir()
    reply = await counter.account("kim")
    assert (reply["code"], "can't be written down" in str(reply["why"])) == (-1, True)
    assert "can't be written down" in str(counter.accept("kim")["why"])
    with pytest.raises(OSError, match="not a name that can be written down"):
        Uids(str(tmp_path / "uids")).set(1, "two words")
