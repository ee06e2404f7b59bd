"""When the front lends a connection to a helper, what it counts of that, and how it has the connection back."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from sockproxy.audit.client import Recorder
from sockproxy.dispatch.channel import Helpers
from sockproxy.policy.compile import compile_text, dump
from sockproxy.server import lending, traffic
from sockproxy.server.session import Services, Session
from sockproxy.server.traffic import Account
from sockproxy_helpers.channel import wire
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system import caller, peer

ME = pwd.getpwuid(os.getuid()).pw_name
RATE = 20
POLICY = f"""version: 1
bindings: [{{user: {ME}, role: some}}]
roles:
  some: {{extends: viewer, traffic: {{requests: {RATE}}}}}
"""
LIST = b"GET /v1.41/containers/json HTTP/1.1\r\nHost: d\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RID = "f" * 16
Header = dict[str, object]


class Scene:
    """One client, the front's session with it, and a helper that says what the test wants."""

    def __init__(self, folder: Path, policy: str = POLICY) -> None:
        (folder / "helpers").mkdir(exist_ok=True)
        self.services = Services(
            Policy(dump(compile_text(policy.encode(), "test.yaml"))), Helpers(str(folder)), Recorder(str(folder))
        )
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self.listener.bind(str(folder / "helpers/lifecycle.sock"))
        self.listener.listen()
        self.nursery: trio.Nursery
        self.sockets = [self.listener]
        self.calls: list[tuple[Header, bytes]] = []
        self.words: list[tuple[Header, bytes] | bytes] = []  # for the calls to come; then it answers
        self.channels: list[socket.socket] = []
        self.held = trio.Event()  # a call to which it says nothing

    def connect(self) -> trio.SocketStream:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        seat = self.services.traffic.enter(peer.of(ours), self.services.policy, trio.current_time())
        self.account = seat.account
        self.session = Session(ours, self.services, seat)

        async def run(session: Session) -> None:
            with ours:
                await session.run()

        self.nursery.start_soon(run, self.session)
        self.sockets += [ours, theirs]
        theirs.setblocking(False)
        return trio.SocketStream(trio.socket.from_stdlib_socket(theirs))

    async def serve(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(self.listener)
                channel = self.listener.accept()[0]
                channel.setblocking(False)
                self.channels.append(channel)
                self.sockets.append(channel)
                nursery.start_soon(self._channel, channel)

    async def _channel(self, channel: socket.socket) -> None:
        with channel:
            while True:
                await trio.lowlevel.wait_readable(channel)
                message, fds = wire.receive(channel)
                if not message:
                    return
                for fd in fds:
                    os.close(fd)
                self.calls.append(wire.unpack(message))
                word = self.words.pop(0) if self.words else ({"keep": True, "answer": len(ANSWER)}, ANSWER)
                if word == b"sent":
                    wire.send(channel, wire.pack({"sent": True}), [])
                    word = self.words.pop(0)
                if word == b"dies":
                    return
                if word == b"holds":
                    self.held.set()
                    await trio.sleep_forever()
                assert isinstance(word, tuple)
                wire.send(channel, wire.pack(*word), [])

    async def ask(self, client: trio.SocketStream, *asked: bytes) -> bytes:
        """Send requests, one after the other; give the last answer."""
        answer = b""
        for data in asked:
            try:
                await client.send_all(data)
            except trio.BrokenResourceError:
                return b""
            answer = await client.receive_some()
        return answer

    @property
    def lent(self) -> list[object]:
        return [header.get("lend") for header, _ in self.calls]


def lent(repeats: int, header: Header | None = None, payload: bytes = ANSWER) -> tuple[Header, bytes]:
    return (header or {"keep": True, "answer": len(payload)}) | {"lent": [repeats, repeats / 1000, RID]}, payload


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    async with trio.open_nursery() as scene.nursery:
        scene.nursery.start_soon(scene.serve)
        yield scene
        scene.nursery.cancel_scope.cancel()
    scene.services.helpers.close()
    for sock in scene.sockets:
        sock.close()


async def test_who_says_the_same_again_at_once_is_lent(scene: Scene, autojump_clock: MockClock) -> None:
    """From the third time on: the first is read, the second remembered by this connection."""
    client = scene.connect()
    scene.words = [({"keep": True, "answer": len(ANSWER)}, ANSWER)] * 2 + [lent(5), lent(7)]
    assert await scene.ask(client, LIST, LIST, LIST, LIST) == ANSWER
    turns = traffic.BURST * RATE  # of which three are used when it is lent
    assert scene.lent == [None, None, [int((turns - 3) / 4), len(LIST)], [int((turns - 9) / 4), len(LIST)]]
    assert [payload for _, payload in scene.calls] == [b"", b"", LIST, LIST]
    fields = [{key: value for key, value in header.items() if key not in ("rid", "lend")} for header, _ in scene.calls]
    assert fields[1:] == fields[:-1]
    meter = scene.services.meter
    assert dict(meter.served) == {"ContainerList": 4 + 5 + 7}
    assert meter.users == {ME: [4 + 5 + 7, 0]}
    assert sum(meter._ring) == 16
    assert [visit.requests for visit in meter.visits] == [16]
    counts, total = meter.seconds["lifecycle"]
    assert sum(counts) == 16
    assert total[0] == pytest.approx(0.014, abs=0.01)
    assert scene.account._level == pytest.approx(turns - 16, abs=0.1)
    assert scene.services.lent == set()


async def test_what_was_lent_for_nothing_is_not_lent_at_once_again(scene: Scene, autojump_clock: MockClock) -> None:
    client = scene.connect()
    scene.words = [({"keep": True, "answer": len(ANSWER)}, ANSWER)] * 2 + [lent(0)]
    await scene.ask(client, *[LIST] * 5)
    assert [bool(said) for said in scene.lent] == [False, False, True, False, True]


NEVER = {
    "HTTP/1.0": LIST.replace(b"1.1\r\nHost", b"1.0\r\nHost"),
    "its last request": LIST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    "a secret": LIST.replace(b"\r\n\r\n", b"\r\nX-Registry-Auth: e30=\r\n\r\n"),
    "a stream": b"GET /v1.41/events HTTP/1.1\r\nHost: d\r\n\r\n",
}


@pytest.mark.parametrize("raw", NEVER.values(), ids=NEVER)
async def test_what_is_never_lent(scene: Scene, raw: bytes, autojump_clock: MockClock) -> None:
    for _ in range(3):  # where it is the connection's last, on another one
        client = scene.connect()
        for _ in range(5):
            if await scene.ask(client, raw) != ANSWER:
                break
    assert len(scene.calls) >= 3
    assert not any(scene.lent)


async def test_who_is_slow_or_says_something_else_is_not_lent(scene: Scene, autojump_clock: MockClock) -> None:
    client, other = scene.connect(), LIST.replace(b"Host: d", b"Host: e")
    for _ in range(4):
        await scene.ask(client, LIST)
        await trio.sleep(2 * lending.AT_ONCE)
    await scene.ask(client, *[LIST, other] * 3)
    assert not any(scene.lent)


async def test_who_has_sent_more_is_not_lent(scene: Scene, autojump_clock: MockClock) -> None:
    client = scene.connect()
    await client.send_all(LIST * 6)
    got = b""
    while got.count(ANSWER) < 6:
        got += await client.receive_some()
    assert [bool(said) for said in scene.lent] == [False] * 5 + [True]  # the last has nothing behind it


def contained(session: Session) -> None:
    session._process.containers = ["c" * 64]


def vouched(session: Session) -> None:
    session._held = "Bearer x"


def doubtful(session: Session) -> None:
    session._process.trouble = peer.GONE


@pytest.mark.parametrize("change", [contained, vouched, doubtful])
async def test_who_is_never_lent(scene: Scene, change: Callable[[Session], None], autojump_clock: MockClock) -> None:
    client, ping = scene.connect(), b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"  # all may ask this
    change(scene.session)
    await scene.ask(client, *[ping] * 5)
    assert len(scene.calls) == 5
    assert not any(scene.lent)


async def test_a_token_s_connection_is_none_to_lend() -> None:
    who = caller.vouched(peer.Peer(1, os.getuid(), 0), os.getuid(), "token", "1.x")
    lends = lending.Lending(Account(0.0), set())
    request: object = object()
    lends._last, lends._done = request, trio.current_time()  # type: ignore[assignment]
    assert lends.begin(request, who, free=True) == 0  # type: ignore[arg-type]


async def test_not_more_are_lent_than_channels_are_kept(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "AT_A_TIME", 1)
    first, second = scene.connect(), scene.connect()
    await scene.ask(first, LIST, LIST)
    await scene.ask(second, LIST, LIST)
    scene.words = [b"holds"]
    await first.send_all(LIST)
    await scene.held.wait()
    await scene.ask(second, LIST, LIST)
    assert [bool(said) for said in scene.lent[-3:]] == [True, False, False]
    scene.channels[0].shutdown(socket.SHUT_RDWR)
    await first.receive_some()
    await scene.ask(second, LIST)
    assert scene.lent[-1]


async def test_a_helper_that_dies_with_a_loan(scene: Scene, autojump_clock: MockClock) -> None:
    """Has the client bytes of its own, perhaps half an answer, it gets no other; else it is told."""
    client = scene.connect()
    await scene.ask(client, LIST, LIST)
    scene.words = [b"dies"]
    assert (await scene.ask(client, LIST)).startswith(b"HTTP/1.1 50")
    client = scene.connect()
    await scene.ask(client, LIST, LIST)
    scene.words = [b"sent", b"dies"]
    assert await scene.ask(client, LIST) == b""
    assert scene.services.lent == set()


async def test_a_repeat_that_fails_is_answered_under_its_own_id(scene: Scene, autojump_clock: MockClock) -> None:
    client = scene.connect()
    await scene.ask(client, LIST, LIST)
    scene.words = [b"sent", lent(3, {"error": 429, "message": "many", "at": ""}, b"")]
    answer = await scene.ask(client, LIST)
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert RID.encode() in answer
    assert scene.services.meter.refusals[-1]["rid"] == RID
    scene.words = [b"sent", ({"error": 502, "message": "cut", "at": "", "begun": True}, b"")]
    assert await scene.ask(client, LIST, LIST) == b""


async def test_the_front_ends_while_it_is_lent(scene: Scene, autojump_clock: MockClock) -> None:
    """What the client sends before it can know is served, once."""
    client = scene.connect()
    await scene.ask(client, LIST, LIST)
    scene.words = [b"sent", lent(1)]
    await client.send_all(LIST)
    await trio.lowlevel.checkpoint()
    scene.services.drain()
    assert await client.receive_some() == ANSWER
    assert await scene.ask(client, LIST) == ANSWER
    assert await client.receive_some() == b""
    assert [bool(said) for said in scene.lent] == [False, False, True, False]


async def test_the_rate_holds_whoever_serves(scene: Scene, autojump_clock: MockClock) -> None:
    """A helper that uses all that it was lent leaves the caller no more turns than others have."""
    client, start, served = scene.connect(), trio.current_time(), 0
    serve = scene._channel

    async def use_all(channel: socket.socket) -> None:
        scene.words = _All(scene)
        await serve(channel)

    scene._channel = use_all  # type: ignore[method-assign]
    for _ in range(200):
        assert (await scene.ask(client, LIST)).startswith(b"HTTP/1.1 200")
    served = scene.services.meter.served["ContainerList"]
    spent = trio.current_time() - start
    assert served >= 200
    assert served <= RATE * (traffic.BURST + spent + traffic.PATIENCE) + 1


class _All(list[tuple[Header, bytes] | bytes]):
    """The words of a helper that uses all turns that it was lent."""

    def __init__(self, scene: Scene) -> None:
        super().__init__([b""])
        self._scene = scene

    def pop(self, index: object = 0) -> tuple[Header, bytes]:
        lend = self._scene.calls[-1][0].get("lend")
        return lent(lend[0]) if isinstance(lend, list) else ({"keep": True, "answer": len(ANSWER)}, ANSWER)


def test_a_loan_takes_a_part_of_what_is_left() -> None:
    account = Account(0.0)
    account.bind("x", {"connections": None, "requests": 10}, "")
    assert account.turn(0.0) == 0
    assert [account.lend(64) for _ in range(4)] == [12, 9, 7, 5]
    account.give_back(33)
    for _ in range(49):
        assert account.turn(0.0) == 0
    assert account.lend(64) == 0
    assert account.turn(0.0) > 0
    free = Account(0.0)
    free.bind("x", {"connections": None, "requests": None}, "")
    assert (free.lend(64), free.turn(0.0)) == (64, 0.0)
