"""What a daemon that answers oddly, a full disk or a process that is gone makes the helpers say."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sockproxy_helpers.builder import buildkit
from sockproxy_helpers.builder.buildkit import Mediated
from sockproxy_helpers.calls import exchange, sessions
from sockproxy_helpers.calls.sessions import Sessions
from sockproxy_helpers.channel import wire
from sockproxy_helpers.channel.loop import Lock, Loop
from sockproxy_helpers.content import images
from sockproxy_helpers.content.ledger import Ledger
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.faults import fault_of
from sockproxy_helpers.folders import worker
from sockproxy_helpers.folders.imageusers import ImageUsers
from sockproxy_helpers.folders.shown import Shown
from sockproxy_helpers.folders.sweep import Sweeper
from sockproxy_helpers.judge import engine
from sockproxy_helpers.judge.policy import Decision
from sockproxy_helpers.totals import bridge, counts, shares
from sockproxy_helpers.totals.cgroupfs import Cgroups
from sockproxy_helpers.totals.shares import Shares
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import Objects
from sockproxy_helpers.who import origin
from tests.helpers.asked import finish
from tests.helpers.support import Chain, run
from tests.helpers.test_claims import Keeper, keeper  # noqa: F401 (a fixture)
from tests.support.judging import DEVELOPER, KIM, context

BRIDGE = f"sockproxy-{KIM.uid}"
ANY: Any = None
CTX = context(DEVELOPER, "ContainerCreate")


class Odd:
    """A daemon that gives one answer to everything of a method."""

    def __init__(self, status: int, body: bytes, **others: tuple[int, bytes]) -> None:
        self._answers = {"GET": (status, body), **others}

    async def request(self, method: str, target: str, body: bytes = b"", **more: object) -> tuple[int, bytes]:
        return self._answers[method]

    def close(self) -> None:
        """Be no more."""


def bound(daemon: Any) -> Coroutine[Any, Any, object]:
    return engine.bound(daemon, context(DEVELOPER | {"registries": []}, "ImageBuild"))


def user_of(daemon: Any) -> Coroutine[Any, Any, object]:
    return ImageUsers().ids(daemon, "x", "node")


def own_bridge(daemon: Any) -> Coroutine[Any, Any, object]:
    return bridge.prepare(Objects(), daemon, CTX, {"HostConfig": {"NetworkMode": "default"}}, Lock(Loop()))


def shared(daemon: Any, **cgroups: Any) -> Coroutine[Any, Any, object]:
    return Shares(Loop(), Cgroups("sockproxy", 2, []) if not cgroups else cgroups["is_"]).place(daemon, CTX, _own())


def _own() -> str:
    return str(shares.own_cgroup(None, CTX))


class Full:
    """Cgroups that can't be written."""

    name, version, folders = "sockproxy", 2, ("/sys/fs/cgroup/x",)

    def apply(self, uid: int, wanted: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/sys/fs/cgroup/x")


INFO = b'{"CgroupDriver": "cgroupfs", "CgroupVersion": "%b"}'
FOREIGN = b'{"Id": "%b", "Name": "%b", "Labels": {}}' % (b"1" * 64, BRIDGE.encode())


@pytest.mark.parametrize(
    ("asking", "daemon", "words"),
    [
        (own_bridge, Odd(404, b"{}", POST=(500, b'{"message": "no space"}')), "could not be made: no space"),
        (own_bridge, Odd(404, b"{}", POST=(500, b"[")), "could not be made: no reason given"),
        (own_bridge, Odd(200, FOREIGN), f"the network {BRIDGE} is not yours: an administrator has to remove it"),
        (lambda daemon: counts.containers(daemon, CTX, {}, None), Odd(500, b"{"), "does not tell how much there is"),
        (bound, Odd(200, b"{}"), "not tell its version"),
        (engine.root_inside, Odd(500, b"{}"), "the Docker daemon does not tell about itself"),
        (images.every, Odd(500, b"{}"), "the Docker daemon lists no images"),
        (lambda daemon: images.known_to_all(daemon, "x"), Odd(200, b"[]"), "the Docker daemon answered no JSON object"),
        (user_of, Odd(200, b"{}", POST=(500, b"{}")), "makes no container to look up"),
        (lambda daemon: origin._inspect(daemon, "x"), Odd(200, b'{"Id": "y"}'), "does not describe a container"),
        (shared, Odd(500, b"{}"), "the Docker daemon does not tell about itself"),
        (shared, Odd(200, INFO % b"1"), "uses cgroupfs and version 1 of cgroups, sockproxy can write to version 2"),
        (shared, Odd(200, INFO % b"2"), "sockproxy could not make cgroups when it was started"),
        (lambda daemon: shared(daemon, is_=Full()), Odd(200, INFO % b"2"), "set: /sys/fs/cgroup/x: No space left"),
        (shares._owners, Odd(500, b"{}"), "the Docker daemon lists nothing"),
    ],
)  # fmt: skip
def test_a_daemon_that_does_not_tell(
    asking: Callable[[Any], Coroutine[Any, Any, object]], daemon: Odd, words: str
) -> None:
    with pytest.raises(Unavailable, match=re.escape(words)):
        finish(asking(daemon))


def test_binds_that_can_not_be_looked_at(tmp_path: Path) -> None:
    environment = {"SOCKPROXY_BINDS": str(tmp_path), "SOCKPROXY_PLUGIN": "plug", "SOCKPROXY_DOCKER_SOCKET": "x"}
    environment["SOCKPROXY_BINDS_SOCKET"] = "x"
    with pytest.raises(Unavailable, match="the Docker daemon answered malformed JSON"):
        Shown(environment)._rewrite(b'{"Driver":"plug"')
    sweeper = Sweeper(Loop(), environment)
    with pytest.raises(Unavailable, match="the Docker daemon lists no containers"):
        finish(sweeper.sweep(Odd(500, b"{}")))  # type: ignore[arg-type]


def test_an_answer_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(tmp_path)
    asked = Daemon(chain.loop, str(tmp_path / "docker.sock"))

    async def ask() -> None:
        with pytest.raises(Unavailable, match="the Docker daemon's answer is too long"):
            await asked.request("GET", "/x", most=10)

    async def cut() -> None:
        await chain.call("ImageList")
        assert "too large to be cut to what is yours" in str(chain.end)

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\n" + bytes(100))

    run(chain.loop, ask(), daemon())
    monkeypatch.setattr(exchange, "CUT_LIMIT", 10)
    monkeypatch.setattr(exchange.Exchange, "__init__", _cutting(exchange.Exchange.__init__))
    run(chain.loop, cut(), daemon())
    chain.close()


def _cutting(begin: Any) -> Any:
    def init(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        self.cut = bytes

    return init


def test_names_that_can_not_be_written_down(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(keeper.tags.ledger, "put", full)
    with pytest.raises(Unavailable, match="whose names of images are can't be written down: No space left"):
        keeper.claim(KIM.uid, "app")


def test_binds_that_can_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(wire.pack({"error": "no room"}))
        with pytest.raises(Unavailable, match="the bind can't be attached: no room"):
            worker.ask(ours, {"ask": "list"}, [])
    monkeypatch.setattr(worker, "_clone", lambda bind, rules: os.open(tmp_path, os.O_RDONLY))
    monkeypatch.setattr(worker, "ask", lambda *_: {"path": "/nowhere"})
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "a"))
        listener.listen()
        with pytest.raises(Unavailable, match="a mount namespace of its own, and would see an empty folder"):
            worker.attach(ANY, {}, "name", str(tmp_path / "a"), os.getpid())


def test_sessions_that_are_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decision = Decision(True, "developer", "r:1", "", {"sessions": ({"output": 1 << 20}, "r:9")})
    call: Any = SimpleNamespace(operation=SimpleNamespace(name="ContainerAttach"), query=[], request_id="00" * 8)
    policy: Any = SimpleNamespace(audit={"on_full": "refuse"})
    begun = Sessions(Loop(), str(tmp_path))
    for words, most in ((sessions.UNRECORDED, sessions.MOST), ("sessions of yours are being recorded already", 0)):
        monkeypatch.setattr(sessions, "MOST", most)
        with pytest.raises(Unavailable, match=re.escape(words)):
            finish(begun.begin(call, 1000, decision, policy, [], None))


def test_buildkit_without_a_mediator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine(Odd):
        sock, received = socket.socket(), bytearray()

        def another(self) -> Odd:
            return self

    loop, decision = Loop(), Decision(True, "developer", "r:1", "", {k: (v, "r:1") for k, v in DEVELOPER.items()})
    asked = Mediated(loop, str(tmp_path), ANY, Ledger(str(tmp_path)), ANY, ANY, KIM, decision, ANY, {})
    daemon: Any = Engine(200, b"{}")
    with daemon.sock:
        with pytest.raises(Unavailable, match="the build mediator is not there"):
            finish(asked.run(0, ANY, daemon, b"", b""))
        monkeypatch.setitem(buildkit._open, KIM.uid, buildkit.CONNECTIONS)
        with pytest.raises(Unavailable, match="64 connections to BuildKit are open already"):
            finish(asked.run(0, ANY, daemon, b"", b""))


def test_a_sibling_that_can_not_tell() -> None:
    assert isinstance(fault_of({"error": 503, "message": "not now"}), Unavailable)
