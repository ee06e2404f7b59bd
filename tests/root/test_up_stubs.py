"""The supervisor with processes that misbehave."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import Running, ends, open_folder

from tests.support import needs

pytestmark = pytest.mark.root
Up = Callable[..., Running]


@pytest.fixture
def folder() -> Iterator[Path]:
    needs.root()
    with open_folder() as path:
        yield path


@pytest.fixture
def up(folder: Path) -> Iterator[Up]:
    started = []

    def start(**case: object) -> Running:
        running = Running(
            [sys.executable, "-I", str(Path(__file__).with_name("stub_up.py")), str(folder), json.dumps(case)]
        )
        started.append(running)
        return running

    yield start
    for running in started:
        running.close()


def sockets(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_socket()]


def said_by(running: Running, word: str) -> list[str]:
    return re.findall(rf"^sockproxy: (\w+): {word}$", "\n".join(running.said), re.MULTILINE)


def test_order_of_start_and_end(up: Up, folder: Path) -> None:
    running = up()
    assert running.ready() == f"ready DOCKER_HOST=unix://{folder}/docker.sock"
    with ends(list(running.children())):
        assert running.end(signal.SIGTERM) == 0
    started, ended = said_by(running, "start"), said_by(running, "end")
    assert (started[0], set(started[1:3]), started[3]) == ("first", {"second", "third"}, "last")
    assert (ended[0], set(ended[1:3]), ended[3]) == ("last", {"second", "third"}, "first")
    assert sockets(folder) == []


def test_a_process_that_does_not_say_that_it_is_alive_is_started_again(up: Up) -> None:
    running = up(second="hangs", third="lives")
    assert running.ready()
    running.wait_for("second has not said for 0.3 s that it is alive")
    running.wait_for("second ended with SIGKILL: starting it again")
    running.wait_for("second: start")
    running.wait_for("second has not said for 0.3 s that it is alive")
    running.wait_for("second: start")
    assert running.end(signal.SIGTERM) == 0
    assert "third has not said" not in "\n".join(running.said)


def test_a_process_that_fails_at_start_ends_all(up: Up, folder: Path) -> None:
    running = up(last="fails")
    assert running.ready() == ""
    assert running.end() == 1
    assert "sockproxy: giving up: last did not start: exit code 5" in running.said
    assert set(said_by(running, "end")) == {"first", "second", "third"}
    assert sockets(folder) == []


@pytest.mark.parametrize("does", ["sleeps", "lies"])
def test_only_the_process_itself_can_say_that_it_is_ready(up: Up, does: str) -> None:
    running = up(second=does, constants={"READY_WITHIN": 1})
    assert running.ready() == ""
    assert running.end() == 1
    assert "sockproxy: second was not ready within 1 s" in running.said


def test_a_process_that_dies_again_and_again_is_started_again_and_again(up: Up) -> None:
    running = up(last="dies", constants={"MOST_BACKOFF": 0.05})
    assert running.ready()
    for _ in range(12):
        running.wait_for("last ended with exit code 3: starting it again in 0.05 s")
    assert running.end(signal.SIGTERM) == 0


def test_a_process_that_has_lived_is_started_again_at_once(up: Up) -> None:
    running = up(last="dies", constants={"HEALTHY": 0})
    for _ in range(3):
        running.wait_for("last ended with exit code 3: starting it again in 0 s")
    assert running.end(signal.SIGTERM) == 0


def test_backoff_doubles(up: Up) -> None:
    running = up(last="dies")
    for pause in ("0.1", "0.2", "0.4", "0.4"):
        running.wait_for(f"last ended with exit code 3: starting it again in {pause} s")
    assert running.end(signal.SIGTERM) == 0


def test_one_that_does_not_end_is_killed_after_the_grace(up: Up) -> None:
    running = up(second="stays", constants={"GRACE": 0.5})
    running.ready()
    with ends(list(running.children())):
        assert running.end(signal.SIGTERM) == 0
    assert "sockproxy: second does not end: killing it" in running.said
    assert said_by(running, "end")[-1] == "first"  # the others get their time all the same


def test_a_second_interrupt_hastens(up: Up) -> None:
    running = up(last="stays", second="stays", constants={"GRACE": 600})
    running.ready()
    with ends(list(running.children())):
        running.process.send_signal(signal.SIGINT)
        running.wait_for("last: stays")
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 0


def test_reload_reaches_whom_it_concerns(up: Up) -> None:
    running = up()
    running.ready()
    running.process.send_signal(signal.SIGHUP)
    for _ in range(3):
        running.wait_for(": reload")
    assert set(said_by(running, "reload")) == {"second", "third", "last"}


def test_output_can_do_nothing_to_a_terminal(up: Up) -> None:
    running = up(last="paints")
    running.ready()
    assert running.wait_for("last: red") == "sockproxy: last: red \\x1b[31m\\x07 \ufffd"
    assert len(running.wait_for("xxx")) < 9000
    assert running.end(signal.SIGTERM) == 0


def test_a_process_that_leaves_a_child_with_its_output_is_started_again(up: Up) -> None:
    running = up(last="forks")
    pid = int(running.wait_for("child").split()[-1])
    with ends([pid]):
        running.wait_for("last ended with SIGKILL: starting it again")
        os.kill(pid, signal.SIGKILL)
    assert running.end(signal.SIGTERM) == 0
