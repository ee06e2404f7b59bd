"""A front that ends serves who has connected, and does not wait long for who says nothing."""

from __future__ import annotations

import socket
from pathlib import Path

import trio
from trio.testing import MockClock

from sockproxy.audit.client import Recorder
from sockproxy.dispatch.channel import Helpers
from sockproxy.server import session
from sockproxy.server.session import Services, Session
from sockproxy.server.traffic import Seat
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system import peer

PING = b"OPTIONS /_ping HTTP/1.1\r\nHost: d\r\n\r\n"


def services(folder: Path) -> Services:
    from sockproxy.policy.compile import compile_file, dump

    return Services(Policy(dump(compile_file(None))), Helpers(str(folder)), Recorder(str(folder)))


def seat(sock: socket.socket, shared: Services) -> Seat:
    return shared.traffic.enter(peer.of(sock), shared.policy, trio.current_time())


def connected() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours, theirs


async def test_a_request_that_comes_while_the_front_ends_is_served(tmp_path: Path, autojump_clock: MockClock) -> None:
    shared = services(tmp_path)
    ours, theirs = connected()
    with ours, theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Session(ours, shared, seat(ours, shared)).run)
            await trio.testing.wait_all_tasks_blocked()
            shared.drain()
            await trio.testing.wait_all_tasks_blocked()
            theirs.sendall(PING)
            await trio.testing.wait_all_tasks_blocked()
            answer = theirs.recv(4096)
            theirs.shutdown(socket.SHUT_WR)
    assert answer.startswith(b"HTTP/1.1 "), answer


async def test_one_that_was_accepted_last_is_served_too(tmp_path: Path, autojump_clock: MockClock) -> None:
    shared = services(tmp_path)
    ours, theirs = connected()
    shared.drain()
    with ours, theirs:
        theirs.sendall(PING)
        theirs.shutdown(socket.SHUT_WR)
        await Session(ours, shared, seat(ours, shared)).run()
        assert theirs.recv(4096).startswith(b"HTTP/1.1 ")


async def test_who_says_nothing_is_not_waited_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    shared = services(tmp_path)
    ours, theirs = connected()
    with ours, theirs:
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Session(ours, shared, seat(ours, shared)).run)
            await trio.testing.wait_all_tasks_blocked()
            shared.drain()
        assert trio.current_time() - start < session.LAST_SECONDS + 1
