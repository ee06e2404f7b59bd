"""Read a configuration file as a tree of texts, each knowing where it stands.

YAML has surprises for people who write policy: `no` is false, `22:22` is 1342, the second of two equal keys wins, an
alias grows without end. So PyYAML only splits the file here: its events become a tree in which every scalar is still
text, and the schema, which knows what belongs there, turns it into a value. What YAML has beyond maps, lists and
scalars is refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from sockproxy.errors import ConfigError

LARGEST = 1 << 20  # 30,000 bindings, three seconds; a larger file is a mistake
DEEPEST = 8  # roles, role, binds, item, path: five
NULLS = ("null", "~")


@dataclass(frozen=True, slots=True)
class Node:
    """Hold a part of the file and its place: file as the user named it, line and column counted from 1."""

    file: str
    line: int
    column: int

    @property
    def at(self) -> str:
        """The place in the form of the compiled policy and of refusals."""
        return f"{self.file}:{self.line}"

    @property
    def what(self) -> str:
        """Name the node in a message."""
        raise NotImplementedError

    @property
    def is_null(self) -> bool:
        """Tell whether it is the word null; a value that is left out is not."""
        return False

    def error(self, what: str, expected: str) -> ConfigError:
        """Make an error that points here."""
        return ConfigError(self.file, self.line, self.column, what, expected)


@dataclass(frozen=True, slots=True)
class Scalar(Node):
    """Hold a text. `plain`: written without quotes."""

    text: str
    plain: bool

    @property
    def what(self) -> str:
        if self.plain and not self.text:
            return "nothing"
        shown = self.text if len(self.text) <= 64 else self.text[:61] + "..."
        return f"`{shown}`" if self.plain else f'"{shown}"'

    @property
    def is_null(self) -> bool:
        return self.plain and self.text in NULLS


@dataclass(frozen=True, slots=True)
class Sequence(Node):
    """Hold a list."""

    items: list[Node]

    @property
    def what(self) -> str:
        return "a list"


@dataclass(frozen=True, slots=True)
class Mapping(Node):
    """Hold a map, in the order of the file."""

    entries: dict[str, tuple[Scalar, Node]]

    @property
    def what(self) -> str:
        return "a map"

    def only(self, known: Iterable[str]) -> None:
        """Refuse keys outside `known`, with the nearest that is in it.

        Raises:
            ConfigError: at the first such key.
        """
        known = list(known)
        for text, (key, _) in self.entries.items():
            if text not in known:
                raise key.error(f"unknown key {key.what}{did_you_mean(text, known)}", one_of(known))

    def get(self, key: str) -> Node | None:
        """Give the value of a key, None when it is not there."""
        return self.entries[key][1] if key in self.entries else None


def as_mapping(node: Node, expected: str) -> Mapping:
    """Take a node as a map.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(node, Mapping):
        raise node.error(node.what, expected)
    return node


def as_items(node: Node, expected: str) -> list[Node]:
    """Take a node as a list.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(node, Sequence):
        raise node.error(node.what, expected)
    return node.items


def as_text(node: Node, expected: str) -> str:
    """Take a node as a text that is not empty.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(node, Scalar) or not node.text or node.is_null:
        raise node.error(node.what, expected)
    return node.text


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Suggest the nearest word, in the form of an ending to a message; "" when nothing is near."""
    near = difflib.get_close_matches(text, known, n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def one_of(words: Iterable[str]) -> str:
    """List words for "expected ..."."""
    return "one of " + ", ".join(words)


def read(file: str) -> bytes:
    """Read a configuration file.

    Raises:
        ConfigError: it can't be read.
    """
    try:
        with open(file, "rb") as stream:
            return stream.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(file, 0, 0, why, "a file that can be read") from error


def parse(untrusted_text: bytes, file: str) -> Node | None:
    """Parse a configuration file.

    Args:
        untrusted_text: its bytes.
        file: its name for messages.

    Returns:
        The tree; None for a file with nothing but comments.

    Raises:
        ConfigError: too large, not UTF-8, not YAML, or more of YAML than maps, lists and scalars.
    """
    if len(untrusted_text) > LARGEST:
        raise ConfigError(file, 0, 0, "the file is too large", f"at most {LARGEST} bytes")
    try:
        text = untrusted_text.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _place(untrusted_text[: error.start].decode("utf-8"))
        raise ConfigError(file, line, column, "bytes that are not UTF-8", "UTF-8") from error
    return _Builder(file, text).document()


def _place(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - before.rfind("\n")


class _Builder:
    """Build the tree from PyYAML's events, which come as they are read: the depth is known before it is reached."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._events = self._read(text)

    def _read(self, text: str) -> Iterator[yaml.Event]:
        """Yield events; whatever PyYAML raises becomes a ConfigError."""
        mark: Any = None
        try:
            for event in yaml.parse(text, Loader=yaml.SafeLoader):
                mark = event.end_mark
                yield event
        except yaml.reader.ReaderError as error:
            line, column = _place(text[: error.position])
            what = f"the character U+{ord(text[error.position]):04X}"
            raise ConfigError(self._file, line, column, what, "printable text") from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark or mark
            raise self._error(mark, ", ".join(filter(None, (error.problem, error.context))), "YAML") from error
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
            # "\UFFFFFFFF", or a version directive of 5000 digits: PyYAML gives them to chr() and int().
            raise self._error(mark, f"something unreadable after this: {error}"[:200], "YAML") from error

    def _error(self, mark: Any, what: str, expected: str) -> ConfigError:
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return ConfigError(self._file, line, column, what, expected)

    def document(self) -> Node | None:
        """Build the one document."""
        next(self._events)  # the start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        if isinstance(event, yaml.DocumentStartEvent) and (event.version or event.tags):
            self._refuse(event, "a directive")
        node = self._node(next(self._events), 0)
        next(self._events)  # the end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._refuse(event, "a second document")
        return None if isinstance(node, Scalar) and node.plain and not node.text else node

    def _node(self, event: yaml.Event, depth: int) -> Node:
        mark: Any = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, "an alias")
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self._refuse(event, "an anchor")
        if getattr(event, "tag", None) is not None:
            self._refuse(event, "a tag")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, line, column)
        if depth == DEEPEST:
            raise self._error(mark, "nested too deep", f"at most {DEEPEST} levels")
        if isinstance(event, yaml.SequenceStartEvent):
            items = list(self._children(yaml.SequenceEndEvent, depth))
            return Sequence(self._file, line, column, items)
        return Mapping(self._file, line, column, self._entries(depth))

    def _scalar(self, event: yaml.ScalarEvent, line: int, column: int) -> Scalar:
        node = Scalar(self._file, line, column, event.value, event.style is None)
        if not event.value.isprintable():  # also a lone surrogate, which no output takes
            raise node.error("a control character or line break inside a text", "printable text on one line")
        return node

    def _children(self, end: type[yaml.Event], depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), end):
            yield self._node(event, depth + 1)

    def _entries(self, depth: int) -> dict[str, tuple[Scalar, Node]]:
        entries: dict[str, tuple[Scalar, Node]] = {}
        children = self._children(yaml.MappingEndEvent, depth)
        for key in children:
            if not isinstance(key, Scalar):
                raise key.error(f"{key.what} as a key", "a word as key")
            if not key.text or (key.plain and _resolves(key.text)):
                raise key.error(f"{key.what} as a key", "a word as key (in quotes, if it is meant as a word)")
            if key.text in entries:
                first = entries[key.text][0].line
                raise key.error(f"{key.what} for the second time", f"one key {key.text}, as in line {first}")
            entries[key.text] = (key, next(children))
        return entries

    def _refuse(self, event: yaml.Event, what: str) -> NoReturn:
        raise self._error(event.start_mark, what, "maps, lists and scalars only")


_RESOLVER: Any = yaml.resolver.Resolver()


def _resolves(text: str) -> bool:
    """Tell whether a YAML reader would take a plain word for something else than text."""
    return str(_RESOLVER.resolve(yaml.ScalarNode, text, (True, False))) != "tag:yaml.org,2002:str"
