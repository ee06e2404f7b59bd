"""Judge requests as a helper does, for tests: roles as the built-in ones, and one person."""

from __future__ import annotations

import re
from pathlib import Path

from sockproxy import paths
from sockproxy.policy.schema import RULES
from sockproxy_helpers.api.operations import load
from sockproxy_helpers.judge import model
from sockproxy_helpers.judge.lifecycle import DEFAULT_CAPABILITIES
from sockproxy_helpers.system.caller import Caller
from sockproxy_helpers.upstream.objects import OWNER

OPERATIONS = {operation.name: operation for operation in load()}
# The names of the built-in roles, as an error lists them.
ROLES = "one of " + ", ".join(
    sorted(re.findall("(?m)^  ([a-z-]+):", "".join(Path(f).read_text() for f in paths.role_files())))
)
OWNED = {OWNER: "1000"}  # the label that Kim's new objects get
KIM = Caller(1000, 1000, 1, "kim", ["kim"], "/home/kim")

STRICTEST: dict[str, object] = {name: rule.default for name, rule in RULES.items()}
DEVELOPER = STRICTEST | {
    "registries": ["ALL"],
    "subnets": ["172.16.0.0/12", "192.168.0.0/16", "fd00::/8"],
    "build_bridge": True,
    "binds": [{"path": "{home}", "mode": "rw"}, {"path": "/srv/data", "mode": "ro"}],
    "capabilities": [name for name in DEFAULT_CAPABILITIES if name not in ("MKNOD", "SETFCAP")],
    "limits": {"memory": 8 << 30, "cpus": 4, "pids": 2048, "containers": 50, "logs": 100 << 20},
    "totals": {
        "memory": 16 << 30,
        "cpus": 8,
        "pids": 8192,
        "networks": 10,
        "volumes": 100,
        "ports": 100,
        "binds": 9,
        "tags": 20,
        "disk": 50 << 30,
    },
    "share": "none",
    "ulimits": {"nofile": 1024, "core": None},
    "ports": {"min": 1024, "addresses": ["0.0.0.0", "127.0.0.1"]},
    "runtimes": ["runc"],
    "sysctls": ["net.ipv4.ip_unprivileged_port_start"],
}
ADMIN = {name: value is False for name, value in STRICTEST.items()} | {
    "registries": ["ALL"],
    "subnets": ["ALL"],
    "frontends": ["ALL"],
    "binds": [{"path": "/", "mode": "rw"}],
    "capabilities": ["ALL"],
    "host_namespaces": ["network", "pid", "ipc", "uts", "cgroup", "user"],
    "limits": {"memory": None, "cpus": None, "pids": None, "containers": None, "logs": None},
    "totals": dict.fromkeys(RULES["totals"].default),
    "share": "none",
    "ulimits": {"nofile": None, "rtprio": None},
    "no_new_privileges": False,
    "ports": {"min": 1, "addresses": ["ALL"]},
    "runtimes": ["ALL"],
    "sysctls": ["net.", "kernel."],
}


def context(rules: dict[str, object], operation: str, caller: Caller = KIM) -> model.Context:
    """Form the context of a call; the n-th rule by name is said to stand in line n of roles.yaml."""
    lines = {name: (rules[name], f"roles.yaml:{line}") for line, name in enumerate(sorted(rules), 1)}
    return model.Context(lines, caller, operation, "developer")


def judge(
    operation: str,
    body: object = None,
    query: list[tuple[str, str]] | None = None,
    rules: dict[str, object] = DEVELOPER,
    caller: Caller = KIM,
) -> tuple[list[tuple[str, str]], object]:
    """Judge a request as the helpers together do."""
    ctx = context(rules, operation, caller)
    if operation != "ContainerCreate":
        return model.approve(OPERATIONS[operation].scope, operation, query or [], body, ctx)
    parts = model.split(body)
    built = {scope: model.approve(scope, operation, [], part, ctx)[1] for scope, part in parts.items()}
    checked, built["lifecycle"] = model.approve("lifecycle", operation, query or [], parts["lifecycle"], ctx)
    return checked, model.merge(built)


def create(
    host: dict[str, object] | None = None, rules: dict[str, object] = DEVELOPER, **top: object
) -> dict[str, object]:
    """Judge a ContainerCreate of these HostConfig fields and return the HostConfig as it would be sent."""
    _, body = judge("ContainerCreate", {"Image": "busybox", "HostConfig": host or {}, **top}, rules=rules)
    assert isinstance(body, dict)
    built: dict[str, object] = body["HostConfig"]
    return built
