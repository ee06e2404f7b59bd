"""A running `sockproxy up` for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sockproxy.supervise.table import Settings
from tests.support import cgroups
from tests.support.engines import Engine, Gone
from tests.support.users import User, Users

# How to tell the processes apart, by a word of their command line.
PROCESSES = {
    "front": "sockproxy.app",
    "audit": "sockproxy.audit.writer",
    "auth": "sockproxy.auth.process",
    "own": "sockproxy.review.own",
    "mediator": "sockproxy.buildkit",
    "lifecycle": "lifecycle",
    "network": "network",
    "filesystem": "filesystem",
    "binds": "binds",
    "attacher": "attacher",
}


def default_policy(users: Users) -> str:
    """Bind the tests' people to the built-in roles."""
    return f"""version: 1
bindings:
  - {{user: root, role: admin}}
  - {{group: {users.developers}, role: developer}}
  - {{user: {users.carol.name}, role: viewer}}
"""


def eventually(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Poll until a condition holds; fail when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.02)


class Proxy:
    """sockproxy before an engine.

    Attributes:
        docker_host: what users set DOCKER_HOST to.
        listen: the path of the socket in it.
        engine: the engine behind it.
        folder: policy file, runtime, state and log folders, output of `up`.
    """

    def __init__(self, engine: Engine, folder: Path, policy: str, descriptors: int = 0) -> None:
        self.engine, self.folder = engine, folder
        self.listen = folder / "docker.sock"
        self.docker_host = f"unix://{self.listen}"
        self.config, self.log, self.runtime = folder / "sockproxy.yaml", folder / "log", folder / "run"
        self.config.write_text(policy)
        command = ["prlimit", f"--nofile={descriptors}", "--"] if descriptors else []
        command += [sys.executable, "-I", "-m", "sockproxy", "up", "--config", self.config, "--listen", self.listen]
        command += ["--docker-socket", engine.socket, "--runtime-dir", self.runtime]
        command += ["--state-dir", folder / "state", "--log-dir", self.log, "--plugin-dir", engine.plugin_dir]
        self._command = command
        settings = Settings(None, *map(str, (engine.socket, self.listen, self.runtime, folder / "state", self.log)))
        self.plugin = f"{engine.plugin_dir}/{settings.plugin}.sock"
        cgroups.made.add(self.shares)
        self.restart()

    def restart(self) -> None:
        """Start it, again when it has ended."""
        self._end_stand_in()
        with open(self.folder / "out", "wb") as output, open(self.folder / "err", "wb") as errors:
            self.up = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, cwd="/")
        try:
            eventually(lambda: self.up.poll() is not None or self._is_ready(), "sockproxy up ready")
            assert self.up.poll() is None, self.errors()
        except AssertionError:
            self.stop()
            raise

    def _is_ready(self) -> bool:
        return f"ready DOCKER_HOST={self.docker_host}\n" in (self.folder / "out").read_text()

    def errors(self) -> str:
        """Give what `up` and its processes wrote to stderr."""
        return (self.folder / "err").read_text()

    def environment(self, user: User) -> dict[str, str]:
        """Give a user's environment for docker clients."""
        path = f"{self.engine.cli.parent}:/usr/local/bin:/usr/bin:/bin"
        return user.environment(DOCKER_HOST=self.docker_host, DOCKER_CONFIG=str(user.home / ".docker"), PATH=path)

    def run(self, user: User, argv: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command as a user, through sockproxy. Keywords as for subprocess.run; output is captured as text."""
        settings = {
            "env": self.environment(user),
            "cwd": user.home,
            "timeout": 60,
            "text": True,
            "capture_output": True,
        }
        if not {"stdin", "input"} & options.keys():
            settings["stdin"] = subprocess.DEVNULL
        if {"stdout", "stderr"} & options.keys():
            settings["capture_output"] = False
        return subprocess.run(user.command(list(argv)), **settings | options)  # type: ignore[call-overload,no-any-return]

    def start(self, user: User, argv: list[str], **options: object) -> subprocess.Popen[bytes]:
        """Start a command as a user, through sockproxy. Keywords as for subprocess.Popen."""
        settings = {"env": self.environment(user), "cwd": user.home}
        return subprocess.Popen(user.command(list(argv)), **settings | options)  # type: ignore[call-overload,no-any-return]

    def docker(self, user: User, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run the docker CLI as a user, through sockproxy."""
        return self.run(user, ["docker", *arguments], **options)

    def records(self) -> list[dict[str, object]]:
        """Read the audit records written so far; a line that is being written does not count yet."""
        whole = (self.log / "audit.jsonl").read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def processes(self) -> dict[str, int]:
        """The process ids by name; a process that is not running is absent."""
        found: dict[str, int] = {}
        for pid in _descendants(self.up.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            for name, word in PROCESSES.items():
                if word in words:
                    found.setdefault(name, pid)  # not what it has forked
        return found

    def reload(self, policy: str | None = None) -> None:
        """Write a new policy, if given, and make sockproxy load the file again."""
        if policy is not None:
            self.config.write_text(policy)
        before = len(self._policy_records())
        self.up.send_signal(signal.SIGHUP)
        eventually(lambda: len(self._policy_records()) > before, "record of the reload", 10)

    def _policy_records(self) -> list[dict[str, object]]:
        return [record for record in self.records() if record["ev"] == "policy"]

    def stop(self) -> int:
        """End it with SIGTERM; return its exit code."""
        code = self._stop()
        cgroups.remove(self.shares)
        return code

    @property
    def shares(self) -> str:
        """The name of the folder that has the users' cgroups."""
        return Settings(None, "", "", str(self.runtime), "", "").shares

    def _stop(self) -> int:
        if self.up.poll() is None:
            self.up.send_signal(signal.SIGTERM)
            try:
                self.up.wait(30)
            except subprocess.TimeoutExpired:
                self.up.kill()
                self.up.wait()
                raise
        self._begin_stand_in()
        return self.up.returncode

    def _begin_stand_in(self) -> None:
        if isinstance(self.engine, Engine) and self.plugin not in self.engine.gone:
            self.engine.gone[self.plugin] = Gone(self.plugin)

    def _end_stand_in(self) -> None:
        if isinstance(self.engine, Engine) and self.plugin in self.engine.gone:
            self.engine.gone.pop(self.plugin).end()


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()  # its name may be no text
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [pid]
    while todo:
        current = todo.pop(0)
        found.append(current)
        todo += children.get(current, [])
    return found[1:]
