"""Compare the bare upstream, a relay, HAProxy and sockproxy under each load, side by side in one run.

As root, at the top of the checkout: .venv/bin/python -m tests.bench [--rounds N] [--write]

Each round goes through all targets in turn, so that the machine's noise falls on all alike; the table has the median of
the rounds and the least CPU time of one, which noise can only add to. The noise stands beside it: how long the same
piece of work took before each load, and what the machine was busy with. Then a real engine and the docker CLI, as in
`docker_run`. It all ends within five minutes; on a busy machine with fewer rounds.

`--write` puts the tables into RESULTS.md, in the place of the ones that are there.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.bench import docker_run, loads
from tests.bench.loads import Outcome
from tests.bench.targets import Target, targets
from tests.support.users import remove_folder, shared_folder

IDLE = 500  # streams
SECONDS = 16.0  # for a load; a round that has begun is ended
RESULTS = Path(__file__).with_name("RESULTS.md")
MAIN = ("sockproxy.app", "lifecycle", "network", "filesystem")  # front and helpers, by words of their command lines
BEGIN, END = "<!-- measured -->\n", "<!-- end -->\n"


class Load(NamedTuple):
    """One row: what is done, how much of it a round, the unit of its CPU time, and what is to be reached."""

    name: str
    run: Callable[[str, int], Outcome]
    amount: int
    unit: str
    scale: float
    target: str = ""


LOADS = (
    Load("small request, keep-alive", loads.small, 1500, "us", 1e6, "≤ 100"),
    Load("ping, keep-alive", lambda path, count: loads.small(path, count, loads.PING), 1500, "us", 1e6, "≤ 100"),
    Load("small request, new connection", loads.fresh, 800, "us", 1e6, "≤ 200"),
    Load("download, content-length", loads.download(b"length"), 1024, "s/GiB", 1, "≤ 0.12"),
    Load("download, chunked", loads.download(b"chunked"), 1024, "s/GiB", 1, "≤ 0.20"),
    Load("upload, content-length", loads.upload("length"), 1024, "s/GiB", 1, "≤ 0.12"),
    Load("upload, chunked", loads.upload("chunked"), 1024, "s/GiB", 1, "≤ 0.20"),
    Load("upgraded stream, down", loads.stream, 1024, "s/GiB", 1, "≤ 0.12"),
    Load("round trip of 64 bytes, upgraded", loads.interactive, 2000, "us", 1e6, "≤ 30"),
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
    end, work = time.monotonic() + SECONDS, calibrate()
    for turn in range(rounds + 1):
        if turn > 2 and time.monotonic() > end:
            break
        for target in found:
            sample = measure(load, target)
            if turn:  # the first warms up
                samples[target.name].append(sample)
    rows = []
    for name, of in samples.items():
        cpu, rate, p50, p99 = (statistics.median(values) for values in zip(*of, strict=True))
        speed = f"{rate:,.2f} GiB/s" if load.scale == 1 else f"{rate:,.0f}/s"
        latency = "" if load.scale == 1 else f"{p50 * 1e6:.0f} / {p99 * 1e6:.0f} us"
        least = min(item.cpu for item in of)
        spent = "|" if name == "direct" else f"{cpu * load.scale:.3g} | {least * load.scale:.3g} {load.unit}"
        spread = max(item.rate for item in of) / min(item.rate for item in of)
        goal = load.target if name == "sockproxy" else ""
        rows.append(
            f"| {load.name} | {name} | {spent} | {goal} | {speed} | {latency} | {spread:.2f} | {work * 1000:.0f} ms |"
        )
    return rows


def calibrate() -> float:
    """Time the same piece of work; on a quiet machine it takes as long each time."""
    begin = time.perf_counter()
    sum(number * number for number in range(300_000))
    return time.perf_counter() - begin


def idle(found: list[Target]) -> Iterator[str]:
    """Give the memory that idle upgraded streams take, and what was there before them."""
    for target in found[1:]:
        before = target.memory()
        open_streams = [loads.attach(target.path) for _ in range(IDLE)]
        each = (target.memory() - before) / IDLE
        for sock in open_streams:
            sock.close()
        goals = ("≤ 6 KiB", "see below") if target.name == "sockproxy" else ("", "")
        yield f"| {target.name} | {each:.1f} KiB | {goals[0]} | {before / 1024:.1f} MiB | {goals[1]} |"


def tables(rounds: int) -> Iterator[str]:
    """Measure, and give the lines."""
    folder = shared_folder()
    try:
        with targets(folder) as found:
            system = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
            yield f"{datetime.date.today()}, {system}; load average {os.getloadavg()[0]:.1f} at the beginning."
            yield f"Medians of at most {rounds} rounds, and the least. CPU: user and system time of all processes of"
            yield "what stands before the upstream. Noise: the fastest round against the slowest; work: how long"
            yield "the same piece of work took before the load.\n"
            yield "| load | before the upstream | CPU | least | target | speed | latency p50 / p99 | noise | work |"
            yield "|---|---|---|---|---|---|---|---|---|"
            for load in LOADS:
                yield from compare(load, found, rounds)
            yield f"\n| {IDLE} idle streams | memory each (PSS) | target | all processes before | target |"
            yield "|---|---|---|---|---|"
            loaded = found[-1].memory_of(MAIN)
            yield from idle(found)
            ended = found[-1].memory_of(MAIN)
            yield f"\nFront and three helpers: {loaded / 1024:.1f} MiB PSS after the loads above (target ≤ 45 MiB), "
            yield f"{ended / 1024:.1f} MiB after the idle streams.\n"
    finally:
        remove_folder(folder)
    yield "| real engine | through sockproxy | direct | of medians | median of pairs (quartiles) | target |"
    yield "|---|---|---|---|---|---|"
    yield from docker_run.rows(times=25, seconds=25)
    yield f"\nLoad average at the end: {os.getloadavg()[0]:.1f}."


def main() -> None:
    """Print the tables, as Markdown, and write them if that is asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    lines = []
    for line in tables(options.rounds):
        print(line, flush=True)
        lines.append(line + "\n")
    if options.write:
        before, _, rest = RESULTS.read_text().partition(BEGIN)
        RESULTS.write_text(before + BEGIN + "".join(lines) + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
