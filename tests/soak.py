"""Use a running sockproxy in many ways for a long time, and see at the end that memory and descriptors have no trend.

As root, at the top of the checkout: .venv/bin/python -m tests.soak [--minutes 30] [--engine 28]

Traffic: the docker CLI as two users (run, exec, cp, logs, build, volumes, networks), raw requests on kept and on new
connections, streams that come and go, clients that vanish, refusals. A line each half a minute; the first fifth of the
time warms up. Descriptors are compared at rest, before and after, with as many connections kept for the next calls: how
many are open meanwhile, and how many of those are kept, goes with how busy the machine is. Exit code 1 when a process
has grown, something was not served as it should be, or a process has ended.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sockproxy.server.memo import MEMO_HEADS
from sockproxy_helpers.stream.pipes import POOL
from sockproxy_helpers.system import peer
from sockproxy_helpers.upstream import objects
from tests.support.containers import API, create, follow, run
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.raw import BrokenOff, Connection
from tests.support.users import User, Users, remove_folder, shared_folder

LASTING = ("front", "audit", "auth", "lifecycle", "network", "filesystem", "binds", "attacher")
HELPERS = ("lifecycle", "network", "filesystem")
PERIOD = 30.0  # seconds between two lines
# Growth after warming up that is no leak: Python takes memory by the MiB. Two helpers remember containers and execs, up
# to 2,000 (objects.REMEMBERED), of which there are new ones all the time here; their end is not told to them.
# Pipes are kept for the next splice, POOL of them, two descriptors each.
MEMORY, REMEMBERED, DESCRIPTORS = 1024.0, 0.5, 4  # KiB; KiB for each container or exec that was made; descriptors
REMEMBERING = ("lifecycle", "filesystem")  # runs and execs; copies
AT_ONCE = 40  # calls of each helper: more than there ever are here, and fewer than it keeps channels for (channel.IDLE)
FILLING = peer.REMEMBERED * 3 // 2  # connections
LISTS = ("containers/json", "networks", "images/json")  # one of each helper
TARGETS = ("containers/json?all=1", "images/json", "networks", "volumes", "info", "version", "system/df")


class Soak:
    """Hold what is used, and what went wrong."""

    def __init__(self, proxy: Proxy, users: Users) -> None:
        self.proxy, self.people = proxy, (users.alice, users.bob)
        self.done: dict[str, int] = {}
        self.wrong: list[str] = []
        self.end = threading.Event()
        # Whom the kernel sees is the effective uid of the whole process, so that one connects at a time.
        self.lock = threading.Lock()

    def connect(self, user: User) -> Connection:
        """Connect as a user."""
        with self.lock:
            return Connection(self.proxy.listen, user, timeout=60)

    def docker(self, user: User, *words: str, **more: object) -> None:
        """Run a docker command, which must succeed."""
        done = self.proxy.docker(user, *words, timeout=120, **more)
        if done.returncode:
            raise AssertionError(f"docker {' '.join(words)}: {done.stderr[-300:]}")

    def commands(self, user: User, chance: random.Random) -> None:
        """What people do."""
        name = f"soak{chance.randrange(1 << 30)}"
        self.docker(user, "run", "-d", "--name", name, "busybox", "sleep", "60")
        self.docker(user, "exec", name, "sh", "-c", "head -c 300000 /dev/urandom > /x")
        self.docker(user, "cp", f"{name}:/x", str(user.home / "x"))
        self.docker(user, "logs", name)
        self.docker(user, "rm", "-f", name)
        self.docker(user, "volume", "create", name)
        self.docker(user, "volume", "rm", name)
        self.docker(user, "run", "--rm", "-i", "busybox", "cat", input="x" * 100_000)

    def requests(self, user: User, chance: random.Random) -> None:
        """Ask, on one connection."""
        with self.connect(user) as connection:
            for _ in range(chance.randint(1, 50)):
                answer = connection.call("GET", f"{API}/{chance.choice(TARGETS)}")
                assert answer.status in (200, 429), (answer.status, answer.body[:200])

    def refusals(self, user: User, chance: random.Random) -> None:
        """Ask for what is refused."""
        with self.connect(user) as connection:
            for body in ({"Image": "busybox", "HostConfig": {"Privileged": True}}, {"image": 1}, {"Nonsense": 1}):
                assert connection.call("POST", f"{API}/containers/create", body).status in (400, 403, 429)
            assert connection.call("GET", f"{API}/containers/{'d' * 64}/json").status in (404, 429)

    def leavers(self, user: User, chance: random.Random) -> None:
        """Leave in the middle."""
        for _ in range(20):
            with self.connect(user) as connection:
                text = f"GET {API}/events HTTP/1.1\r\nHost: d\r\n\r\n".encode()
                connection.send(text[: chance.randint(0, len(text))])

    def streams(self, user: User, chance: random.Random) -> None:
        """Follow output to its end, some in parallel."""
        with self.lock:
            container = run(self.proxy, user, "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done")
            found = [follow(self.proxy, user, container) for _ in range(5)]
        for connection in found:
            with connection:
                assert connection.chunks().count(b"\n") == 5
        with self.lock:
            extra = create(self.proxy, user, "true")
        for one in (container, extra):
            self.docker(user, "rm", "-f", one)

    def work(self, kind: Callable[[User, random.Random], None], user: User, seed: int) -> None:
        """Do one kind of thing until the end."""
        chance = random.Random(seed)
        while not self.end.is_set():
            try:
                kind(user, chance)
                self.done[kind.__name__] = self.done.get(kind.__name__, 0) + 1
            except (AssertionError, BrokenOff, OSError, ValueError) as error:
                self.wrong.append(f"{kind.__name__}: {error!r}"[:400])
            self.end.wait(chance.random())


def sizes(proxy: Proxy) -> dict[str, tuple[int, int]]:
    """Give memory (KiB) and descriptors of each process, by name.

    Counted is anonymous memory: a part in shared pages (PSS) grows when others that use the same libraries end.
    """
    found = {}
    for name, pid in proxy.processes.items():
        with contextlib.suppress(OSError, StopIteration):  # the process of a bind, or of a build, comes and goes
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            own = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Anonymous:"))
            found[name] = own, len(os.listdir(f"/proc/{pid}/fd"))
    return found


def growth(values: list[int]) -> float:
    """Give how much values have grown from the first to the last, by the median of the slopes of all pairs.

    Theil and Sen's estimate: bursts, which are no trend, do not move it; a leak of so much an hour does, however small
    beside them.
    """
    pairs = itertools.combinations(enumerate(values), 2)
    slopes = [(later - earlier) / (end - start) for (start, earlier), (end, later) in pairs]
    return statistics.median(slopes) * (len(values) - 1) if slopes else 0.0


def keep(proxy: Proxy) -> None:
    """Have AT_ONCE channels kept to each helper, and behind each a connection to the daemon, which waits meanwhile."""
    daemon = int((proxy.engine.folder / "dockerd.pid").read_text())
    with contextlib.ExitStack() as stack:
        os.kill(daemon, signal.SIGSTOP)
        try:
            asked = [stack.enter_context(Connection(proxy.listen)) for _ in range(AT_ONCE * len(LISTS))]
            for connection, target in zip(asked, itertools.cycle(LISTS), strict=False):
                connection.request("GET", f"{API}/{target}")
            # The client's socket, the channel and the daemon's connection of each call.
            eventually(lambda: all(sizes(proxy)[name][1] > 3 * AT_ONCE for name in HELPERS), "calls under way")
        finally:
            os.kill(daemon, signal.SIGCONT)
        for connection in asked:
            assert connection.answer().status == 200


def at_rest(proxy: Proxy) -> dict[str, int]:
    """Count the descriptors of each process when nothing is asked; what has just ended is closed within a moment."""
    keep(proxy)
    found: list[dict[str, int]] = []
    while len(found) < 5 or found[-5:] != found[-1:] * 5:
        time.sleep(0.5)
        found.append({name: count for name, (_, count) in sizes(proxy).items() if name in LASTING})
    return found[-1]


def grown(samples: list[dict[str, tuple[int, int]]], made: int, opened: dict[str, int]) -> tuple[list[str], list[str]]:
    """Tell how much each process has grown after warming up, and of which that is a leak.

    Args:
        made: containers and execs.
        opened: descriptors that each has more than at first.
    """
    steady = samples[len(samples) // 5 :]
    told, leaks = [], []
    for name in sorted(set.intersection(*map(set, samples)) & {*LASTING}):
        memory, descriptors = growth([sample[name][0] for sample in steady]), opened[name]
        told.append(f"{name}: {memory:+.0f} KiB after warming up, {descriptors:+d} descriptors at rest")
        most = MEMORY + (REMEMBERED * min(made, objects.REMEMBERED) if name in REMEMBERING else 0)
        if memory > most or descriptors > DESCRIPTORS + 2 * POOL * (name in HELPERS):
            leaks.append(f"a leak: {told[-1]}")
    return told, leaks


def main() -> int:
    """Soak; 1 when something was not as it should be."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--engine", default="28")
    options = parser.parse_args()
    folder = shared_folder()
    with contextlib.ExitStack() as stack:
        stack.callback(remove_folder, folder)
        (folder / "homes").mkdir()
        users = Users(folder / "homes")
        stack.callback(users.remove)
        engine = Engine(options.engine, folder / "engine")
        stack.callback(engine.stop)
        (folder / "proxy").mkdir()
        users.add_plugins(engine.plugins)
        proxy = Proxy(engine, folder / "proxy", default_policy(users))
        stack.callback(proxy.stop)
        return soak(Soak(proxy, users), options.minutes * 60)


def fill(one: Soak) -> None:
    """Have each process remember as much as it ever does: to come to that is no leak.

    As who asks later: a uid of root's takes no memory. And some more: a dict in which old ones make room for new ones
    grows once more when a third as many have come as it holds.
    """
    for number in range(FILLING):
        with one.connect(one.people[number % 2]) as connection:
            for target in LISTS:
                assert connection.call("GET", f"{API}/{target}").status == 200
            if FILLING - number < MEMO_HEADS - len(LISTS):  # heads: each that names another container is new
                assert connection.call("GET", f"{API}/containers/{os.urandom(32).hex()}/json").status == 404


def soak(one: Soak, seconds: float) -> int:
    """Run the traffic, sample, judge."""
    fill(one)
    processes, before = one.proxy.processes, at_rest(one.proxy)
    kinds = (one.commands, one.requests, one.refusals, one.leavers, one.streams)
    threads = [
        threading.Thread(target=one.work, args=(kind, user, number))
        for number, (kind, user) in enumerate((kind, user) for kind in kinds for user in one.people)
    ]
    for thread in threads:
        thread.start()
    samples, end = [], time.monotonic() + seconds
    try:
        while (left := end - time.monotonic()) > 0:
            one.end.wait(min(PERIOD, left, seconds / 10))
            with one.lock:  # or the effective uid is a user's for a moment
                samples.append(sizes(one.proxy))
            line = "  ".join(f"{name} {own / 1024:.1f}M/{fds}" for name, (own, fds) in samples[-1].items())
            print(f"{seconds - left:6.0f} s  {line}  wrong {len(one.wrong)}", flush=True)
    finally:
        one.end.set()
        for thread in threads:
            thread.join()
    after = at_rest(one.proxy)
    opened = {name: after.get(name, 0) - count for name, count in before.items()}
    told, found = grown(samples, 3 * one.done.get("commands", 0) + 2 * one.done.get("streams", 0), opened)
    if any(one.proxy.processes.get(name) != processes[name] for name in LASTING):
        found.append(f"processes have ended: {processes} became {one.proxy.processes}")
    if "Traceback" in one.proxy.errors():
        found.append(one.proxy.errors()[-2000:])
    found += one.wrong[:20]
    print("done:", ", ".join(f"{count} {name}" for name, count in sorted(one.done.items())))
    print("\n".join(told))
    print("\n".join(found) or "flat, and all was served")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
