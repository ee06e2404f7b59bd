"""sockproxy before the misbehaving daemon, and what must be as before when a fault is over."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from tests.faults.daemon import ID, Daemon
from tests.support.engines import Engine
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Connection, call

POLICY = "version: 1\nbindings: [{user: root, role: admin}]\n"
API = "/v1.41"
LIST = f"{API}/containers/json"
KINDS = (LIST, f"{API}/networks", f"{API}/images/json", "/_ping")
KEPT = 3 * 64  # channels that the front keeps; each has a connection to the daemon behind it
BACK = 1.0  # seconds in which service is to be back
ROOT_HELPERS = ("lifecycle", "network", "filesystem")


class Scene:
    """Hold a sockproxy, its daemon, and how it was before.

    Attributes:
        said: what a fault has to tell, for the table.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "daemon").mkdir()
        (folder / "proxy").mkdir()
        self.daemon = Daemon(folder / "daemon")
        self.proxy = Proxy(cast(Engine, self.daemon), folder / "proxy", POLICY)
        self.path = str(self.proxy.listen)
        self.said: list[str] = []

    def close(self) -> None:
        """End both."""
        self.proxy.stop()
        self.daemon.stop()

    def connect(self) -> Connection:
        """Connect as host root."""
        return Connection(self.path)

    def serves(self) -> bool:
        """Tell whether a call of each helper is answered, on new connections."""
        with contextlib.suppress(OSError, ValueError, AssertionError, Exception):
            return all(call(self.path, "GET", target).status == 200 for target in KINDS)
        return False

    def back(self) -> float:
        """Wait for service; give the seconds until then."""
        begun = time.monotonic()
        eventually(self.serves, "service", 30)
        return time.monotonic() - begun

    def descriptors(self) -> dict[str, int]:
        """Count the descriptors of each process."""
        return {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in self.proxy.processes.items()}

    def memory(self) -> float:
        """Sum the resident memory of all processes, shared pages once, in MiB."""
        total = 0.0
        for pid in self.proxy.processes.values():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                total += float(line.split()[1]) / 1024 if line.startswith("Pss:") else 0
        return total

    def mounts(self) -> int:
        """Count the mounts below the runtime folder."""
        return Path("/proc/mounts").read_text().count(f" {self.proxy.runtime}")

    def tasks(self) -> dict[str, int]:
        """Count the threads of each process."""
        return {name: len(os.listdir(f"/proc/{pid}/task")) for name, pid in self.proxy.processes.items()}

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """See that after a fault nothing is left of it, and all is served within a second or so."""
        assert self.serves()
        before, mounts, tasks = self.descriptors(), self.mounts(), self.tasks()
        yield
        self.daemon.answer = None
        took = self.back()

        def settled() -> bool:
            now = self.descriptors()
            # The front keeps channels for the next calls, and a helper its end and a connection to the daemon.
            return now.keys() == before.keys() and all(now[name] <= before[name] + KEPT + 8 for name in now)

        eventually(settled, "descriptors given back", 15)
        eventually(lambda: self.daemon.connections <= KEPT + 8, "connections to the daemon given back", 15)
        assert self.mounts() == mounts
        assert sum(self.tasks().values()) <= sum(tasks.values()) + 4
        self.said.append(f"service back in {took:.2f} s")
        assert "Traceback" not in self.proxy.errors(), self.proxy.errors()


def many_descriptors() -> None:
    """Let this process have as many as it may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def latencies(scene: Scene, seconds: float, ask: Callable[[Connection], None] | None = None) -> list[float]:
    """Ask again and again on one connection; give each answer's time, in order of size."""
    found, end = [], time.monotonic() + seconds
    with scene.connect() as connection:
        while time.monotonic() < end:
            begun = time.monotonic()
            assert connection.call("GET", LIST).status == 200
            found.append(time.monotonic() - begun)
    return sorted(found)


def percent(found: list[float], part: float) -> str:
    """Give a percentile in milliseconds."""
    return f"{found[min(len(found) - 1, int(len(found) * part))] * 1000:.1f} ms"


__all__ = ["API", "ID", "KINDS", "LIST", "Scene", "latencies", "many_descriptors", "percent"]
