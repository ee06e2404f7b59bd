"""See how soon each process is back that was killed, on a real engine: as who asks for what only it does has it.

As root, at the top of the checkout: .venv/bin/python -m tests.faults.returning [--engine 28] [--times 10]

First each kill is of a process that has lived for a while, which is started again at once; then they follow one
another as fast as service comes back, so that the supervisor waits before each start (child.MOST_BACKOFF). Listening
sockets are the supervisor's and stay: a call that comes meanwhile waits, and most of the time none is refused at all.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import time
from typing import NamedTuple

from sockproxy.supervise.child import HEALTHY
from tests.faults.calls import CALLS, Ground
from tests.faults.killing import ground_on, nothing_left
from tests.support.proxy import PROCESSES, eventually

# What is asked for, of each process of the table.
ASKED = {
    "front": "list", "audit": "network", "auth": "account", "own": "mine", "mediator": "build", "lifecycle": "list",
    "network": "network", "filesystem": "download", "binds": "start", "attacher": "start",
}  # fmt: skip
TITLE = "seconds until a call is done, beyond what it takes: the longest (the median), calls that failed meanwhile"
assert ASKED.keys() == PROCESSES.keys()


class Back(NamedTuple):
    """Say how one came back: the seconds until its call was done, and how many calls failed meanwhile."""

    seconds: float
    failed: int


def alone(ground: Ground, process: str) -> float:
    """Make its call; give the seconds that it takes."""
    kind = CALLS[ASKED[process]]
    name, begun = kind.prepare(ground), time.monotonic()
    assert kind.make(ground, name) == "done"
    return time.monotonic() - begun


def once(ground: Ground, process: str) -> Back:
    """Kill a process, and make its call until it is done."""
    kind, failed = CALLS[ASKED[process]], 0
    name = kind.prepare(ground)
    eventually(lambda: process in ground.proxy.processes, f"a {process}")
    pid = ground.proxy.processes[process]
    os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    while (came := kind.make(ground, name)) != "done":
        assert came in ("refused", "cut"), came
        failed += 1
        again = time.monotonic()
        name = kind.prepare(ground)
        begun += time.monotonic() - again  # what goes before the call is not part of it
    seconds = time.monotonic() - begun
    eventually(lambda: ground.proxy.processes.get(process, pid) != pid, f"another {process}")
    return Back(seconds, failed)


def added(found: list[Back], takes: float) -> list[float]:
    """Give what being killed has added, in seconds."""
    return [max(0.0, one.seconds - takes) for one in found]


def told(found: list[Back], takes: float) -> str:
    """Say what was seen."""
    more = added(found, takes)
    return f"{max(more):.2f} ({statistics.median(more):.2f}), {sum(one.failed for one in found)}"


def main() -> int:
    """Print the table; 1 when one took longer than a second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", default="28")
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args()
    late = False
    with ground_on(options.engine) as ground:
        print(f"{TITLE}; load {os.getloadavg()[0]:.1f}\n")
        print("| process | call | killed after a while | again at once |\n|---|---|---|---|")
        for process, call in ASKED.items():
            with nothing_left(ground):
                takes = statistics.median(alone(ground, process) for _ in range(options.times))
                calm, hurried = [], []
                for _ in range(options.times):
                    time.sleep(HEALTHY)
                    calm.append(once(ground, process))
                hurried = [once(ground, process) for _ in range(options.times)]
            print(f"| {process} | {call} | {told(calm, takes)} | {told(hurried, takes)} |", flush=True)
            late |= max(added(calm + hurried, takes)) >= 1
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
