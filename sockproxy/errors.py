"""Errors whose type says whose fault it is.

Rules: each ends at most one call. `http.answer` alone turns one into bytes for the client. What is caught as
`CallError` is refused, so a new kind that nobody thought of is refused too.
"""

from __future__ import annotations


class CallError(Exception):
    """End a call with an answer.

    Attributes:
        status: the HTTP status of the answer.
        message: the words for the client, without file contents or other users' names.
    """

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestError(CallError):
    """Blame the client: its bytes are no request that sockproxy reads.

    Args:
        message: what is wrong; the daemon's own words where it refuses the same.
        status: 400, or 404, 413, 415, 417, 431, 501, 505 where HTTP has a closer word.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Unacceptable(CallError):
    """Blame the client's request, in sockproxy's own words: the engine might have taken it."""

    status = 400


class Denied(CallError):
    """Refuse a well-formed request that the policy does not allow.

    Args:
        message: who may not do what, "carol (viewer) may not ContainerCreate".
        at: the rule that refuses, "roles.yaml:31"; "" where none is written down.
    """

    status = 403

    def __init__(self, message: str, at: str = "") -> None:
        super().__init__(message)
        self.at = at


class Crowded(Denied):
    """Refuse what would take more of sockproxy, at once or in a time, than the caller's share."""

    status = 429


class LoginFailed(CallError):
    """Refuse what a client presents to be known by.

    Args:
        message: the same for all reasons that would tell which accounts there are.
        status: 401; 403, 429 or 503 where HTTP has a closer word.
        reason: the true one, for the record alone.
    """

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class HelperGone(CallError):
    """Report that a helper, or the daemon behind it, is not there or left during the call.

    Args:
        sent: the client has got part of an answer: no other can follow.
    """

    status = 502

    def __init__(self, message: str, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class AuditGone(CallError):
    """Report that the record can't be written: nothing is done unrecorded."""

    status = 503


class ConfigError(Exception):
    """Point at what is wrong in a configuration file.

    Args:
        file: the file, as the user named it.
        line: counted from 1; 0 for the file as a whole.
        column: counted from 1.
        what: what is there.
        expected: what belongs there.
    """

    def __init__(self, file: str, line: int, column: int, what: str, expected: str = "") -> None:
        self.file, self.line, self.column, self.what, self.expected = file, line, column, what, expected
        place = f"{file}:{line}:{column}" if line else file
        super().__init__(f"{place}: {what}" + (f", expected {expected}" if expected else ""))
