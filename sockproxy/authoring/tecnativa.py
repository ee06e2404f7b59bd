"""`sockproxy import-tecnativa`: a policy that allows what an environment of Tecnativa's docker-socket-proxy does.

That proxy compares the beginning of a path, in any case and to no end, with the sections that are switched on
(haproxy.cfg as of a6fbf38): GET and HEAD of a section always, all else with POST=1. So `CONTAINERS=1` also hands out
the files of every container, and `CONTAINERS=1 POST=1` is root of the host. What is kept back here, the file says.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass

from sockproxy.errors import ConfigError
from sockproxy.policy.compile import EVERYBODYS, compile_file
from sockproxy.review.text import plain
from sockproxy_helpers.api import operations
from sockproxy_helpers.api.operations import Operation

LARGEST = 1 << 16
ROLE = "imported"
# A line of an environment: of `docker run --env-file`, of a Compose file, or as an argument.
_LINE = re.compile(r"""\s*(?:-\s+)?["']?([A-Za-z_][A-Za-z0-9_]*)["']?\s*[=:]\s*["']?([^"'#\s]*)["']?\s*(?:#.*)?""")


@dataclass(frozen=True, slots=True)
class Variable:
    """Hold one row.

    Attributes:
        prefix: a pattern that the beginning of a path matches; "" for a variable that opens no section.
        default: whether it is on where nothing is said.
        note: what is to be known of it.
    """

    prefix: str
    default: bool = False
    note: str = ""


_SWARM = "swarm: only a role with `unmodelled: true` (admin) has it, as sockproxy does not check its bodies"
VARIABLES = {
    "ALLOW_RESTARTS": Variable("/containers/{id}/(stop|restart|kill)", note="it takes POST=1 as well"),
    "ALLOW_START": Variable("/containers/{id}/start", note="it takes POST=1 as well"),
    "ALLOW_STOP": Variable("/containers/{id}/stop", note="it takes POST=1 as well"),
    "AUTH": Variable("/auth"),
    "BUILD": Variable("/build"),
    "COMMIT": Variable("/commit"),
    "CONFIGS": Variable("/configs", note=_SWARM),
    "CONTAINERS": Variable("/containers"),
    "DISTRIBUTION": Variable("/distribution"),
    "EVENTS": Variable("/events", default=True),
    "EXEC": Variable("/exec", note="that an exec is made stands below /containers, so it takes CONTAINERS=1 POST=1"),
    "GRPC": Variable("/grpc"),
    "IMAGES": Variable("/images"),
    "INFO": Variable("/info"),
    "NETWORKS": Variable("/networks"),
    "NODES": Variable("/nodes", note=_SWARM),
    "PING": Variable("/_ping", default=True, note="everybody may ping here"),
    "PLUGINS": Variable("/plugins", note=_SWARM.replace("swarm", "plugins")),
    "SECRETS": Variable("/secrets", note=_SWARM),
    "SERVICES": Variable("/services", note=_SWARM),
    "SESSION": Variable("/session"),
    "SWARM": Variable("/swarm", note=_SWARM),
    "SYSTEM": Variable("/system"),
    "TASKS": Variable("/tasks", note=_SWARM),
    "VERSION": Variable("/version", default=True),
    "VOLUMES": Variable("/volumes"),
    "POST": Variable(""),
    "ALLOW_DELETE": Variable("", note="its image sets it, and its haproxy.cfg does not read it"),
    "ALLOW_EXEC": Variable("", note="its image sets it, and its haproxy.cfg does not read it"),
    "ALLOW_KILL": Variable("", note="its image sets it, and its haproxy.cfg does not read it"),
    "BIND_CONFIG": Variable("", note="of its own socket; here `sockproxy up --listen`"),
    "DISABLE_IPV6": Variable("", note="of its own socket; here there is no TCP"),
    "LOG_LEVEL": Variable("", note="of its log; here all is recorded"),
    "SOCKET_PATH": Variable("", note="here `sockproxy up --docker-socket`"),
}
# Allowed there, and not by itself here: a reader of containers is not to have what is in them.
KEPT_BACK = {
    "ContainerArchive": "files of any container",
    "ContainerArchiveInfo": "files of any container",
    "ContainerExport": "the whole disk of any container",
    "ContainerAttachWebsocket": "a terminal in any container, by a GET",
    "ImageGet": "the contents of any image",
    "ImageGetAll": "the contents of any image",
    "ImageSearch": "a connection of the daemon's to any host",
    "DistributionInspect": "a connection of the daemon's to any host",
}
# With one of these a caller makes things, so that the rules of `developer` are needed, and all else is kept to its own.
MAKING = ("ContainerCreate", "ContainerExec", "ContainerUpdate", "ImageBuild", "Grpc", "VolumeCreate", "NetworkCreate")


def main(options: argparse.Namespace) -> int:
    """Run the command: 0 a policy is written, 1 it is, and there are variables that nobody knows.

    Raises:
        ConfigError: what is given is no environment.
    """
    given, strange = read(_lines(options))
    print(policy(given), end="")
    for name in strange:
        print(f"sockproxy import-tecnativa: unknown variable {plain(name)}: nothing was done for it", file=sys.stderr)
    return 1 if strange else 0


def _lines(options: argparse.Namespace) -> list[tuple[str, int, str]]:
    lines = [("argument", number, text) for number, text in enumerate(options.variables, 1)]
    if options.env_file:
        try:
            with open(options.env_file, encoding="utf-8") as file:
                text = file.read(LARGEST)
        except (OSError, ValueError) as error:
            raise ConfigError(plain(options.env_file), 0, 0, f"can't be read: {error}") from None
        lines += [(options.env_file, number, line) for number, line in enumerate(text.splitlines(), 1)]
    return [line for line in lines if line[2].strip() and not line[2].lstrip().startswith("#")]


def read(lines: list[tuple[str, int, str]]) -> tuple[dict[str, str], list[str]]:
    """Read an environment.

    Returns:
        What it says, and the names that are no variables of the proxy.

    Raises:
        ConfigError: a line is none of an environment, or a section is neither 0 nor 1.
    """
    given: dict[str, str] = {}
    for file, number, line in lines:
        found = _LINE.fullmatch(line)
        if not found:
            raise ConfigError(plain(file), number, 1, f"`{plain(line[:64])}`", "VARIABLE=VALUE")
        name, value = found[1], found[2]
        if (VARIABLES.get(name, _OTHER).prefix or name == "POST") and value not in ("0", "1"):
            raise ConfigError(plain(file), number, 1, f"{name}={plain(value)}", "0 or 1, as its README has it")
        given[name] = value
    return given, [name for name in given if name not in VARIABLES]


_OTHER = Variable("")


def policy(given: dict[str, str]) -> str:
    """Write the policy file."""
    known = {name: row for name, row in VARIABLES.items() if name in given or row.default}
    on = [name for name, row in known.items() if given.get(name, "1" if row.default else "0") == "1"]
    granted = [row for row in operations.load() if _granted(row, on)]
    usual = _usual()
    names = list(dict.fromkeys(row.name for row in granted if row.name not in EVERYBODYS))
    allowed = [name for name in names if name in usual and name not in KEPT_BACK]
    lines = [f"# From Tecnativa's docker-socket-proxy: {' '.join(f'{key}={plain(given[key])}' for key in given)}"]
    lines += [f"# {name}: {row.note}" for name, row in known.items() if row.note and (name in on or not row.prefix)]
    lines += [f"# UNKNOWN: {plain(name)}: nothing was done for it" for name in given if name not in VARIABLES]
    lines += [f"# kept back: {name}: {KEPT_BACK[name]}" for name in names if name in KEPT_BACK]
    if missing := [name for name in names if name not in usual and name not in KEPT_BACK]:
        lines.append(f"# for admin alone: {', '.join(missing)}")
    making = [name for name in allowed if name in MAKING]
    if making:
        lines.append(f"# {', '.join(making)}: there that is root of the host. Here the caller makes things of")
        lines.append(
            "# its own, by the rules of `developer`, and sees nobody else's; who needs more gets it by a rule."
        )
    lines += ["version: 1", "bindings:", "  - {user: root, role: admin}"]
    lines.append("  # the client: a container that root made; or {user: NAME, ...}, {group: NAME, ...}")
    lines.append(f"  # - {{container: {{name: NAME}}, role: {ROLE}}}")
    lines += ["roles:", f"  {ROLE}:"]
    if making:
        denied = [name for name in usual if name not in allowed and name not in EVERYBODYS]
        lines += ["    extends: developer", f"    deny: [{', '.join(denied)}]"]
    else:
        lines += [f"    allow: [{', '.join(allowed)}]", "    sees_all: true"]
    return "\n".join(lines) + "\n"


def _usual() -> list[str]:
    return list(compile_file(None)["roles"]["developer"]["operations"])


def _granted(row: Operation, on: list[str]) -> bool:
    if row.method not in ("GET", "HEAD") and "POST" not in on:
        return False
    prefixes = (VARIABLES[name].prefix.replace("{", "[{]").replace("}", "[}]") for name in on)
    return any(prefix and re.compile(f"{prefix}.*").fullmatch(row.path) for prefix in prefixes)
