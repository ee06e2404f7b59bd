"""Binds outlive the daemon, sockproxy and its processes: made again with the same checks, or not at all; none is left.

Longer: `SOCKPROXY_CYCLES=1000 .venv/bin/pytest tests/integration/test_binds_life.py -k cycles`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import assert_done
from tests.support.engines import SCRIPT, Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]
CYCLES = int(os.environ.get("SOCKPROXY_CYCLES", "12"))


@pytest.fixture(scope="module")
def mortal(own_engine: Engine, users: Users, folder: Path) -> Iterator[Proxy]:
    """A sockproxy of these tests' own, before an engine that may be killed."""
    (folder / "binds-life").mkdir()
    running = Proxy(own_engine, folder / "binds-life", default_policy(users))
    yield running
    own_engine.clean()
    running.stop()


@pytest.fixture
def work(users: Users) -> Path:
    """A folder of alice's with a file."""
    place = users.alice.home / "life"
    place.mkdir(exist_ok=True)
    (place / "file").write_text("mine\n")
    for path in (place, place / "file"):
        os.chown(path, users.alice.uid, users.alice.gid)
    return place


def docker(proxy: Proxy, user: User, *arguments: str) -> str:
    return assert_done(proxy.run(user, ["docker", *arguments])).strip()


def reads(engine: Engine, name: str) -> bool:
    return engine.docker("exec", name, "cat", "/h/file", check=False).stdout == "mine\n"


def attached(proxy: Proxy) -> list[str]:
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(proxy.runtime) in line]
    return found + os.listdir(proxy.runtime / "binds")


def test_a_daemon_that_is_killed_starts_them_again(mortal: Proxy, users: Users, work: Path) -> None:
    engine = mortal.engine
    docker(
        mortal,
        users.alice,
        "run",
        "-d",
        "--restart=always",
        "--name",
        "stays",
        "-v",
        f"{work}:/h",
        "busybox",
        "sleep",
        "999",
    )
    for number in (signal.SIGKILL, signal.SIGTERM):
        pid = int((engine.folder / "pid").read_text())
        os.kill(pid, number)
        eventually(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), "the end of the daemon")
        subprocess.run([SCRIPT, "start", engine.version, engine.folder], check=True, capture_output=True, timeout=60)
        eventually(lambda: reads(engine, "stays"), "the container is back, with its bind", 30)
    assert "idmapped" in engine.docker("exec", "stays", "grep", " /h ", "/proc/self/mountinfo").stdout
    docker(mortal, users.alice, "rm", "-f", "stays")


@pytest.mark.parametrize("name", ["binds", "attacher"])
def test_a_process_that_is_killed_is_not_missed(mortal: Proxy, users: Users, work: Path, name: str) -> None:
    docker(mortal, users.alice, "run", "-d", "--name", "holder", "-v", f"{work}:/h", "busybox", "sleep", "999")
    before = mortal.processes[name]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: mortal.processes.get(name, before) != before, f"another {name}")
    docker(mortal, users.alice, "restart", "-t", "0", "holder")
    assert reads(mortal.engine, "holder")
    docker(mortal, users.alice, "rm", "-f", "holder")
    eventually(lambda: attached(mortal) == [], "nothing attached", 80)  # a killed daemon's: after 30 s


def test_without_sockproxy_they_do_not_start_and_with_it_they_do(mortal: Proxy, users: Users, work: Path) -> None:
    engine = mortal.engine
    docker(mortal, users.alice, "create", "--name", "waits", "-v", f"{work}:/h", "busybox", "cat", "/h/file")
    os.kill(mortal.up.pid, signal.SIGTERM)
    mortal.up.wait(30)
    assert attached(mortal) == []
    done = engine.docker("start", "-a", "waits", check=False, timeout=120)
    assert (done.returncode != 0, done.stdout) == (True, "")
    mortal.restart()
    assert engine.docker("start", "-a", "waits").stdout == "mine\n"
    docker(mortal, users.alice, "rm", "waits")


def test_what_is_no_longer_allowed_is_not_made_again(mortal: Proxy, users: Users, work: Path) -> None:
    docker(mortal, users.alice, "create", "--name", "late", "-v", f"{work}:/h", "busybox", "cat", "/h/file")
    mortal.reload(default_policy(users) + "roles: {developer: {extends: developer, binds: []}}\n")
    done = mortal.engine.docker("start", "-a", "late", check=False)
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert "leads to" in done.stderr
    mortal.reload(default_policy(users))
    assert mortal.engine.docker("start", "-a", "late").stdout == "mine\n"
    docker(mortal, users.alice, "rm", "late")


class Killer:
    """Kill a process now and then."""

    VICTIMS = ("binds", "attacher", "filesystem", "lifecycle")

    def __init__(self, proxy: Proxy) -> None:
        self._proxy, self._chance = proxy, random.Random(4)
        self.killed = dict.fromkeys(self.VICTIMS, 0)

    def strike(self, running: subprocess.Popen[bytes]) -> str:
        """Wait a random part of the time that a command takes, and kill one of a few processes, or none; name it."""
        victim = self._chance.choice([*self.VICTIMS, "", ""])
        try:
            running.wait(self._chance.random() * 0.6)
        except subprocess.TimeoutExpired:
            if victim:
                self.killed[victim] += 1
                pid = self._proxy.processes[victim]
                os.kill(pid, signal.SIGKILL)
                eventually(lambda: self._proxy.processes.get(victim, pid) != pid, f"another {victim}", 30)
                return victim
        return ""


def test_cycles_leave_nothing(mortal: Proxy, users: Users, work: Path) -> None:
    """Start and remove, while processes are killed at any moment; each run works or says why not."""
    killer, worked = Killer(mortal), 0
    run = ["docker", "run", "--rm", "-v", f"{work}:/h", "-v", f"{work}/file:/f:ro", "busybox", "cat", "/h/file", "/f"]
    for cycle in range(CYCLES):
        if cycle % 25 == 24:  # what was created and never started, since who did that was killed, counts for its user
            mortal.engine.clean()
        running = mortal.start(users.alice, run, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        killed = killer.strike(running)
        out, error = running.communicate(timeout=60)
        # Who carries the output may be killed when it has told the exit code, and not yet all of that.
        whole = running.returncode == 0 and killed != "lifecycle"
        assert out == b"mine\nmine\n" if whole else b"mine\nmine\n".startswith(out), (killed, out, error)
        assert out or error
        worked += running.returncode == 0
    assert worked >= CYCLES // 2
    mortal.engine.clean()
    for path in (mortal.folder / "state" / "binds").glob("*/sockproxy-*"):
        os.utime(path, (1, 1))
    docker(mortal, users.alice, "run", "--rm", "busybox", "true")  # its end makes the sweep look
    eventually(lambda: attached(mortal) == [], "nothing attached", 60)
    eventually(lambda: not list((mortal.folder / "state" / "binds").glob("*/sockproxy-*")), "no records", 60)
    assert (work / "file").read_text() == "mine\n"
    if CYCLES > 100:
        print(f"{CYCLES} runs, {worked} worked, killed: {killer.killed}")
