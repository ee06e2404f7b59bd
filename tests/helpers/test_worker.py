"""Pieces of work, each in a process: what they return, raise, or keep waiting for."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import Refused, Unavailable
from sockproxy_helpers.folders import worker
from sockproxy_helpers.folders.bindledger import Bind
from sockproxy_helpers.folders.worker import Reply, Worker
from sockproxy_helpers.judge.policy import Policy
from tests.helpers.support import run
from tests.helpers.test_bindledger import FIELDS

KIM, LEE = 1000, 1001


def refuse() -> Reply:
    raise Refused("HostConfig.Binds", "not this one", "binds")


def fail() -> Reply:
    raise PermissionError(1, "Operation not permitted")


def crash() -> Reply:
    os._exit(3)


def hang() -> Reply:
    time.sleep(60)
    return {}


async def collected(workers: Worker, loop: Loop) -> None:
    """Wait until all processes have been collected."""
    while workers.busy:
        await loop.wait({}, 0.01)


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda: {"path": "/x"}, {"path": "/x"}),
        (refuse, {"error": 403, "message": "HostConfig.Binds: not this one", "rule": "binds"}),
        (fail, {"error": 500, "message": "the bind can't be made: Operation not permitted", "rule": ""}),
        (crash, {"error": 502, "message": "the bind's file system does not answer", "rule": ""}),
    ],
)
def test_each_end_is_told(work: Callable[[], Reply], expected: Reply) -> None:
    loop, found = Loop(), list[Reply]()
    workers = Worker(loop)

    async def ask() -> None:
        found.append(await workers.run(KIM, work))
        await collected(workers, loop)

    run(loop, ask())
    assert found == [expected]


def test_who_has_a_file_system_hang_waits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One user's processes are few, are killed, and do not keep another's from being made meanwhile."""
    monkeypatch.setattr(worker, "SECONDS", 1.5)  # for a process to be made on a busy machine
    loop, told = Loop(), list[tuple[int, object]]()
    workers, begun = Worker(loop), time.monotonic()

    async def ask(uid: int, work: Callable[[], Reply]) -> None:
        reply = await workers.run(uid, work)
        told.append((uid, reply.get("message")))
        assert workers.busy.get(KIM, 0) <= Worker.MOST_EACH

    try:
        run(loop, *(ask(KIM, hang) for _ in range(Worker.MOST_EACH + 2)), ask(LEE, dict))
    finally:
        run(loop, collected(workers, loop))
    assert told[0] == (LEE, None)
    assert {said for uid, said in told if uid == KIM} == {"the bind's file system does not answer"}
    assert time.monotonic() - begun > 2 * 1.5  # those above the number waited for the first to end


@pytest.mark.parametrize("fields", [{"user": "nobody-at-all"}, {"user": "root", "uid": 1000}])
def test_a_bind_ends_with_its_owners_account(fields: dict[str, object]) -> None:
    """Years later the account may be gone, or its uid another person's."""
    with pytest.raises(Refused, match=r"the account .* that bound /home/kim is gone"):
        worker.check(Bind({**FIELDS, **fields}), {})


def test_a_bind_ends_with_its_role() -> None:
    class Empty(Policy):
        def __init__(self) -> None:
            self._roles = {}

    with pytest.raises(Refused, match="the role developer that could bind /home/kim is gone"):
        worker.rules_of(Empty(), Bind(FIELDS))


def test_an_attacher_that_ends_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "attacher.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        ends = threading.Thread(target=lambda: listener.accept()[0].close())
        ends.start()
        with pytest.raises(Unavailable, match="the attacher does not answer"):
            worker.detach("stage", path)
        ends.join()
