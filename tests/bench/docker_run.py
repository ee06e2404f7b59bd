"""Measure the wall time of the docker CLI through sockproxy against the daemon itself, in turn.

As root, at the top of the checkout: .venv/bin/python -m tests.bench.docker_run [ENGINE [TIMES]]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.support.engines import Engines
from tests.support.proxy import Proxy, default_policy
from tests.support.users import User, Users, remove_folder, shared_folder

COMMANDS = {"run --rm": ["run", "--rm", "busybox", "true"], "ps": ["ps"]}


def once(command: list[str], environment: dict[str, str]) -> float:
    """Time one command."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - begin


def compare(proxy: Proxy, user: User, name: str, times: int, seconds: float) -> str:
    """Time a command of a user's both ways in turn; give a row: the medians, their ratio and the median of pairs'.

    Args:
        seconds: after which no further pair is begun, if there are some.
    """
    mine, direct = proxy.environment(user), proxy.environment(user) | {"DOCKER_HOST": f"unix://{proxy.engine.socket}"}
    arguments, pairs, end = ["docker", *COMMANDS[name]], [], time.monotonic() + seconds
    while len(pairs) <= times and (len(pairs) < 5 or time.monotonic() < end):
        # Both are wrapped alike; the daemon's own socket is root's.
        through = once([str(word) for word in user.command(list(arguments))], mine)
        pairs.append((through, once([str(word) for word in User("root").command(list(arguments))], direct)))
    pairs = pairs[1:]  # the first warms up
    ours, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = sorted(one / two for one, two in pairs)
    middle = statistics.median(ratios)
    quarters = f"{ratios[len(ratios) // 4]:.3f} to {ratios[len(ratios) * 3 // 4]:.3f}"
    times_ms = f"{ours * 1000:.0f} ms | {other * 1000:.0f} ms"
    return f"{times_ms} | {ours / other:.3f} | {middle:.3f} ({quarters}, {len(pairs)} pairs)"


def rows(version: str = "28", times: int = 40, seconds: float = 45) -> Iterator[str]:
    """Give the table's rows: each command as an administrator and as a developer."""
    folder = shared_folder()
    (folder / "home").mkdir()
    (folder / "p").mkdir()
    users, engines = Users(folder / "home"), Engines(folder)
    try:
        proxy = Proxy(engines.get(version), folder / "p", default_policy(users))
        try:
            for name in COMMANDS:
                for role, user in (("admin", users.root), ("developer", users.alice)):
                    yield f"| docker {name}, {role} | {compare(proxy, user, name, times, seconds)} | ≤ 1.05 |"
        finally:
            proxy.stop()
    finally:
        engines.stop()
        users.remove()
        remove_folder(folder)


def main() -> None:
    """Print the rows."""
    version, times = (sys.argv[1:] + ["28", "40"][len(sys.argv) - 1 :])[:2]
    for row in rows(version, int(times), seconds=600):
        print(row, flush=True)


if __name__ == "__main__":
    main()
