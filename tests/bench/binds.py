"""Measure what binds cost: a stage, a `docker run` with some, the throughput of an idmapped bind and of a plain one.

As root, at the top of the checkout: .venv/bin/python -m tests.bench.binds [ENGINE [TIMES]]
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.support.engines import Engines
from tests.support.proxy import Proxy, default_policy
from tests.support.users import User, Users, remove_folder, shared_folder

WORK = {
    "write 256 MiB": "dd if=/dev/zero of=/h/big bs=1M count=256 conv=fsync",
    "read it (cached)": "dd if=/h/big of=/dev/null bs=1M",
    "create 2000 files": "i=0; while [ $i -lt 2000 ]; do : > /h/f$i; i=$((i+1)); done",
    "stat them": "ls -lR /h",
    "unlink them": "rm -f /h/f*",
}


def timed(command: list[str | Path], **options: object) -> float:
    """Time a command."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    return time.perf_counter() - begin


def ask(plugin: Path, method: str, body: dict[str, str]) -> dict[str, str]:
    """Ask the volume plugin as the daemon does."""
    text = json.dumps(body).encode()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(plugin))
        sock.sendall(f"POST /VolumeDriver.{method} HTTP/1.1\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
        return json.loads(sock.recv(65536).partition(b"\r\n\r\n")[2])  # type: ignore[no-any-return]


def stages(proxy: Proxy, user: User, times: int) -> str:
    """Time Mount and Unmount of the plugin, without a container's start."""
    proxy.run(user, ["docker", "create", "--name", "staged", "-v", f"{user.home}:/h", "busybox"], check=True)
    (name,) = (path.name for path in (proxy.folder / "state" / "binds" / str(user.uid)).glob("sockproxy-*"))
    (plugin,) = (proxy.engine.folder / "plugins").glob("*.sock")
    mounts, unmounts = [], []
    for number in range(times):
        body = {"Name": name, "ID": f"{number:064x}"}
        begin = time.perf_counter()
        assert ask(plugin, "Mount", body).get("Mountpoint")
        middle = time.perf_counter()
        ask(plugin, "Unmount", body)
        mounts.append(middle - begin)
        unmounts.append(time.perf_counter() - middle)
    proxy.engine.clean()
    return f"mount {statistics.median(mounts) * 1000:.1f} ms, unmount {statistics.median(unmounts) * 1000:.1f} ms"


def main() -> None:
    """Run the measurements."""
    version, times = (sys.argv[1:] + ["28", "5"][len(sys.argv) - 1 :])[:2]
    folder = shared_folder()
    (folder / "home").mkdir()
    (folder / "p").mkdir()
    users, engines = Users(folder / "home"), Engines(folder)
    try:
        engine = engines.get(version)
        proxy = Proxy(engine, folder / "p", default_policy(users))
        try:
            alice = users.alice
            print("a stage:", stages(proxy, alice, 100))
            start = ["run", "-d", "--name"]
            bind = ["-v", f"{alice.home}:/h", "busybox", "sleep", "9999"]
            proxy.run(alice, ["docker", *start, "mapped", *bind], check=True)
            engine.docker(*start, "plain", *bind)
            for name, script in WORK.items():
                found = {"mapped": [], "plain": []}  # type: dict[str, list[float]]
                for _ in range(int(times)):
                    for which, spent in found.items():
                        if name.startswith(("create", "stat", "unlink")):
                            engine.docker("exec", which, "sh", "-c", WORK["create 2000 files"])
                        command = [engine.cli, "-H", f"unix://{engine.socket}", "exec", which, "sh", "-c", script]
                        spent.append(timed(command))
                        engine.docker("exec", which, "sh", "-c", "rm -f /h/f*")
                mapped, plain = (statistics.median(found[which]) for which in ("mapped", "plain"))
                sides = f"mapped {mapped * 1000:7.0f} ms  plain {plain * 1000:7.0f} ms"
                print(f"{name:18} {sides}  ratio {mapped / plain:.2f}")
            runs = {count: [] for count in (0, 1, 4)}  # type: dict[int, list[float]]
            for _ in range(2 * int(times)):
                for count, spent in runs.items():
                    binds = [word for number in range(count) for word in ("-v", f"{alice.home}:/h{number}")]
                    command = alice.command(["docker", "run", "--rm", *binds, "busybox", "true"])
                    spent.append(timed(command, env=proxy.environment(alice), cwd=alice.home))
            print(
                "docker run --rm with",
                {count: f"{statistics.median(spent) * 1000:.0f} ms" for count, spent in runs.items()},
            )
        finally:
            proxy.stop()
    finally:
        engines.stop()
        users.remove()
        remove_folder(folder)


if __name__ == "__main__":
    main()
