"""No descriptors left: a call says so or waits, nobody is blamed for it, and afterwards all is as before."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockproxy.audit.client import Recorder as FrontRecorder
from sockproxy.dispatch.channel import Helpers
from sockproxy.errors import AuditGone, HelperGone
from sockproxy_helpers.audit.record import Recorder
from sockproxy_helpers.calls.sessions import Sessions
from sockproxy_helpers.channel import wire
from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.channel.siblings import Siblings
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.folders.bindledger import Bind
from sockproxy_helpers.folders.staging import Stager
from sockproxy_helpers.system import peer
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.who.accounts import UNASKED, Accounts
from tests.helpers.support import assert_closed, descriptors, run
from tests.helpers.test_bindledger import FIELDS
from tests.helpers.test_staging import environment
from tests.support.judging import DEVELOPER, context


@contextlib.contextmanager
def exhausted(left: int = 0) -> Iterator[None]:
    """Have no more than so many descriptors to open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1 + left, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(left):
            os.close(held.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in held:
            os.close(fd)


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    yield pair
    for sock in pair:
        sock.close()


def test_a_message_whose_descriptors_do_not_fit_breaks_no_framing(channel: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = channel
    before = descriptors()
    wire._send(theirs, b"{}\n", [0])
    with exhausted(), pytest.raises(OSError, match="no descriptors") as found:
        wire.receive(ours)
    assert found.value.errno == errno.EMFILE  # not a WireError: who sent it is not hostile
    wire._send(theirs, b"{}\n", [0, 0, 0, 0])
    with pytest.raises(wire.WireError):
        wire.receive(ours)
    assert_closed(before)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_what_could_not_be_looked_at_is_looked_at_again(left: int) -> None:
    """Nothing is remembered of the peer, for which it would be nobody as long as it is connected."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with exhausted(left), contextlib.suppress(OSError):
            assert peer.of(ours).trouble == ""
        assert peer.of(ours).trouble == ""


def test_a_helper_says_what_is_not_there(tmp_path: Path) -> None:
    loop, (client, _) = Loop(), socket.socketpair()

    async def part() -> None:
        with client, _, exhausted():
            with pytest.raises(Unavailable, match="no connection to the Docker daemon"):
                await Daemon(loop, str(tmp_path / "docker.sock")).open()
            with pytest.raises(Unavailable, match="audit record"):
                await Recorder(loop, str(tmp_path / "audit.sock")).intent({})
            with pytest.raises(Unavailable, match="the network helper is not there"):
                await Siblings(loop, str(tmp_path)).ask("network", {}, client)
            with pytest.raises(Unavailable, match="the binds helper is not there"):
                await Stager(loop, environment(tmp_path))._check(Bind(FIELDS), context(DEVELOPER, "ContainerCreate"))
            assert await Sessions(loop, str(tmp_path))._connect("0" * 16) is None
            assert await Accounts(loop, str(tmp_path / "auth.sock"))._ask("account", "x") == (UNASKED, False)

    run(loop, part())


async def test_the_front_says_what_is_not_there(tmp_path: Path) -> None:
    with exhausted(), pytest.raises(HelperGone, match="Too many open files"):
        Helpers(str(tmp_path))._connect("network")
    with exhausted(), pytest.raises(AuditGone):
        await FrontRecorder(str(tmp_path)).record({})
