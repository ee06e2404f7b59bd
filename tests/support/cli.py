"""What the tests with the docker CLI share: refusals, terminals, lines of a running command, the daemon's state."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import selectors
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import IO, Any

from tests.support.engines import Engine
from tests.support.proxy import Proxy, eventually
from tests.support.raw import call
from tests.support.users import User

REFUSAL = re.compile(r"sockproxy: (?P<why>[^\n]*?)(?:: rule (?P<at>[\w.-]+:[0-9]+))? \(request (?P<rid>[0-9a-f]{16})\)")
SECONDS = 20.0
MEBIBYTE = 1 << 20

Done = subprocess.CompletedProcess[str]


def assert_done(done: Done) -> str:
    """Demand that a command succeeded; give its output."""
    assert done.returncode == 0, (done.args, done.stdout[-1000:], done.stderr[-1000:])
    return done.stdout


def assert_refused(done: Done, code: int = 1, at: str | None = None) -> str:
    """Demand the CLI's output of a refusal: our sentence with the rule's place and the request's id.

    Args:
        code: the exit code; docker run and create have 125 for what the daemon refuses.
        at: the file of the rule; "" when no rule could allow it.

    Returns:
        The request's id.
    """
    found = REFUSAL.search(done.stderr)
    assert found, (done.args, done.stdout[-500:], done.stderr[-1000:])
    assert done.returncode == code, done
    assert at is None or (found["at"] or "").partition(":")[0] == at, done.stderr
    assert "broken pipe" not in done.stderr
    return found["rid"]


def rids(proxy: Proxy, event: str, user: User) -> list[str]:
    """List the request ids of a user's records of an event, in order."""
    return [str(one["rid"]) for one in proxy.records() if one["ev"] == event and f"'uid': {user.uid}," in str(one)]


def state(engine: Engine) -> dict[str, set[str]]:
    """Describe all that the daemon holds and a refused call could have changed."""

    def read(target: str) -> Any:
        return json.loads(call(engine.socket, "GET", target).body)

    containers = [read(f"/containers/{one['Id']}/json") for one in read("/containers/json?all=1")]
    found = {
        "containers": containers,
        "execs": [one["ExecIDs"] for one in containers],
        "images": read("/images/json?all=1"),
        "networks": read("/networks"),
        "volumes": read("/volumes")["Volumes"] or [],
    }
    return {kind: {json.dumps(one, sort_keys=True) for one in objects} for kind, objects in found.items()}


def write_random(path: Path, size: int, owner: User) -> Path:
    """Write a file of random bytes that belongs to a user."""
    with open("/dev/urandom", "rb") as source, open(path, "wb") as file:
        for start in range(0, size, MEBIBYTE):
            file.write(source.read(min(MEBIBYTE, size - start)))
    os.chown(path, owner.uid, owner.gid)
    return path


class Reader:
    """Read what a running command prints, without ever waiting for ever."""

    def __init__(self, source: IO[bytes] | int) -> None:
        self._fd = source if isinstance(source, int) else source.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._fd, selectors.EVENT_READ)
        self.text = ""

    def _more(self, end: float) -> bool:
        """Read some; False at the end of the stream."""
        assert self._selector.select(max(0, end - time.monotonic())), f"nothing more after {self.text[-500:]!r}"
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: a terminal whose other side is closed
            data = b""
        self.text += data.decode(errors="replace")
        return bool(data)

    def until(self, mark: str, seconds: float = SECONDS) -> str:
        """Read until a mark comes; give all up to and with it."""
        end = time.monotonic() + seconds
        while mark not in self.text:
            assert self._more(end), f"ended before {mark!r}: {self.text[-500:]!r}"
        found, _, self.text = self.text.partition(mark)
        return found + mark

    def sees(self, mark: str, seconds: float) -> bool:
        """Tell whether a mark comes in time; take nothing away."""
        end = time.monotonic() + seconds
        while mark not in self.text and self._selector.select(max(0, end - time.monotonic())):
            if not self._more(end):
                break
        return mark in self.text

    def rest(self, seconds: float = SECONDS) -> str:
        """Read all until the end."""
        end = time.monotonic() + seconds
        while self._more(end):
            pass
        return self.text

    def close(self) -> None:
        """Stop reading."""
        self._selector.close()


class Running:
    """A docker command under way, with its output; killed when the test leaves it.

    Attributes:
        process: the CLI itself.
        out: its stdout; its stderr too when `together`.
    """

    def __init__(self, proxy: Proxy, user: User, *arguments: str, together: bool = False, **options: object) -> None:
        settings: dict[str, object] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        settings["stderr"] = subprocess.STDOUT if together else subprocess.PIPE
        self.process = proxy.start(user, ["docker", *arguments], **settings | options)
        assert self.process.stdout
        self.out = Reader(self.process.stdout)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.out.close()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()

    def wait(self, seconds: float = SECONDS) -> int:
        """Wait for its end; give the exit code."""
        return self.process.wait(seconds)


class Terminal:
    """A docker command on a terminal of its own, as a person would use it."""

    def __init__(self, proxy: Proxy, user: User, *arguments: str, rows: int = 24, columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        self.resize(rows, columns)
        files = {"stdin": slave, "stdout": slave, "stderr": slave}
        self.process = proxy.start(user, ["setsid", "--ctty", "docker", *arguments], **files)
        os.close(slave)
        self.out = Reader(self._master)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size; the kernel tells the command by SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.out.close()
        os.close(self._master)

    def wait(self, seconds: float = SECONDS) -> int:
        """Wait for its end; give the exit code."""
        return self.process.wait(seconds)


def running(engine: Engine, name: str) -> bool:
    """Tell whether a container runs, by the daemon's own word."""
    done = engine.docker("inspect", "-f", "{{.State.Running}}", name, check=False)
    return done.stdout.strip() == "true"


def await_running(engine: Engine, name: str, *, state: bool = True) -> None:
    """Wait until a container runs, or no longer does."""
    eventually(lambda: running(engine, name) is state, f"{name} running: {state}")


def handlers(engine: Engine, function: str) -> int:
    """Count the daemon's goroutines that are inside one of its handlers, by its own debug page."""
    return call(engine.socket, "GET", "/debug/pprof/goroutine?debug=2").body.count(f".{function}(".encode())
