"""Hold a request that was read, and remember those that come again."""

from __future__ import annotations

from typing import NamedTuple

from sockproxy.http.head import Head
from sockproxy.server.meter import is_stream
from sockproxy_helpers.api.operations import Operation
from sockproxy_helpers.channel import wire

MEMO_HEADS, MEMO_HEAD = 500, 2048  # entries, bytes: a megabyte at most
SECRETS = frozenset({"authorization", "x-registry-auth", "x-registry-config"})  # kept no longer than their request


class Request(NamedTuple):
    """Hold a request that may be handed over; nothing in it is changed.

    Attributes:
        packed: its message to a helper behind the request's id, without body, upload and assertion; b"" until it is
            remembered.
        raw: the bytes that it was read from, if it is remembered and may be lent: a plain read, not a stream.
    """

    head: Head
    operation: Operation
    version: str
    variables: dict[str, str]
    query: list[tuple[str, str]]
    packed: bytes = b""
    raw: bytes = b""

    def message(self, request_id: str, size: int, upload: int | str | None, assertion: str, payload: bytes) -> bytes:
        """Form the message that hands it to a helper. The id comes first: what is behind it, the helper knows again.

        Args:
            size: of the body in `payload`, which begins with it.
            upload: how the body is framed that is still to come; None for none.
        """
        if self.packed and not assertion and not size and upload is None:
            return b'{"rid":"%s",%s%s' % (request_id.encode("ascii"), self.packed, payload)
        return wire.pack({"rid": request_id, **self._call(size, upload, assertion)}, payload)

    def lent(self, request_id: str, most: int) -> bytes:
        """Form the message that lends the client's connection, for so many repeats: see the helpers' `lent.py`."""
        said = request_id.encode("ascii"), most, len(self.raw), self.packed, self.raw
        return b'{"rid":"%s","lend":[%d,%d],%s%s' % said

    def _call(self, size: int, upload: int | str | None, assertion: str) -> dict[str, object]:
        return {
            "op": self.operation.name,
            "api": self.version,
            "minor": self.head.http_minor,
            "vars": self.variables,
            "query": self.query,
            "headers": self.head.forward,
            "expect": self.head.expect_continue,
            "body": size,
            "upload": upload,
            "upgrade": self.head.upgrade or "",
            "assertion": assertion,
        }

    def pack(self, untrusted_head: bytes) -> Request:
        """Form now what its messages will have in common."""
        plain = self.operation.method in ("GET", "HEAD") and not (self.operation.acts or is_stream(self.operation))
        return self._replace(packed=wire.pack(self._call(0, None, ""))[1:], raw=untrusted_head if plain else b"")


class Memo:
    """Remember what was read from a head, by its exact bytes: clients repeat themselves, and reading costs 40 us.

    What a head says depends on its bytes alone; what is allowed is decided anew each time.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Request] = {}
        self.get = self._known.get

    def put(self, untrusted_head: bytes, request: Request) -> None:
        """Remember, unless it is large, rarely the same, or holds a secret."""
        secret = any(name in SECRETS for name, _ in request.head.headers)
        if len(untrusted_head) > MEMO_HEAD or request.head.body != "none" or secret:
            return
        if len(self._known) >= MEMO_HEADS:
            self._known.clear()
        self._known[untrusted_head] = request.pack(untrusted_head)
