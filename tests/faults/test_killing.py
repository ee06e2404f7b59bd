"""Some processes, killed at some steps of some calls; `python -m tests.faults.killing` does it everywhere."""

from __future__ import annotations

import pytest

from tests.faults.calls import Call
from tests.faults.killing import CALLS, Ground, kill_at, nothing_left
from tests.faults.returning import ASKED, once
from tests.support.containers import API
from tests.support.proxy import Proxy, eventually
from tests.support.raw import BrokenOff, Connection
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]


def downloading_late(ground: Ground, name: str) -> str:
    """Get a file, and read only its head until the front is gone: more than buffers hold is on its way by then."""
    front, came = ground.proxy.processes["front"], "done"
    with Connection(ground.proxy.listen, ground.users.alice) as stream:
        stream.request("GET", f"{API}/containers/{name}/archive?path=/bin/busybox")
        assert stream.head().status == 200
        eventually(lambda: ground.proxy.processes.get("front") != front, "the front's end")
        try:
            stream.chunks()
        except BrokenOff:
            came = "cut"
    ground.at_engine("rm", "-f", name)
    return came


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_killed_after_a_step(proxy: Proxy, users: Users) -> None:
    ground = Ground(proxy, users)
    with nothing_left(ground):
        # The intent is with the writer, and the daemon was not asked; a folder is open, and not attached; the head
        # of an answer is on its way.
        assert kill_at(ground, CALLS["create"], "lifecycle", "sendto")[0] == "refused"
        assert kill_at(ground, CALLS["start"], "binds", "open_tree")[0] == "refused"
        download = Call(("front",), CALLS["download"].prepare, downloading_late)
        assert kill_at(ground, download, "front", "sendmsg")[0] == "cut"


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_each_is_back_soon(proxy: Proxy, users: Users) -> None:
    ground = Ground(proxy, users)
    with nothing_left(ground):
        took = {process: once(ground, process).seconds for process in ASKED}
    assert max(took.values()) < 10, took  # on a busy machine; what it is on a quiet one the command tells
