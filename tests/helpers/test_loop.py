"""The event loop of the helpers."""

from __future__ import annotations

import os
import socket
import time

import pytest

from sockproxy_helpers.channel.loop import HUP, IN, OUT, RDHUP, Lock, Loop, Want
from tests.helpers.support import run


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    with one, other:
        yield one, other


def test_wait_returns_what_is_ready(pair):
    loop = Loop()

    async def part() -> None:
        pair[1].send(b"x")
        assert await loop.wait({pair[0].fileno(): IN}) == {pair[0].fileno(): IN}
        assert await loop.wait({pair[0].fileno(): OUT}) == {pair[0].fileno(): OUT}

    run(loop, part())


def test_wait_for_several_descriptors(pair):
    loop = Loop()

    async def part() -> None:
        one, other = (sock.fileno() for sock in pair)
        assert await loop.wait({one: IN, other: IN}, 0.001) == {}
        pair[0].send(b"x")
        assert await loop.wait({one: IN, other: IN}) == {other: IN}
        pair[1].send(b"x")
        assert await loop.wait({one: IN, other: IN}) == {one: IN, other: IN}

    run(loop, part())


def test_timeout_ends_a_wait_with_nothing(pair):
    loop, times = Loop(), []

    async def part() -> None:
        before = time.monotonic()
        assert await loop.wait({pair[0].fileno(): IN}, 0.01) == {}
        times.append(time.monotonic() - before)

    run(loop, part())
    assert 0.01 <= times[0] < 1


def test_timer_of_an_earlier_wait_is_stale(pair):
    loop = Loop()

    async def part() -> None:
        pair[1].send(b"x")
        assert await loop.wait({pair[0].fileno(): IN}, 0.01)
        pair[0].recv(1)
        before = time.monotonic()
        assert await loop.wait({pair[0].fileno(): IN}, 0.05) == {}
        assert time.monotonic() - before >= 0.05

    run(loop, part())


def test_timers_in_order():
    loop, order = Loop(), []

    async def part(seconds: float) -> None:
        await loop.wait({}, seconds)
        order.append(seconds)

    run(loop, part(0.02), part(0.001), part(0.01))
    assert order == [0.001, 0.01, 0.02]


def test_wake_ends_a_wait_and_wakes_once():
    loop, woken = Loop(), []

    async def sleeper() -> None:
        tasks.append(loop.current)
        woken.append(await loop.wait({}))
        woken.append(await loop.wait({}, 0.001))

    async def waker() -> None:
        await loop.wait({}, 0.001)
        loop.wake(tasks[0])
        loop.wake(tasks[0])

    tasks: list = []
    run(loop, sleeper(), waker())
    assert woken == [{}, {}]


def test_error_of_a_task_does_not_end_the_loop(capsys):
    loop = Loop()

    async def bad() -> None:
        raise KeyError("our bug")

    async def good() -> None:
        await loop.wait({}, 0.001)

    loop.spawn(bad())
    run(loop, good())
    assert "our bug" in capsys.readouterr().err


def test_descriptor_that_cannot_be_waited_for_ends_its_task_alone(tmp_path, capsys):
    loop, ended = Loop(), []
    file = os.open(tmp_path, os.O_RDONLY)

    async def bad() -> None:
        try:
            await loop.wait({file: IN})  # EPERM
        finally:
            ended.append("cleaned up")

    async def good() -> None:
        await loop.wait({}, 0.001)

    loop.spawn(bad())
    run(loop, good())
    os.close(file)
    assert ended == ["cleaned up"]
    assert "PermissionError" in capsys.readouterr().err


def test_closed_socket_whose_duplicate_lives_on_is_forgotten(pair):
    """The front keeps the client's: without the unregister its events would come under a number of somebody else."""
    loop = Loop()
    one, other = pair
    duplicate = one.dup()

    async def part() -> None:
        assert await loop.wait({one.fileno(): IN}, 0.001) == {}
        number = one.fileno()
        loop.close(one)
        other.send(b"x")
        new, far = socket.socketpair()
        assert new.fileno() == number
        assert await loop.wait({number: IN}, 0.001) == {}
        far.send(b"y")
        assert await loop.wait({number: IN}) == {number: IN}
        loop.close(new)
        far.close()

    run(loop, part())
    duplicate.close()


def test_ready_descriptor_of_a_busy_task_does_not_spin(pair):
    loop, turns = Loop(), []
    one, other = pair

    async def part() -> None:
        assert await loop.wait({one.fileno(): IN}, 0.001) == {}
        other.send(b"x")  # stays ready, while the task waits for something else
        before = loop._epoll
        loop._epoll = Counting(before, turns)
        await loop.wait({}, 0.02)
        loop._epoll = before
        assert await loop.wait({one.fileno(): IN}) == {one.fileno(): IN}

    class Counting:
        def __init__(self, epoll, turns):
            self.epoll = epoll

        def poll(self, timeout):
            turns.append(timeout)
            return self.epoll.poll(timeout)

        def __getattr__(self, name):
            return getattr(self.epoll, name)

    run(loop, part())
    assert len(turns) < 5


def test_half_close_and_close_are_told_apart(pair):
    loop = Loop()
    one, other = pair

    async def part() -> None:
        other.shutdown(socket.SHUT_WR)
        events = await loop.wait({one.fileno(): RDHUP})
        assert events[one.fileno()] & RDHUP
        assert not events[one.fileno()] & HUP
        other.close()
        events = await loop.wait({one.fileno(): 0})
        assert events[one.fileno()] & HUP

    run(loop, part())


def test_close_resumes_the_task_that_waits(pair):
    """Who closes may not be who waits: the recorder drops its connection while its reader waits for it."""
    loop, seen = Loop(), []

    async def waiter() -> None:
        seen.append(await loop.wait({pair[0].fileno(): IN}))

    async def closer() -> None:
        await loop.wait({}, 0.001)
        loop.close(pair[0])

    run(loop, waiter(), closer())
    assert seen == [{}]


def test_number_that_was_reused_belongs_to_its_new_owner(pair):
    loop, seen = Loop(), []
    one = pair[0]
    number = one.fileno()

    async def old() -> None:
        await loop.wait({number: IN})
        seen.append("old")

    async def new() -> None:
        await loop.wait({}, 0.001)
        loop.close(one)  # queues the old task, which runs after this one has taken the number over
        near, far = socket.socketpair()
        mine = near
        if near.fileno() != number:
            os.dup2(near.fileno(), number)
            near.close()
            mine = socket.socket(fileno=number)

        async def write() -> None:
            await loop.wait({}, 0.001)
            far.send(b"x")

        loop.spawn(write())
        events: Want = await loop.wait({number: IN})
        seen.append(events)
        loop.close(mine)
        far.close()

    run(loop, old(), new())
    assert seen == ["old", {number: IN}]


def test_lock_lets_one_in_at_a_time() -> None:
    loop, seen = Loop(), []
    lock = Lock(loop)

    async def enter(name: str) -> None:
        async with lock:
            seen.append(f"{name} in")
            await loop.wait({}, 0.001)
            seen.append(f"{name} out")
        if len(seen) == 6:
            loop.stop()

    for name in "abc":
        loop.spawn(enter(name))
    loop.run()
    assert seen == [f"{name} {way}" for name in "abc" for way in ("in", "out")]
