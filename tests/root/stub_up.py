"""Run the supervisor with a table of stubs: `python stub_up.py FOLDER CASE`. The cases are in test_up_stubs.py."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys

from sockproxy.supervise import child, host, supervisor
from sockproxy.supervise.table import ATTACH, BINDS, Endpoint, Row, Settings

STUB = r"""
import os, signal, socket, sys
name, does = sys.argv[1:]
def notify(word=b"READY=1"):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(word, os.environ["NOTIFY_SOCKET"])
def term(*_):
    print("end", flush=True)
    raise SystemExit(0)
def stay(*_):
    print("stays", flush=True)
signal.signal(signal.SIGTERM, stay if does == "stays" else term)
signal.signal(signal.SIGHUP, lambda *_: print("reload", flush=True))
print("start", flush=True)
if does == "fails":
    raise SystemExit(5)
if does == "lies":
    pid = os.fork()
    if pid == 0:
        notify()
        os._exit(0)
    os.waitpid(pid, 0)
if does not in ("lies", "sleeps"):
    notify()
if does == "dies":
    raise SystemExit(3)
if does == "paints":
    sys.stderr.buffer.write(b"red \x1b[31m\x07 \xff\n" + b"x" * 10000 + b"\n")
    sys.stderr.flush()
if does == "forks" and os.fork() == 0:
    print("child", os.getpid(), flush=True)
    os.setsid()
    signal.alarm(60)
    while True:
        signal.pause()
if does == "lives":
    interval = int(os.environ["WATCHDOG_USEC"]) / 3e6
    signal.signal(signal.SIGALRM, lambda *_: notify(b"WATCHDOG=1"))
    signal.setitimer(signal.ITIMER_REAL, interval, interval)
if does == "forks":
    os.kill(os.getpid(), signal.SIGKILL)
while True:
    signal.pause()
"""


def main() -> int:
    folder, settings_of_case = sys.argv[1], json.loads(sys.argv[2])
    for name, value in settings_of_case.pop("constants", {}).items():
        setattr(supervisor if hasattr(supervisor, name) else child, name, value)

    def rows(settings: Settings) -> tuple[Row, ...]:
        def row(order: int, name: str, user: str) -> Row:
            path = f"{settings.runtime_dir}/{name}.sock"
            endpoint = Endpoint(path, socket.SOCK_SEQPACKET, "sockproxy", 0o660)
            does = settings_of_case.get(name, "works")
            argv = (os.path.realpath(sys.executable), "-I", "-S", "-c", STUB, name, does)
            watchdog = {"hangs": 0.3, "lives": 0.6}.get(does, 0.0)
            return Row(order, name, user, (), argv, {name: endpoint}, {}, order > 0, 0, watchdog)

        return (
            row(0, "first", "sockproxy-audit"),
            row(1, "second", "root"),
            row(1, "third", "root"),
            row(2, "last", "sockproxy"),
        )

    names = ("runtime_dir", "state_dir", "log_dir", "plugin_dir")
    options = argparse.Namespace(
        config=None,
        docker_socket=f"{folder}/daemon.sock",
        listen=f"{folder}/docker.sock",
        **{name: f"{folder}/{name}" for name in names},
    )
    for name in (BINDS, ATTACH):  # whose folders there are
        host.account(name)
    return supervisor.main(options, rows)


if __name__ == "__main__":
    sys.exit(main())
