"""Bring what was written to the disk, in a thread, so that the writer's loop never waits for one."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable


class Committer:
    """Run one job at a time; what comes meanwhile makes up the next one (group commit).

    Attributes:
        done: readable when a job has ended, until `finish`.
        busy: a job is running, or was not finished.
    """

    def __init__(self) -> None:
        self.done = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.busy = False
        self._error = ""
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    def start(self, job: Callable[[], None]) -> None:
        """Begin a job: an OSError that it raises is its result."""
        assert not self.busy
        self.busy = True
        self._jobs.put(job)

    def finish(self) -> str:
        """Wait for the job's end; tell why it failed, "" if it did not."""
        os.set_blocking(self.done, True)
        os.eventfd_read(self.done)
        os.set_blocking(self.done, False)
        self.busy = False
        return self._error

    def _run(self) -> None:
        while job := self._jobs.get():
            try:
                job()
                self._error = ""
            except OSError as error:
                self._error = error.strerror or "the disk failed"
            os.eventfd_write(self.done, 1)

    def close(self) -> None:
        """End the thread."""
        if self.busy:
            self.finish()
        self._jobs.put(None)
        self._thread.join()
        os.close(self.done)
