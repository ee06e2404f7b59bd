"""A call that can't be recorded is not made: reads and refusals too, and the daemon hears nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.containers import API
from tests.support.fake_daemon import FakeDaemon
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Connection
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

LIST = f"{API}/containers/json"


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process, so that it is there and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("target", [LIST, "/_ping", f"{API}/images/json", f"{API}/networks"])
def test_no_record_no_call(noted: Proxy, fake_daemon: FakeDaemon, users: Users, target: str) -> None:
    """A writer that hangs: reads are refused too, and the daemon hears nothing."""
    with Connection(noted.listen, users.alice) as connection:
        assert connection.call("GET", target).status == 200
        fake_daemon.forget()
        with stopped(noted.processes["audit"]):
            answer = connection.call("GET", target)
        assert answer.status == 503
        assert "record" in answer.message
        assert fake_daemon.received == b""
        eventually(lambda: connection.call("GET", target).status == 200, "answers")


def test_refusals_without_a_record(noted: Proxy, fake_daemon: FakeDaemon, users: Users) -> None:
    with stopped(noted.processes["audit"]), Connection(noted.listen, users.mallory) as connection:
        assert connection.call("GET", LIST).status == 503
    assert fake_daemon.received == b""
