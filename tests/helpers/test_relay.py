"""Flows between real sockets."""

from __future__ import annotations

import hashlib
import os
import random
import socket

import pytest

from sockproxy_helpers.channel.loop import IN, OUT, Loop
from sockproxy_helpers.stream import pipes
from sockproxy_helpers.stream.chunks import Chunks
from sockproxy_helpers.stream.relay import BUDGET, Broken, Chunked, Flow, step, wanted
from sockproxy_helpers.stream.splice import Raw
from tests.helpers.support import Peer, assert_closed, descriptors, run

MIB = 1 << 20


class Ends:
    """A source and a sink, with the far ends of both."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.source, far = socket.socketpair()
        self.sink, near = socket.socketpair()
        for sock in (self.source, self.sink):
            sock.setblocking(False)
        self.far, self.near = Peer(self.loop, far), Peer(self.loop, near)

    def close(self) -> None:
        for sock in (self.source, self.sink, self.far.sock, self.near.sock):
            sock.close()

    async def pump(self, flow: Flow) -> None:
        while not flow.done:
            step([flow], await self.loop.wait(wanted([flow])))


@pytest.fixture
def ends():
    ends = Ends()
    yield ends
    ends.close()
    assert len(pipes._idle) <= pipes.POOL
    for pipe in pipes._idle:
        with pytest.raises(BlockingIOError):  # only empty pipes may be in the pool
            os.read(pipe[0], 1)


def chunked(data: bytes, size: int = 10_000) -> bytes:
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("length", [0, 1, 5, 65_536, 3 * MIB])
@pytest.mark.parametrize("given_before", [0, 3])
def test_content_length_is_exact(ends, length, given_before):
    body, behind = os.urandom(length), b"NEXT"
    flow = Raw(ends.source, ends.sink, body[:given_before], length, b"HEAD ")
    got = []

    async def client() -> None:
        await ends.far.send(body[given_before:] + behind)

    async def server() -> None:
        got.append(await ends.near.read(5 + length))

    run(ends.loop, ends.pump(flow), client(), server())
    assert got == [b"HEAD " + body]
    assert flow.complete
    assert flow.count == 5 + length
    assert ends.source.recv(100) == behind  # never read


def test_initial_longer_than_the_length_is_left_over(ends):
    flow = Raw(ends.source, ends.sink, b"bodyNEXT", 4)
    run(ends.loop, ends.pump(flow))
    assert (flow.left_over, flow.complete) == (b"NEXT", True)
    assert ends.near.sock.recv(100) == b"body"


def test_nothing_to_pass_is_done_at_once(ends):
    flow = Raw(ends.source, ends.sink, b"", 0)
    assert flow.done
    assert flow.complete
    assert wanted([flow]) == {}


def test_until_the_end_of_the_source(ends):
    flow, got = Raw(ends.source, ends.sink, b"a", None), []

    async def client() -> None:
        await ends.far.send(b"bc")
        ends.far.close()

    async def server() -> None:
        got.append(await ends.near.read(3))

    run(ends.loop, ends.pump(flow), client(), server())
    assert got == [b"abc"]
    assert flow.complete


@pytest.mark.parametrize("kind", ["raw", "chunked"])
def test_source_that_dies_early_is_not_complete(ends, kind):
    flow = Raw(ends.source, ends.sink, b"", 100) if kind == "raw" else Chunked(ends.source, ends.sink, b"")

    async def client() -> None:
        await ends.far.send(b"5\r\nhello\r\n")
        ends.far.close()

    run(ends.loop, ends.pump(flow), client())
    assert flow.done
    assert not flow.complete
    assert ends.near.sock.recv(100) == b"5\r\nhello\r\n"


def test_reset_is_no_clean_end(ends):
    """Even where the source's end would be the body's end."""
    flow = Raw(ends.source, ends.sink, b"", None)
    ends.source.send(b"unread by the far end, so that its close resets us")
    ends.far.close()
    run(ends.loop, ends.pump(flow))
    assert flow.done
    assert not flow.complete


def test_no_pipe_to_be_had_is_no_clean_end(ends, monkeypatch):
    def take() -> tuple[int, int]:
        raise OSError("Too many open files")

    monkeypatch.setattr(pipes, "take", take)
    flow = Raw(ends.source, ends.sink, b"", None)
    ends.far.sock.send(b"x")
    run(ends.loop, ends.pump(flow))
    assert flow.done
    assert not flow.complete


@pytest.mark.parametrize("kind", ["raw", "chunked"])
def test_sink_that_dies_is_broken(ends, kind):
    before = descriptors()
    flow = Raw(ends.source, ends.sink, b"", None) if kind == "raw" else Chunked(ends.source, ends.sink, b"")
    ends.near.sock.close()
    ends.far.sock.send(b"5\r\nhello\r\n")
    with pytest.raises(Broken) as broken:
        run(ends.loop, ends.pump(flow))
    assert broken.value.sock is ends.sink
    # the pipe that still held bytes is closed, not given back
    assert_closed(before - 1 + 2 * pipes.POOL)


def test_full_sink_stops_the_reading(ends):
    flow, sent = Raw(ends.source, ends.sink, b"", None), 0
    ends.far.sock.setblocking(False)
    for _ in range(200):
        try:
            sent += ends.far.sock.send(os.urandom(MIB))
        except BlockingIOError:
            pass
        flow.step()
    # three socket buffers and a pipe at most, however much the source has
    assert sent < 3 * MIB
    assert wanted([flow]) == {ends.sink.fileno(): OUT}
    got = 0

    async def server() -> None:
        nonlocal got
        while got < sent:
            got += len(await ends.near.more())
            ends.near.buffer.clear()
        ends.far.close()

    run(ends.loop, ends.pump(flow), server())
    assert flow.complete
    assert got == sent


def test_burst_that_uses_up_the_budget_does_not_stay_in_the_pipe(ends):
    """After BUDGET fills the source may have nothing more: what is in the pipe still has to go out."""
    flow, got = Raw(ends.source, ends.sink, b"", None), b""
    for _ in range(3 * BUDGET):
        ends.far.sock.send(b"x" * 10)
        ends.far.sock.sendmsg([b"y" * 10], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"\0\0\0\0")])

    async def server() -> None:
        nonlocal got
        got = await ends.near.read(60 * BUDGET)

    async def pump() -> None:
        while len(got) < 60 * BUDGET:
            step([flow], await ends.loop.wait(wanted([flow]), 0.01))

    run(ends.loop, pump(), server())
    assert len(got) == 60 * BUDGET


@pytest.mark.parametrize("fills", range(BUDGET - 1, BUDGET + 2))
def test_body_of_as_many_fills_as_the_budget(ends, fills, monkeypatch):
    monkeypatch.setattr(pipes, "SIZE", 100)
    body = os.urandom(100 * fills)
    flow, got = Raw(ends.source, ends.sink, b"", len(body)), []
    ends.far.sock.send(body)

    async def server() -> None:
        got.append(await ends.near.read(len(body)))

    run(ends.loop, ends.pump(flow), server())
    assert got == [body]


@pytest.mark.parametrize("initial", [b"", b"5\r\nhel", b"5\r\nhello\r\n0\r\n\r\nNEXT"])
def test_chunked_ends_where_it_ends(ends, initial):
    whole = b"5\r\nhello\r\n0\r\n\r\nNEXT"
    flow, got = Chunked(ends.source, ends.sink, initial), []

    async def client() -> None:
        if initial != whole:
            await ends.far.send(whole[len(initial) :])

    async def server() -> None:
        got.append(await ends.near.read(len(whole) - 4))

    run(ends.loop, ends.pump(flow), client(), server())
    assert got == [whole[:-4]]
    assert (flow.left_over, flow.complete) == (b"NEXT", True)


def test_chunked_with_a_scanner_that_saw_the_beginning(ends):
    """An answer: the head goes first, and the body's beginning has been scanned."""
    chunks = Chunks()
    early = b"5\r\nhello\r\n"
    chunks.feed(memoryview(early))
    flow, got = Chunked(ends.source, ends.sink, b"HEAD" + early, chunks), []
    ends.far.sock.send(b"0\r\n\r\n")

    async def server() -> None:
        got.append(await ends.near.read(19))

    run(ends.loop, ends.pump(flow), server())
    assert got == [b"HEAD5\r\nhello\r\n0\r\n\r\n"]
    assert flow.complete


def test_what_a_slow_sink_has_not_taken_is_not_overwritten_by_another_flow(ends):
    """All chunked flows read into one buffer."""
    other = Ends()
    body, others = chunked(os.urandom(3 * MIB)), chunked(b"x" * MIB)
    slow, fast = Chunked(ends.source, ends.sink, b""), Chunked(other.source, other.sink, b"")

    async def fill() -> None:
        await ends.far.send(body)

    async def disturb() -> None:
        ends.loop.spawn(other.far.send(others))
        while slow.want()[1] != OUT:
            await ends.loop.wait({}, 0.001)
        ends.loop.spawn(ends.pump(fast))
        assert await other.near.read(len(others)) == others
        assert await ends.near.read(len(body)) == body

    other.far.loop = other.near.loop = ends.loop
    run(ends.loop, ends.pump(slow), fill(), disturb())
    assert slow.complete
    assert fast.complete
    other.close()


def test_malformed_chunk_is_broken_and_names_the_source(ends):
    with pytest.raises(Broken) as broken:
        Chunked(ends.source, ends.sink, b"5;x\r\n")
    assert broken.value.sock is ends.source
    flow = Chunked(ends.source, ends.sink, b"5\r\n")
    ends.far.sock.send(b"hello!\r\n")
    with pytest.raises(Broken) as broken:
        run(ends.loop, ends.pump(flow))
    assert broken.value.sock is ends.source


@pytest.mark.parametrize("kind", ["raw", "chunked"])
def test_64_mib_arrive_byte_for_byte(ends, kind):
    source = random.Random(1)
    body = source.randbytes(64 * MIB)
    sent = body if kind == "raw" else chunked(body, 300_000)
    flow = Raw(ends.source, ends.sink, b"", len(sent)) if kind == "raw" else Chunked(ends.source, ends.sink, b"")
    digest, got = hashlib.sha256(), 0

    async def client() -> None:
        view = memoryview(sent)
        while view:
            size = source.randrange(1, 500_000)
            await ends.far.send(view[:size])
            view = view[size:]

    async def receiver() -> None:
        nonlocal got
        while got < len(sent):
            await ends.near.more()
            got += len(ends.near.buffer)
            digest.update(ends.near.buffer)
            ends.near.buffer.clear()

    run(ends.loop, ends.pump(flow), client(), receiver())
    assert digest.hexdigest() == hashlib.sha256(sent).hexdigest()
    assert flow.complete
    assert flow.count == len(sent)


def test_two_flows_on_one_descriptor_are_waited_for_together(ends):
    up, down = Raw(ends.source, ends.sink, b"", None), Raw(ends.sink, ends.source, b"", None)
    up._blocked = True
    assert wanted([up, down]) == {ends.sink.fileno(): IN | OUT}


def test_idle_flow_holds_no_pipe(ends):
    flow = Raw(ends.source, ends.sink, b"", None)
    before = descriptors()
    ends.far.sock.send(b"x")
    flow.step()
    idle = len(pipes._idle)
    flow.step()
    assert len(pipes._idle) == idle
    assert flow._pipe is None
    assert_closed(before + 2)
