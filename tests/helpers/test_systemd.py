"""What systemd is asked for a user's share, and what becomes of its answers. A real one: tests/root/test_booted.py."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.totals import systemd
from tests.helpers.support import Listener, Peer, run

TOTALS = {"memory": 1 << 30, "cpus": 1.5, "pids": 100}
NOTHING = {"memory": None, "cpus": None, "pids": None}


def test_names() -> None:
    assert systemd.slice_of("sockproxy", 1000) == "sockproxy-1000.slice"
    assert systemd.path_of("sockproxy-1000.slice") == "/sockproxy.slice/sockproxy-1000.slice"
    assert systemd.path_of("a-b-7.slice") == "/a.slice/a-b.slice/a-b-7.slice"


def test_properties() -> None:
    assert [value for _, _, value in systemd.properties(TOTALS)] == [1 << 30, 1 << 30, 1_500_000, 100]
    assert {value for _, _, value in systemd.properties(NOTHING)} == {systemd.INFINITY}


def answer(kind: int, to: int, text: str = "") -> bytes:
    """Form a message of the bus, with more fields than we read."""
    body = systemd._text(b"", text) if text else b""
    fields = b"\x07\x01s\x00" + struct.pack("<I", 4) + b":1.7\x00"  # its sender
    fields += bytes(-len(fields) % 8) + b"\x08\x01g\x00\x01s\x00"
    fields += bytes(-len(fields) % 8) + b"\x05\x01u\x00" + struct.pack("<I", to)
    head = struct.pack("<cBBBIII", b"l", kind, 0, 1, len(body), 99, len(fields)) + fields
    return head + bytes(-len(head) % 8) + body


async def message(bus: Peer) -> bytes:
    head = await bus.read(16)
    body, _, fields = struct.unpack_from("<III", head, 4)
    return head + await bus.read(fields + -fields % 8 + body)


def ask(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *answers: bytes,
    hello: bytes = b"OK 1234\r\n",
    holds: tuple[bool, ...] = (False, True),
) -> list[bytes]:
    """Have a limit set by a bus that says so much; give what it was asked."""
    loop, asked = Loop(), []
    listener = Listener(loop, folder / "bus.sock")
    monkeypatch.setattr(systemd, "BUS", str(folder / "bus.sock"))
    monkeypatch.setattr(systemd, "PATIENCE", 0.2)

    async def bus() -> None:
        peer = await listener.accept()
        asked.append(await peer.until(b"\r\n"))
        await peer.send(hello)
        if hello.startswith(b"OK"):
            assert await peer.until(b"\r\n") == b"BEGIN\r\n"
        for number, given in enumerate(answers):
            if number < 3:
                asked.append(await message(peer))
            await peer.send(given)
        await peer.rest()

    async def bound() -> None:
        await systemd.bound(loop, "sockproxy-1000.slice", TOTALS, lambda: next(looks))

    looks = iter(holds)
    try:
        run(loop, bus(), bound())
    finally:
        listener.close()
    return asked


RETURNS = answer(2, 1), answer(2, 2), answer(2, 3)


def test_what_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = answer(4, 0, "NameAcquired")
    asked = ask(tmp_path, monkeypatch, RETURNS[0], signal + answer(2, 77) + RETURNS[1], RETURNS[2])
    assert asked[0] == b"\x00AUTH EXTERNAL 30\r\n"
    assert b"Hello\x00" in asked[1]
    assert b"SetUnitProperties\x00" in asked[2]
    assert asked[2].endswith(b"TasksMax\x00\x01t\x00" + struct.pack("<Q", 100)), asked[2]
    assert b"sockproxy-1000.slice\x00" in asked[2]
    assert b"MemoryMax\x00\x01t\x00" in asked[2]
    assert b"StartUnit\x00" in asked[3]
    assert asked[3].endswith(b"replace\x00")


@pytest.mark.parametrize(
    ("hello", "answers", "why"),
    [
        (b"REJECTED EXTERNAL\r\n", (), "it does not know us"),
        (b"OK 1\r\n", (answer(3, 1, "no room"),), "no room"),
        (b"OK 1\r\n", (RETURNS[0], answer(3, 2, "Unit has a bad unit file setting.")), "bad unit file"),
        (b"OK 1\r\n", (RETURNS[0],), "nothing"),
        (b"OK 1\r\n", (b"B" + RETURNS[0][1:],), "byte order"),
        (b"OK 1\r\n", (RETURNS[0][:12] + b"\xff" * 4,), "too much"),
        (b"OK 1\r\n", (RETURNS[0][:12] + struct.pack("<I", 5) + b"\x05\x01u\x00\x01\x00\x00\x00",), "unpack"),
    ],
)
def test_answers_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hello: bytes, answers: tuple[bytes, ...], why: str
) -> None:
    with pytest.raises(Unavailable, match=f"your share of the machine can't be set: systemd: .*{why}"):
        ask(tmp_path, monkeypatch, *answers, hello=hello)


def test_a_systemd_that_keeps_what_it_cannot_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "PAUSE", 0)
    with pytest.raises(Unavailable, match=r"the kernel does not have the limits of sockproxy-1000\.slice"):
        ask(tmp_path, monkeypatch, *RETURNS, holds=(False,) * systemd.TRIES)


def test_no_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "BUS", str(tmp_path / "none"))
    loop = Loop()
    with pytest.raises(Unavailable, match="systemd: "):
        run(loop, systemd.bound(loop, "a-1.slice", NOTHING, lambda: True))
