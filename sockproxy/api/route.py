"""Find the operation that a method and a path name.

The engine routes on the percent-decoded path and takes names with slashes. Here a path is decoded once, must then be
one of the table's, and is never passed on: the helper builds its own from the operation and the variables.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from sockproxy.errors import RequestError
from sockproxy_helpers.api import operations
from sockproxy_helpers.api.operations import Operation

MAX_PATH = 4096  # a reference of 511 characters, each of them encoded, has 1533

# What the table's own words and its names are made of. An empty or a dot segment, which the engine answers with a
# redirect, is not in here; nor is "%", so that a twice encoded path stays unknown.
_PATH = re.compile(rb"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9_.:@-]++)++/?")
_VERSION = re.compile(r"v(0|[1-9][0-9]?)\.(0|[1-9][0-9]{0,2})")


class Match(NamedTuple):
    """Hold what a request asks for.

    Attributes:
        operation: its row.
        version: "v1.41" as the client wrote it; "" without one.
        variables: the path's, each of the grammar `operation.variable`.
    """

    operation: Operation
    version: str
    variables: dict[str, str]


class _Node:
    """Hold what may follow a part of a path, for one method.

    Attributes:
        literals: the next segment's word -> what follows it.
        variable: what follows a segment that is a name.
        references: the last segment -> the operation whose name is all in between; "" where the name takes that too.
        operation: the one whose path ends here.
    """

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.variable: _Node | None = None
        self.references: dict[str, Operation] = {}
        self.operation: Operation | None = None

    def add(self, operation: Operation) -> None:
        node = self
        for index, segment in enumerate(operation.segments):
            if not segment.startswith("{"):
                node = node.literals.setdefault(segment, _Node())
            elif operation.tag in operations.REFERENCE_TAGS:
                suffix = "/".join(operation.segments[index + 1 :])
                node.references[suffix] = operation
                return
            else:
                node.variable = node.variable or _Node()
                node = node.variable
        node.operation = operation

    def find(self, segments: list[str], names: list[str]) -> tuple[Operation, list[str]] | None:
        """Walk down; a word of the table wins over a name, as it is registered first in the engine."""
        if not segments:
            return (self.operation, names) if self.operation else None
        segment, rest = segments[0], segments[1:]
        found = None
        if segment in self.literals:
            found = self.literals[segment].find(rest, names)
        if not found and self.variable:
            found = self.variable.find(rest, [*names, segment])
        if not found and self.references:
            found = self._find_reference(segments)
        return found

    def _find_reference(self, segments: list[str]) -> tuple[Operation, list[str]] | None:
        """Match a name with slashes by what stands behind it."""
        operation = self.references.get(segments[-1]) if len(segments) > 1 else None
        if operation:
            return operation, ["/".join(segments[:-1])]
        operation = self.references.get("")
        return (operation, ["/".join(segments)]) if operation else None


@cache
def _tries() -> dict[str, _Node]:
    """Build the table's tries, one a method: `GET /containers/create` must not shadow the POST."""
    tries: dict[str, _Node] = {}
    for operation in operations.load():
        tries.setdefault(operation.method, _Node()).add(operation)
    return tries


def route(method: str, untrusted_path: bytes) -> Match:
    """Find the operation, or refuse in the daemon's words.

    Args:
        method: case-sensitive.
        untrusted_path: the target before "?", percent-encoded.

    Raises:
        RequestError: 404, no such operation, method or name; 400, a version outside the spoken ones.
    """
    if method == "OPTIONS":
        return Match(_options(), "", {})
    segments = _segments(untrusted_path)
    version = segments.pop(0) if segments and _VERSION.fullmatch(segments[0]) else ""
    trie = _tries().get(method)
    found = trie.find(segments, []) if trie else None
    if not found:
        raise _not_found()
    operation, names = found
    if not all(operation.variable.fullmatch(name) for name in names):
        raise _not_found()
    if version:
        _check_version(version)
    return Match(operation, version, dict(zip(_variables(operation), names, strict=True)))


def _segments(untrusted_path: bytes) -> list[str]:
    """Decode a path once and split it."""
    if len(untrusted_path) > MAX_PATH or b"%2f" in untrusted_path.lower():
        raise _not_found()
    path = unquote_to_bytes(untrusted_path)
    if not _PATH.fullmatch(path):
        raise _not_found()
    return path.decode("ascii").split("/")[1:]


def _check_version(version: str) -> None:
    """Refuse in the daemon's words a version that is not spoken."""
    number = version[1:]
    major, minor = number.split(".")
    if (int(major), int(minor)) < operations.OLDEST:
        raise RequestError(
            f"client version {number} is too old. Minimum supported API version is {_dotted(operations.OLDEST)},"
            " please upgrade your client to a newer version"
        )
    if (int(major), int(minor)) > operations.NEWEST:
        newest = _dotted(operations.NEWEST)
        raise RequestError(f"client version {number} is too new. Maximum supported API version is {newest}")


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _variables(operation: Operation) -> list[str]:
    return [segment[1:-1] for segment in operation.segments if segment.startswith("{")]


@cache
def _options() -> Operation:
    return next(operation for operation in operations.load() if operation.method == "OPTIONS")


def _not_found() -> RequestError:
    return RequestError("page not found", 404)
