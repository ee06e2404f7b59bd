"""Know the calls that may pass: tables/methods.txt."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote

from sockproxy.buildkit.schema import rows
from sockproxy.buildkit.stream import Headers
from sockproxy_helpers.errors import Malformed, NotFound, Refused, Unavailable

BUILD_ID = "buildkit-controlapi-buildid"  # names the build that a frontend's call belongs to (BuildKit client/buildid)
_TIMEOUT = re.compile(r"[0-9]{1,8}[HMSmun]")
_DETAILS = "grpc-status-details-bin"
_MESSAGE = 8192  # characters of an error
Fault = Refused | Malformed | NotFound | Unavailable
FAULTS = (Refused, Malformed, NotFound, Unavailable)


class Method(NamedTuple):
    """Hold one row."""

    path: str
    request: str
    answer: str
    many: bool
    needs: str
    treat: str


def load() -> dict[str, Method]:
    """Read the table, by path."""
    table = {}
    for path, request, answer, needs, treat in rows("methods"):
        kind = answer.removeprefix("stream:")
        table["/" + path] = Method("/" + path, request, kind, kind != answer, needs, treat)
    return table


def request_head(method: Method, untrusted_head: Headers) -> tuple[Headers, str]:
    """Check a client's head, and form the daemon's.

    Returns:
        The head, and the build that the call names ("" for none), to be put in by the caller.

    Raises:
        Malformed: not a gRPC call.
    """
    fields = dict(untrusted_head)
    if len(fields) != len(untrusted_head):
        raise Malformed("a header field for the second time")
    if fields.get(":method") != "POST" or not fields.get("content-type", "").startswith("application/grpc"):
        raise Malformed("not a gRPC call")
    if fields.get("grpc-encoding", "identity") != "identity":
        raise Malformed("compressed calls are not served (allowed: identity)")
    head = [(":method", "POST"), (":scheme", "http"), (":path", method.path), (":authority", "localhost")]
    head += [("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "sockproxy")]
    timeout = fields.get("grpc-timeout")
    if timeout is not None:
        if not _TIMEOUT.fullmatch(timeout):
            raise Malformed("a malformed grpc-timeout")
        head.append(("grpc-timeout", timeout))
    return head, fields.get(BUILD_ID, "")


ANSWER_HEAD = [(":status", "200"), ("content-type", "application/grpc")]


def trailers(fault: Fault | None, request_id: str) -> Headers:
    """Form the end of a call of our own making; without a fault, of one that went well."""
    if fault is None:
        return [("grpc-status", "0")]
    codes = {403: "7", 400: "3", 404: "5"}  # PERMISSION_DENIED, INVALID_ARGUMENT, NOT_FOUND; else UNAVAILABLE
    at = f": rule {fault.at}" if isinstance(fault, Refused) and fault.at else ""
    text = f"sockproxy: {fault}"[:_MESSAGE] + f"{at} (request {request_id})"
    return [
        ("grpc-status", codes.get(fault.status, "14")),
        ("grpc-message", quote(text, safe=" !#$&'()*+,/:;=?@[]{}<>|\"\\^`")),
    ]


def pass_trailers(daemons: Headers) -> Headers:
    """Pass how a call ended at the daemon: the status, its text and the details that clients print."""
    return [(name, value) for name, value in daemons if name in ("grpc-status", "grpc-message", _DETAILS)]
