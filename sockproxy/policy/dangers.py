"""Warn of what is valid in a policy and dangerous all the same: one row a danger.

Roles are judged that somebody but root has: root can do all of it without sockproxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sockproxy.policy.values import ALL, Value

Rules = dict[str, tuple[Value, str]]

# Of the host, not of the container's own namespaces: with these a process leaves its container (capabilities(7)).
_ESCAPES = {"ALL", "BPF", "DAC_READ_SEARCH", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "PERFMON", "SYS_ADMIN", "SYS_BOOT"}
_ESCAPES |= {"SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "SYS_TIME", "SYSLOG"}
# What tells of the inside of a container, or leads there.
_INSIDE = {
    "ContainerInspect",
    "ContainerLogs",
    "ContainerExec",
    "ContainerAttach",
    "ContainerArchive",
    "ContainerCreate",
}
_INSIDE |= {"ContainerExport", "ContainerCopy", "PutContainerArchive", "ContainerAttachWebsocket", "ImageCommit"}
_ROOT = "can become root of this host"
_ALONE = "leave it out, or give the role to root alone"


@dataclass(frozen=True, slots=True)
class Danger:
    """Hold one row.

    Attributes:
        rule: whose line the warning names.
        here: tells from a role's rules whether it is so.
        what: goes on from "role ... has".
        then: goes on from "so that user ...".
        advice: what to do.
    """

    rule: str
    here: Callable[[Rules], bool]
    what: str
    then: str
    advice: str


def _is(rule: str, value: Value) -> Callable[[Rules], bool]:
    return lambda rules: rules[rule][0] == value


def _any(rule: str, words: set[str]) -> Callable[[Rules], bool]:
    return lambda rules: not words.isdisjoint(_items(rules[rule][0]))


def _items(value: Value) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _unbounded(key: str) -> Callable[[Rules], bool]:
    """Neither one container nor all of a person's together are bounded."""
    return lambda rules: all(
        isinstance(value := rules[rule][0], dict) and value.get(key, None) is None for rule in ("limits", "totals")
    )


def _binds(path: str) -> Callable[[Rules], bool]:
    def here(rules: Rules) -> bool:
        places = rules["binds"][0]
        return isinstance(places, list) and any(isinstance(bind, dict) and bind["path"] == path for bind in places)

    return here


def _low_port(rules: Rules) -> bool:
    ports = rules["ports"][0]
    return isinstance(ports, dict) and isinstance(ports["min"], int) and ports["min"] < 1024


def _both(*conditions: Callable[[Rules], bool]) -> Callable[[Rules], bool]:
    return lambda rules: all(condition(rules) for condition in conditions)


def _realtime(rules: Rules) -> bool:
    ulimits = rules["ulimits"][0]
    return isinstance(ulimits, dict) and not {"rtprio", "nice"}.isdisjoint(ulimits)


# What dockerd gives networks by itself (moby, ipamutils): there a person gets the host's traffic anyhow.
_DOCKERS = [ipaddress.ip_network(text) for text in ("172.16.0.0/12", "192.168.0.0/16", "fd00::/8")]


def _others_ranges(rules: Rules) -> bool:
    return not all(map(_is_dockers, _items(rules["subnets"][0])))


def _is_dockers(text: str) -> bool:
    if text == ALL:
        return False
    first, last = (ipaddress.ip_network(text)[end] for end in (0, -1))
    return any(first in known and last in known for known in _DOCKERS)


DANGERS = (
    Danger("privileged", _is("privileged", True), "privileged: true", _ROOT, _ALONE),
    Danger("devices", _is("devices", True), "devices: true", _ROOT, _ALONE),
    Danger("security_options", _is("security_options", True), "security_options: true", _ROOT, _ALONE),
    Danger("driver_options", _is("driver_options", True), "driver_options: true", _ROOT, _ALONE),
    Danger("cgroup_parent", _is("cgroup_parent", True), "cgroup_parent: true", "leaves every limit", _ALONE),
    Danger("unmodelled", _is("unmodelled", True), "unmodelled: true", _ROOT, _ALONE),
    Danger("capabilities", _any("capabilities", _ESCAPES), "capabilities that reach the host", _ROOT, _ALONE),
    Danger("host_namespaces", _any("host_namespaces", {"pid", "user"}), "namespaces of the host", _ROOT, _ALONE),
    Danger(
        "host_namespaces",
        _any("host_namespaces", {"network"}),
        "the host's network",
        "reaches what listens on the host's loopback only, and any port of the host",
        "publish ports instead (rule ports), or give the role to root alone",
    ),
    Danger(
        "host_namespaces",
        _any("host_namespaces", {"ipc", "uts", "cgroup"}),
        "more namespaces of the host (ipc, uts, cgroup)",
        "reads and changes what the host's own processes share there",
        _ALONE,
    ),
    Danger("plain_binds", _is("plain_binds", True), "plain_binds: true", _ROOT, "leave it out: binds are mapped then"),
    Danger(
        "binds",
        _binds("/"),
        "a bind of /",
        "gives containers all that the person can read or write, sockets included, also after the logout",
        'name the folders that are needed: {path: "{home}", mode: rw}',
    ),
    Danger(
        "unmapped_binds",
        _is("unmapped_binds", True),
        "unmapped_binds: true",
        "reads all below the places of `binds` that can't be mapped, whoever's it is",
        "keep those places to one person's files, or leave it out",
    ),
    Danger(
        "bind_groups",
        _is("bind_groups", True),
        "bind_groups: true",
        "lets any image write to the files of the person's groups",
        "leave it out, or share what is needed by a volume",
    ),
    Danger("runtimes", _any("runtimes", {"ALL"}), "runtimes: [ALL]", "chooses runtimes that confine less", "name them"),
    Danger(
        "sees_all",
        _both(_is("sees_all", True), _any("allow", _INSIDE)),
        "sees_all: true",
        "sees everybody's containers with the secrets in their environments, and may do to them what the role allows",
        "leave out of `allow` what need not be, exec, attach and create above all: in root's containers they are root",
    ),
    Danger(
        "default_bridge",
        _is("default_bridge", True),
        "default_bridge: true",
        "reaches, and can spoof, others' containers on the shared bridge",
        "leave it out: everybody has a bridge of their own",
    ),
    Danger(
        "cache_imports",
        _is("cache_imports", True),
        "cache_imports: true",
        "decides what a build step's result is for everybody",
        "leave it out, or let build machines alone build",
    ),
    Danger(
        "frontends",
        _any("frontends", {"ALL"}),
        "frontends: [ALL]",
        "has any image read the Dockerfile, and so mount others' build caches",
        "name images that keep them apart: docker.io/docker/dockerfile:1.*",
    ),
    Danger(
        "fetch",
        _is("fetch", True),
        "fetch: true",
        "has the daemon fetch from the host's loopback and metadata services",
        "leave it out: fetch in a RUN step",
    ),
    Danger(
        "ports",
        _low_port,
        "ports below 1024",
        "may pose as a service of the host's wherever none listens",
        "ports: {min: 1024}",
    ),
    Danger(
        "subnets",
        _others_ranges,
        "subnets beyond what Docker takes by itself",
        "gets the host's traffic there by a network, wherever the host has its default route only",
        "give the host a route to what it needs there, or leave them out",
    ),
    Danger("ulimits", _realtime, "ulimits rtprio or nice", "may starve all other processes", "leave them out"),
    Danger(
        "revoke_streams",
        _is("revoke_streams", False),
        "revoke_streams: false",
        "keeps open shells and streams when access ends",
        "leave it out",
    ),
    *(
        Danger(
            "totals",
            _unbounded(key),
            f"no bound of {key}",
            f"can use up all {what} of the host",
            f"totals: {{{key}: {example}}}",
        )
        for key, what, example in (("memory", "memory", "16g"), ("cpus", "cpu time", "8"), ("pids", "pids", "8192"))
    ),
    Danger(
        "totals",
        lambda rules: isinstance(value := rules["totals"][0], dict) and value["disk"] is None,
        "no bound of disk",
        "can fill the daemon's disk",
        "totals: {disk: 50g}",
    ),
    Danger(
        "mode",
        _is("mode", "warn"),
        "mode: warn",
        "is let through where the role says no, but for what leads to the host or to others",
        "mode: enforce, when `sockproxy audit find --would` has nothing new",
    ),
    Danger(
        "via",
        _both(_any("via", {"container", "password", "token"}), _is("privileged", True)),
        "more ways to be known than `peer`, and privileged: true",
        "is root of this host by a stolen password, or in any container that has the socket",
        "write via: [peer], or take privileged: true out",
    ),
)

# Settings that are no role's: the value, what follows, what to do.
SETTINGS = {
    ("audit", "on_full", "continue"): ("a full disk lets things be done unrecorded", "on_full: refuse"),
    ("auth", "accounts", "none"): (
        "expired and locked accounts keep their access, and who is given an old uid has what is its last owner's",
        "accounts: pam",
    ),
}
LONG_CACHE = 300  # seconds that somebody who was shut out may go on


def of_role(rules: Rules, operations: Iterable[str]) -> Iterator[tuple[Danger, str]]:
    """Find the dangers of a role, each with the line that makes it."""
    rules = {**rules, "allow": ([*operations], "")}
    for danger in DANGERS:
        if danger.here(rules):
            yield danger, rules[danger.rule][1]
