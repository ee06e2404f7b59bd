"""The front's end of the audit connection."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sockproxy.audit.client import LIMIT, Recorder
from sockproxy.audit.keeper import Keeper
from sockproxy.audit.log import NAME, Log
from sockproxy.audit.writer import Writer
from sockproxy.errors import AuditGone


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    (tmp_path / "audit").mkdir()
    return tmp_path


@pytest.fixture
def listener(runtime: Path) -> Iterator[trio.socket.SocketType]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(str(runtime / "audit/audit.sock"))
        sock.listen()
        yield trio.socket.from_stdlib_socket(sock)


@pytest.fixture
def writer(runtime: Path) -> Iterator[Path]:
    """Run the real writer; give its file."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(runtime / "audit/audit.sock"))
    listener.listen()
    log = Log(str(runtime))
    stop, stopped = socket.socketpair()
    thread = threading.Thread(target=Writer(listener, Keeper(log), frozenset((os.getuid(),))).run, args=(stopped,))
    thread.start()
    yield runtime / NAME
    stop.send(b"x")
    thread.join(10)
    log.close()
    for sock in (listener, stop, stopped):
        sock.close()


@pytest.fixture
async def recorder(runtime: Path) -> AsyncIterator[Recorder]:
    made = Recorder(str(runtime))
    yield made
    made.close()


@asynccontextmanager
async def asking(recorder: Recorder, names: str) -> AsyncIterator[dict[str, object]]:
    """Have a task for each name record it; give what became of each."""
    results: dict[str, object] = {}

    async def ask(name: str) -> None:
        try:
            results[name] = await recorder.record({"ev": name})
        except AuditGone:
            results[name] = AuditGone

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(ask, name)
                await wait_all_tasks_blocked()
            yield results


async def test_each_of_many_gets_the_number_of_its_own_record(writer: Path, recorder: Recorder) -> None:
    numbers: dict[int, int] = {}

    async def ask(index: int) -> None:
        numbers[index] = await recorder.record({"ev": "x", "n": index})

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for index in range(1000):
                nursery.start_soon(ask, index)
    lines = [json.loads(line) for line in writer.read_text().splitlines()]
    assert {line["n"]: line["seq"] for line in lines} == numbers
    assert len({line["peer"]["pid"] for line in lines}) == 1
    assert lines[0]["v"] == 1


async def test_whoever_reads_passes_it_on_when_cancelled(listener: trio.socket.SocketType, recorder: Recorder) -> None:
    first = trio.CancelScope()

    async def cancelled() -> None:
        with first:
            await recorder.record({"ev": "a"})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancelled)
        await wait_all_tasks_blocked()
        async with asking(recorder, "bc") as results:
            server, _ = await listener.accept()
            first.cancel()
            await wait_all_tasks_blocked()
            for number in (1, 2, 3):
                await server.send(b'{"seq":%d}' % number)
    assert results == {"b": 2, "c": 3}
    server.close()


async def test_two_that_leave_at_once_do_not_take_the_reading_with_them(
    listener: trio.socket.SocketType, recorder: Recorder
) -> None:
    leaving = [trio.CancelScope() for _ in range(3)]

    async def cancelled(scope: trio.CancelScope) -> None:
        with scope:
            await recorder.record({"ev": "a"})

    async with trio.open_nursery() as nursery:
        for scope in leaving:
            nursery.start_soon(cancelled, scope)
            await wait_all_tasks_blocked()
        async with asking(recorder, "bcd") as results:
            server, _ = await listener.accept()
            for scope in leaving:
                scope.cancel()
            await wait_all_tasks_blocked()
            for number in range(1, 7):
                await server.send(b'{"seq":%d}' % number)
    assert results == {"b": 4, "c": 5, "d": 6}
    server.close()


async def test_all_that_wait_learn_that_the_writer_is_gone(
    listener: trio.socket.SocketType, recorder: Recorder
) -> None:
    async with asking(recorder, "abc") as results:
        server, _ = await listener.accept()
        await server.send(b'{"seq":1}')
        await wait_all_tasks_blocked()
        server.close()
    assert results == {"a": 1, "b": AuditGone, "c": AuditGone}
    async with asking(recorder, "d") as results:
        server, _ = await listener.accept()
        assert json.loads(await server.recv(100)) == {"v": 1, "ev": "d"}
        await server.send(b'{"seq":9}')
    assert results == {"d": 9}
    server.close()


async def test_a_connection_that_ended_unused_is_made_again(
    listener: trio.socket.SocketType, recorder: Recorder
) -> None:
    async with asking(recorder, "a"):
        server, _ = await listener.accept()
        await server.send(b'{"seq":1}')
    server.close()
    async with asking(recorder, "b") as results:
        server, _ = await listener.accept()
        await server.send(b'{"seq":2}')
    assert results == {"b": 2}
    server.close()


@pytest.mark.parametrize(
    "answer", [b'{"error":"No space left on device"}', b"x", b"[]", b'{"seq":"1"}', b'{"seq":true}']
)
async def test_what_is_no_number_is_no_acknowledgement(
    listener: trio.socket.SocketType, recorder: Recorder, answer: bytes
) -> None:
    async with asking(recorder, "a") as results:
        server, _ = await listener.accept()
        await server.send(answer)
    assert results == {"a": AuditGone}
    server.close()


async def test_nobody_there(recorder: Recorder) -> None:
    with pytest.raises(AuditGone):
        await recorder.record({"ev": "a"})


async def test_a_record_that_is_too_large_is_not_even_sent(recorder: Recorder) -> None:
    with pytest.raises(AuditGone, match="too large"):
        await recorder.record({"ev": "x" * LIMIT})


async def test_a_writer_that_hangs_is_as_good_as_gone(
    listener: trio.socket.SocketType, recorder: Recorder, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    with pytest.raises(AuditGone):
        await recorder.record({"ev": "a"})
    assert trio.current_time() - start == pytest.approx(5)


async def test_a_writer_that_reads_nothing_holds_up_senders_not_for_ever(
    listener: trio.socket.SocketType, recorder: Recorder, autojump_clock: MockClock
) -> None:
    gone = []

    async def ask() -> None:
        try:
            await recorder.record({"ev": "x" * 60000})
        except AuditGone:
            gone.append(1)

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    assert len(gone) == 50
