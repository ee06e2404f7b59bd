"""A connection that is lent: the same bytes are served again, all else is left to the front, and that soon."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from sockproxy.api import route
from sockproxy.http import body, head
from sockproxy.server.memo import Request
from sockproxy_helpers.calls import lent
from sockproxy_helpers.channel import asking, wire
from sockproxy_helpers.system import caller
from tests.helpers.support import Peer, run
from tests.helpers.test_repeats import POLICY, Scene, scene  # noqa: F401
from tests.helpers.test_serve import Stage, stage  # noqa: F401

LIST = b"GET /v1.41/containers/json HTTP/1.1\r\nHost: d\r\n\r\n"
INSPECT = b"GET /v1.41/containers/x/json HTTP/1.1\r\nHost: d\r\n\r\n"
RID = "0" * 16
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(50_000)


def lending(raw: bytes = LIST, most: int = 64) -> bytes:
    """Form the front's message, as it does."""
    parsed = head.parse(raw)
    match = route.route(parsed.method, parsed.untrusted_path)
    query = body.parse_query(parsed.untrusted_query)
    return Request(parsed, match.operation, match.version, match.variables, query).pack(raw).lent(RID, most)


class Loan:
    """One connection that is lent to a helper."""

    def __init__(self, stage: Stage) -> None:  # noqa: F811
        self.stage = stage
        self.word: tuple[dict, bytes] | None = None

    async def begin(self, message: bytes | None = None, helper: str = "lifecycle") -> Loan:
        self.user, self.sock = await self.stage.user()
        self.front = self.stage.front(helper)
        wire._send(self.front.sock, message or lending(), [self.sock.fileno()])
        return self

    async def says(self, data: bytes) -> None:
        await self.user.send(data)

    async def answer(self) -> bytes:
        """Take one answer of the helper's own."""
        return await self.user.until(b"\r\n\r\nok")

    async def returned(self) -> dict:
        """Wait until the front has it again; give the last word, of which `payload` is to be written."""
        while True:
            word, self.payload = wire.unpack(await asking.receive(self.stage.loop, self.front.sock))
            if word != {"sent": True}:
                assert self.sock.fileno() >= 0
                return word

    def left(self) -> bytes:
        """Give what the front finds in the socket."""
        try:
            return self.sock.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b"(nothing)"


@pytest.fixture
def loan(stage) -> Loan:  # noqa: F811
    return Loan(stage)


async def recorded(stage: Stage, count: int) -> None:  # noqa: F811
    while len(stage.records) < count:
        await stage.loop.wait({}, 0.01)


def test_the_same_bytes_are_the_same_call_again(stage, loan):  # noqa: F811
    """Each with an id of its own, an intent and an outcome."""
    stage.helper()

    async def part() -> None:
        await loan.begin()
        answers = [await loan.answer()]
        for _ in range(3):
            await loan.says(LIST)
            answers.append(await loan.answer())
        word = await loan.returned()
        assert (word["keep"], word["answer"], loan.payload) == (True, 0, b"")
        times, seconds, rid = word["lent"]
        assert times == 3
        assert 0 < seconds < 3
        assert loan.left() == b"(nothing)"
        await recorded(stage, 8)
        rids = [record["rid"] for record in stage.records if record["ev"] == "intent"]
        assert len(set(rids)) == 4
        assert (rids[0], rids[-1]) == (RID, rid)
        assert [record["rid"] for record in stage.records if record["ev"] == "outcome"] == rids
        for answer, told in zip(answers, rids, strict=True):
            assert f"X-Sockproxy-Request-Id: {told}\r\n".encode() in answer
            assert answer.endswith(b"\r\n\r\nok")

    stage.run(part())
    assert len(stage.requests) == 4
    assert len(set(stage.requests)) == 1


OTHER = {
    "one byte differs": LIST.replace(b"Host: d", b"Host: e"),
    "half a head": LIST[:-2],
    "one byte": LIST[:1],
    "more behind it": LIST + b"G",
    "two of them": LIST + LIST,
    "another request": b"POST /v1.41/containers/prune HTTP/1.1\r\nHost: d\r\n\r\n",
    "its end": b"",
}


@pytest.mark.parametrize("data", OTHER.values(), ids=OTHER)
def test_all_else_is_left_to_the_front(stage, loan, data, monkeypatch):  # noqa: F811
    monkeypatch.setattr(lent, "PATIENCE", 10.0)  # it is given back at once, not when time is over
    stage.helper()

    async def part() -> None:
        await loan.begin()
        await loan.answer()
        await loan.says(LIST)
        await loan.answer()
        if data:
            await loan.says(data)
        else:
            loan.user.close()
        word = await loan.returned()
        assert (word["keep"], word["answer"], word["lent"][0]) == (True, 0, 1)
        assert loan.left() == data

    stage.run(part())
    assert len(stage.requests) == 2


def test_who_has_gone_before_the_answer(stage, loan):  # noqa: F811
    stage.helper()

    async def part() -> None:
        await loan.begin()
        loan.user.close()
        word = await loan.returned()
        assert word["lent"][0] == 0

    stage.run(part())


@pytest.mark.parametrize(("asked", "most", "served"), [(2, 64, 2), (64, 2, 2), (999, 3, 3), (0, 64, 0)])
def test_how_often_is_bounded_on_both_sides(stage, loan, asked, most, served, monkeypatch):  # noqa: F811
    """The last answer is the front's to write."""
    monkeypatch.setattr(lent, "MOST", most)
    stage.helper()

    async def part() -> None:
        await loan.begin(lending(most=asked))
        for _ in range(served):
            await loan.answer()
            await loan.says(LIST)
        word = await loan.returned()
        assert word["answer"] == len(loan.payload) > 0
        assert word.get("lent", [0])[0] == served
        assert loan.user.buffer == b""

    stage.run(part())
    assert len(stage.requests) == served + 1


def test_how_long_is_bounded(stage, loan, monkeypatch):  # noqa: F811
    monkeypatch.setattr(lent, "SECONDS", 0.0)
    stage.helper()

    async def part() -> None:
        await loan.begin()
        await loan.says(LIST)
        word = await loan.returned()
        assert word["lent"][0] == 0
        assert word["answer"] == len(loan.payload) > 0
        assert loan.left() == LIST

    stage.run(part())


def test_a_new_policy_has_it_back_at_once(scene):  # noqa: F811
    """And the next request is decided by the front and by it."""
    loan = Loan(scene.stage)

    async def part() -> None:
        await loan.begin()
        await loan.answer()
        await loan.says(LIST)
        await loan.answer()
        scene.helper.reload()
        await loan.says(LIST)
        word = await loan.returned()
        assert (word["lent"][0], word["answer"]) == (1, 0)
        assert loan.left() == LIST

    scene.stage.run(part())


def in_a_container(scene: Scene) -> None:  # noqa: F811
    scene.process.containers = ["c" * 64]
    scene.process.container = caller.Container("c" * 64, "web", "nginx", {}, 1500, "")


def by_root(scene: Scene) -> None:  # noqa: F811
    scene.people[0] = ("root", ("root",))
    scene.be(0)


def by_a_token(scene: Scene) -> None:  # noqa: F811
    async def check(*_: object) -> None:
        """Find the token good."""

    scene.helper._identity._vouched = lambda client, said: caller.vouched(scene.process, 1500, "token", said)
    scene.helper._identity.accounts.check = check


def sharing(scene: Scene) -> None:  # noqa: F811
    scene.policy(POLICY + "roles:\n  developer: {extends: developer, share: group}\n")
    scene.helper.reload()


NOT_LENT: dict[str, tuple[Callable[[Scene], None], Callable[[bytes], bytes]]] = {
    "a container's owner": (in_a_container, bytes),
    "who presented a token": (by_a_token, lambda text: text.replace(b'"assertion":""', b'"assertion":"1.x"')),
    "whose role depends on more": (sharing, bytes),
    "a read that names something": (by_root, lambda text: lending(INSPECT)),
}


@pytest.mark.parametrize(("change", "message"), NOT_LENT.values(), ids=NOT_LENT)
def test_to_whom_and_what_is_not_lent(scene, change, message):  # noqa: F811
    """A hostile front may try: the answer is given back, and the connection with it."""
    loan = Loan(scene.stage)
    change(scene)

    async def part() -> None:
        await loan.begin(message(lending()))
        await loan.says(LIST)
        word = await loan.returned()
        assert word["lent"][0] == 0
        assert word["answer"] == len(loan.payload) > 0
        assert loan.left() == LIST
        assert loan.user.buffer == b""

    scene.stage.run(part())


def test_a_large_answer_ends_it(stage, loan):  # noqa: F811
    stage.helper()
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 100006\r\n\r\n" + bytes(100_000) + b"\r\n\r\nok"

    async def part() -> None:
        await loan.begin()
        await loan.says(LIST)
        while not loan.user.buffer.endswith(b"\r\n\r\nok"):
            assert await loan.user.more()
        word = await loan.returned()
        assert (word["keep"], word["answer"], word["lent"][0]) == (True, 0, 0)
        assert loan.left() == LIST

    stage.run(part(), answer=big)


def test_who_does_not_read_gets_the_rest_from_the_front(stage, loan, monkeypatch):  # noqa: F811
    monkeypatch.setattr(lent, "PATIENCE", 60.0)
    stage.helper()

    async def part() -> None:
        loan.user, loan.sock = await stage.user()
        loan.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        loan.front = stage.front()
        wire._send(loan.front.sock, lending(), [loan.sock.fileno()])
        word = await loan.returned()
        assert word["lent"][0] == 0
        assert 0 < word["answer"] == len(loan.payload) < 50_000
        written = loan.user.sock.recv(65536)
        answer = written + loan.payload
        assert answer.endswith(b"\r\n\r\n" + bytes(50_000))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")

    stage.run(part(), answer=LONG)


def test_an_answer_that_breaks_off_is_told_as_begun(stage, loan):  # noqa: F811
    """Then the front can't answer instead."""
    stage.helper()

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(70_000))
        peer.close()

    async def part() -> None:
        await loan.begin()
        stage.loop.spawn(answer(await stage.daemon.accept()))
        while len(loan.user.buffer) < 70_000:
            assert await loan.user.more()
        word = await loan.returned()
        assert (word["error"], word["begun"], word["lent"][0]) == (502, True, 0)

    stage.loop.spawn(stage.write())
    run(stage.loop, part())


def test_a_daemon_that_fails_is_told_to_the_front(stage, loan, monkeypatch):  # noqa: F811
    """Of the call that failed nothing was written: the front answers it, under that call's id."""
    stage.helper()

    async def answer_once(peer: Peer, answer: bytes) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.request()
        peer.close()

    monkeypatch.setattr(stage, "answer", answer_once)

    async def part() -> None:
        await loan.begin()
        await loan.answer()
        await loan.says(LIST)
        word = await loan.returned()
        await recorded(stage, 4)
        rid = [record["rid"] for record in stage.records if record["ev"] == "intent"][-1]
        assert word["lent"][0] == 1
        assert word["lent"][2] == rid != RID
        assert word["error"] == 502
        assert "begun" not in word

    stage.run(part())


def test_an_idle_loan_is_no_call_under_way(stage, loan, monkeypatch):  # noqa: F811
    monkeypatch.setattr(lent, "PATIENCE", 10.0)
    helper = stage.helper()

    async def part() -> None:
        await loan.begin()
        await loan.answer()
        assert helper._streams._counts == {}
        await loan.says(LIST)
        await loan.answer()
        loan.user.close()
        await loan.returned()

    stage.run(part())


def test_the_front_s_end_ends_it(stage, loan, monkeypatch):  # noqa: F811
    """The helper holds neither the client nor the daemon's connection from then on."""
    monkeypatch.setattr(lent, "PATIENCE", 10.0)
    stage.helper()

    async def part() -> None:
        await loan.begin()
        await loan.answer()
        loan.front.sock.close()
        loan.sock.close()
        assert await loan.user.more() == b""

    stage.run(part())


@pytest.mark.parametrize("said", [b"[64,9999]", b"[64,0]", b"[-1,5]", b"[64]", b"[64,50", b"true"])
def test_a_loan_of_another_form_is_none(stage, loan, said):  # noqa: F811
    """The channel ends, and it is on the record; or there is nothing lent."""
    stage.helper()

    async def part() -> None:
        await loan.begin(lending().replace(b"[64,%d]" % len(LIST), said))
        reply = await asking.receive(stage.loop, loan.front.sock)
        assert not reply or "lent" not in wire.unpack(reply)[0]
        await loan.says(LIST)
        assert loan.left() == LIST

    stage.run(part())
    assert len(stage.requests) <= 1
