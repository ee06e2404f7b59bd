"""Channels to helpers that come and go."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

from sockproxy.dispatch.channel import Helpers
from sockproxy.errors import HelperGone
from sockproxy_helpers.channel import wire


async def serve(listener: socket.socket, calls: list[object], channels: int, most: int) -> None:
    """Be a helper that answers so many calls on each of its channels, then dies."""
    async with trio.open_nursery() as nursery:
        for _ in range(channels):
            await trio.lowlevel.wait_readable(listener)
            nursery.start_soon(answer, listener.accept()[0], calls, most)


async def answer(channel: socket.socket, calls: list[object], most: int) -> None:
    """Answer so many calls on one channel."""
    with channel:
        channel.setblocking(False)
        for _ in range(most):
            await trio.lowlevel.wait_readable(channel)
            message, fds = wire.receive(channel)
            for fd in fds:
                socket.close(fd)
            calls.append(wire.unpack(message)[0]["op"])
            wire.send(channel, wire.pack({"keep": True, "answer": 0}), [])


@pytest.fixture
def listener(tmp_path: Path) -> socket.socket:
    (tmp_path / "helpers").mkdir()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(tmp_path / "helpers" / "network.sock"))
    listener.listen()
    listener.setblocking(False)
    return listener


async def test_a_call_finds_the_helper_that_came_after_those_that_died(tmp_path: Path, listener: socket.socket) -> None:
    helpers, calls = Helpers(str(tmp_path)), []  # type: Helpers, list[object]
    ours, theirs = socket.socketpair()
    with listener, ours, theirs:

        async def call(op: str) -> None:
            await helpers.call("network", {"op": op}, b"", ours)

        async with trio.open_nursery() as first:  # two channels, both left idle by a helper that is gone
            first.start_soon(serve, listener, calls, 2, 1)
            for number in (0, 1):
                first.start_soon(call, f"before {number}")
        async with trio.open_nursery() as second:
            second.start_soon(serve, listener, calls, 1, 2)
            await call("after")
            await call("once more")
        assert calls[2:] == ["after", "once more"]
        assert sorted(map(str, calls[:2])) == ["before 0", "before 1"]
    helpers.close()


async def test_without_a_helper_the_call_fails(tmp_path: Path, listener: socket.socket) -> None:
    helpers, calls = Helpers(str(tmp_path)), []  # type: Helpers, list[object]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener, calls, 1, 1)
            await helpers.call("network", {"op": "x"}, b"", ours)
        listener.close()
        with pytest.raises(HelperGone, match="not there"):
            await helpers.call("network", {"op": "y"}, b"", ours)
    assert calls == ["x"]


async def test_a_helper_that_ends_during_the_call(tmp_path: Path, listener: socket.socket) -> None:
    helpers = Helpers(str(tmp_path))
    ours, theirs = socket.socketpair()

    async def end() -> None:
        await trio.lowlevel.wait_readable(listener)
        with listener.accept()[0] as channel:
            channel.setblocking(False)
            await trio.lowlevel.wait_readable(channel)
            for fd in wire.receive(channel)[1]:
                socket.close(fd)

    with listener, ours, theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            with pytest.raises(HelperGone, match="the helper ended during the call") as gone:
                await helpers.call("network", {"op": "x"}, b"", ours)
    assert not gone.value.sent
