"""Ask a running sockproxy from several threads while something is done to it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from tests.bench import upstream
from tests.faults.scene import LIST, Scene
from tests.support.raw import BrokenOff

THREADS = 4


class Asking:
    """Count what came of it.

    Attributes:
        answers: whole and right.
        failures: that said so, were cut off, or did not come in time.
        wrong: all else.
    """

    def __init__(self) -> None:
        self.answers = self.failures = 0
        self.wrong: list[object] = []
        self.end = threading.Event()

    def ask(self, scene: Scene, timeout: float) -> None:
        """Ask until the end, on one connection as long as it lasts."""
        while not self.end.is_set():
            try:
                with scene.connect(timeout) as connection:
                    while not self.end.is_set():
                        answer = connection.call("GET", LIST)
                        if answer.status == 200 and answer.body == upstream.SMALL:
                            self.answers += 1
                        elif answer.status in (502, 503) and answer.message:
                            self.failures += 1
                        else:
                            self.wrong.append((answer.status, answer.body))
            except (OSError, BrokenOff):
                self.failures += 1


@contextlib.contextmanager
def asking(scene: Scene, timeout: float = 20.0) -> Iterator[Asking]:
    """Ask meanwhile; nothing that comes is wrong."""
    one = Asking()
    threads = [threading.Thread(target=one.ask, args=(scene, timeout)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield one
    finally:
        one.end.set()
        for thread in threads:
            thread.join()
    assert not one.wrong, one.wrong[:3]
