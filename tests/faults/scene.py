"""sockproxy before the misbehaving daemon, and what must be as before when a fault is over."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from sockproxy.dispatch.channel import IDLE
from sockproxy_helpers.stream.pipes import POOL
from tests.faults.daemon import ID, Daemon
from tests.support.engines import Engine
from tests.support.proxy import Proxy, eventually
from tests.support.raw import TIMEOUT, Connection, call

POLICY = "version: 1\nbindings: [{user: root, role: admin}]\n"
API = "/v1.41"
LIST = f"{API}/containers/json"
BODY = b'{"Id":"' + ID.encode() + b'","Labels":{}}'
WHOLE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (BODY[:16], len(BODY) - 16, BODY[16:]),
)
KINDS = (LIST, f"{API}/networks", f"{API}/images/json", "/_ping")
KEPT = 3 * IDLE  # channels that the front keeps; each has a connection to the daemon behind it
PIPES = 3 * 2 * POOL + 2 * 10  # of the helpers, and what each process prints to
BACK = 1.0  # seconds in which service is to be back
ROOT_HELPERS = ("lifecycle", "network", "filesystem")


class Scene:
    """Hold a sockproxy, its daemon, and how it was before.

    Attributes:
        said: what a fault has to tell, for the table.
    """

    def __init__(self, folder: Path, descriptors: int = 0) -> None:
        """Start both.

        Args:
            descriptors: that each process of sockproxy may have at most; 0 for no bound of one's own.
        """
        (folder / "daemon").mkdir(parents=True)
        (folder / "proxy").mkdir()
        self.daemon = Daemon(folder / "daemon")
        self.proxy = Proxy(cast(Engine, self.daemon), folder / "proxy", POLICY, descriptors)
        self.path = str(self.proxy.listen)
        self.said: list[str] = []

    def close(self) -> None:
        """End both."""
        self.proxy.stop()
        self.daemon.stop()

    def connect(self, timeout: float = TIMEOUT) -> Connection:
        """Connect as host root."""
        return Connection(self.path, timeout=timeout)

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

    def descriptors(self) -> int:
        """Count those of all processes that nothing explains.

        What does: a channel between two of them (two ends), a connection to the daemon, also one that the daemon has
        ended, which is seen when it is to be used, and a pipe, which is kept for the next splice.
        """
        table = [line.split() for line in subprocess.check_output(["ss", "-xan"], text=True).splitlines()]
        ended = {f"socket:[{line[5]}]" for line in table if line[1] == "ESTAB" and line[4] == "*" and line[7] == "0"}
        found = []
        for pid in self.proxy.processes.values():
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
        channels = sum(line[5:6] == ["03"] and line[-1].startswith(f"{self.proxy.runtime}/") for line in lines)
        pipes = sum(link.startswith("pipe:") for link in found)
        kept = sum(link in ended for link in found)
        assert pipes <= PIPES, pipes
        assert kept <= channels, (kept, channels)
        return len(found) - pipes - 2 * channels - self.daemon.connections - kept

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
        seen = [self.descriptors()]
        while seen[-3:] != seen[-1:] * 3:  # both ends of what has just ended are not closed at once
            time.sleep(0.1)
            seen.append(self.descriptors())
        before, mounts, tasks = seen[-1], self.mounts(), self.tasks()
        yield
        self.daemon.answer = None
        took = self.back()

        eventually(lambda: self.descriptors() <= before, "descriptors given back", 15)
        eventually(lambda: self.daemon.connections <= KEPT, "connections to the daemon given back", 15)
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


__all__ = ["API", "BODY", "ID", "KINDS", "LIST", "WHOLE", "Scene", "latencies", "many_descriptors", "percent"]
