"""Say what a role may set: one row a rule.

A row gives the rule's name in the file, how its value is read, what holds where no role says anything (the strictest),
and a sentence for people. The helpers' rule functions go by the same names; what each does to a request is theirs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sockproxy.policy.document import Node, Scalar, as_items, as_mapping, as_text, did_you_mean, one_of

Value = bool | int | float | str | None | list["Value"] | dict[str, "Value"]
Parser = Callable[[Node], Value]

# capabilities(7) as of Linux 6.18. A newer one is unknown to this version, so nobody has considered what it opens.
CAPABILITIES = [
    "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
    "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
    "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST",
    "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT",
    "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG",
    "WAKE_ALARM",
]  # fmt: skip
NAMESPACES = ("network", "pid", "ipc", "uts", "cgroup", "user")
ALL = "ALL"
LONGEST = 256  # items of a list in a role: more is a program's mistake, and each role that extends it has them again

_SIZE = re.compile(r"([0-9]{1,15})([kmgt]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}  # as `docker run --memory` reads them
_RUNTIME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_SYSCTL = re.compile(r"[a-z0-9_-]+(\.[a-zA-Z0-9_-]+)*\.?")
_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9_.:/@*-]{0,511}|ALL")
_PATH = re.compile(r"/|(/[^/\x00-\x1f]+)+")


@dataclass(frozen=True, slots=True)
class Rule:
    """Hold one row.

    Attributes:
        parse: turns the node into a value, or raises ConfigError. For a map: the keys that are given.
        default: holds in a role that neither sets nor inherits the rule; the strictest value.
        sentence: ends "may ...", or for a flag's default "may not ..."; {} is a list, a map's entries go by their keys.
    """

    name: str
    parse: Parser
    default: Value
    sentence: str

    def combine(self, inherited: Value, given: Value) -> Value:
        """Put a role's own value over the inherited one: a map key by key, everything else as a whole."""
        if isinstance(inherited, dict) and isinstance(given, dict):
            return {**inherited, **given}
        return given

    def describe(self, value: Value) -> str:
        """Tell people what a value means."""
        if isinstance(value, bool):
            return f"may{' not' if value == self.default else ''} {self.sentence}"
        if isinstance(value, dict):
            return "may " + self.sentence.format(**{key: _words(key, item) for key, item in value.items()})
        return "may " + self.sentence.format(
            ", ".join(map(_item, value)) if isinstance(value, list) and value else "none"
        )


def _item(value: Value) -> str:
    return "{path} ({mode})".format(**value) if isinstance(value, dict) else str(value)


def _words(key: str, value: Value) -> str:
    if value is None:
        return "unlimited"
    if key == "min" and value == 65536:
        return "65536 (none)"
    if key != "memory" or not isinstance(value, int):
        return str(value)
    letter = next(unit for unit in "tgmk" if value % _UNITS[unit] == 0 or unit == "k")
    return f"{value / _UNITS[letter]:g}{letter}"


def flag(node: Node) -> bool:
    """Read true or false; YAML's other words for them are refused, since people disagree about them."""
    if not isinstance(node, Scalar) or not node.plain or node.text not in ("true", "false"):
        raise node.error(node.what, "true or false")
    return node.text == "true"


def integer(low: int, high: int) -> Callable[[Node], int]:
    """Make a parser of a whole number within bounds."""

    def parse(node: Node) -> int:
        if (
            not isinstance(node, Scalar)
            or not re.fullmatch(r"[0-9]{1,15}", node.text)
            or not low <= int(node.text) <= high
        ):
            raise node.error(node.what, f"a whole number from {low} to {high}")
        return int(node.text)

    return parse


def number(low: float, high: int) -> Callable[[Node], float]:
    """Make a parser of a number with at most three decimals within bounds."""

    def parse(node: Node) -> float:
        if (
            not isinstance(node, Scalar)
            or not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", node.text)
            or not low <= float(node.text) <= high
        ):
            raise node.error(node.what, f"a number from {low} to {high}")
        return float(node.text) if "." in node.text else int(node.text)

    return parse


def size(low: int) -> Callable[[Node], int]:
    """Make a parser of a size in bytes: digits and k, m, g or t (powers of 1024)."""

    def parse(node: Node) -> int:
        match = _SIZE.fullmatch(node.text) if isinstance(node, Scalar) else None
        value = int(match[1]) * _UNITS[match[2].lower()] if match else 0
        if not low <= value < 1 << 63:
            raise node.error(node.what, f"a size such as 512m or 8g, at least {_words('memory', low)}")
        return value

    return parse


def unlimited(parse: Parser) -> Parser:
    """Let null mean that there is no limit."""
    return lambda node: None if node.is_null else parse(node)


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

    return parse


def _items(node: Node, expected: str) -> list[Node]:
    items = as_items(node, expected)
    if len(items) > LONGEST:
        raise node.error(f"{len(items)} items", f"at most {LONGEST}")
    return items


def capabilities(node: Node) -> Value:
    """Read names of capabilities, in one spelling only: capitals, without CAP_."""
    found = words([*CAPABILITIES, ALL], "capabilities, without CAP_")(node)
    if isinstance(found, list) and ALL in found and len(found) > 1:
        raise node.error("ALL among others", "ALL alone, or names")
    return found


def binds(node: Node) -> Value:
    """Read places on the host: {path: "{home}" or absolute, mode: ro or rw}."""
    bind = entries({"path": _bind_path, "mode": _bind_mode}, every=True)
    return [bind(item) for item in _items(node, 'a list of {path: "{home}" or absolute, mode: ro or rw}')]


def _bind_path(node: Node) -> Value:
    text = as_text(node, '"{home}" or an absolute path')
    if text != "{home}" and (not _PATH.fullmatch(text) or not {".", ".."}.isdisjoint(text.split("/"))):
        raise node.error(node.what, '"{home}", or an absolute path without "." or ".." and without a slash at its end')
    return text


def _bind_mode(node: Node) -> Value:
    if not isinstance(node, Scalar) or node.text not in ("ro", "rw"):
        raise node.error(node.what, "ro or rw")
    return node.text


def entries(parsers: dict[str, Parser], every: bool = False) -> Parser:
    """Make a parser of a map with these keys, all of them if `every`."""

    def parse(node: Node) -> Value:
        mapping = as_mapping(node, f"a map with {', '.join(parsers)}")
        mapping.only(parsers)
        for key in parsers if every else ():
            if key not in mapping.entries:
                raise mapping.error(f"no {key}", f"a map with {', '.join(parsers)}")
        return {text: parsers[text](value) for text, (_, value) in mapping.entries.items()}

    return parse


# The least that the daemon takes: 6 MiB since engine 20.10 (4 before), a hundredth of a CPU.
LEAST_MEMORY, LEAST_CPUS = 6 << 20, 0.01

_limits = entries(
    {
        "memory": unlimited(size(LEAST_MEMORY)),
        "cpus": unlimited(number(LEAST_CPUS, 65536)),
        "pids": unlimited(integer(1, 1 << 22)),  # PID_MAX_LIMIT of the kernel
        "containers": unlimited(integer(0, 1_000_000)),
    }
)

RULES = {
    rule.name: rule
    for rule in (
        Rule("binds", binds, [], "bind these places on the host: {}"),
        Rule("privileged", flag, False, "run privileged containers and execs"),
        Rule("capabilities", capabilities, [], "have these capabilities in a container: {}"),
        Rule("host_namespaces", words(NAMESPACES, "namespaces"), [], "share these namespaces with the host: {}"),
        Rule("devices", flag, False, "give host devices to a container"),
        Rule("security_options", flag, False, "loosen a container's confinement (profiles, labels, masked paths)"),
        Rule(
            "no_new_privileges",
            flag,
            True,
            "run containers whose processes gain privileges (su, sudo, setuid programs)",
        ),
        Rule(
            "driver_options", flag, False, "set options of volume and network drivers, and choose log and other drivers"
        ),
        Rule("runtimes", words(_RUNTIME, "names of runtimes, or ALL"), [], "name these runtimes: {}"),
        Rule("cgroup_parent", flag, False, "choose the parent cgroup of a container"),
        Rule(
            "sysctls",
            words(_SYSCTL, "sysctls, or prefixes ending in a dot"),
            [],
            "set these sysctls in a container: {}",
        ),
        Rule(
            "limits",
            _limits,
            {"memory": LEAST_MEMORY, "cpus": LEAST_CPUS, "pids": 1, "containers": 0},
            "use up to {memory} memory, {cpus} cpus and {pids} pids a container, and have {containers} containers",
        ),
        Rule("ports", entries({"min": integer(1, 65536)}), {"min": 65536}, "publish host ports from {min} upwards"),
        Rule(
            "base_images",
            words(_IMAGE, 'images with their registry ("docker.io/library/*"), or ALL'),
            [],
            "build from these images: {}",
        ),
        Rule("fetch", flag, False, "let the daemon fetch URLs (builds and imports from the network)"),
        Rule("default_bridge", flag, False, "put containers on the bridge that all share"),
        Rule("sees_all", flag, False, "see and use other people's containers, volumes and networks"),
        Rule(
            "unmodelled",
            flag,
            False,
            "use operations whose bodies are passed on unchecked (swarm, plugins, checkpoints)",
        ),
        Rule(
            "via",
            words(("peer", "container", "password", "token"), "ways to be known"),
            ["peer"],
            "be held by who is known by: {}",
        ),
    )
}
