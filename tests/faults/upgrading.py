"""Kill who installs, upgrades, removes, restarts and reloads, step by step, and see that doing it again repairs it.

As root, at the top of the checkout: .venv/bin/python -m tests.faults.upgrading [up] [install] [dpkg]

`up`: the supervisor, killed at each of its steps (`steps`) while it reloads and ends, and at many moments of its start.
`install`: `sockproxy install --takeover` and `uninstall`, killed before each of their steps, on a machine that was
booted (`tests/support/booted.py`); then done again, or undone. `dpkg`: the package's upgrade, killed at many moments.
What is asserted each time: all is served again and nothing is left over, or all is as it was before.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.calls import Ground
from tests.faults.killing import ground_on, nothing_left, places
from tests.faults.steps import stepping
from tests.root.test_booted import DAEMON, DEB, docker, etc, states
from tests.support.booted import Booted
from tests.support.proxy import _descendants, eventually

STARTING = [0.02 * count for count in range(1, 60)]  # seconds of a start; some of them are behind it
UPGRADES = 12
INSTALL, UNINSTALL = ("install", "--takeover", "--yes"), ("uninstall", "--yes")
WALKS = ((INSTALL, INSTALL), (UNINSTALL, UNINSTALL), (INSTALL, UNINSTALL), (UNINSTALL, INSTALL))  # killed, and then
PATIENCE = 30.0
# Dies before a step of its plan, as by `kill -9`.
DYING = """
import os, signal, sys
from sockproxy.install.machine import Machine
from sockproxy.cli import main
left, do = int(sys.argv.pop(1)), Machine.do
def dying(self, step):
    global left
    left -= 1
    if left < 0:
        print("died before:", step, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return do(self, step)
Machine.do = dying
sys.exit(main())
"""


def gone(pids: list[int]) -> bool:
    """Tell whether no process is left; one that nobody has waited for is none."""
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                return False
        except OSError:
            pass
    return True


def again(ground: Ground, running: list[int]) -> None:
    """See that with the supervisor all are gone, and that another one serves."""
    ground.proxy.up.wait()
    eventually(lambda: gone(running), "the end of all", PATIENCE)
    ground.proxy._begin_stand_in()
    ground.proxy.restart()
    eventually(ground.serves, "service", PATIENCE)


def supervisor(ground: Ground, number: signal.Signals) -> str:
    """Kill the supervisor at each of its steps after a signal."""
    with stepping(ground.proxy.up.pid) as learnt:
        running = _descendants(ground.proxy.up.pid)
        os.kill(ground.proxy.up.pid, number)  # not by Popen, which would wait for it, too
        if number == signal.SIGTERM:
            eventually(lambda: gone([ground.proxy.up.pid]), "its end", PATIENCE)
        else:
            eventually(lambda: learnt.taken, "a reload", PATIENCE)
            time.sleep(1)
    if number == signal.SIGTERM:
        again(ground, running)
    chosen, killed = places(learnt.taken, 1000, distinct=True), 0
    for step in chosen:
        running = _descendants(ground.proxy.up.pid)
        with stepping(ground.proxy.up.pid, step) as stepper:
            os.kill(ground.proxy.up.pid, number)  # not by Popen, which would wait for it, too
            end = time.monotonic() + PATIENCE
            while not stepper.killed and not gone([ground.proxy.up.pid]) and time.monotonic() < end:
                time.sleep(0.01)
        killed += stepper.killed
        if not gone([ground.proxy.up.pid]):
            ground.proxy.up.kill()
        again(ground, running)
    return f"{len(chosen)} of {len(learnt.taken)} steps, {killed} kills"


def starting(ground: Ground) -> str:
    """Kill the supervisor at many moments of its start."""
    for seconds in STARTING:
        running = _descendants(ground.proxy.up.pid)
        ground.proxy.up.kill()
        ground.proxy.up.wait()
        eventually(lambda: gone(running), "the end of all", PATIENCE)  # noqa: B023
        with open(os.devnull, "w") as nobody:
            ground.proxy.up = subprocess.Popen(
                ground.proxy._command, stdin=subprocess.DEVNULL, stdout=nobody, stderr=nobody, cwd="/"
            )
        time.sleep(seconds)
        running = _descendants(ground.proxy.up.pid)
        ground.proxy.up.kill()
        again(ground, running)
    return f"{len(STARTING)} kills"


@contextmanager
def booted() -> Iterator[Booted]:
    """Have a machine with the package, which serves beside the daemon, and two people."""
    with tempfile.TemporaryDirectory() as folder:
        built = subprocess.run([DEB, folder], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
        machine = Booted(Path(tempfile.mkdtemp(prefix="spt-booted-", dir="/var/tmp")))
        try:
            machine.copy(Path(built.stdout.strip()), "/root/sockproxy.deb")
            for name, group in (("alice", "sockproxy-users"), ("mallory", "docker")):
                machine.must("sh", "-c", f"groupadd -f {group}; useradd -m -G {group} {name}")
            machine.must("dpkg", "-i", "/root/sockproxy.deb")
            yield machine
        finally:
            machine.stop()


def taken_over(machine: Booted) -> bool:
    """Tell whether sockproxy serves at the daemon's place, and nobody else gets to the daemon."""
    beside = docker(machine, "mallory", "-H", f"unix://{DAEMON}", "ps")
    served = docker(machine, "alice", "ps").returncode == 0 and docker(machine, "mallory", "ps").returncode != 0
    return states(machine) == ["active"] * 3 and served and "permission denied" in beside.stderr


def as_it_was(machine: Booted, before: str) -> bool:
    """Tell whether nothing of a take-over is left."""
    moved = machine.run("ls", "/run/sockproxy-docker").returncode == 0
    mine = docker(machine, "mallory", "ps").returncode == 0
    return states(machine)[:2] == ["active"] * 2 and mine and not moved and etc(machine) == before


def installing(machine: Booted) -> str:
    """Kill `install` and `uninstall` before each of their steps; do them again, or the other."""
    before, tried = etc(machine), 0
    for first, then in WALKS:
        step: int | None = 0
        while step is not None:
            if (first == INSTALL) != as_it_was(machine, before):
                machine.must("sockproxy", *(UNINSTALL if first == INSTALL else INSTALL))
            steps = machine.must("sockproxy", *first, "--dry-run").splitlines()[:-1]
            step = next((index for index in range(step, len(steps)) if _stands_for_more(steps, index)), None)
            if step is None:
                break
            said = machine.run("/usr/lib/sockproxy/bin/python", "-c", DYING, str(step), *first).stdout
            assert f"died before: {steps[step]}\n" in said, said
            step, tried = step + 1, tried + 1
            done = machine.run("sockproxy", *then)
            if "nothing was installed" in done.stderr:
                continue
            assert done.returncode == 0, (steps[step - 1], then, done.stdout, done.stderr)
            right = taken_over(machine) if then == INSTALL else as_it_was(machine, before)
            assert right, (steps[step - 1], then, states(machine), machine.run("systemctl", "--failed").stdout)
    return f"{tried} kills"


def _stands_for_more(steps: list[str], index: int) -> bool:
    """Tell whether a step is no file's between two others': of those that follow one another the first and last do."""
    kinds = [None, *(step.split()[0] for step in steps), None]
    return kinds[index + 1] == "run" or len({*kinds[index : index + 3]}) > 1


def upgrading(machine: Booted) -> str:
    """Kill dpkg, and all that it has started, at many moments of an upgrade; it is done again."""
    chance, killed = random.Random(3), 0
    machine.must("sockproxy", "install", "--takeover", "--yes")
    for _ in range(UPGRADES):
        script = "setsid dpkg -i /root/sockproxy.deb >/dev/null 2>&1 & sleep $1; kill -9 -$!"
        killed += machine.run("sh", "-c", script, "sh", f"{chance.uniform(0.05, 4):.2f}").returncode == 0
        done = machine.run("sh", "-c", "dpkg --configure -a; dpkg -i /root/sockproxy.deb")
        assert done.returncode == 0, done.stdout + done.stderr
        eventually(lambda: taken_over(machine), "service", PATIENCE)
    machine.must("sockproxy", "audit", "verify")
    return f"{killed} of {UPGRADES} killed in time"


def main() -> int:
    """Do what is asked for, all if nothing is, and print what was seen."""
    asked = sys.argv[1:] or ["up", "install", "dpkg"]
    if "up" in asked:
        with ground_on("28") as ground:
            for name, part in (
                ("reload", lambda: supervisor(ground, signal.SIGHUP)),
                ("end", lambda: supervisor(ground, signal.SIGTERM)),
                ("start", lambda: starting(ground)),
            ):
                with nothing_left(ground):
                    said = part()
                print(f"| up | {name} | held: {said} |", flush=True)
    if {"install", "dpkg"} & set(asked):
        with booted() as machine:
            for name, walk in (("install", installing), ("dpkg", upgrading)):
                if name in asked:
                    print(f"| {name} | held: {walk(machine)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
