"""Say what body an operation may have, and how much of it is read here."""

from __future__ import annotations

from sockproxy.errors import RequestError
from sockproxy.http import body
from sockproxy.http.head import Head
from sockproxy_helpers.api import strict
from sockproxy_helpers.api.operations import Operation
from sockproxy_helpers.errors import Malformed

NO_BODY = (b"", b"{}", b"null")  # what clients send where no body belongs, and the engine ignores
NO_BODY_LIMIT = 1024


def reader(head: Head, operation: Operation) -> body.Body | None:
    """Return the reader for a request's body; None where there is none, or an upload that the helper passes on.

    Raises:
        RequestError: a body of another type, or too large.
    """
    if head.body == "none" or operation.request in ("raw", "tar"):
        return None
    if operation.request == "json":
        if head.forward.get("content-type") != "application/json":
            raise RequestError("the Content-Type of a body must be application/json")
        return body.reader(head)
    return body.reader(head, NO_BODY_LIMIT)


def accept(operation: Operation, content: bytes, query: list[tuple[str, str]]) -> bytes:
    """Take a body that was read whole.

    Args:
        query: of the same request.

    Returns:
        What of it is handed over.

    Raises:
        RequestError: the operation takes none.
    """
    if operation.request == "none" and content.strip() not in NO_BODY and not _echoes(content, query):
        raise RequestError(f"{operation.name} takes no body")
    return content if operation.request == "json" else b""


def _echoes(content: bytes, query: list[tuple[str, str]]) -> bool:
    """Tell whether a body has nothing but what the query has, too: dockerode says it twice."""
    try:
        said = strict.parse(content)
    except Malformed:
        return False
    return isinstance(said, dict) and said.keys() <= {key for key, _ in query}
