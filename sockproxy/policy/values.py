"""Read the values of rules: each parser takes a node of the document and returns what the rule means by it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from sockproxy.policy.document import Node, Scalar, as_items, as_mapping, as_text, did_you_mean, one_of

Value = bool | int | float | str | None | list["Value"] | dict[str, "Value"]
Form = dict[str, object]


@dataclass(frozen=True, slots=True)
class Parser:
    """Read a node, or raise ConfigError.

    Attributes:
        form: JSON Schema of what is read, as far as that can tell.
    """

    read: Callable[[Node], Value]
    form: Form

    def __call__(self, node: Node) -> Value:
        """Read a node."""
        return self.read(node)


def whole(pattern: re.Pattern[str] | str) -> str:
    """Write a pattern that all of a text has to match as JSON Schema does."""
    return f"^({pattern if isinstance(pattern, str) else pattern.pattern})$"


# capabilities(7) as of Linux 6.18. A newer one is unknown to this version, so nobody has considered what it opens.
CAPABILITIES = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
]
# As the daemon knows them (moby, github.com/docker/go-units).
ULIMITS: tuple[str, ...] = (
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
)
ULIMITS += ("rttime", "sigpending", "stack")
NAMESPACES = ("network", "pid", "ipc", "uts", "cgroup", "user")
ALL = "ALL"
LONGEST = 256  # items of a list in a role: more is a program's mistake, and each role that extends it has them again

_SIZE = re.compile(r"([0-9]{1,15})([kmgt]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}  # as `docker run --memory` reads them
RUNTIME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
SYSCTL = re.compile(r"[a-z0-9_-]+(\.[a-zA-Z0-9_-]+)*\.?")
# A registry is named whole: "registry.example*" would be anybody's registry.example.org, too.
IMAGE = re.compile(r"(?:localhost|[a-z0-9-]*[.:][a-z0-9.:-]*)/[a-zA-Z0-9_.:/@*-]{1,400}|ALL")
_PATH = re.compile(r"/|(/[^/\x00-\x1f]+)+")


def words_of(key: str, value: Value) -> str:
    """Write a map's entry for people."""
    if value is None:
        return "unlimited"
    if key == "min" and value == 65536:
        return "65536 (none)"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if key not in ("memory", "logs", "disk", "output") or not isinstance(value, int):
        return str(value)
    letter = next(unit for unit in "tgmk" if (value and value % _UNITS[unit] == 0) or unit == "k")
    return f"{value / _UNITS[letter]:g}{letter}"


def _flag(node: Node) -> bool:
    """Read true or false; YAML's other words for them are refused, since people disagree about them."""
    if not isinstance(node, Scalar) or not node.plain or node.text not in ("true", "false"):
        raise node.error(node.what, "true or false")
    return node.text == "true"


flag = Parser(_flag, {"type": "boolean"})


def integer(low: int, high: int) -> Parser:
    """Make a parser of a whole number within bounds."""

    def parse(node: Node) -> int:
        if (
            not isinstance(node, Scalar)
            or not re.fullmatch(r"[0-9]{1,15}", node.text)
            or not low <= int(node.text) <= high
        ):
            raise node.error(node.what, f"a whole number from {low} to {high}")
        return int(node.text)

    return Parser(parse, {"type": "integer", "minimum": low, "maximum": high})


def number(low: float, high: int) -> Parser:
    """Make a parser of a number with at most three decimals within bounds."""

    def parse(node: Node) -> float:
        if (
            not isinstance(node, Scalar)
            or not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", node.text)
            or not low <= float(node.text) <= high
        ):
            raise node.error(node.what, f"a number from {low} to {high}")
        return float(node.text) if "." in node.text else int(node.text)

    return Parser(parse, {"type": "number", "minimum": low, "maximum": high})


def size(low: int) -> Parser:
    """Make a parser of a size in bytes: digits and k, m, g or t (powers of 1024)."""

    def parse(node: Node) -> int:
        match = _SIZE.fullmatch(node.text) if isinstance(node, Scalar) else None
        value = int(match[1]) * _UNITS[match[2].lower()] if match else 0
        if not match or not low <= value < 1 << 63:
            raise node.error(node.what, f"a size such as 512m or 8g, at least {words_of('memory', low)}")
        return value

    text = {"type": "string", "pattern": "^[0-9]{1,15}[kKmMgGtT]?[bB]?$"}
    return Parser(parse, {"anyOf": [{"type": "integer", "minimum": low}, text]})


def unlimited(parse: Parser) -> Parser:
    """Let null mean that there is no limit."""
    return Parser(lambda node: None if node.is_null else parse(node), {"anyOf": [parse.form, {"type": "null"}]})


def words(known: tuple[str, ...] | list[str] | re.Pattern[str], what: str) -> Parser:
    """Make a parser of a list of words, each one of `known` or in the form of it, none twice."""

    def parse(node: Node) -> Value:
        found: dict[str, Node] = {}
        for item in _items(node, f"a list of {what}"):
            text = as_text(item, what)
            if isinstance(known, re.Pattern):
                if not known.fullmatch(text):
                    raise item.error(item.what, what)
            elif text not in known:
                raise item.error(f"unknown {item.what}{did_you_mean(text, known)}", one_of(known))
            if text in found:
                raise item.error(f"{item.what} for the second time", f"each once, as in line {found[text].line}")
            found[text] = item
        return list(found)

    item: Form = {"type": "string", "pattern": whole(known)} if isinstance(known, re.Pattern) else {"enum": [*known]}
    return Parser(parse, {"type": "array", "items": item, "uniqueItems": True, "maxItems": LONGEST})


def word(known: tuple[str, ...]) -> Parser:
    """Make a parser of one of these words."""

    def parse(node: Node) -> Value:
        text = as_text(node, one_of(known))
        if text not in known:
            raise node.error(f"unknown {node.what}{did_you_mean(text, known)}", one_of(known))
        return text

    return Parser(parse, {"enum": [*known]})


def _items(node: Node, expected: str) -> list[Node]:
    items = as_items(node, expected)
    if len(items) > LONGEST:
        raise node.error(f"{len(items)} items", f"at most {LONGEST}")
    return items


_names = words([*CAPABILITIES, ALL], "capabilities, without CAP_")


def _capabilities(node: Node) -> Value:
    """Read names of capabilities, in one spelling only: capitals, without CAP_."""
    found = _names(node)
    if isinstance(found, list) and ALL in found and len(found) > 1:
        raise node.error("ALL among others", "ALL alone, or names")
    return found


_alone = {"const": [ALL]}
capabilities = Parser(_capabilities, {"anyOf": [_alone, {**_names.form, "items": {"enum": CAPABILITIES}}]})


def _usual(pattern: str, what: str, read: Callable[[str], object], one: str) -> Parser:
    """Make a parser of a list of what `read` reads, each in its usual spelling; ALL stands for any."""
    written = words(re.compile(f"{ALL}|{pattern}"), f"{what}, or ALL")

    def parse(node: Node) -> Value:
        found = written(node)
        for item in as_items(node, ""):
            try:
                usual = item.text == ALL or str(read(item.text)) == item.text  # type: ignore[attr-defined]
            except ValueError:
                usual = False
            if not usual:
                raise item.error(item.what, f"{one} as it is usually written, or ALL")
        return found

    return Parser(parse, written.form)


addresses = _usual("[0-9a-f.:]{2,39}", "addresses of the host", ipaddress.ip_address, "an address")
subnets = _usual("[0-9a-f.:]{2,39}/[0-9]{1,3}", "ranges (172.28.0.0/16)", ipaddress.ip_network, "a range")


def entries(parsers: dict[str, Parser], every: bool = False) -> Parser:
    """Make a parser of a map with these keys, all of them if `every`."""

    def parse(node: Node) -> Value:
        mapping = as_mapping(node, f"a map with {', '.join(parsers)}")
        mapping.only(parsers)
        for key in parsers if every else ():
            if key not in mapping.entries:
                raise mapping.error(f"no {key}", f"a map with {', '.join(parsers)}")
        return {text: parsers[text](value) for text, (_, value) in mapping.entries.items()}

    return Parser(parse, closed({key: parser.form for key, parser in parsers.items()}, list(parsers) if every else []))


def closed(properties: dict[str, Form], required: list[str]) -> Form:
    """Form the JSON Schema of a map that has no other keys."""
    form: Form = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**form, "required": required} if required else form


def _bind_path(node: Node) -> Value:
    text = as_text(node, '"{home}" or an absolute path')
    if text != "{home}" and (not _PATH.fullmatch(text) or not {".", ".."}.isdisjoint(text.split("/"))):
        raise node.error(node.what, '"{home}", or an absolute path without "." or ".." and without a slash at its end')
    return text


_no_dots = {"not": {"pattern": "(^|/)[.][.]?(/|$)"}}
_path = Parser(_bind_path, {"type": "string", "pattern": whole(r"[{]home[}]|" + _PATH.pattern), **_no_dots})
_bind = entries({"path": _path, "mode": word(("ro", "rw"))}, every=True)


def _binds(node: Node) -> Value:
    """Read places on the host: {path: "{home}" or absolute, mode: ro or rw}."""
    return [_bind(item) for item in _items(node, 'a list of {path: "{home}" or absolute, mode: ro or rw}')]


binds = Parser(_binds, {"type": "array", "items": _bind.form, "maxItems": LONGEST})
