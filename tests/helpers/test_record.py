"""Records: no acknowledged intent, no call."""

from __future__ import annotations

import json
import socket

import pytest

from sockproxy_helpers.audit import record as module
from sockproxy_helpers.audit.record import Recorder
from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import Unavailable
from tests.helpers.support import Listener, Peer, run


class Writer:
    """A scripted audit writer."""

    def __init__(self, loop: Loop, path) -> None:
        self.listener = Listener(loop, path, socket.SOCK_SEQPACKET)
        self.peer: Peer | None = None
        self.records: list[dict] = []
        self.seq = 0

    async def take(self) -> dict:
        """Take one message, whose last record is given."""
        if self.peer is None:
            self.peer = await self.listener.accept()
        self.peer.buffer.clear()
        data = await self.peer.more()
        if not data:
            raise EOFError
        self.records += map(json.loads, data.splitlines())
        return self.records[-1]

    async def acknowledge(self) -> None:
        self.seq += 1
        await self.peer.send(b'{"seq":%d}' % self.seq)

    async def serve(self, messages: int) -> None:
        """Take so many messages, and acknowledge each."""
        for _ in range(messages):
            await self.take()
            await self.acknowledge()

    def leave(self) -> None:
        self.peer.close()
        self.peer = None

    def close(self) -> None:
        if self.peer:
            self.peer.sock.close()
        self.listener.close()


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def writer(loop, tmp_path):
    writer = Writer(loop, tmp_path / "audit.sock")
    yield writer
    writer.close()


@pytest.fixture
def recorder(loop, tmp_path):
    recorder = Recorder(loop, str(tmp_path / "audit.sock"))
    yield recorder
    recorder._drop()


def test_intent_waits_for_its_acknowledgement(loop, writer, recorder):
    order = []

    async def call() -> None:
        await recorder.intent({"ev": "intent"})
        order.append("done")

    async def write() -> None:
        assert await writer.take() == {"v": 1, "ev": "intent"}
        await loop.wait({}, 0.005)
        order.append("written")
        await writer.acknowledge()

    run(loop, call(), write())
    assert order == ["written", "done"]


def test_acknowledgements_are_in_the_order_of_the_records(loop, writer, recorder):
    order = []

    async def call(name: str) -> None:
        await recorder.intent({"rid": name})
        order.append(name)

    async def write() -> None:
        for name in ("a", "b", "c"):
            assert (await writer.take())["rid"] == name
        for expected in (["a"], ["a", "b"], ["a", "b", "c"]):
            await writer.acknowledge()
            while len(order) < len(expected):
                await loop.wait({}, 0.001)
            assert order == expected

    run(loop, call("a"), call("b"), call("c"), write())


def test_no_writer_refuses(loop, tmp_path):
    recorder = Recorder(loop, str(tmp_path / "nobody.sock"))

    async def call() -> None:
        with pytest.raises(Unavailable) as error:
            await recorder.intent({})
        assert error.value.status == 503

    run(loop, call())


def test_writer_that_leaves_refuses_all_who_wait(loop, writer, recorder):
    refused = []

    async def call() -> None:
        with pytest.raises(Unavailable):
            await recorder.intent({})
        refused.append(1)

    async def write() -> None:
        for _ in range(3):
            await writer.take()
        writer.leave()

    run(loop, call(), call(), call(), write())
    assert len(refused) == 3


def test_error_in_place_of_an_acknowledgement_refuses_that_call_alone(loop, writer, recorder):
    results = {}

    async def call(name: str) -> None:
        try:
            await recorder.intent({"rid": name})
            results[name] = "recorded"
        except Unavailable:
            results[name] = "refused"

    async def write() -> None:
        for _ in "ab":
            await writer.take()
        await writer.peer.send(b'{"error":"disk full"}')
        await loop.wait({}, 0.002)
        await writer.acknowledge()

    run(loop, call("a"), call("b"), write())
    assert results == {"a": "refused", "b": "recorded"}


def test_writer_that_hangs_is_gone(loop, writer, recorder, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.01)

    async def call() -> None:
        with pytest.raises(Unavailable):
            await recorder.intent({})

    run(loop, call())
    assert recorder._sock is None


def test_answer_to_nothing_ends_the_connection(loop, writer, recorder):
    async def call() -> None:
        await recorder.intent({})
        while recorder._sock:
            await loop.wait({}, 0.001)

    async def write() -> None:
        await writer.take()
        await writer.acknowledge()
        await writer.acknowledge()

    run(loop, call(), write())


def test_next_call_finds_a_restarted_writer(loop, writer, recorder):
    async def call() -> None:
        await recorder.intent({"rid": "a"})
        with pytest.raises(Unavailable):
            await recorder.intent({"rid": "b"})
        await recorder.intent({"rid": "c"})

    async def write() -> None:
        await writer.take()
        await writer.acknowledge()
        await writer.take()
        writer.leave()
        assert (await writer.take())["rid"] == "c"
        await writer.acknowledge()

    run(loop, call(), write())


def test_outcome_is_kept_over_a_restart_of_the_writer(loop, writer, recorder):
    async def call() -> None:
        await recorder.intent({"rid": "a"})
        recorder.outcome({"out": "a"})
        while recorder._sock:
            await loop.wait({}, 0.001)
        await recorder.intent({"rid": "b"})

    async def write() -> None:
        await writer.take()
        await writer.acknowledge()
        assert (await writer.take())["out"] == "a"  # received, and not acknowledged: nobody knows
        writer.leave()
        assert (await writer.take())["out"] == "a"
        await writer.acknowledge()
        assert (await writer.take())["rid"] == "b"
        await writer.acknowledge()

    run(loop, call(), write())


def test_outcome_without_a_writer_is_kept(loop, writer, recorder, tmp_path):
    path, recorder._path = recorder._path, str(tmp_path / "nobody.sock")
    recorder.outcome({"out": 1})
    recorder.outcome({"out": 2})
    recorder._path = path

    async def call() -> None:
        await recorder.intent({"rid": "a"})

    run(loop, call(), writer.serve(3))
    assert [record.get("out") for record in writer.records] == [1, 2, None]


def test_outcome_that_could_not_be_written_is_sent_again(loop, writer, recorder):
    async def call() -> None:
        await recorder.intent({"rid": "a"})
        recorder.outcome({"out": "a"})
        while recorder._sock:
            await loop.wait({}, 0.001)
        await recorder.intent({"rid": "b"})

    async def write() -> None:
        await writer.take()
        await writer.acknowledge()
        await writer.take()
        await writer.peer.send(b'{"error":"disk full"}')
        assert await writer.peer.more() == b""
        writer.leave()
        for _ in range(2):
            await writer.take()
            await writer.acknowledge()

    run(loop, call(), write())
    assert [record.get("out") for record in writer.records] == [None, "a", "a", None]


@pytest.mark.parametrize("outcomes", [1000, 5000])
def test_more_outcomes_than_the_socket_holds(loop, writer, recorder, outcomes):
    """A SEQPACKET socket holds some 160 records: a busy writer is not a dead one."""
    before = recorder._path
    recorder._path = "/nonexistent"
    for number in range(outcomes // 2):
        recorder.outcome({"out": number, "pad": "x" * 200})
    recorder._path = before

    async def call() -> None:
        for number in range(outcomes // 2, outcomes):
            recorder.outcome({"out": number, "pad": "x" * 200})
        await recorder.intent({"rid": "a"})

    async def write() -> None:
        await loop.wait({}, 0.005)
        for _ in range(outcomes + 1):
            await writer.take()
            await writer.acknowledge()

    run(loop, call(), write())
    assert [record.get("out") for record in writer.records] == [*range(outcomes), None]
    assert writer.listener.accepted == 1


def test_many_calls_at_once(loop, writer, recorder):
    done = []

    async def call(number: int) -> None:
        await recorder.intent({"rid": number, "pad": "x" * 1000})
        done.append(number)

    async def write() -> None:
        for _ in range(500):
            await writer.take()
            await writer.acknowledge()

    run(loop, *(call(number) for number in range(500)), write())
    assert done == list(range(500))


def test_too_many_outcomes_refuse_calls(loop, writer, recorder, monkeypatch):
    monkeypatch.setattr(module, "OUTCOMES", 3)
    recorder._path, path = "/nonexistent", recorder._path
    for number in range(5):
        recorder.outcome({"out": number})
    recorder._path = path

    async def call() -> None:
        with pytest.raises(Unavailable):
            await recorder.intent({})

    run(loop, call())


def test_record_that_the_writer_would_not_take_refuses_its_own_call_only(loop, writer, recorder):
    async def large() -> None:
        with pytest.raises(Unavailable, match="too large") as error:
            await recorder.intent({"pad": "x" * module.LIMIT})
        assert error.value.status == 503

    async def call() -> None:
        await recorder.intent({"rid": "a"})

    async def write() -> None:
        assert (await writer.take())["rid"] == "a"
        await loop.wait({}, 0.002)
        await writer.acknowledge()

    run(loop, call(), large(), write())


def test_record_cannot_end_its_line(loop, writer, recorder):
    async def call() -> None:
        await recorder.intent({"x": "\n\u2028\ud800"})

    async def write() -> None:
        await writer.take()
        assert b"\n" not in writer.peer.buffer
        assert bytes(writer.peer.buffer).isascii()
        await writer.acknowledge()

    run(loop, call(), write())


def test_reads_are_recorded_together_and_soon(loop, writer, tmp_path):
    recorder = Recorder(loop, str(tmp_path / "audit.sock"))

    async def call() -> None:
        await recorder.intent({"rid": "first"})  # there is a connection now
        for number in range(3):
            await recorder.note({"rid": f"read {number}"})
            recorder.outcome({"rid": f"read {number}", "out": {}}, soon=True)
        assert len(recorder._later) == 6  # nothing was waited for, and nothing sent
        await recorder.intent({"rid": "change"})
        assert not recorder._later
        assert not recorder._queue

    run(loop, call(), writer.serve(3))
    assert [record["rid"] for record in writer.records] == [
        "first",
        *(f"read {number}" for number in range(3) for _ in range(2)),
        "change",
    ]
    recorder._drop()


def test_what_was_put_off_is_sent_without_another_call(loop, writer, tmp_path):
    recorder = Recorder(loop, str(tmp_path / "audit.sock"))

    async def call() -> None:
        await recorder.intent({"rid": "first"})
        await recorder.note({"rid": "read"})

    run(loop, call(), writer.serve(2))
    assert writer.records[-1]["rid"] == "read"
    recorder._drop()


def test_many_reads_do_not_wait_for_the_time(loop, writer, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SOON", 60.0)
    recorder = Recorder(loop, str(tmp_path / "audit.sock"))

    async def call() -> None:
        await recorder.intent({"rid": "first"})
        for number in range(module.TOGETHER):
            await recorder.note({"rid": str(number)})

    run(loop, call(), writer.serve(2))
    assert len(writer.records) == 1 + module.TOGETHER
    recorder._drop()


def test_reads_with_large_records_go_in_messages_that_the_writer_takes(loop, writer, tmp_path):
    recorder = Recorder(loop, str(tmp_path / "audit.sock"))
    size = module.LIMIT // 2 - 30

    async def call() -> None:
        await recorder.intent({"rid": "first"})
        for number in range(5):
            await recorder.note({"n": number, "pad": "x" * size})

    async def write() -> None:
        for _ in range(4):
            await writer.take()
            assert len(writer.peer.buffer) <= module.LIMIT
            await writer.acknowledge()

    run(loop, call(), write())
    assert [record.get("n") for record in writer.records] == [None, *range(5)]
    recorder._drop()


def test_an_acknowledgement_does_not_send_what_was_put_off(loop, writer, tmp_path, monkeypatch):
    """It would make a message of each record, and wake the writer for it."""
    monkeypatch.setattr(module, "SOON", 0.05)
    recorder = Recorder(loop, str(tmp_path / "audit.sock"))

    async def call() -> None:
        await recorder.intent({"rid": "first"})
        recorder.outcome({"rid": "first", "out": {}})
        await recorder.note({"rid": "one"})
        await loop.wait({}, 0.01)  # the outcome is acknowledged meanwhile
        assert not recorder._sent
        await recorder.note({"rid": "two"})

    run(loop, call(), writer.serve(3))
    assert [record["rid"] for record in writer.records] == ["first", "first", "one", "two"]
    recorder._drop()


def test_what_was_put_off_is_sent_again_when_it_could_not_be_written(loop, writer, tmp_path):
    recorder = Recorder(loop, str(tmp_path / "audit.sock"))

    async def call() -> None:
        await recorder.intent({"rid": "first"})
        for number in range(3):
            await recorder.note({"n": number})
        recorder.flush()
        while recorder._sock:
            await loop.wait({}, 0.001)
        recorder.flush()

    async def write() -> None:
        await writer.take()
        await writer.acknowledge()
        await writer.take()
        await writer.peer.send(b'{"error":"disk full"}')
        assert await writer.peer.more() == b""
        writer.leave()
        await writer.take()
        await writer.acknowledge()

    run(loop, call(), write())
    assert [record.get("n") for record in writer.records] == [None, 0, 1, 2, 0, 1, 2]
    recorder._drop()


def test_a_read_waits_where_the_writer_does_not_answer(loop, writer, tmp_path, monkeypatch):
    """What was put off is bounded in time: then reads are refused as all else is."""
    monkeypatch.setattr(module, "SOON", 0.01)
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    recorder = Recorder(loop, str(tmp_path / "audit.sock"))

    async def call() -> None:
        await recorder.intent({"rid": "first"})
        await recorder.note({"rid": "read"})
        await loop.wait({}, 0.1)
        with pytest.raises(Unavailable):
            await recorder.note({"rid": "another"})

    async def write() -> None:
        await writer.take()
        await writer.acknowledge()
        await writer.take()

    run(loop, call(), write())
    recorder._drop()


def test_a_read_is_refused_where_there_is_no_writer(loop, tmp_path):
    recorder = Recorder(loop, str(tmp_path / "none.sock"))

    async def call() -> None:
        with pytest.raises(Unavailable):
            await recorder.note({"rid": "read"})

    run(loop, call())
