"""Start what is compared: nothing, a relay, HAProxy as a filter, sockproxy; each before the same upstream."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from tests.support.engines import Engine
from tests.support.proxy import Proxy, eventually

TOP = Path(__file__).resolve().parents[2]
POLICY = "version: 1\nbindings: [{user: root, role: admin}]\n"
# As the well-known filtering proxies use it: allow by method and path, refuse the rest.
HAPROXY = """global
  maxconn 8000
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
frontend docker
  bind unix@{listen} mode 666
  acl reads method GET HEAD POST
  acl known path,url_dec -m reg -i ^(/v[\\d\\.]+)?/(_ping|containers|images|exec|events|info|version)
  http-request deny unless reads known
  default_backend daemon
backend daemon
  server daemon unix@{upstream}
"""


class Target:
    """A running proxy.

    Attributes:
        path: the socket to use.
        pids: finds its processes.
        proxy: of sockproxy itself.
    """

    proxy: Proxy | None = None

    def __init__(self, name: str, path: Path, root: int) -> None:
        self.name, self.path, self._root = name, str(path), root

    def pids(self) -> list[int]:
        """Find all of its processes; none for the upstream itself."""
        found, todo = [], [self._root] if self._root else []
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += [int(child) for text in _tasks(pid, "children") for child in text.split()]
        return found

    def cpu(self) -> float:
        """Sum the CPU time of its processes, in seconds, by their CPU clocks (clock_getcpuclockid(3))."""
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids())

    def memory(self) -> float:
        """Sum the proportional set sizes of its processes, in KiB."""
        return sum(map(_pss, self.pids()))

    def memory_of(self, words: tuple[str, ...]) -> float:
        """Sum it over those processes that have one of the words in their command line."""
        lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0") for pid in self.pids()}
        return sum(_pss(pid) for pid, line in lines.items() if any(word in line for word in words))


def _pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _tasks(pid: int, file: str) -> list[str]:
    """Read a file of each of a process's threads; some end meanwhile."""
    texts: list[str] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            texts.append((task / file).read_text())
    return texts


def _start(argv: list[str], path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(argv, cwd=TOP, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually(path.exists, f"{argv[-1]} listens")
    return process


@contextmanager
def targets(folder: Path) -> Iterator[list[Target]]:
    """Start them all, end them all."""
    upstream, relay, haproxy = folder / "upstream.sock", folder / "relay.sock", folder / "haproxy.sock"
    python = [sys.executable, "-m"]
    started = [_start([*python, "tests.bench.upstream", str(upstream)], upstream)]
    found = [Target("direct", upstream, 0)]
    try:
        started.append(_start([*python, "tests.bench.relay", str(relay), str(upstream)], relay))
        found.append(Target("relay", relay, started[-1].pid))
        if shutil.which("haproxy"):
            config = folder / "haproxy.cfg"
            config.write_text(HAPROXY.format(listen=haproxy, upstream=upstream))
            started.append(_start(["haproxy", "-db", "-q", "-f", str(config)], haproxy))
            found.append(Target("haproxy", haproxy, started[-1].pid))
        engine = cast(Engine, SimpleNamespace(socket=str(upstream), version="bench", plugin_dir=folder / "plugins"))
        (folder / "proxy").mkdir()
        proxy = Proxy(engine, folder / "proxy", POLICY)
        started.append(cast("subprocess.Popen[bytes]", proxy.up))
        found.append(Target("sockproxy", proxy.listen, proxy.up.pid))
        found[-1].proxy = proxy
        yield found
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)
