"""Write request heads and read response heads as the Docker daemon speaks them: HTTP/1.1, strictly (RFC 9112).

The daemon is trusted with its own containers, not with our framing: an answer that is not well-formed ends the call.
Requests are built here from an operation and a checked model; no byte of a client's request head gets this far.
"""

from __future__ import annotations

import re

_STATUS = re.compile(r"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*))?")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_HOP = frozenset(("connection", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding", "content-length"))
BODYLESS = frozenset((204, 304))


class Response:
    """Hold a response head.

    Attributes:
        length: bytes of the body; None when chunked or delimited by the end of the connection.
        chunked: the body is chunked.
        close: the daemon will close, or the body is delimited by the end.
    """

    __slots__ = ("chunked", "close", "fields", "length", "reason", "status", "upgrade")

    def __init__(self, untrusted_head: str, method: str) -> None:
        """Parse a head.

        Raises:
            ValueError: not a response head (RFC 9112 sections 4, 5, 6.3).
        """
        status_line, *lines = untrusted_head.split("\r\n")
        match = _STATUS.fullmatch(status_line)
        if not match:
            raise ValueError("bad status line")
        self.status, self.reason = int(match[1]), match[2] or ""
        self.fields: list[tuple[str, str]] = []
        framing: dict[str, str] = {}
        for line in lines:
            field = _FIELD.fullmatch(line)
            if not field:
                raise ValueError("bad header field")
            name, value = field[1], field[2]
            if name.lower() not in _HOP:
                self.fields.append((name, value))
            elif framing.setdefault(name.lower(), value) != value:
                raise ValueError(f"two values for {name}")
        self._frame(framing, method, status_line.startswith("HTTP/1.1"))

    def _frame(self, framing: dict[str, str], method: str, persistent: bool) -> None:
        self.upgrade = framing.get("upgrade", "")
        coding, length = framing.get("transfer-encoding"), framing.get("content-length")
        if coding is not None and (coding.lower() != "chunked" or length is not None):
            raise ValueError("bad transfer coding")
        if length is not None and not (length.isdecimal() and length.isascii() and len(length) < 19):
            raise ValueError("bad content length")
        bodyless = method == "HEAD" or self.status in BODYLESS or self.status < 200
        self.chunked = coding is not None and not bodyless
        self.length = 0 if bodyless else None if length is None else int(length)
        # What HEAD would have sent is passed on; elsewhere the length is what is sent.
        self.fields += [("Content-Length", length)] if length is not None else []
        self.fields += [("Transfer-Encoding", "chunked")] if self.chunked else []
        options = framing.get("connection", "").lower()
        unframed = self.length is None and not self.chunked
        self.close = unframed or "close" in options or not (persistent or "keep-alive" in options)

    def set_length(self, length: int) -> None:
        """Say that the body is another one, of this length; the connection can then go on."""
        self.fields = [field for field in self.fields if field[0] not in ("Content-Length", "Transfer-Encoding")]
        self.fields.append(("Content-Length", str(length)))
        self.length, self.chunked, self.close = length, False, False

    def head(self, request_id: str, close: bool) -> bytes:
        """Form the head as the client gets it, with the connection's own fields made anew (RFC 9110 section 7.6.1)."""
        fields = [*self.fields, ("X-Sockproxy-Request-Id", request_id)]
        if self.status == 101:
            fields += [("Connection", "Upgrade"), ("Upgrade", self.upgrade)]
        elif close:
            fields += [("Connection", "close")]
        lines = [f"HTTP/1.1 {self.status} {self.reason}", *(f"{name}: {value}" for name, value in fields)]
        return "\r\n".join((*lines, "", "")).encode("latin-1")


def request_head(method: str, target: str, minor: int, fields: list[tuple[str, str]]) -> bytes:
    """Form a request head.

    Raises:
        ValueError: a field value holds what would end the line: the last check before the daemon.
    """
    lines = [f"{method} {target} HTTP/1.{minor}", "Host: docker", *(f"{name}: {value}" for name, value in fields)]
    if not all(line.isascii() and line.isprintable() for line in lines):
        raise ValueError("control character in a request head")
    return "\r\n".join((*lines, "", "")).encode("ascii")
