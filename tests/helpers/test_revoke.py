"""Calls under way end when their caller loses access, and not because nobody can tell for a moment."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sockproxy.policy import compile as compiler
from sockproxy_helpers.calls.revoke import Streams
from sockproxy_helpers.channel import wire
from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.context import context_of
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system import caller, peer
from sockproxy_helpers.upstream.objects import Object
from sockproxy_helpers.who.accounts import Accounts
from sockproxy_helpers.who.identity import Identity
from tests.helpers.support import Listener, run

REPLIES: dict[str, dict[str, object]] = {
    "usable": {"code": 0},
    "locked out": {"code": 7, "why": "locked out"},
    "a database that hangs": {"code": -1, "why": "the host's account database does not answer"},
}


class Ground:
    """A caller's call on a channel, before an auth process that is there, or not."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(caller, "account", lambda uid: ("dora", ("staff",), "/home/dora"))
        text = "version: 1\nbindings: [{user: dora, role: developer}]\n"
        self.policy = Policy(compiler.dump(compiler.compile_text(text.encode(), "test.yaml")))
        self.loop, self.path = Loop(), folder / "auth.sock"
        self.identity: Identity = SimpleNamespace(accounts=Accounts(self.loop, str(self.path)))  # type: ignore[assignment]
        self.client, self.theirs = socket.socketpair()
        peer.of(self.client).uid = 1000  # root's account is not asked about
        self.channel, self.front = socket.socketpair()
        self.streams = Streams(self.loop)

    def close(self) -> None:
        for sock in (self.client, self.theirs, self.channel, self.front):
            sock.close()

    async def begin(self, *objects: Object) -> None:
        who = caller.from_socket(self.client)
        self.streams.begin(self.channel, who, self.policy.decide(who, "ContainerAttach"), "ContainerAttach")
        self.streams.uses(self.channel, list(objects))
        await self.streams.look(self.identity, self.policy)

    @property
    def lives(self) -> bool:
        self.front.setblocking(False)
        try:
            return self.front.recv(1) != b""
        except BlockingIOError:
            return True


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    one = Ground(tmp_path, monkeypatch)
    yield one
    one.close()


def test_without_the_auth_process_calls_under_way_go_on_and_new_ones_are_told_that_it_is_not_there(
    ground: Ground,
) -> None:
    async def part() -> None:
        await ground.begin()
        assert ground.lives
        who = caller.from_socket(ground.client)
        await ground.identity.accounts.check(who, ground.policy.auth)
        decision = ground.policy.decide(who, "ContainerList")
        assert not decision.allowed
        with pytest.raises(Unavailable, match="the auth process does not answer") as found:
            context_of(decision, who, "ContainerList")
        assert found.value.status == 503

    run(ground.loop, part())


@pytest.mark.parametrize("answer", REPLIES)
def test_a_word_of_the_auth_process_counts(ground: Ground, answer: str) -> None:
    listener = Listener(ground.loop, ground.path, socket.SOCK_SEQPACKET)

    async def auth() -> None:
        channel = await listener.accept()
        await channel.more()
        wire.send(channel.sock, wire.pack(REPLIES[answer]), [])

    async def part() -> None:
        await ground.begin()
        assert ground.lives == (answer != "locked out")

    run(ground.loop, auth(), part())
    listener.close()


def test_a_call_ends_that_uses_what_is_of_somebody_who_shares_no_more(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "version: 1\nauth: {accounts: none}\nbindings: [{group: staff, role: team}, {group: all, role: developer}]\n"
    text += "roles: {team: {extends: developer, share: group}}\n"
    ground.policy = Policy(compiler.dump(compiler.compile_text(text.encode(), "test.yaml")))
    groups = {1000: ("staff", "all"), 1001: ("staff",)}
    monkeypatch.setattr(caller, "account", lambda uid: (f"user{uid}", groups[uid], "/home"))
    own, theirs = (Object("container", "1" * 64, "x", uid, shared=False) for uid in (1000, 1001))
    own.given = frozenset({1001})

    async def part() -> None:
        for item in (own, theirs):
            groups[1000] = ("staff", "all")
            await ground.begin(item, Object("image", "2" * 64, "y", 7, shared=False))
            assert ground.lives
            groups[1000] = ("all",)
            await ground.streams.look(ground.identity, ground.policy)
            assert not ground.lives
            ground.streams.end(ground.channel)
            ground.channel.close()
            ground.front.close()
            ground.channel, ground.front = socket.socketpair()

    run(ground.loop, part())
