"""Compare the bare upstream, a relay, HAProxy and sockproxy under each load, side by side in one run.

As root, at the top of the checkout: .venv/bin/python -m tests.bench [ROUNDS]

Each round goes through all targets in turn, so that the machine's noise falls on all alike; the table has the median of
the rounds, and the spread of the upstream's own times as the noise. Real engines and the docker CLI: `docker_run`.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import sys
from collections.abc import Callable
from typing import NamedTuple

from tests.bench import loads
from tests.bench.loads import Outcome
from tests.bench.targets import Target, targets
from tests.support.users import remove_folder, shared_folder

IDLE = 500  # streams


class Load(NamedTuple):
    """One row of the table: what is done, how much of it a round, and the unit of its CPU time."""

    name: str
    run: Callable[[str, int], Outcome]
    amount: int
    unit: str
    scale: float


LOADS = (
    Load("small request, keep-alive", loads.small, 2000, "us CPU", 1e6),
    Load("ping, keep-alive", lambda path, count: loads.small(path, count, loads.PING), 2000, "us CPU", 1e6),
    Load("small request, new connection", loads.fresh, 1000, "us CPU", 1e6),
    Load("download, content-length", loads.download(b"length"), 2048, "CPU s/GiB", 1),
    Load("download, chunked", loads.download(b"chunked"), 2048, "CPU s/GiB", 1),
    Load("upload, content-length", loads.upload("length"), 2048, "CPU s/GiB", 1),
    Load("upload, chunked", loads.upload("chunked"), 2048, "CPU s/GiB", 1),
    Load("upgraded stream, down", loads.stream, 2048, "CPU s/GiB", 1),
    Load("round trip of 64 bytes, upgraded", loads.interactive, 3000, "us CPU", 1e6),
)


class Sample(NamedTuple):
    """One load on one target, once."""

    cpu: float
    rate: float
    p50: float
    p99: float


def measure(load: Load, target: Target) -> Sample:
    """Run a load once; CPU is of all the target's processes, per unit."""
    before = target.cpu()
    outcome = load.run(target.path, load.amount)
    spent = target.cpu() - before
    at = outcome.latencies or [outcome.seconds]
    return Sample(
        spent / outcome.units,
        outcome.units / outcome.seconds,
        at[len(at) // 2],
        at[min(len(at) - 1, len(at) * 99 // 100)],
    )


def compare(load: Load, found: list[Target], rounds: int) -> list[str]:
    """Give the rows of one load."""
    samples: dict[str, list[Sample]] = {target.name: [] for target in found}
    for turn in range(rounds + 1):
        for target in found:
            sample = measure(load, target)
            if turn:  # the first warms up
                samples[target.name].append(sample)
    rows = []
    for name, of in samples.items():
        cpu, rate, p50, p99 = (statistics.median(values) for values in zip(*of, strict=True))
        speed = f"{rate:,.2f} GiB/s" if load.scale == 1 else f"{rate:,.0f}/s"
        latency = "" if load.scale == 1 else f"{p50 * 1e6:.0f} / {p99 * 1e6:.0f} us"
        spent = "" if name == "direct" else f"{cpu * load.scale:.3g} {load.unit}"
        spread = max(item.rate for item in of) / min(item.rate for item in of)
        rows.append(f"| {load.name} | {name} | {spent} | {speed} | {latency} | {spread:.2f} |")
    return rows


def idle(found: list[Target]) -> list[str]:
    """Give the memory that idle upgraded streams take."""
    rows = []
    for target in found[1:]:
        before = target.memory()
        open_streams = [loads.attach(target.path) for _ in range(IDLE)]
        each = (target.memory() - before) / IDLE
        for sock in open_streams:
            sock.close()
        rows.append(
            f"| {IDLE} idle streams | {target.name} | {each:.1f} KiB each | {before / 1024:.1f} MiB before | | |"
        )
    return rows


def main() -> None:
    """Print the table, as Markdown."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    folder = shared_folder()
    try:
        with targets(folder) as found:
            print(f"{datetime.date.today()}, {os.cpu_count()} cores, Linux {platform.release()}, Python", end=" ")
            print(f"{platform.python_version()}, load {os.getloadavg()[0]:.1f}, medians of {rounds} rounds\n")
            print("| load | before the upstream | CPU, all processes | speed | latency p50 / p99 | fastest / slowest |")
            print("|---|---|---|---|---|---|")
            for load in LOADS:
                print("\n".join(compare(load, found, rounds)), flush=True)
            print("\n".join(idle(found)))
    finally:
        remove_folder(folder)


if __name__ == "__main__":
    main()
