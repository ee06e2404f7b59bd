"""A gRPC client by hand: any call, any message, any frame, over an upgraded connection or a socket pair."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events
import h2.settings

from sockproxy.buildkit.schema import Message, Schema
from tests.support.raw import Connection
from tests.support.users import User

SCHEMA = Schema()
CONTROL, BRIDGE = "/moby.buildkit.v1.Control/", "/moby.buildkit.v1.frontend.LLBBridge/"


class Ended(Exception):
    """The connection has ended."""


class Reply:
    """What came of a call.

    Attributes:
        status: of gRPC; None when the stream was broken off.
        text: what is said about it.
        messages: encoded.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.text, self.data, self.done = "", b"", False

    @property
    def messages(self) -> list[bytes]:
        """Take the data apart."""
        found, data = [], self.data
        while data:
            (size,) = struct.unpack(">I", data[1:5])
            found.append(data[5 : 5 + size])
            data = data[5 + size :]
        return found

    def take(self, headers: object) -> None:
        """Read a head or trailers."""
        fields = dict(headers)  # type: ignore[call-overload]
        if "grpc-status" in fields:
            self.status, self.text = int(fields["grpc-status"]), unquote(fields.get("grpc-message", ""))


def message(kind: str, **fields: object) -> bytes:
    """Encode a message of the table. Maps, lists and messages are given as dicts and lists."""
    made = SCHEMA.new(kind)
    _fill(made, fields)
    return bytes(made.SerializeToString())


def _fill(made: Message, fields: dict[str, object]) -> None:
    for name, value in fields.items():
        place = getattr(made, name)
        if isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    _fill(place.add(), item)
                else:
                    place.append(item)
        elif isinstance(value, dict) and hasattr(place, "get_or_create"):  # a map of messages
            for key, item in value.items():
                _fill(place.get_or_create(key), item)
        elif isinstance(value, dict) and hasattr(place, "update"):
            place.update(value)
        elif isinstance(value, dict):
            place.SetInParent()
            _fill(place, value)
        else:
            setattr(made, name, value)


class Grpc:
    """A client's connection."""

    def __init__(self, sock: socket.socket, early: bytes = b"") -> None:
        self.sock, self._early = sock, early
        sock.settimeout(20)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.replies: dict[int, Reply] = {}
        self.flush()

    @classmethod
    def open(cls, path: Path | str, user: User) -> Grpc:
        """Connect as a user and upgrade."""
        connection = Connection(path, user)
        connection.send(b"POST /grpc HTTP/1.1\r\nHost:\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        answer = connection.head()
        assert answer.status == 101, answer.reason
        return cls(connection.sock, connection.buffer)

    def flush(self) -> None:
        """Send what h2 has to say."""
        self.sock.sendall(self.h2.data_to_send())

    def start(self, path: str, body: bytes | None = None, *, framed: bool = True, **headers: str) -> int:
        """Begin a call; give its stream. Headers replace those of a proper call; "_" stands for "-"."""
        number = self.h2.get_next_available_stream_id()
        head = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "te": "trailers"}
        head |= {"content-type": "application/grpc"} | {name.replace("_", "-"): text for name, text in headers.items()}
        self.replies[number] = Reply()
        self.h2.send_headers(number, list(head.items()))
        if body is not None:
            self.send(number, struct.pack(">BI", 0, len(body)) + body if framed else body)
            self.h2.end_stream(number)
        self.flush()
        return number

    def send(self, number: int, data: bytes) -> None:
        """Send bytes on a stream, as the windows allow, until its end comes."""
        while data and not self.replies[number].done:
            size = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(data))
            if size <= 0:
                self.receive()
                continue
            self.h2.send_data(number, data[:size])
            data = data[size:]
            self.flush()

    def receive(self) -> None:
        """Take what comes next."""
        data, self._early = self._early or self.sock.recv(65536), b""
        if not data:
            raise Ended
        for event in self.h2.receive_data(data):
            reply = self.replies.get(getattr(event, "stream_id", 0) or 0)
            if isinstance(event, h2.events.ConnectionTerminated):
                raise Ended
            if reply is None:
                continue
            if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                reply.take(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                assert event.stream_id is not None
                reply.data += event.data or b""
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                reply.done = True
        self.flush()

    def wait(self, number: int) -> Reply:
        """Wait for the end of a call."""
        while not self.replies[number].done:
            self.receive()
        return self.replies[number]

    def call(self, path: str, body: bytes = b"", **headers: str) -> Reply:
        """Make a call."""
        return self.wait(self.start(path, body, **headers))

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()
