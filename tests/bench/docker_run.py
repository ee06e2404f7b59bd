"""Measure the wall time of `docker run --rm` and `docker ps` through sockproxy against the daemon itself, alternating.

As root, at the top of the checkout: .venv/bin/python -m tests.bench.docker_run [ENGINE [TIMES]]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from tests.support.engines import Engine, Engines
from tests.support.proxy import Proxy
from tests.support.users import remove_folder, shared_folder

COMMANDS = {"run --rm": ["run", "--rm", "busybox", "true"], "ps": ["ps"]}
POLICY = "version: 1\nbindings: [{user: root, role: admin}]\n"


def once(engine: Engine, host: str, command: list[str]) -> float:
    """Time one command."""
    begin = time.perf_counter()
    subprocess.run([engine.cli, "-H", host, *command], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def compare(engine: Engine, through: str, command: list[str], times: int) -> str:
    """Time a command both ways in turn; say the medians and their ratio."""
    direct = f"unix://{engine.socket}"
    pairs = [(once(engine, through, command), once(engine, direct, command)) for _ in range(times + 1)][1:]
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return f"{mine * 1000:7.1f} ms  direct {other * 1000:7.1f} ms  ratio {mine / other:.3f}  of pairs {ratio:.3f}"


def main() -> None:
    """Run the comparison."""
    version, times = (sys.argv[1:] + ["28", "40"][len(sys.argv) - 1 :])[:2]
    folder = shared_folder()
    engines = Engines(folder)
    (folder / "p").mkdir()
    try:
        engine = engines.get(version)
        proxy = Proxy(engine, folder / "p", POLICY)
        try:
            for name, command in COMMANDS.items():
                print(f"engine {version}  docker {name:9}", compare(engine, proxy.docker_host, command, int(times)))
        finally:
            proxy.stop()
    finally:
        engines.stop()
        remove_folder(folder)


if __name__ == "__main__":
    main()
