"""Run `up` as a process and read what it says, line by line, with a bound on each wait."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

BOUND = 30.0  # seconds that nothing here needs


class Running:
    """Hold a process that was started.

    Attributes:
        said: the lines of its standard error so far, as far as they were waited for.
    """

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/"
        )
        self.pid = self.process.pid
        self.said: list[str] = []
        self._queues: dict[str, queue.Queue[str]] = {"out": queue.Queue(), "err": queue.Queue()}
        self._threads = [
            threading.Thread(target=self._read, args=(name, stream))
            for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, name: str, stream: Iterator[str]) -> None:
        for line in stream:
            self._queues[name].put(line.rstrip("\n"))
        self._queues[name].put("")

    def ready(self) -> str:
        """Wait for the line on standard output; "" if it ended without."""
        return self._queues["out"].get(timeout=BOUND)

    def wait_for(self, text: str) -> str:
        """Wait for a line on standard error that holds a text."""
        while text not in (line := self._queues["err"].get(timeout=BOUND)):
            self.said.append(line)
            assert line, f"ended without {text!r}: {self.said}"
        self.said.append(line)
        return line

    def end(self, number: int | None = None) -> int:
        """Send a signal, if one is given, and wait for the end; give the exit code."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(BOUND)
        for thread in self._threads:
            thread.join(BOUND)
        while not self._queues["err"].empty():
            self.said.append(self._queues["err"].get())
        self.said = [line for line in self.said if line]  # without the mark of the end
        return code

    def children(self) -> dict[int, list[str]]:
        """Give its children's command lines by pid."""
        pids = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return {int(pid): Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1] for pid in pids}

    def close(self) -> None:
        """Leave nothing."""
        if self.process.poll() is None:
            self.process.kill()
        self.end()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()


@contextlib.contextmanager
def ends(pids: list[int]) -> Iterator[None]:
    """See that processes end within the bound, once the block has been done."""
    pidfds = [os.pidfd_open(pid) for pid in pids]
    try:
        yield
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], BOUND)[0], "a process is left"
    finally:
        for pidfd in pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """Give a folder that all users may pass."""
    folder = Path(tempfile.mkdtemp(prefix="sockproxy-test-", dir="/run"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
