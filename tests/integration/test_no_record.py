"""A call that can't be recorded is not made: reads and refusals too, and the daemon hears nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.containers import API
from tests.support.fake_daemon import FakeDaemon
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Connection
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

READS_WITHIN = 1.5  # seconds; see Recorder.note
LIST = f"{API}/containers/json"


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process, so that it is there and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_no_record_no_call(noted: Proxy, fake_daemon: FakeDaemon, users: Users) -> None:
    """With a writer that hangs."""
    reads = (LIST, "/_ping", f"{API}/images/json", f"{API}/networks")
    asked = [(users.alice, target) for target in (*reads, "/none")]
    asked += [(users.mallory, LIST), (users.carol, f"{API}/containers/x/archive?path=/")]
    with ExitStack() as stack:
        pairs = [(stack.enter_context(Connection(noted.listen, user)), target) for user, target in asked]
        for connection, target in [(pairs[0][0], "/_ping"), *pairs[: len(reads)]]:
            assert connection.call("GET", target).status == 200
        with stopped(noted.processes["audit"]):
            for connection, target in pairs[: len(reads)]:
                assert connection.call("GET", target).status == 200
            time.sleep(READS_WITHIN)  # what was read just now may be recorded later than that, and then nothing more
            fake_daemon.forget()
            for connection, target in pairs:
                connection.request("GET", target)
            answers = [connection.answer() for connection, _ in pairs]
        assert {answer.status for answer in answers} == {503}
        assert all("record" in answer.message for answer in answers)
        assert b" HTTP/1.1" not in fake_daemon.received  # HTTP/1.0 is what a helper itself asks
        for connection, target in pairs[:4]:
            eventually(lambda: connection.call("GET", target).status == 200, "answers")  # noqa: B023 (called at once)
