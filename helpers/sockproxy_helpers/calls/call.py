"""Take a call apart that the front hands over, believing none of it."""

from __future__ import annotations

import os
import re
import socket

from sockproxy_helpers.api.operations import NEWEST, OLDEST, Operation
from sockproxy_helpers.channel.wire import WireError

REQUEST_ID = re.compile(r"[0-9a-f]{16}")
ASSERTION = re.compile(r"[a-z0-9.]{0,200}")
VERSION = re.compile(r"(?:v1\.[0-9]{2,3})?")
# The request headers that reach the daemon; content-type is made here. Values are checked again by `request_head`.
FORWARDED = {
    "accept": "Accept",
    "accept-encoding": "Accept-Encoding",
    "sec-websocket-extensions": "Sec-WebSocket-Extensions",
    "sec-websocket-key": "Sec-WebSocket-Key",
    "sec-websocket-protocol": "Sec-WebSocket-Protocol",
    "sec-websocket-version": "Sec-WebSocket-Version",
    "user-agent": "User-Agent",
    "x-registry-auth": "X-Registry-Auth",
    "x-registry-config": "X-Registry-Config",
}
UPGRADES, BUILDKIT_UPGRADES = ("tcp", "websocket"), ("h2c",)
_NO_PAIRS, _NO_TEXTS = list[tuple[str, str]](), dict[str, str]()  # one for all that have forgotten theirs


class Call:
    """Hold one request as the front parsed it.

    Attributes:
        upload: how the body is framed that the client still sends: None, "chunked" or its length.
        body: a body that the front has read (JSON).
        early: bytes that the client sent after that: the upload's beginning, or the stream's.
        session: header fields that open a BuildKit session, see `session`.
    """

    __slots__ = (
        "body", "early", "expect", "headers", "minor", "operation", "query", "request_id", "session", "upgrade",
        "upload", "variables", "version",
    )  # fmt: skip

    def __init__(self, header: dict[str, object], payload: bytes, operations: dict[str, Operation]) -> None:
        """Check every field of the message.

        Raises:
            WireError: out of this helper's table, or not of the form that our front sends.
        """
        try:
            self._read(header, payload, operations)
        except (KeyError, TypeError, ValueError) as error:
            raise WireError(f"not a call of this helper: {error}") from error

    def _read(self, header: dict[str, object], payload: bytes, operations: dict[str, Operation]) -> None:
        self.operation = operations[text(header.pop("op"))]
        self.request_id = text(header.pop("rid"), REQUEST_ID)
        self.version = text(header.pop("api"), VERSION)
        if self.version and not OLDEST <= (1, int(self.version[3:])) <= NEWEST:
            raise ValueError("not an API version that we speak")
        self.minor = number(header.pop("minor"), 1)
        self.variables = texts(header.pop("vars"))
        self.query = pairs(header.pop("query"))
        self.headers = texts(header.pop("headers"))
        if not all(value.isascii() and value.isprintable() for value in self.headers.values()):
            raise ValueError("a header value that is no text")
        self.session: list[tuple[str, str]] = []
        self.expect = flag(header.pop("expect"))
        size = number(header.pop("body"), len(payload))
        self.body, self.early = payload[:size], payload[size:]
        self.upload = _upload(header.pop("upload"))
        self.upgrade = text(header.pop("upgrade"))
        text(header.pop("assertion"), ASSERTION)  # read by `identity.py`
        if header:
            raise ValueError(f"unknown field {min(header)}")
        if self.body and self.operation.request != "json":
            raise ValueError("a body where none belongs")
        if self.upload is not None and self.operation.request not in ("raw", "tar"):
            raise ValueError("an upload where none belongs")
        if self.upload == "chunked" and self.minor == 0:
            # RFC 9112 section 6.1; the engine would ignore the coding and read the body as the next request.
            raise ValueError("a chunked upload in HTTP/1.0")
        self.operation.target(self.version, self.variables, self.query)

    def forget(self) -> None:
        """Keep what the end of a stream needs alone: it may last for days."""
        self.query, self.session, self.variables, self.headers = _NO_PAIRS, _NO_PAIRS, _NO_TEXTS, _NO_TEXTS
        self.body = self.early = b""

    def again(self, request_id: str) -> Call:
        """Give the same call with another id; they share all else, which is not to be changed."""
        twin = Call.__new__(Call)
        for name in Call.__slots__:
            setattr(twin, name, getattr(self, name))
        twin.request_id = request_id
        return twin

    def fields(self, rewritten: bool = False) -> list[tuple[str, str]]:
        """Form the header fields for the daemon; framing is added where the body is known.

        Args:
            rewritten: the upload does not keep its length.
        """
        fields = [(name, self.headers[key]) for key, name in FORWARDED.items() if key in self.headers]
        fields += self.session
        upgrades = BUILDKIT_UPGRADES if self.operation.tag == "BuildKit" else UPGRADES
        if self.operation.response == "hijack" and self.upgrade in upgrades:
            fields += [("Connection", "Upgrade"), ("Upgrade", self.upgrade)]
        if self.upload is not None:
            fields.append(("Content-Type", "application/x-tar"))
        if self.upload == "chunked" or (rewritten and self.upload is not None):
            fields.append(("Transfer-Encoding", "chunked"))
        elif self.upload is not None:
            fields.append(("Content-Length", str(self.upload)))
        return fields


def text(value: object, pattern: re.Pattern[str] | None = None) -> str:
    """Require a string."""
    if not isinstance(value, str) or (pattern and not pattern.fullmatch(value)):
        raise ValueError("not the text expected")
    return value


def number(value: object, largest: int) -> int:
    """Require an integer from 0 to `largest`."""
    if type(value) is not int or not 0 <= value <= largest:
        raise ValueError("not the number expected")
    return value


def flag(value: object) -> bool:
    """Require a truth value."""
    if not isinstance(value, bool):
        raise ValueError("not the truth value expected")
    return value


def texts(value: object) -> dict[str, str]:
    """Require an object of strings."""
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return {text(key): text(item) for key, item in value.items()}


def pairs(value: object) -> list[tuple[str, str]]:
    """Require a list of pairs of strings."""
    if not isinstance(value, list) or not all(isinstance(pair, list) for pair in value):
        raise ValueError("not a list of pairs")
    return [(text(key), text(item)) for key, item in value]


def _upload(value: object) -> int | str | None:
    if value is None or value == "chunked":
        return value
    return number(value, 10**18)


def adopt(fds: list[int]) -> socket.socket:
    """Take over the one descriptor of a message as a socket.

    Raises:
        WireError: there is none, or it is no socket.
    """
    if not fds:
        raise WireError("no client's socket")
    try:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fds[0])  # if it is: see `connection`
    except OSError as error:
        os.close(fds[0])
        raise WireError("not a socket") from error
    client.setblocking(False)  # as our front's are; the front could undo it, and gain no more than by not serving
    return client
