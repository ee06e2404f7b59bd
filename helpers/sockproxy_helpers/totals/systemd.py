"""Give each user a slice of the user's own, with the totals of the role, where the daemon leaves cgroups to systemd.

systemd owns the cgroups of its slices, and writes them anew whenever it has reason to: so limits are properties of the
slice, which systemd is asked to set (SetUnitProperties of org.freedesktop.systemd1.Manager(5)). It keeps them until the
next boot, whether the slice is running or not, and across its own reload. What the daemon starts goes below the slice.

SECURITY: asks the system's message bus, as root, for this one thing. Names and numbers are ours: the uid that the
kernel attests, the totals of the compiled policy. Answers are read for their kind alone, within limits.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

from sockproxy_helpers.channel.loop import IN, Loop
from sockproxy_helpers.errors import Unavailable
from .cgroupfs import Totals

BUS = "/run/dbus/system_bus_socket"
MANAGER = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "org.freedesktop.systemd1")
PATIENCE = 5.0  # seconds for an answer
TRIES, PAUSE = 100, 0.02  # seconds between looks at what the kernel has
LARGEST = 65536  # bytes of a message to us; errors have a sentence
INFINITY = (1 << 64) - 1
_CALL, _RETURN, _ERROR = 1, 2, 3  # of the D-Bus specification, message types
_PATH, _INTERFACE, _MEMBER, _REPLY, _DESTINATION, _SIGNATURE = 1, 2, 3, 5, 6, 8  # and header fields
Property = tuple[str, str, int]  # name, type, value


def slice_of(name: str, uid: int) -> str:
    """Name a user's slice; a dash makes it one below the slice named before it (systemd.slice(5))."""
    return f"{name}-{uid}.slice"


def path_of(unit: str) -> str:
    """Give the cgroup of a slice, for who makes cgroups below it by itself."""
    words = unit.removesuffix(".slice").split("-")
    return "/" + "/".join("-".join(words[: count + 1]) + ".slice" for count in range(len(words)))


def properties(totals: Totals) -> list[Property]:
    """Form the totals. Swap is allowed as much as memory, where there is version 2 of cgroups."""
    memory, cpus, pids = totals["memory"], totals["cpus"], totals["pids"]
    return [
        ("MemoryMax", "t", INFINITY if memory is None else int(memory)),
        ("MemorySwapMax", "t", INFINITY if memory is None else int(memory)),
        ("CPUQuotaPerSecUSec", "t", INFINITY if cpus is None else int(cpus * 1_000_000)),
        ("TasksMax", "t", INFINITY if pids is None else int(pids)),
    ]


async def bound(loop: Loop, unit: str, totals: Totals, holds: Callable[[], bool]) -> None:
    """Set a slice's limits, and start it.

    Args:
        holds: tells whether the kernel has them: systemd keeps what it can't set, in a container for one.

    Raises:
        Unavailable: systemd is not there, or says no.
    """
    bus = _Bus(loop)
    try:
        await bus.connect()
        await bus.call(MANAGER, "SetUnitProperties", "sba(sv)", _set_unit_properties(unit, properties(totals)))
        await bus.call(MANAGER, "StartUnit", "ss", _text(_text(b"", unit), "replace"))
        for _ in range(TRIES):  # the job comes after the answer
            if holds():
                return
            await loop.wait({}, PAUSE)
        raise ValueError(f"the kernel does not have the limits of {unit}")
    except (OSError, ValueError, LookupError, struct.error) as error:
        raise Unavailable(f"your share of the machine can't be set: systemd: {error}") from error
    finally:
        bus.close()


class _Bus:
    """Hold a connection to the system's message bus."""

    def __init__(self, loop: Loop) -> None:
        self._loop, self._serial = loop, 0
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._received = b""

    def close(self) -> None:
        self._loop.close(self._sock)

    async def connect(self) -> None:
        """Authenticate by our uid, and say hello."""
        self._sock.connect(BUS)
        self._sock.send(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        while b"\r\n" not in self._received:
            await self._more()
        line, _, self._received = self._received.partition(b"\r\n")
        if not line.startswith(b"OK "):
            raise ValueError("it does not know us")
        self._sock.send(b"BEGIN\r\n")
        bus = "org.freedesktop.DBus"
        await self.call(("/org/freedesktop/DBus", bus, bus), "Hello", "", b"")

    async def call(self, whom: tuple[str, str, str], member: str, signature: str, body: bytes) -> None:
        """Call a method, and wait until it has returned."""
        self._serial += 1
        self._sock.send(_message(self._serial, whom, member, signature, body))
        while True:
            kind, reply, text = await self._receive()
            if reply == self._serial and kind == _RETURN:
                return
            if reply == self._serial and kind == _ERROR:
                raise ValueError(text)

    async def _receive(self) -> tuple[int, int, str]:
        """Read a message: its kind, the serial that it replies to, and the text that it begins with."""
        while len(self._received) < 16 or len(self._received) < _length(self._received):
            await self._more()
        size = _length(self._received)
        message, self._received = self._received[:size], self._received[size:]
        fields = struct.unpack_from("<I", message, 12)[0]
        body = message[16 + fields + -fields % 8 :]
        text = body[4 : 4 + struct.unpack_from("<I", body)[0]] if message[1] == _ERROR and len(body) > 4 else b""
        return message[1], _reply_serial(message[16 : 16 + fields]), text.decode(errors="replace")[:200]

    async def _more(self) -> None:
        if not await self._loop.wait({self._sock.fileno(): IN}, PATIENCE):
            raise ValueError("nothing")
        data = self._sock.recv(LARGEST)
        if not data or len(self._received) > LARGEST:
            raise ValueError("the connection has ended")
        self._received += data


def _length(head: bytes) -> int:
    if head[:1] != b"l":
        raise ValueError("not of our byte order")
    body, _, fields = struct.unpack_from("<III", head, 4)
    size = 16 + fields + -fields % 8 + body
    if size > LARGEST:
        raise ValueError("too much")
    return int(size)


def _reply_serial(fields: bytes) -> int:
    """Find the serial in a header's fields, each (code, variant); they are of four types."""
    at = 0
    while at < len(fields):
        at += -at % 8
        code, kind = fields[at], fields[at + 2 : at + 3]
        at += 4
        if kind == b"u":
            value = struct.unpack_from("<I", fields, at + -at % 4)[0]
            if code == _REPLY:
                return int(value)
            at += -at % 4 + 4
        elif kind == b"g":
            at += fields[at] + 2
        else:
            at += -at % 4
            at += 4 + struct.unpack_from("<I", fields, at)[0] + 1
    return 0


def _text(data: bytes, text: str) -> bytes:
    """Append a string, aligned."""
    encoded = text.encode()
    return _pad(data, 4) + struct.pack("<I", len(encoded)) + encoded + b"\0"


def _pad(data: bytes, to: int) -> bytes:
    return data + bytes(-len(data) % to)


def _set_unit_properties(unit: str, given: list[Property]) -> bytes:
    """Form the arguments: the unit, until the next boot, what."""
    data = _text(b"", unit)
    data = _pad(data, 4) + struct.pack("<I", 1)
    start = _pad(data + bytes(4), 8)  # where the array's elements begin: each is aligned to 8
    data_array = start
    for name, kind, value in given:
        data_array = _text(_pad(data_array, 8), name) + bytes([len(kind)]) + kind.encode() + b"\0"
        data_array = _pad(data_array, 8) + struct.pack("<Q", value)
    return data + struct.pack("<I", len(data_array) - len(start)) + data_array[len(data) + 4 :]


def _message(serial: int, whom: tuple[str, str, str], member: str, signature: str, body: bytes) -> bytes:
    path, interface, destination = whom
    fields = b""
    told = (_PATH, "o", path), (_INTERFACE, "s", interface), (_MEMBER, "s", member), (_DESTINATION, "s", destination)
    for code, kind, text in told:
        fields = _text(_pad(fields, 8) + bytes([code, 1]) + kind.encode() + b"\0", text)
    if signature:
        fields = (
            _pad(fields, 8) + bytes([_SIGNATURE, 1]) + b"g\0" + bytes([len(signature)]) + signature.encode() + b"\0"
        )
    head = struct.pack("<cBBBIII", b"l", _CALL, 0, 1, len(body), serial, len(fields))
    return _pad(head + fields, 8) + body
