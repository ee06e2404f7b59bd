"""What a decision costs as people and bindings grow: it should not depend on how many there are.

.venv/bin/python -m tests.bench.decisions
"""

from __future__ import annotations

import time

from sockproxy.policy.compile import compile_text, dump
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system.caller import Caller

ROUNDS = 20_000
SIZES = (10, 100, 1_000, 10_000)


def policy(size: int) -> Policy:
    """Bind so many users and groups."""
    lines = [f"  - {{user: u{number}, role: developer}}" for number in range(size // 2)]
    lines += [f"  - {{group: g{number}, role: viewer}}" for number in range(size // 2)]
    text = "\n".join(["version: 1", "bindings:", *lines, "  - {group: last, role: developer}"])
    return Policy(dump(compile_text(text.encode(), "p.yaml")))


def measure(size: int) -> tuple[float, float]:
    """Give the seconds of a decision for who is bound by the last line, and for who is bound by none."""
    found, spent = policy(size), []
    for groups in (["a", "b", "last"], ["a", "b"]):
        caller = Caller(5000, 5000, 1, "kim", groups, "/home/kim")
        found.decide(caller, "ContainerCreate")
        began = time.perf_counter()
        for _ in range(ROUNDS):
            found.decide(caller, "ContainerCreate")
        spent.append((time.perf_counter() - began) / ROUNDS)
    return spent[0], spent[1]


def main() -> None:
    """Print the table, as Markdown."""
    print("| bindings | the last one matches | none does |\n|---|---|---|")
    for size in SIZES:
        last, none = measure(size)
        print(f"| {size:,} | {last * 1e6:.2f} us | {none * 1e6:.2f} us |", flush=True)


if __name__ == "__main__":
    main()
