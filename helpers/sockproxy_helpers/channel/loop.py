"""Run coroutines on one epoll: the event loop of the root helpers.

The language's coroutines need only something that resumes them when a descriptor is ready. That is all there is here:
no callbacks, no futures, no threads, so that a call reads from top to bottom and the trusted base stays small.

Invariant: a descriptor is waited for by one task at a time; `close` is the only way a socket that was waited for ends,
because a duplicate elsewhere (the front keeps the client's) would keep a closed number alive inside the epoll.
"""

from __future__ import annotations

import heapq
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Coroutine, Generator

IN, OUT = select.EPOLLIN, select.EPOLLOUT
RDHUP, HUP, ERR = select.EPOLLRDHUP, select.EPOLLHUP, select.EPOLLERR
Want = dict[int, int]


class Wait:
    """Suspend a task until one of the descriptors is ready, the time is over, or somebody wakes it."""

    __slots__ = ("timeout", "want")

    def __init__(self, want: Want, timeout: float | None) -> None:
        self.want, self.timeout = want, timeout

    def __await__(self) -> Generator[Wait, Want, Want]:
        return (yield self)


class Task:
    """Hold a coroutine that the loop runs.

    Invariant: `queued` is true exactly while the task is in the loop's ready queue, `events` what it is resumed with.
    """

    __slots__ = ("coroutine", "events", "queued", "turn", "want")

    def __init__(self, coroutine: Coroutine[Wait, Want, None]) -> None:
        self.coroutine = coroutine
        self.want: Want = {}
        self.events: Want = {}
        self.queued = False
        self.turn = 0  # counts its waits, so that a timer of an earlier wait is known to be stale


class Loop:
    """Run tasks until `stop`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._armed: Want = {}
        self._waiting: dict[int, Task] = {}
        self._ready: deque[Task] = deque()
        self._timers: list[tuple[float, int, int, Task]] = []
        self._timer = 0
        self._stopped = False
        self.current: Task | None = None

    def spawn(self, coroutine: Coroutine[Wait, Want, None]) -> Task:
        """Start a task; it first runs in the next turn of the loop."""
        task = Task(coroutine)
        self.wake(task)
        return task

    def wait(self, want: Want, timeout: float | None = None) -> Wait:
        """Wait for events: `await loop.wait({fd: IN})`.

        Args:
            want: descriptor to epoll mask; HUP and ERR are always reported. Empty: only a timeout or `wake` ends it.
            timeout: seconds.

        Returns (when awaited):
            The descriptors that are ready with their events; empty after the timeout or a `wake`.
        """
        return Wait(want, timeout)

    def wake(self, task: Task) -> None:
        """Resume a waiting task in this turn."""
        if not task.queued:
            task.queued = True
            self._ready.append(task)

    def close(self, sock: socket.socket) -> None:
        """Forget and close a socket; a task that waits for it is resumed, since nothing else will."""
        fd = sock.fileno()
        self._disarm(fd)
        waiting = self._waiting.pop(fd, None)
        if waiting:
            self.wake(waiting)
        sock.close()

    def stop(self) -> None:
        """End `run` after this turn."""
        self._stopped = True

    def run(self) -> None:
        """Run until stopped."""
        while not self._stopped:
            self._poll()
            self._expire()
            for _ in range(len(self._ready)):
                self._step(self._ready.popleft())

    def _poll(self) -> None:
        for fd, events in self._epoll.poll(0 if self._ready else self._timeout()):
            task = self._waiting.get(fd)
            if task is None:
                self._disarm(fd)  # its owner is busy elsewhere: level-triggered, it would fire without end
            else:
                task.events[fd] = events
                self.wake(task)

    def _timeout(self) -> float:
        """Tell how long nothing can happen without an event; most timers are over before their time, and forgotten."""
        while self._timers and self._timers[0][2] != self._timers[0][3].turn:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def _expire(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, turn, task = heapq.heappop(self._timers)
            if task.turn == turn:
                self.wake(task)

    def _step(self, task: Task) -> None:
        self._release(task)
        task.turn += 1
        task.queued, events, task.events = False, task.events, {}
        self.current = task
        try:
            wait = task.coroutine.send(events if task.turn > 1 else None)  # type: ignore[arg-type]
            self._suspend(task, wait)
        except StopIteration:
            pass
        except Exception:
            # Each task catches what it expects at its own boundary: this is our bug, and the others go on.
            sys.excepthook(*sys.exc_info())
            self._release(task)
            task.coroutine.close()
        finally:
            self.current = None

    def _release(self, task: Task) -> None:
        """End a task's wait: only what is still its own, since a closed descriptor's number may be another's by now."""
        for fd in task.want:
            if self._waiting.get(fd) is task:
                del self._waiting[fd]
        task.want = {}

    def _suspend(self, task: Task, wait: Wait) -> None:
        task.want = wait.want
        for fd, mask in wait.want.items():
            self._waiting[fd] = task
            if self._armed.get(fd) != mask:
                (self._epoll.modify if fd in self._armed else self._epoll.register)(fd, mask)
                self._armed[fd] = mask
        if wait.timeout is not None:
            self._timer += 1
            heapq.heappush(self._timers, (time.monotonic() + wait.timeout, self._timer, task.turn, task))

    def _disarm(self, fd: int) -> None:
        if self._armed.pop(fd, None) is not None:
            self._epoll.unregister(fd)


class Lock:
    """Let one task in at a time: `async with lock:`, in the order of their coming."""

    __slots__ = ("_held", "_loop", "_waiting")

    def __init__(self, loop: Loop) -> None:
        self._loop, self._held = loop, False
        self._waiting: list[Task] = []  # an empty deque has 600 bytes, and each call has such a lock

    async def __aenter__(self) -> None:
        while self._held:
            assert self._loop.current is not None
            self._waiting.append(self._loop.current)
            await self._loop.wait({})
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        self._held = False
        if self._waiting:
            self._loop.wake(self._waiting.pop(0))
