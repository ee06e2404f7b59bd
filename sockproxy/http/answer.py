"""Build the answers that sockproxy gives itself, in the form that Docker's clients print well."""

from __future__ import annotations

import json
from http import HTTPStatus

from sockproxy.errors import CallError, Denied, RequestError

RETRY = ("Retry-After", "1")  # seconds; what is short comes free by the second, but for a lock after wrong passwords
MAX_MESSAGE = 4096  # a terminal's page; a message may quote the client

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_REASONS = {status.value: status.phrase for status in HTTPStatus}


def build(
    status: int, headers: list[tuple[str, str]], body: bytes = b"", *, head_only: bool = False, reason: str = ""
) -> bytes:
    """Build a complete answer with its Content-Length.

    Args:
        status: 200 to 599, not 204 or 304 (they have no body to measure).
        headers: in order; names and values clean.
        body: the whole body.
        head_only: the request was a HEAD: tell the body's length, leave it out.
        reason: instead of the standard phrase.

    Raises:
        ValueError: a header would break the line it stands on.
    """
    lines = [f"HTTP/1.1 {status} {reason or _REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines.append(f"Content-Length: {len(body)}")
    if not all(line.isascii() and line.isprintable() for line in lines):
        raise ValueError("unprintable answer header")
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return head if head_only else head + body


def error(status: int, message: str, request_id: str, close: bool, *, head_only: bool = False) -> bytes:
    """Build an error in Docker's form, `{"message": …}`.

    Args:
        status: 400 to 599.
        message: any text; the CLI prints it raw, so what a terminal would obey is escaped.
        request_id: names the call's audit record.
        close: say that the connection ends here.
        head_only: the request was a HEAD.
    """
    body = json.dumps({"message": printable(message[:MAX_MESSAGE])}).encode() + b"\n"
    headers = [("Content-Type", "application/json"), *_ours(request_id, close)]
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append(("WWW-Authenticate", 'Basic realm="sockproxy"'))  # RFC 9110 section 15.5.2
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers.append(RETRY)
    return build(status, headers, body, head_only=head_only)


def refuse(problem: CallError, request_id: str, close: bool, *, head_only: bool = False) -> bytes:
    """Turn what ended a call into its answer: the one place that does.

    A request error keeps the daemon's words, where it has some; all else says that sockproxy speaks, and which rule.
    """
    message = problem.message
    if isinstance(problem, Denied) and problem.at:
        message += f": rule {problem.at}"
    if not isinstance(problem, RequestError):
        message = f"sockproxy: {message} (request {request_id})"
    return error(problem.status, message, request_id, close, head_only=head_only)


def options(request_id: str, close: bool) -> bytes:
    """Build the answer to OPTIONS: 200 and empty on any path, as the engine's."""
    return build(200, _ours(request_id, close))


def printable(text: str) -> str:
    """Escape what is not visible text: control and format characters, line separators, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _ours(request_id: str, close: bool) -> list[tuple[str, str]]:
    headers = [("X-Sockproxy-Request-Id", request_id)]
    return [*headers, ("Connection", "close")] if close else headers
