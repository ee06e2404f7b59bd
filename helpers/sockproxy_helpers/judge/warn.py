"""Let a role in warn mode do what it does not allow, and say so: `mode: warn`, to try a stricter role on real work.

SECURITY: pure. Here alone is decided what may be let through: nothing that leads to the host, to other people's things,
or past a bound that protects others. What has no row stays refused, and so does all that is no rule's: malformed
requests, fields that are never free, unknown callers, owners, names, numbers of objects, the record. What BuildKit is
told is judged elsewhere, and enforced.
"""

from __future__ import annotations

from collections.abc import Callable

from sockproxy_helpers.api.operations import load
from sockproxy_helpers.errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

# What a process may take of its own container's. Not nice, rtprio and msgqueue: they take from others.
_ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "nofile", "nproc", "rss", "rttime", "sigpending", "stack",
)  # fmt: skip


def _limits(value: dict[str, object]) -> dict[str, object]:
    """Of one container, without bound: the totals of the person stay, and the number of containers does."""
    return {**value, **dict.fromkeys(("memory", "cpus", "pids", "logs"))}


def _ports(value: dict[str, object]) -> dict[str, object]:
    least = value["min"]
    return {"min": min(least if isinstance(least, int) else 1024, 1024), "addresses": ["ALL"]}


# Rule: how its value is widened for a call that it would refuse.
WIDER: dict[str, Callable[[dict[str, object]], object]] = {
    "limits": _limits,
    "no_new_privileges": lambda value: False,
    "ports": _ports,
    "sysctls": lambda value: ["net."],  # the daemon takes those of a container's own network only
    "ulimits": lambda value: {**value, **dict.fromkeys(_ULIMITS)},
}
# Rules that refuse in warn mode, too, and why.
ENFORCED = {
    "bind_groups": "the resolver opens binds by it at each start",
    "binds": "the resolver opens binds by it at each start: what was let through once would not start again",
    "build_bridge": "the mediator holds builds to it",
    "cache_imports": "others' builds would use it",
    "capabilities": "some lead to the host",
    "cgroup_parent": "it leads out of the bounds that protect others",
    "default_bridge": "it leads to others' containers",
    "devices": "they lead to the host",
    "driver_options": "they lead to the host",
    "fetch": "it leads to what only the host reaches",
    "frontends": "the mediator and the daemon hold builds to it",
    "host_namespaces": "they lead to the host",
    "mode": "it refuses nothing",
    "plain_binds": "they lead to the host",
    "privileged": "it leads to the host",
    "registries": "others' images could come from elsewhere, and the daemon holds builds to it",
    "revoke_streams": "it refuses nothing",
    "runtimes": "some confine less",
    "security_options": "they lead to the host",
    "sees_all": "it leads to others' things",
    "sessions": "it refuses nothing",
    "share": "it leads to others' things",
    "subnets": "they lead to the host's traffic",
    "totals": "they protect others",
    "traffic": "it shares sockproxy itself among people: without it one takes it from the others",
    "unmapped_binds": "it leads to others' files",
    "unmodelled": "nobody checks what is in those requests",
    "via": "it says who is known at all",
}
# Operations with tables of fields and owners; the others are for who may do anything.
_TAGS = ("Container", "Exec", "Image", "Distribution", "BuildKit", "Volume", "Network", "System")
OPERATIONS = {row.name for row in load() if row.tag in _TAGS} - {"ContainerCopy", "VolumeUpdate", "BuildCancel"}
Rules = dict[str, tuple[object, str]]


def on(rules: Rules) -> bool:
    """Tell whether a role is in warn mode."""
    return rules.get("mode", ("", ""))[0] == "warn"


def passes(rules: Rules, operation: str) -> bool:
    """Tell whether a role lets an operation through that it does not list."""
    return on(rules) and operation in OPERATIONS


def settle(context: Context, judge: Callable[[], object]) -> list[Refused]:
    """Widen a context's rules for one call, until nothing is refused that may be let through.

    Args:
        judge: judges the call by the context; has no effects.

    Returns:
        What would have been refused.

    Raises:
        Refused: by what stays enforced; as `judge` does.
    """
    would: list[Refused] = []
    while on(context.rules):
        try:
            judge()
            break
        except Refused as error:
            if error.rule not in WIDER or error.rule in [known.rule for known in would]:
                raise
            would.append(error)
            value, at = context.rules[error.rule]
            widened = WIDER[error.rule](value if isinstance(value, dict) else {})
            context.rules = {**context.rules, error.rule: (widened, at)}
    return would
