"""The Engine API as data: one operation a row of `tables/operations.txt`.

Both sides read this table: the front to route a path to an operation, each helper to build the request line again from
the operation's name and its variables, so that no byte of the client's target reaches the daemon.
"""

from __future__ import annotations

import re

TABLES = __file__.rpartition("/")[0] + "/tables"
OLDEST, NEWEST = (1, 24), (1, 55)

# The Engine's own name grammar (moby daemon/names); an ID is a name too. A reference adds registry, path, tag, digest.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
_PART = r"[a-zA-Z0-9][a-zA-Z0-9_.:@-]*"  # never "", "." or "..": the engine answers those with a redirection
REFERENCE = re.compile(rf"(?=.{{1,511}}\Z){_PART}(?:/{_PART})*")
REFERENCE_TAGS = ("Image", "Distribution", "Plugin")
WAITS = ("ContainerWait",)  # the only POST that changes nothing

# RFC 3986 section 2.3 (unreserved), and what an image reference needs raw in a path: the engine decodes either.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_QUOTED = {byte: chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in range(256)}


class Operation:
    """Hold one row of the table.

    Invariant: `segments` is the path split at "/", a variable written "{name}"; for `REFERENCE_TAGS` a variable may
    hold slashes.
    """

    __slots__ = ("method", "name", "path", "request", "response", "scope", "segments", "since", "tag")

    def __init__(
        self, name: str, method: str, path: str, tag: str, scope: str, request: str, response: str, since: str
    ) -> None:
        self.name, self.method, self.path, self.tag = name, method, path, tag
        self.scope, self.request, self.response, self.since = scope, request, response, since
        self.segments = path.split("/")[1:]

    @property
    def acts(self) -> bool:
        """Whether it changes something or opens a stream into a container: its intent is on the disk before it."""
        return (self.method not in ("GET", "HEAD") and self.name not in WAITS) or self.response == "hijack"

    @property
    def variable(self) -> re.Pattern[str]:
        """The grammar of a variable in this operation's path."""
        return REFERENCE if self.tag in REFERENCE_TAGS else NAME

    def target(self, version: str, variables: dict[str, str], query: list[tuple[str, str]]) -> str:
        """Build the request target, canonically encoded.

        Args:
            version: "v1.41", or "" for a path without a version.
            variables: a value for each variable of the path, each matching `variable`.
            query: pairs, in the order to send.

        Raises:
            ValueError: a variable is missing, left over or outside its grammar.
        """
        path = "/" + version if version else ""
        left = dict(variables)
        for segment in self.segments:
            if segment.startswith("{"):
                value = left.pop(segment[1:-1], "")
                if not self.variable.fullmatch(value):
                    raise ValueError(f"{segment} is not a valid name")
                segment = "/".join(quote(part, ":@") for part in value.split("/"))
            path += "/" + segment
        if left:
            raise ValueError(f"{self.name} has no {min(left)}")
        if query:
            path += "?" + "&".join(quote(key) + "=" + quote(value) for key, value in query)
        return path


def quote(text: str, safe: str = "") -> str:
    """Percent-encode text as UTF-8, leaving unreserved characters and `safe` as they are (RFC 3986 section 2.1)."""
    return "".join(chr(byte) if chr(byte) in safe else _QUOTED[byte] for byte in text.encode())


def read_table(name: str, columns: int) -> list[list[str]]:
    """Read a table file: white space between columns, the last column takes the rest, `#` starts a comment line.

    Raises:
        ValueError: a row has too few columns.
    """
    rows = []
    with open(f"{TABLES}/{name}.txt", encoding="ascii") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and not line.startswith("#"):
                row = line.split(None, columns - 1)
                if len(row) != columns:
                    raise ValueError(f"{name}.txt:{number}: {len(row)} columns, expected {columns}")
                rows.append([cell.strip() for cell in row])
    return rows


def load() -> list[Operation]:
    """Read the table of operations, in its order.

    An operation with two paths has two rows; the first is the one that is sent to the daemon.
    """
    return [Operation(*row) for row in read_table("operations", 8)]
