"""What the record costs a caller: calls through all of sockproxy with the real writer, and with one that forgets.

    .venv/bin/python -m tests.bench.chain [ROUNDS]     as root; the log is in the folder for temporary files

In one run, by turns: the socket of the writer is put aside for one that acknowledges everything and keeps nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from tests.bench import loads
from tests.bench.record import forget
from tests.bench.targets import Target, targets
from tests.support.proxy import Proxy, eventually
from tests.support.users import remove_folder, shared_folder

CALLS = 200
CHANGE = b"POST /v1.41/containers/" + b"c" * 64 + b"/stop HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n"
ASKED = {"read (containers/json)": loads.SMALL, "change (containers/ID/stop)": CHANGE}


@contextmanager
def forgetting(proxy: Proxy) -> Iterator[None]:
    """Have records forgotten."""
    real = proxy.runtime / "audit" / "audit.sock"
    aside = real.with_name("aside.sock")
    real.rename(aside)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(real))
    real.chmod(0o666)
    listener.listen(64)
    pid = os.fork()
    if not pid:
        forget(listener)
    listener.close()
    try:
        restart(proxy)
        yield
    finally:
        real.unlink()
        aside.rename(real)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def restart(proxy: Proxy) -> None:
    """End the writer, so that who has a connection makes another; the socket is kept for the next one."""
    before = proxy.processes["audit"]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: proxy.processes.get("audit", before) != before, "the writer is back")


def measure(target: Target, request: bytes) -> tuple[float, float, float, float]:
    """Call for a while; give calls a second, p50 and p99 in microseconds, CPU of all processes in microseconds."""
    loads.small(target.path, 20, request)
    before = target.cpu()
    outcome = loads.small(target.path, CALLS, request)
    spent = (target.cpu() - before) / CALLS
    at = outcome.latencies
    return CALLS / outcome.seconds, at[len(at) // 2] * 1e6, at[len(at) * 99 // 100] * 1e6, spent * 1e6


def main() -> None:
    """Print the table, as Markdown."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    folder = shared_folder()
    found: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    try:
        with targets(folder) as (*_, target):
            proxy = target.proxy
            assert proxy
            for _ in range(rounds):  # the writer is ended once in each: the supervisor gives up on who ends often
                for record, kept in (("real", nullcontext()), ("none", forgetting(proxy))):
                    with kept:
                        for name, request in ASKED.items():
                            found.setdefault((name, record), []).append(measure(target, request))
    finally:
        remove_folder(folder)
    print(f"medians of {rounds} rounds of {CALLS} calls, load {os.getloadavg()[0]:.1f}\n")
    print("| call | record | calls/s | p50 us | p99 us | CPU us, all processes |\n|---|---|---|---|---|---|")
    for (name, record), samples in found.items():
        told = " | ".join(f"{statistics.median(values):,.0f}" for values in zip(*samples, strict=True))
        print(f"| {name} | {record} | {told} |")


if __name__ == "__main__":
    main()
