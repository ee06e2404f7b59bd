"""What the record costs: the same records to a writer that forgets them, and to the real one.

    .venv/bin/python -m tests.bench.record [FOLDER]     the folder is on the disk that is to be measured

Each line: calls a second and the latency of an acknowledgement, with so many callers at once.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from sockproxy.audit.keeper import Keeper
from sockproxy.audit.log import Log
from sockproxy.audit.seal import Sealer
from sockproxy.audit.writer import Writer

SECONDS = 2.0
RECORD = (
    b'{"v":1,"ev":"intent","rid":"0123456789abcdef","who":{"uid":1000,"user":"alice"},%b"pad":"' + b"x" * 600 + b'"}'
)


def forget(listener: socket.socket) -> None:
    """Acknowledge everything and keep nothing."""

    def serve(sock: socket.socket) -> None:
        while sock.recv(65536):
            sock.send(b'{"seq":1}')

    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock,), daemon=True).start()


def measure(path: Path, callers: int, sync: bool) -> tuple[float, list[float]]:
    """Call for a while; give calls a second and the sorted latencies."""
    record, latencies, end = RECORD % (b'"sync":true,' if sync else b""), [], time.monotonic() + SECONDS

    def call() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(path))
            while (begin := time.monotonic()) < end:
                sock.send(record)
                sock.recv(100)
                latencies.append(time.monotonic() - begin)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(latencies) / SECONDS, sorted(latencies)


def main() -> None:
    """Print the table."""
    print(f"{'writer':<24}{'callers':>8}{'calls/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU us/record':>15}")
    for name, sync in (("none (forgets)", False), ("real, reads", False), ("real, changes (on disk)", True)):
        for callers in (1, 8, 32):
            folder = Path(tempfile.mkdtemp(dir=sys.argv[1] if len(sys.argv) > 1 else None))
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listener.bind(str(folder / "sock"))
            listener.listen(64)
            pid = os.fork()
            if not pid:
                if name.startswith("none"):
                    forget(listener)
                keeper = Keeper(Log(str(folder)), Sealer(str(folder)))
                Writer(listener, keeper, frozenset((os.getuid(),))).run(socket.socketpair()[0])
            rate, latencies = measure(folder / "sock", callers, sync)
            os.kill(pid, 9)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            os.waitpid(pid, 0)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            p50, p99 = (latencies[int(len(latencies) * part)] * 1000 for part in (0.5, 0.99))
            print(f"{name:<24}{callers:>8}{rate:>10.0f}{p50:>9.2f}{p99:>9.2f}{cpu / len(latencies) * 1e6:>15.1f}")


if __name__ == "__main__":
    main()
