"""What one caller may take of the front, so that the others have their share."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from sockproxy.audit.client import Recorder
from sockproxy.dispatch.channel import Helpers
from sockproxy.errors import Crowded
from sockproxy.policy.compile import compile_text, dump
from sockproxy.server import traffic
from sockproxy.server.listen import _session
from sockproxy.server.session import Services
from sockproxy.server.traffic import Account, Traffic
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system import peer
from sockproxy_helpers.system.peer import Peer

ME = pwd.getpwuid(os.getuid()).pw_name
OPTIONS = b"OPTIONS /_ping HTTP/1.1\r\nHost: d\r\n\r\n"


def policy(bounds: str) -> Policy:
    head = f"version: 1\nbindings: [{{user: {ME}, role: r}}]\nroles:\n  r:\n    extends: viewer\n"
    text = f"{head}    traffic: {{{bounds}}}\n"
    return Policy(dump(compile_text(text.encode(), "p.yaml")))


def account(**bounds: int | None) -> Account:
    found = Account(0.0)
    found.bind("user x", {"connections": None, "requests": None, **bounds}, "p.yaml:6")
    return found


def process(uid: int, *containers: str, trouble: str = "") -> Peer:
    found = Peer(1, uid, uid)
    found.containers, found.trouble = list(containers), trouble
    return found


def test_requests_come_at_once_then_wait_then_are_refused() -> None:
    found = account(requests=10)
    assert [found.turn(0.0) for _ in range(50)] == [0.0] * 50
    assert [round(found.turn(0.0), 1) for _ in range(10)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    with pytest.raises(Crowded, match=r"^user x may ask 10 times a second"):
        found.turn(0.0)
    assert found.turn(1.1) <= 0.1  # what is refused does not count
    assert found.turn(100.0) == 0.0
    assert all(account().turn(0.0) == 0.0 for _ in range(10_000))


def test_a_new_connection_does_not_fill_the_bucket() -> None:
    found = account(requests=10)
    for _ in range(60):
        found.turn(0.0)
    found.bind("user x", {"connections": None, "requests": 10}, "p.yaml:6")
    with pytest.raises(Crowded):
        found.turn(0.0)


def test_what_is_held_is_bounded() -> None:
    found = account()
    found.hold(traffic.LARGE)
    with pytest.raises(Crowded, match="64 MiB"):
        found.hold(1)
    found.hold(-traffic.LARGE - 1)
    found.hold(traffic.LARGE)


def test_refusals_are_recorded_once_a_second_with_their_number() -> None:
    found = account()
    assert [found.tells(now) for now in (0.0, 0.1, 0.2, 1.5, 3.0)] == [0, None, None, 2, 0]


def test_who_shares_an_account() -> None:
    kept, rules = Traffic(), policy("connections: 7")

    def of(who: Peer) -> Account:
        return kept.enter(who, rules, 0.0).account

    mine = of(process(os.getuid()))
    assert of(process(os.getuid())) is mine
    # Any number of uids may be one person's (subordinate ones), so what is nobody's account has not one each.
    assert of(process(100_001)) is of(process(100_002)) is of(process(0, trouble=peer.FOREIGN)) is not mine
    daemon, games = (pwd.getpwnam(name).pw_uid for name in ("daemon", "games"))
    assert of(process(daemon)) is of(process(daemon))  # no role, yet not in the way of others who log in
    assert len({of(process(uid)) for uid in (daemon, games, 100_001)}) == 3
    one, other = of(process(0, "a" * 64)), of(process(0, "b" * 64))
    assert one is not other
    # A cgroup that is called like a container's can be made by a user with a part of the tree, but not as root.
    assert of(process(7, "a" * 64)) is of(process(7, "b" * 64)) is not one
    assert mine.connections == 2


@contextlib.contextmanager
def clients(count: int) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    pairs = [socket.socketpair() for _ in range(count)]
    for ours, theirs in pairs:
        ours.setblocking(False)
        theirs.setblocking(False)
    yield pairs
    for pair in pairs:
        for sock in pair:
            sock.close()


class Notes(Recorder):
    def __init__(self) -> None:
        super().__init__("/nowhere")
        self.records: list[dict[str, object]] = []

    async def record(self, record: dict[str, object]) -> int:
        self.records.append(record)
        return 1


def services(folder: Path, bounds: str) -> tuple[Services, Notes]:
    notes = Notes()
    return Services(policy(bounds), Helpers(str(folder)), notes), notes


def received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except BlockingIOError:
        return b"nothing yet"


async def test_connections_over_the_bound_are_refused_in_words_and_then_without(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    shared, notes = services(tmp_path, "connections: 2")
    with clients(6) as pairs:
        async with trio.open_nursery() as nursery:
            for ours, _ in pairs:
                nursery.start_soon(_session, ours, shared)
                await trio.testing.wait_all_tasks_blocked()
            for _, theirs in pairs[:4]:
                theirs.send(OPTIONS)
            await trio.sleep(0.5)
            assert [received(theirs)[:15] for _, theirs in pairs[:2]] == [b"HTTP/1.1 200 OK"] * 2
            assert [received(theirs) for _, theirs in pairs[2:4]] == [b"nothing yet"] * 2
            assert [received(theirs) for _, theirs in pairs[4:]] == [b""] * 2
            await trio.sleep(1.1)
            for _, theirs in pairs[2:4]:
                head, _, body = received(theirs).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
                assert {b"Retry-After: 1", b"Connection: close"} < set(head.split(b"\r\n"))
                words = json.loads(body)["message"]
                assert words.startswith(
                    f"sockproxy: user {ME} may have 2 connections at once: close some: rule p.yaml:6 "
                )
            await trio.sleep(1)
            assert [received(theirs) for _, theirs in pairs[2:4]] == [b""] * 2
            assert [record["ev"] for record in notes.records] == ["deny"]
            nursery.cancel_scope.cancel()


async def test_one_over_the_bound_that_says_nothing_is_not_waited_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    shared, _ = services(tmp_path, "connections: 1")
    with clients(2) as pairs:
        async with trio.open_nursery() as nursery:
            for ours, _ in pairs:
                nursery.start_soon(_session, ours, shared)
            await trio.sleep(traffic.PATIENCE + 1)
            assert [received(theirs) for _, theirs in pairs] in ([b"nothing yet", b""], [b"", b"nothing yet"])
            nursery.cancel_scope.cancel()


async def test_a_flood_of_requests_is_slowed_then_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    shared, notes = services(tmp_path, "requests: 10")
    with clients(100) as pairs:
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for ours, theirs in pairs:
                theirs.send(OPTIONS)
                theirs.shutdown(socket.SHUT_WR)
                nursery.start_soon(_session, ours, shared)
        assert 0.9 < trio.current_time() - begun < 3
        answers = [received(theirs)[:12] for _, theirs in pairs]
    assert answers.count(b"HTTP/1.1 200") == 60  # five seconds' worth, and those that waited for a second
    assert answers.count(b"HTTP/1.1 429") == 40
    assert len(notes.records) == 1


async def test_bodies_of_one_caller_have_a_bound_together(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "LARGE", 350_000)
    shared, _ = services(tmp_path, "connections: 10")
    head = b"POST /containers/create HTTP/1.1\r\nHost: d\r\nX-A: " + b"a" * 100_000  # a head without an end
    with clients(4) as pairs:
        account = shared.traffic.enter(peer.of(pairs[0][0]), shared.policy, 0.0).account
        async with trio.open_nursery() as nursery:
            for ours, theirs in pairs:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                assert theirs.send(head) == len(head)
                nursery.start_soon(_session, ours, shared)
                await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(2)
            answers = [received(theirs)[:12] for _, theirs in pairs]
            assert sorted(answers) == [b"HTTP/1.1 429", *[b"nothing yet"] * 3]
            nursery.cancel_scope.cancel()
    assert (account.connections, account._held) == (1, 0)
