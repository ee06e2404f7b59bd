"""Kill each process at each step of each kind of call, on a real engine, and see what all sides have of it afterwards.

As root, at the top of the checkout: .venv/bin/python -m tests.faults.killing [--engine 28] [--steps 1000] [--distinct]
[--along PROCESS] [--full] [CALL...]

A call is made once to learn its steps (`steps`), then again and again with the process killed before each of them, and
another one along with it where that was asked for. A build has some hundred steps, which are mostly the same ones again
(a message is taken, and passed on): `--distinct` is for one place of each kind, by the steps that lie around it.
With `--full` there is no byte left on the record's disk meanwhile, and nothing may be done.
What is asserted each time: who asked hears the truth or that it was cut off, the daemon has what was promised and
nothing that is not on the record, and another user's calls are answered meanwhile. At the end nothing is left over.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator

from tests.faults.calls import CALLS, KINDS, Call, Ground
from tests.faults.steps import stepping
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.raw import BrokenOff, Connection
from tests.support.users import Users, remove_folder, shared_folder

AROUND = 3  # steps before a place, and as many after it, that tell it from others
FULL = "30m"  # where the disk is to be full
KEPT = 16  # descriptors: idle channels with their connections to the daemon, pipes
SETTLED = 0.4  # seconds without a step: what is done soon (record.SOON) has been done
PATIENCE = 20.0  # seconds of a busy machine


class Beside(threading.Thread):
    """Be another user who asks all the time, of a helper that is not the one that is killed.

    Not where it is the front or the audit writer: the call's own steps could not be told from those for others.

    Attributes:
        answers, failures: how many there were; a failure says so, or its connection was cut.
        longest: seconds between two answers.
    """

    def __init__(self, ground: Ground, process: str) -> None:
        super().__init__(daemon=True)
        self.answers = self.failures = 0
        self.longest = 0.0
        self.wrong: list[object] = []
        self._ground, self._ending = ground, threading.Event()
        self._target = KINDS[0] if process == "network" else KINDS[1]
        self._connection = Connection(ground.proxy.listen, ground.users.bob)
        if process in ("front", "audit"):
            self._ending.set()
        self.start()

    def run(self) -> None:
        """Ask."""
        last = time.monotonic()
        while not self._ending.wait(0.01):
            try:
                answer = self._connection.call("GET", self._target)
            except (BrokenOff, ConnectionError):
                self.failures += 1
                self._connection.close()
                self._connection = Connection(self._ground.proxy.listen, self._ground.users.bob)
                continue
            if answer.status == 200:
                self.answers += 1
                self.longest, last = max(self.longest, time.monotonic() - last), time.monotonic()
            elif answer.status in (502, 503) and answer.message:
                self.failures += 1
            else:
                self.wrong.append((answer.status, answer.body))

    def end(self) -> None:
        """Stop, and see that nothing was wrong."""
        self._ending.set()
        self.join()
        self._connection.close()
        assert not self.wrong, self.wrong[:3]


@contextlib.contextmanager
def nothing_left(ground: Ground) -> Iterator[None]:
    """See that afterwards no descriptor, thread, mount or record of a bind is left, and that the record is whole."""
    eventually(ground.serves, "service")
    mounts, said = ground.mounts(), len(ground.proxy.errors())
    before = ground.held()
    yield
    eventually(ground.serves, "service")
    for path in (ground.proxy.folder / "state" / "binds").glob("*/sockproxy-*"):
        os.utime(path, (1, 1))  # what was staged for a container that never came is kept for a while
    eventually(lambda: ground.mounts() <= mounts, "mounts taken away", PATIENCE)
    eventually(lambda: all(count <= before[name] + KEPT for name, count in ground.held().items()), "given back")
    ground.verify()
    assert "Traceback" not in ground.proxy.errors()[said:], ground.proxy.errors()[said:][-3000:]


def learn(ground: Ground, kind: Call, process: str, expected: str = "done") -> list[str]:
    """Make the call once; give the steps of a process."""
    name = kind.prepare(ground)
    with stepping(ground.proxy.processes[process]) as stepper:
        came = kind.make(ground, name)
        assert came == expected, came
        eventually_still(stepper.taken)
    return list(stepper.taken)


def eventually_still(steps: list[str]) -> None:
    """Wait until there are no more steps for a while."""
    count = -1
    while count != len(steps):
        count = len(steps)
        time.sleep(SETTLED)


def kill_at(ground: Ground, kind: Call, process: str, step: int | str, along: str = "") -> tuple[str, float]:
    """Make the call with a process killed before one of its steps, by its number, or behind the first of a name.

    Another one is killed along with it.

    Gives how far it came, and when all was back.
    """
    name = kind.prepare(ground)
    eventually(lambda: process in ground.proxy.processes, f"a {process}")  # that of the step before it may be starting
    if along:
        eventually(lambda: along in ground.proxy.processes, f"a {along}")
    running = ground.proxy.processes
    with stepping(running[process], step, running.get(along, 0)) as stepper:
        try:
            came = kind.make(ground, name)
        except AssertionError as error:
            raise AssertionError(f"{process} killed after {stepper.taken}: {error}") from error
        begun = time.monotonic()
        if not stepper.killed:
            eventually_still(stepper.taken)
    if not stepper.killed:
        return f"{came}, alive", 0.0
    eventually(ground.serves, f"service after {process}", PATIENCE)
    return came, time.monotonic() - begun


def places(steps: list[str], most: int, distinct: bool) -> list[int]:
    """Choose among a call's steps: all, so many, or the first and the last of those that look alike."""
    found = list(range(len(steps)))
    if distinct:
        seen: dict[tuple[str, ...], list[int]] = {}
        for step in found:
            seen.setdefault(tuple(steps[max(0, step - AROUND) : step + AROUND]), []).append(step)
        found = sorted({step for alike in seen.values() for step in (alike[0], alike[-1])})
    return [found[index] for index in sorted({round(n * (len(found) - 1) / max(1, most - 1)) for n in range(most)})]


@contextlib.contextmanager
def full(ground: Ground) -> Iterator[None]:
    """Leave no byte of the record's disk; what only reads is answered all the same (on_full: refuse)."""
    log, filler, writer = ground.proxy.log / "audit.jsonl", ground.proxy.log / "filler", ground.proxy.processes["audit"]
    said = len(ground.proxy.errors())
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        os.kill(writer, signal.SIGSTOP)
        os.truncate(log, log.stat().st_size)  # what it has reserved beyond the end
        while True:
            file.write(bytes(1 << 12))
    os.kill(writer, signal.SIGCONT)
    eventually(lambda: ground.serves() and "no room for the record" in ground.proxy.errors()[said:], "alarm")
    try:
        yield
    finally:
        filler.unlink()
        eventually(ground.serves, "service")
        probe = CALLS["network"]
        eventually(lambda: probe.make(ground, probe.prepare(ground)) == "done", "room again")


def kill(ground: Ground, kind: Call, process: str, options: argparse.Namespace) -> str:
    """Do it at so many steps, or at all; tell what was seen."""
    with full(ground) if options.full else contextlib.nullcontext():
        steps = learn(ground, kind, process, "refused" if options.full else "done")
        chosen = places(steps, options.steps, options.distinct) if steps else []
        came: dict[str, int] = {}
        longest, beside = 0.0, Beside(ground, "front" if kind is CALLS["restart"] else process)
        try:
            for step in chosen:
                how, took = kill_at(ground, kind, process, step, options.along)
                assert not options.full or not how.startswith("done"), "done unrecorded"
                came[how] = came.get(how, 0) + 1
                longest = max(longest, took)
        finally:
            beside.end()
    said = ", ".join(f"{count} {how}" for how, count in sorted(came.items()))
    said = f"{len(chosen)} of {len(steps)} steps: {said or 'none'}; service back in {longest:.2f} s"
    if beside.answers:
        said += f"; another user: {beside.answers} answers, {beside.failures} failed and said so"
        said += f", {beside.longest:.2f} s between two at most"
    return said


@contextlib.contextmanager
def ground_on(version: str, disk: str = "") -> Iterator[Ground]:
    """Have an engine and a sockproxy for the command, with a disk of so many bytes for the record."""
    with contextlib.ExitStack() as stack:
        folder = shared_folder()
        stack.callback(remove_folder, folder)
        (folder / "homes").mkdir()
        users = Users(folder / "homes")
        stack.callback(users.remove)
        engine = Engine(version, folder / "engine")
        stack.callback(engine.stop)
        (folder / "proxy").mkdir()
        if disk:
            (folder / "proxy" / "log").mkdir()
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", folder / "proxy" / "log"], check=True
            )
            stack.callback(subprocess.run, ["umount", folder / "proxy" / "log"], check=True)
        users.add_plugins(engine.plugins)
        proxy = Proxy(engine, folder / "proxy", default_policy(users))
        stack.callback(proxy.stop)
        yield Ground(proxy, users)


def main() -> int:
    """Kill at all steps, and print what was seen; 1 when something was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", default="28")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--distinct", action="store_true")
    parser.add_argument("--along", default="", metavar="PROCESS")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("calls", nargs="*", default=[])
    options = parser.parse_args()
    failed = False
    with ground_on(options.engine, FULL if options.full else "") as ground:
        for name, kind in CALLS.items():
            chosen = kind.processes if not options.calls or name in options.calls else ()
            for process in (one for one in chosen if one != options.along):
                try:
                    with nothing_left(ground):
                        said = kill(ground, kind, process, options)
                except (AssertionError, KeyError, OSError):
                    said, failed = f"FAILED: {traceback.format_exc(limit=-8)}", True
                both = f"{process} and {options.along}" if options.along else process
                print(f"| {name} | {both} | {said} |", flush=True)
                ground.proxy.engine.clean()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

__all__ = ["CALLS", "Ground", "kill_at", "nothing_left"]
