"""Judge fields that more than one scope has, and hold what rules are made of.

A rule function takes the built value (None when the field is absent and the row says "+") and the context, and
returns what to send; it raises the context's refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sockproxy_helpers.api.operations import NAME
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.upstream.marks import GIVEN, OWNER, mark
from sockproxy_helpers.upstream.objects import BRIDGE, EXPOSED, PORTS
from .context import Context
from .walk import is_zero

RESERVED = "io.sockproxy"
_JOINED = ("ipc", "network", "pid")  # namespaces that a container can share with another
_ID = re.compile(r"[0-9a-f]{64}")


def needs(rule: str, what: str) -> Callable[[object, Context], object]:
    """Make a rule function: anything but a zero value needs a flag of the role.

    Args:
        what: goes on from "role developer may not".
    """

    def judge(value: object, ctx: Context) -> object:
        if not is_zero(value) and not ctx.flag(rule):
            raise ctx.refusal(f"may not {what} (allowed: leave it out)", rule)
        return value

    return judge


def only(free: tuple[str, ...], rule: str, what: str) -> Callable[[str, Context], str]:
    """Make a rule function: a word that is not among the free ones needs a flag of the role."""

    def judge(value: str, ctx: Context) -> str:
        if value not in free and not ctx.flag(rule):
            raise ctx.refusal(f"may not {what} (allowed: {', '.join(word or 'none given' for word in free)})", rule)
        return value

    return judge


def namespace(kind: str, own: tuple[str, ...]) -> Callable[[str, Context], str]:
    """Make a rule function for the mode of a namespace: one's own, the host's or another container's.

    Args:
        kind: the namespace as the rule host_namespaces names it.
        own: the modes that give a container a namespace of its own.
    """

    def judge(value: str, ctx: Context) -> str:
        allowed = f"(allowed: {', '.join(dict.fromkeys(mode or 'leave it out' for mode in own))})"
        if value == "host" and kind not in ctx.names("host_namespaces"):
            raise ctx.refusal(f"may not share the host's {kind} namespace {allowed}", "host_namespaces")
        joins = value.startswith("container:") and kind in _JOINED  # whose it is: see tables/references.txt
        if value != "host" and value not in own and not joins:
            raise ctx.refusal(f"no such {kind} mode {allowed}")
        return value

    return judge


def network_mode(value: str, ctx: Context) -> str:
    """Allow networks by name; the host's by the role."""
    own = value if NAME.fullmatch(value) and value != "host" else ""
    return namespace("network", ("", "bridge", "none", "the name of a network", own))(value, ctx)


def ignored(value: object, ctx: Context) -> None:
    """Leave out what clients send and the daemon does not read."""


def labels(value: dict[str, str], ctx: Context) -> dict[str, str]:
    """Keep our own labels out of clients' hands."""
    for key in value:
        refuse_label(key, ctx)
    return value


def owned_labels(value: dict[str, str] | None, ctx: Context) -> dict[str, str]:
    """Write down on a new object whose it is.

    Our own labels may come back as `inspect` shows them, where they say what we do: clients that renew a container make
    it from that. The numbers of its ports, and whose things it was given, are written anew.
    """
    own = str(ctx.caller.uid)
    ours = (PORTS, EXPOSED, GIVEN)
    given = {key: text for key, text in (value or {}).items() if (key, text) != (OWNER, own) and key not in ours}
    return {**labels(given, ctx), OWNER: own}


def owner_mark(value: str | None, ctx: Context) -> str:
    """Write it down once more where a container can't have it from its image, as a build's steps have their labels.

    The daemon keeps the field, and only clients ever wrote a file of that name.
    """
    return mark(ctx.caller.uid)


def swept(value: bool | None, ctx: Context) -> bool:
    """Have a build's containers removed: their labels are the image's, so they are nobody's, or somebody else's."""
    return bool(value) if ctx.flag("sees_all") else True


def own_filters(value: dict[str, list[str]] | None, ctx: Context) -> dict[str, list[str]]:
    """Narrow a list, or what is pruned, to the caller's own objects. The daemon ANDs label filters: none widens it."""
    value = value or {}
    if not ctx.flag("sees_all"):
        value["label"] = [*value.get("label", []), f"{OWNER}={ctx.caller.uid}"]
    return value


def seen_filters(value: dict[str, list[str]] | None, ctx: Context) -> dict[str, list[str]]:
    """Narrow a list to what the caller sees; to what has any owner where the role shares: see `mates`."""
    if ctx.rule("share") != "group" or ctx.flag("sees_all"):
        return own_filters(value, ctx)
    value = value or {}
    value["label"] = [*value.get("label", []), OWNER]
    return value


def list_limit(value: int, ctx: Context) -> int | None:
    """Have the daemon list all of what is cut afterwards."""
    return None if ctx.rule("share") == "group" and not ctx.flag("sees_all") else value


def own_networks(value: dict[str, list[str]] | None, ctx: Context) -> dict[str, list[str]]:
    """Narrow a prune to the caller's own networks, but for the user's bridge: stopped containers come back to it."""
    value = own_filters(value, ctx)
    value["label!"] = [*value.get("label!", []), BRIDGE]
    return value


def own_cache(value: dict[str, list[str]] | None, ctx: Context) -> dict[str, list[str]]:
    """Let who does not see all prune nothing of the build cache: it has no owners, and the classic builder none."""
    value = value or {}
    if not ctx.flag("sees_all"):
        value["id"] = ["none"]
    return value


def refuse_label(key: str, ctx: Context) -> None:
    """Refuse a label that is ours, in any case."""
    if key.casefold() == RESERVED or key.casefold().startswith(RESERVED + "."):
        raise ctx.refusal(f"labels that begin with {RESERVED} are sockproxy's own", at=f".{show(key)}")


def name(value: str, ctx: Context) -> str:
    """Allow the Engine's grammar of names, but nothing that could be an object's ID: names win over IDs.

    What is the beginning of an ID that there is, see `references`.
    """
    if value and not NAME.fullmatch(value.removeprefix("/")):
        raise Malformed(f"{ctx.path}: {show(value)} is not a name (allowed: letters, digits, _ . -)")
    if _ID.fullmatch(value.removeprefix("/")):
        raise ctx.refusal("a name that looks like an ID (allowed: a name that is not 64 hexadecimal digits)")
    return value


def working_dir(value: str, ctx: Context) -> str:
    """Keep the first process out of /proc, where the runtime's own open files are (CVE-2024-21626)."""
    if clean(value)[:1] == ["proc"]:
        raise ctx.refusal("a working directory below /proc (allowed: anywhere else)")
    return value


def clean(path: str) -> list[str]:
    """Split a path into its parts as the daemon does (Go's path.Clean): "." and ".." are resolved by their text."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts


cgroup_parent = needs("cgroup_parent", "choose the parent cgroup")


def own_cgroup(value: str | None, ctx: Context) -> str | None:
    """Put what a user starts under the user's own cgroup; `shares` gives it its limits and the daemon's name for it."""
    own = f"/sockproxy/{ctx.caller.uid}"
    if value and value != own:
        return str(cgroup_parent(value, ctx))
    totals = ctx.rule("totals")
    bounded = isinstance(totals, dict) and any(totals[key] is not None for key in ("memory", "cpus", "pids"))
    return own if bounded else value


driver_options = needs("driver_options", "set options of drivers")
isolation = only(("", "default"), "driver_options", "choose an isolation technology")
