"""Say what a role may set: one row a rule.

A row gives the rule's name in the file, how its value is read, what holds where no role says anything (the strictest),
and a sentence for people. The helpers' rule functions go by the same names; what each does to a request is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

from sockproxy.policy import values
from sockproxy.policy.least import LEAST_TRAFFIC
from sockproxy.policy.values import Parser, Value, entries, flag, integer, number, size, unlimited, words


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
        if isinstance(value, dict) and "{}" in self.sentence:
            value = [f"{key} ({'any' if item is None else item})" for key, item in value.items()]
        if isinstance(value, dict):
            return "may " + self.sentence.format(**{key: values.words_of(key, item) for key, item in value.items()})
        if isinstance(value, str):
            return "may " + self.sentence.format(value)
        return "may " + self.sentence.format(
            ", ".join(map(_item, value)) if isinstance(value, list) and value else "none"
        )


def _item(value: Value) -> str:
    return "{path} ({mode})".format(**value) if isinstance(value, dict) else str(value)


# The least that the daemon takes: 6 MiB since engine 20.10 (4 before), a hundredth of a CPU.
LEAST_MEMORY, LEAST_CPUS = 6 << 20, 0.01
LEAST_LOGS = 64 << 10  # two files, each of more than a line

_resources: dict[str, Parser] = {
    "memory": unlimited(size(LEAST_MEMORY)),
    "cpus": unlimited(number(LEAST_CPUS, 65536)),
    "pids": unlimited(integer(1, 1 << 22)),  # PID_MAX_LIMIT of the kernel
}
_count = unlimited(integer(0, 1_000_000))
_limits = entries({**_resources, "containers": _count, "logs": unlimited(size(LEAST_LOGS))})
_totals = entries(
    {
        **_resources,
        **dict.fromkeys(("networks", "volumes", "ports", "binds", "tags"), _count),
        "disk": unlimited(size(0)),
    }
)
_traffic = entries(dict.fromkeys(("connections", "streams", "requests"), unlimited(integer(1, 1_000_000))))
_ulimit = unlimited(integer(0, (1 << 63) - 1))
_images = words(
    values.IMAGE, 'images with their registry ("docker.io/library/*", "registry.example.com/team/app"), or ALL'
)
_ports = entries({"min": integer(1, 65536), "addresses": values.addresses})

RULES = {
    rule.name: rule
    for rule in (
        Rule("binds", values.binds, [], "bind these places on the host: {}"),
        Rule("plain_binds", flag, False, "bind as the daemon itself does: any IDs, and root is root"),
        Rule("unmapped_binds", flag, False, "bind read-only what can't be mapped, and read all of it as root"),
        Rule("bind_groups", flag, False, "write to their groups' files in binds"),
        Rule("privileged", flag, False, "run privileged containers and execs"),
        Rule("capabilities", values.capabilities, [], "have these capabilities in a container: {}"),
        Rule("host_namespaces", words(values.NAMESPACES, "namespaces"), [], "share these namespaces with the host: {}"),
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
        Rule("runtimes", words(values.RUNTIME, "names of runtimes, or ALL"), [], "name these runtimes: {}"),
        Rule("cgroup_parent", flag, False, "choose the parent cgroup of a container"),
        Rule(
            "sysctls",
            words(values.SYSCTL, "sysctls, or prefixes ending in a dot"),
            [],
            "set these sysctls in a container: {}",
        ),
        Rule(
            "limits",
            _limits,
            {"memory": LEAST_MEMORY, "cpus": LEAST_CPUS, "pids": 1, "containers": 0, "logs": LEAST_LOGS},
            "use up to {memory} memory, {cpus} cpus, {pids} pids and {logs} of logs a container, and have {containers} "
            "containers",
        ),
        Rule(
            "totals",
            _totals,
            {
                "memory": LEAST_MEMORY,
                "cpus": LEAST_CPUS,
                "pids": 1,
                "networks": 0,
                "volumes": 0,
                "ports": 0,
                "binds": 0,
                "tags": 0,
                "disk": 0,
            },
            "use up to {memory} memory, {cpus} cpus and {pids} pids in all containers and build steps together, and "
            "have {networks} networks, {volumes} volumes, {ports} published ports, {binds} binds, {tags} names of "
            "images and {disk} of disk",
        ),
        Rule(
            "traffic",
            _traffic,
            {**LEAST_TRAFFIC},
            "have {connections} connections, {streams} calls under way of each kind, and ask {requests} times a second",
        ),
        Rule(
            "ports",
            _ports,
            {"min": 65536, "addresses": []},
            "publish host ports from {min} upwards on these addresses: {addresses}",
        ),
        Rule("subnets", values.subnets, [], "ask for these addresses for networks: {}"),
        Rule("ulimits", entries(dict.fromkeys(values.ULIMITS, _ulimit)), {}, "set these ulimits: {}"),
        Rule("registries", _images, [], "have these images from registries, and build from these: {}"),
        Rule("frontends", _images, [], "have a Dockerfile read by these, beside the builder's own (# syntax=): {}"),
        Rule("fetch", flag, False, "let the daemon fetch URLs (builds, imports and searches at any host)"),
        Rule("build_bridge", flag, False, "give the steps of BuildKit builds the network that all of them share"),
        Rule("cache_imports", flag, False, "fill the build cache, which all share, from elsewhere (--cache-from)"),
        Rule("default_bridge", flag, False, "put containers on the bridge that all share"),
        Rule("revoke_streams", flag, True, "keep streams under way when they have lost their access"),
        Rule("mode", values.word(("enforce", "warn")), "enforce", "be refused, or warned on the record only: {}"),
        Rule(
            "share",
            values.word(("none", "group")),
            "none",
            "see and use containers, volumes and networks of others who have the role by the same: {}",
        ),
        Rule("sees_all", flag, False, "see and use other people's containers, volumes and networks"),
        Rule(
            "sessions",
            entries({"output": size(0)}),
            {"output": 0},
            "use exec and attach with the first {output} of what each one prints recorded",
        ),
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
