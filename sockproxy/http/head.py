"""Read a request head: strict where HTTP lets two readers differ.

The daemon never sees these bytes (the helper builds its request anew), but a second request hidden behind this one
would be judged by us as something else than the client's other proxies saw. So each form that readers are known to
differ on is refused here; h11 then parses what is left. RFC numbers name the rule that a check enforces.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import h11

from sockproxy.errors import RequestError

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"})  # those of the table of operations
MAX_HEAD = 1 << 20  # where the engine answers 431; clients send X-Registry-Config of 70 kB
MAX_FIELDS = 256  # a docker CLI sends 6 to 15

SINGLETONS = frozenset(
    {
        "authorization",
        "content-length",
        "content-type",
        "expect",
        "host",
        "sec-websocket-key",
        "sec-websocket-version",
        "transfer-encoding",
        "upgrade",
        "x-docker-expose-session-name",
        "x-docker-expose-session-sharedkey",
        "x-docker-expose-session-uuid",
        "x-registry-auth",
        "x-registry-config",
    }
)
# What a helper may pass on to the daemon, and how many characters of it. All else ends here: framing and connection
# headers are the helper's own, and the daemon reads no others from the operations that are served.
FORWARD = {
    "accept": MAX_HEAD,
    "accept-encoding": MAX_HEAD,
    "content-type": MAX_HEAD,  # its kind only, see _content_type
    "sec-websocket-extensions": MAX_HEAD,
    "sec-websocket-key": MAX_HEAD,
    "sec-websocket-protocol": MAX_HEAD,
    "sec-websocket-version": MAX_HEAD,
    "user-agent": 256,  # words for the daemon's log
    "x-docker-expose-session-grpc-method": MAX_HEAD,  # one field a method
    "x-docker-expose-session-name": 256,
    "x-docker-expose-session-sharedkey": 1024,
    "x-docker-expose-session-uuid": 256,
    "x-registry-auth": MAX_HEAD,
    "x-registry-config": MAX_HEAD,
    "x-sockproxy-why": 256,  # for the record; the helper does not pass it on
}

_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]++"  # RFC 9110 section 5.6.2
# RFC 9112 sections 2 to 5 without what they deprecate: no bare CR or LF, no folding, no space around the name, no
# octet outside visible ASCII, space and tab. Possessive throughout, so that it fails in linear time too.
_HEAD = re.compile(
    _TOKEN + rb" [\x21-\x7e]++ HTTP/1\.[01]\r\n(?:" + _TOKEN + rb":[\t\x20-\x7e]*+\r\n)*+\r\n",
)
_FIELD = re.compile(_TOKEN + rb":[\t\x20-\x7e]*+")
_REQUEST_LINE = re.compile(rb"[\x21-\x7e]+ [\x21-\x7e]+ HTTP/([0-9])\.([0-9])")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*+[0-9]{1,19}+[ \t]*+\r\n")
_KIND = re.compile("{0}/{0}".format(_TOKEN.decode()))
_UPGRADE = re.compile("{0}(?:/{0})?".format(_TOKEN.decode()))
_BARE_LF = re.compile(rb"(?<!\r)\n")
_FIRST = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


class Head(NamedTuple):
    """Hold one request's head, its grammar checked, its meaning not.

    Attributes:
        method: one of METHODS.
        untrusted_path: the target up to "?", still percent-encoded; b"*" for `OPTIONS *`.
        untrusted_query: what follows "?"; b"" without one.
        http_minor: 0 or 1.
        headers: names in lower case, in order, repeats kept; values visible ASCII, space and tab.
        body: how the body is framed; "none" also for a length of 0.
        length: of the body, where `body` is "length"; else 0.
        expect_continue: the client waits for `100 Continue` before it sends the body.
        upgrade: the protocol of the Upgrade header, as written; None on HTTP/1.0 (RFC 9110 section 7.8). The daemon
            upgrades on it without `Connection: upgrade` too.
        keep_alive: the connection may carry a further request.
        forward: what of the headers may go on to the daemon (FORWARD).
    """

    method: str
    untrusted_path: bytes
    untrusted_query: bytes
    http_minor: int
    headers: list[tuple[str, str]]
    body: Literal["none", "length", "chunked"]
    length: int
    expect_continue: bool
    upgrade: str | None
    keep_alive: bool
    forward: dict[str, str]


def find_end(untrusted: bytes | bytearray, start: int = 0) -> int | None:
    """Find where the head at the beginning of a buffer ends.

    Args:
        untrusted: what has been received.
        start: how much of it an earlier call has seen, so that a slow sender costs linear time.

    Returns:
        The length of the head with its blank line, or None where more must be read.

    Raises:
        RequestError: it has become too large (431), or can no longer become a head that `parse` accepts.
    """
    if untrusted and untrusted[0] not in _FIRST:
        raise RequestError("malformed request line")
    end = untrusted.find(b"\r\n\r\n", max(start - 3, 0), MAX_HEAD)
    if end >= 0:
        return end + 4
    if len(untrusted) >= MAX_HEAD:
        raise RequestError("request head too large", 431)
    if _BARE_LF.search(untrusted, start):
        raise RequestError("line feed without carriage return in the request head")
    return None


def parse(untrusted_head: bytes) -> Head:
    """Parse one complete head, as measured by `find_end`.

    Raises:
        RequestError: it is malformed, ambiguous, too large or of another protocol. The connection can't be used on.
    """
    _check_bytes(untrusted_head)
    request = _read(untrusted_head)
    method, target = request.method.decode(), request.target
    if not target.startswith(b"/") and (method, target) != ("OPTIONS", b"*"):
        raise RequestError("malformed request target: only a path is accepted")  # RFC 9112 section 3.2.1
    if method not in METHODS:
        raise RequestError("page not found", 404)  # as the engine: it knows no 405
    headers = [(name.decode().lower(), value.decode()) for name, value in request.headers.raw_items()]
    fields = _fold(headers)
    minor = 1 if request.http_version == b"1.1" else 0
    body, length = _framing(fields, minor)
    untrusted_path, _, untrusted_query = target.partition(b"?")
    return Head(
        method=method,
        untrusted_path=untrusted_path,
        untrusted_query=untrusted_query,
        http_minor=minor,
        headers=headers,
        body=body,
        length=length,
        expect_continue=_expects(fields) and body != "none" and minor == 1,
        upgrade=_upgrade(fields) if minor == 1 else None,
        keep_alive=minor == 1 and not _says_close(fields),  # HTTP/1.0: no client of the API keeps such a connection
        forward=_forward(fields, body != "none"),
    )


def _check_bytes(untrusted_head: bytes) -> None:
    """Refuse what h11 and others would mend, before h11 sees it."""
    if len(untrusted_head) > MAX_HEAD or untrusted_head.count(b"\n") > MAX_FIELDS + 2:
        raise RequestError("request head too large", 431)
    if not _HEAD.fullmatch(untrusted_head):
        raise _fault(untrusted_head)
    # h11 merges equal lengths, in one field ("5, 5") or in two. RFC 9112 section 6.3 allows that and refusing.
    lower = untrusted_head.lower()
    lengths = lower.count(b"\r\ncontent-length:")
    if lengths > 1 or (lengths and not _LENGTH.search(lower)):
        raise RequestError("malformed Content-Length")


def _fault(untrusted_head: bytes) -> RequestError:
    """Say why a head does not match _HEAD."""
    match = _REQUEST_LINE.fullmatch(untrusted_head.partition(b"\r\n")[0])
    if not match:
        return RequestError("malformed request line")
    if match.groups() not in ((b"1", b"0"), (b"1", b"1")):
        return RequestError("only HTTP/1.1 is spoken here", 505)
    fields = untrusted_head.split(b"\r\n")[1:-2]
    untrusted_field = next((field for field in fields if not _FIELD.fullmatch(field)), b"")
    untrusted_name = untrusted_field.partition(b":")[0]
    which = untrusted_name[:64].decode() if re.fullmatch(_TOKEN, untrusted_name) else "its name"
    return RequestError(f"malformed header field: {which} (allowed: a name, a colon, and printable ASCII)")


def _read(head: bytes) -> h11.Request:
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(head)
        event = connection.next_event()
    except h11.RemoteProtocolError as error:  # after _check_bytes its texts quote nothing of the client's
        raise RequestError(f"malformed request: {error}", error.error_status_hint) from None
    if not isinstance(event, h11.Request):
        raise RequestError("malformed request")
    return event


def _fold(headers: list[tuple[str, str]]) -> dict[str, str]:
    """Join the repeats of a list-valued header (RFC 9110 section 5.3); refuse those of any that is no list."""
    fields: dict[str, str] = {}
    for name, value in headers:
        if name in fields:
            if name in SINGLETONS:
                raise RequestError(f"repeated header {name}")
            value = f"{fields[name]}, {value}"
        fields[name] = value
    return fields


def _framing(fields: dict[str, str], minor: int) -> tuple[Literal["none", "length", "chunked"], int]:
    """Tell how the body is framed (RFC 9112 section 6.1: both headers are refused, as is chunked on HTTP/1.0)."""
    coding, length = fields.get("transfer-encoding"), fields.get("content-length")
    if coding is None:
        size = int(length or "0")  # its digits were counted in _check_bytes
        return ("length", size) if size else ("none", 0)
    if length is not None:
        raise RequestError("both Content-Length and Transfer-Encoding")
    if minor == 0:
        raise RequestError("Transfer-Encoding on HTTP/1.0")
    if coding.lower() != "chunked":
        raise RequestError("unsupported Transfer-Encoding", 501)
    return "chunked", 0


def _expects(fields: dict[str, str]) -> bool:
    expect = fields.get("expect")
    if expect is not None and expect.lower() != "100-continue":
        raise RequestError("unsupported Expect", 417)
    return expect is not None


def _upgrade(fields: dict[str, str]) -> str | None:
    upgrade = fields.get("upgrade")
    if upgrade is not None and not _UPGRADE.fullmatch(upgrade):
        raise RequestError("malformed Upgrade")
    return upgrade


def _says_close(fields: dict[str, str]) -> bool:
    connection = fields.get("connection")
    return connection is not None and "close" in [token.strip(" \t") for token in connection.lower().split(",")]


def _forward(fields: dict[str, str], has_body: bool) -> dict[str, str]:
    forward = {name: fields[name][:limit] for name, limit in FORWARD.items() if name in fields}
    kind = _content_type(forward.pop("content-type", ""), has_body)
    if kind:
        forward["content-type"] = kind
    return forward


def _content_type(value: str, has_body: bool) -> str:
    """Reduce a Content-Type to its kind, in lower case; "" for none.

    The daemon lets a form body win over the query, so a form is refused; without a body its kind means nothing.
    """
    kind = value.partition(";")[0].strip(" \t").lower()
    if kind and not _KIND.fullmatch(kind):
        raise RequestError("malformed Content-Type")
    if kind == "application/x-www-form-urlencoded" or kind.startswith("multipart/"):
        if has_body:
            raise RequestError(f"Content-Type {kind} is not accepted", 415)
        return ""
    return kind
