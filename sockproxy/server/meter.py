"""Count what the front does, for who looks after it: who is connected, what is under way, what was refused.

Of a request it tells the operation and what it is about, as the record does, and never a query, a header or a body.
"""

from __future__ import annotations

import bisect
import time
from collections import Counter, deque
from http import HTTPStatus

from sockproxy.errors import CallError, Denied
from sockproxy_helpers.api.operations import Operation
from sockproxy_helpers.system.caller import Caller

REFUSALS = 20  # kept
USERS = 10_000  # told apart; those that came later count for nobody
SENTENCE = 500  # characters of why something was refused
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds; those of Prometheus' own libraries
MINUTE = 60
_STREAMS = ("hijack", "json-stream", "multiplexed", "tar")  # answers that last as long as somebody wants


def is_stream(operation: Operation) -> bool:
    """Tell whether a call lasts as long as it is wanted, so that its time says nothing."""
    return operation.response in _STREAMS or operation.name == "ContainerWait"


class Visit:
    """Hold what is known of one connection: no generator, of which an idle stream would hold half a kilobyte.

    Attributes:
        began: seconds since the epoch; `since` of the call under way.
        about: the variables of its path: a container's name, say.
        asked: what is being asked for, as far as it was read.
    """

    __slots__ = ("_meter", "about", "asked", "began", "operation", "requests", "since", "who")

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.began, self.since, self.requests = time.time(), 0.0, 0
        self.who: Caller | None = None
        self.operation: Operation | None = None
        self.about: list[str] = []
        self.asked = ""

    def __enter__(self) -> Visit:
        self._meter.visits.add(self)
        self._meter.connections += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._meter.visits.discard(self)


class UnderWay:
    """Be a call that is under way: no generator, which would cost it 3 us.

    Attributes:
        repeats, seconds: calls that followed while the connection was lent, and how long these took together.
    """

    __slots__ = ("_began", "_meter", "_operation", "_visit", "repeats", "seconds")

    def __init__(self, meter: Meter, visit: Visit, operation: Operation) -> None:
        self._meter, self._visit, self._operation, self._began = meter, visit, operation, time.monotonic()
        self.repeats, self.seconds = 0, 0.0

    def __enter__(self) -> UnderWay:
        return self

    def __exit__(self, *_: object) -> None:
        if self.repeats:
            self._meter.end(self._visit, self._operation, self.seconds / self.repeats, self.repeats + 1)
        else:
            self._meter.end(self._visit, self._operation, time.monotonic() - self._began, 1)


class Meter:
    """Count, for the whole front.

    Attributes:
        visits: the connections of now.
        connections, served, refused: since the start; served by operation, refused by status.
        users: by name: calls served, calls refused.
        seconds: by scope: calls by the first of BOUNDS that was enough, then all others; their sum.
    """

    def __init__(self) -> None:
        self.began = self.loaded = time.time()
        self.visits: set[Visit] = set()
        self.connections = 0
        self.served: Counter[str] = Counter()
        self.refused: Counter[int] = Counter()
        self.users: dict[str, list[int]] = {}
        self.seconds: dict[str, tuple[list[int], list[float]]] = {}
        self.refusals: deque[dict[str, object]] = deque(maxlen=REFUSALS)
        self._ring, self._last = [0] * MINUTE, 0

    def visit(self) -> Visit:
        """Count a connection, for as long as it lasts: `with meter.visit() as visit`."""
        return Visit(self)

    def call(self, visit: Visit, operation: Operation, about: list[str]) -> UnderWay:
        """Count a call that a helper takes: `with meter.call(…)`."""
        visit.operation, visit.about, visit.since = operation, about, time.time()
        visit.requests += 1
        return UnderWay(self, visit, operation)

    def end(self, visit: Visit, operation: Operation, seconds: float, times: int) -> None:
        """Count the end of a call, or of several that took so long each; see `call`."""
        visit.operation = None
        visit.requests += times - 1
        now = int(time.monotonic())
        self.served[operation.name] += times
        self._count(visit.who, 0, times)
        self._pass(now)
        self._ring[now % MINUTE] += times
        if not is_stream(operation):
            counts, total = self.seconds.setdefault(operation.scope, ([0] * (len(BOUNDS) + 1), [0.0]))
            counts[bisect.bisect_left(BOUNDS, seconds)] += times
            total[0] += seconds * times

    def refuse(self, visit: Visit, who: Caller, problem: CallError, request_id: str) -> None:
        """Count an error or a refusal that sockproxy answered itself; remember the last, but of what is not there."""
        self.refused[problem.status] += 1
        self._count(who, 1)
        if problem.status != HTTPStatus.NOT_FOUND:
            why = (
                f"{problem.message}: rule {problem.at}"
                if isinstance(problem, Denied) and problem.at
                else problem.message
            )
            told = {"time": time.time(), "user": name_of(who), "asked": visit.asked, "status": problem.status}
            self.refusals.append(told | {"why": why[:SENTENCE], "rid": request_id})

    def _count(self, who: Caller | None, what: int, times: int = 1) -> None:
        name = name_of(who)
        counts = self.users.get(name)
        if counts is None:
            if len(self.users) >= USERS:
                return
            counts = self.users[name] = [0, 0]
        counts[what] += times

    def rate(self) -> float:
        """Give the calls a second of the last minute, or since the start if that is not so long ago."""
        self._pass(int(time.monotonic()))
        return sum(self._ring) / max(1.0, min(float(MINUTE), time.time() - self.began))

    def _pass(self, now: int) -> None:
        for second in range(max(self._last + 1, now - MINUTE + 1), now + 1):
            self._ring[second % MINUTE] = 0
        self._last = now


def name_of(who: Caller | None) -> str:
    """Name a caller as far as the front knows it: of containers, the helpers find out whose they are."""
    if who is None:
        return "?"
    if who.user:
        return who.user
    return "in a container" if who.via == "container" else f"uid {who.uid}"
