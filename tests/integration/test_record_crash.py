"""Nothing happens at the daemon that is not on the record: processes killed under load, a disk that is really full.

`SOCKPROXY_CALLS=10000` makes the load as long as one likes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from sockproxy.audit import chain
from sockproxy.review.verify import verify
from tests.support.containers import API
from tests.support.engines import Engine
from tests.support.fake_daemon import FakeDaemon
from tests.support.proxy import PROCESSES, Proxy, default_policy, eventually
from tests.support.raw import Connection
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

CALLS = int(os.environ.get("SOCKPROXY_CALLS", "800"))
KILLS = 4  # of each process; it is given up after ten in a minute
_TAG = re.compile(r"tag=(crash[0-9]+)")


def pull(connection: Connection, tag: str) -> int:
    return connection.call("POST", f"{API}/images/create?fromImage=busybox&tag={tag}").status


def tags_in(records: list[dict[str, object]], event: str) -> set[str]:
    """List the tags that records of an event are about."""
    return {str(one["req"]["query"].get("tag")) for one in records if one["ev"] == event and "tag" in str(one["req"])}  # type: ignore[index]


def test_killed_at_any_time_no_effect_is_without_its_intent(
    fake_daemon: FakeDaemon, start_proxy: Callable[..., Proxy], users: Users
) -> None:
    proxy = start_proxy(cast(Engine, fake_daemon))
    numbers, done, answered = iter(range(10**9)), threading.Event(), []

    def load() -> None:
        connection = None
        while not done.is_set():
            tag = f"crash{next(numbers)}"
            try:
                connection = connection or Connection(proxy.listen, timeout=10)  # as root, whose tests these are
                if pull(connection, tag) == 200:
                    answered.append(tag)
            except Exception:  # a kill cut it off
                if connection:
                    connection.close()
                connection = None
                time.sleep(0.01)
        if connection:
            connection.close()

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    chooser = random.Random(7)
    victims = [*PROCESSES] * KILLS
    chooser.shuffle(victims)
    try:
        for index, name in enumerate(victims, 1):
            eventually(lambda: len(answered) >= index * CALLS // len(victims), "calls go on", 60)  # noqa: B023
            pid = proxy.processes.get(name)
            if pid:
                os.kill(pid, signal.SIGKILL)
        before = len(answered)
        eventually(lambda: len(answered) > before + 10, "calls go on after the last kill", 30)
    except AssertionError as error:
        raise AssertionError(f"{error}: {len(answered)} answered, {name}: {proxy.errors()[-2000:]}") from error
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
    proxy.stop()
    reached = set(_TAG.findall("\n".join(fake_daemon.requests)))
    records = proxy.records()
    assert len(reached) >= CALLS
    assert reached <= tags_in(records, "intent")
    assert set(answered) <= reached
    found = verify(str(proxy.log))
    assert found.findings == []
    assert found.sealed == found.last


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A filesystem of 24 MB of its own, for a log folder."""
    image, place = folder / "small.img", folder / "own-small"
    subprocess.run(["truncate", "--size", "24M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    (place / "log").mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, place / "log"], check=True)
    yield place
    subprocess.run(["umount", place / "log"], check=True)
    image.unlink()


def fill(path: Path) -> None:
    """Write a file until nothing more fits."""
    with open(path, "wb", buffering=0) as file:
        for _ in range(2):  # ext4 has a few blocks more when it knows where all go
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            os.fsync(file.fileno())


@pytest.mark.parametrize("on_full", ["refuse", "refuse-all", "continue"])
def test_a_disk_that_is_really_full(fake_daemon: FakeDaemon, small_disk: Path, users: Users, on_full: str) -> None:
    proxy = Proxy(cast(Engine, fake_daemon), small_disk, default_policy(users) + f"audit: {{on_full: {on_full}}}\n")
    try:
        with Connection(proxy.listen, users.root) as connection:
            assert pull(connection, "crash1") == 200
            filler = proxy.log / "filler"
            fill(filler)

            def full() -> bool:
                for _ in range(500):
                    connection.call("GET", f"{API}/images/json")
                return "no room for the record" in proxy.errors()

            eventually(full, "the reservation is used up to where it must be renewed", 60)
            fake_daemon.forget()

            def answers() -> tuple[int, int]:
                return pull(connection, "crash2"), connection.call("GET", f"{API}/images/json").status

            wanted = {"refuse": (503, 200), "refuse-all": (503, 503), "continue": (200, 200)}[on_full]
            assert answers() == wanted
            os.kill(writer := proxy.processes["audit"], signal.SIGSTOP)
            os.truncate(proxy.log / "audit.jsonl", (proxy.log / "audit.jsonl").stat().st_size)  # what it had reserved
            fill(proxy.log / "last")
            os.kill(writer, signal.SIGKILL)
            eventually(lambda: proxy.processes.get("audit", writer) != writer, "another writer")
            eventually(lambda: answers() == wanted, "the answers of before")
            assert "cannot write the audit log" not in proxy.errors()  # nor one that ends at once, and again
            assert ("crash2" in str(fake_daemon.requests)) == (on_full == "continue")
            filler.unlink()
            eventually(lambda: pull(connection, "crash3") == 200, "room again")
        proxy.stop()
        lines = (proxy.log / "audit.jsonl").read_bytes().splitlines()
        records = [json.loads(line) for line in lines if chain.parse(line)]  # others are torn, and told as a gap
        assert {"crash1", "crash3"} <= tags_in(records, "intent")
        if on_full != "continue":
            assert "crash2" in tags_in(records, "deny")  # written into what was reserved
        assert verify(str(proxy.log)).findings == []
    finally:
        proxy.stop()
