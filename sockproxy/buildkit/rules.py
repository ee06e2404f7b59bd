"""Judge the fields of BuildKit's messages: one function a rule of the tables.

Each takes a field's value and the request, and returns what to send; it raises the refusal of the request's context.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from sockproxy.buildkit.attributes import ATTRIBUTES, RULES, Rule, attributes
from sockproxy.buildkit.request import Request
from sockproxy_helpers.api import names
from sockproxy_helpers.api.operations import REFERENCE
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.judge import bounds, registries, rules
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.objects import OWNER

UPLOAD = re.compile(r"http://buildkit-session/[A-Za-z0-9_-]+")  # a tar that comes by the caller's own session
_OWN_SOURCE = re.compile(r"(?:local|docker-image|oci-layout|input):.*")  # input: a definition that comes with the solve
_ULIMIT = re.compile(r"([a-z]{1,16})=(-?[0-9]{1,18})(?::(-?[0-9]{1,18}))?")
_SIZE = re.compile(r"[0-9]{1,18}")
# Rules that judge as they do the same in a container's configuration.
SHARED = {
    "cgroup_parent": rules.cgroup_parent,
    "fetches": rules.needs("fetch", "have the daemon speak to any host"),
    "network": rules.namespace("network", ("", "none", "sandbox", "default")),
}


def held(judge: Callable[[Any, Context], Any]) -> Rule:
    """Make a rule of one that judges a field of the Engine API."""
    return lambda value, request: judge(value, request.context)


def own_ref(value: str, request: Request) -> str:
    """Make a build's name the caller's; "" where it stands for all of them."""
    return request.own(value) if value else value


def own_session(value: str, request: Request) -> str:
    """Make a session's name the caller's."""
    return request.own(value)


def sent_session(value: str, request: Request) -> str:
    """Make a session's name the caller's; the daemon's own definitions have it as that already."""
    return value if value.startswith(request.facts.mark) else request.own(value)


def frontend(value: str, request: Request) -> str:
    """Allow the built-in frontend for Dockerfiles: another is a program that may ask the builder for anything."""
    if value not in ("", "dockerfile.v0") and registries.ALL not in request.context.names("frontends"):
        raise request.context.refusal(f"may not use the frontend {show(value)} (allowed: dockerfile.v0)", "frontends")
    return value


def syntax(value: str, request: Request) -> str:
    """Allow to name another frontend's image, where the role has any; which, the daemon sees to (policy.py)."""
    if not request.context.names("frontends"):
        raise request.context.refusal("may not use a frontend's image (allowed: leave it out)", "frontends")
    return value


def frontend_attrs(value: dict[str, str], request: Request) -> dict[str, str]:
    """Judge the frontend's settings, and add our own: whose the image is, and what keeps users' steps apart."""
    built = attributes("frontend", value, request)
    built[f"label:{OWNER}"] = str(request.context.caller.uid)
    built["build-arg:BUILDKIT_CACHE_MOUNT_NS"] = request.apart  # cache mounts of other users have other names
    # The name of the host that a step runs on is part of what it is cached by: steps of two users are never the same,
    # so neither gets the other's result, nor has the other's secrets used for it.
    built["hostname"] = request.apart
    if request.facts.cgroup and not built.get("cgroup-parent"):  # of the caller's own choice, where the role lets it
        built["cgroup-parent"] = request.facts.cgroup
    if not request.context.flag("build_bridge") and built.get("force-network-mode", "") != "host":
        built["force-network-mode"] = "none"
    if not request.context.names("frontends"):
        built["cmdline"] = "sockproxy"  # with it the built-in frontend passes over "# syntax=" lines
    return built


def namespace(value: str, request: Request) -> str:
    """Keep what keeps users apart out of clients' hands."""
    raise request.context.refusal("is set by sockproxy (allowed: leave it out)")


def label(value: str, request: Request) -> str:
    """Keep our own labels out of clients' hands."""
    path = request.context.path
    rules.refuse_label(path.partition(":")[2], request.context)
    return value


def source(value: str, request: Request) -> str:
    """Allow a build context of the caller's own, and images; the daemon is not sent anywhere else."""
    if not (UPLOAD.fullmatch(value) or _OWN_SOURCE.fullmatch(value)) and not request.context.flag("fetch"):
        raise request.context.refusal("may not let the daemon fetch a build context (allowed: send it)", "fetch")
    return value


def cache_from(value: str, request: Request) -> str | None:
    """Leave out what the cache is to be filled from, where the role may not fill what all share.

    An imported result is kept under its key, and is the result of that step for everybody from then on.
    """
    if not request.context.flag("cache_imports"):
        return None
    for ref in value.split(",") if value else []:
        imported("registry", {"ref": ref}, request)
    return value


def imported(kind: str, attrs: Mapping[str, str], request: Request) -> None:
    """Judge what registry a cache comes from: no source policy holds the daemon to it."""
    if kind == "registry" and request.context.flag("cache_imports") and not registries.free(request.context):
        registries.judge(names.full(attrs.get("ref", "")), request.context)


def cache_imports(value: str, request: Request) -> str | None:
    """Judge what the cache is filled from, which is JSON here."""
    path = request.context.path
    try:
        entries = json.loads(value)
        found = [(str(entry.pop("Type", "")), dict(entry.pop("Attrs", None) or {}), entry) for entry in entries or []]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Malformed(f"{path}: no JSON list of caches") from error
    if any(rest for _, _, rest in found):
        raise Malformed(f"{path}: unknown field")
    built = []
    for kind, attrs, _ in found:
        if not all(isinstance(item, str) for pair in attrs.items() for item in pair):
            raise Malformed(f"{path}: no strings")
        request.context.path = path
        imported(kind, attrs, request)
        built.append({"Type": cache(kind, request), "Attrs": attributes(f"cache:{kind}", attrs, request)})
    return json.dumps(built) if request.context.flag("cache_imports") else None


def cache(value: str, request: Request) -> str:
    """Allow the kinds of caches that have rows."""
    if f"cache:{value}" not in ATTRIBUTES:
        raise request.context.refusal(f"the cache type {show(value)} is not served")
    return value


def cache_attrs(value: dict[str, str], request: Request) -> dict[str, str]:
    """Judge a cache's settings."""
    return attributes(f"cache:{request.message.Type}", value, request)


def exporter(value: str, request: Request) -> str:
    """Allow the exporters that have rows."""
    if f"exporter:{value}" not in ATTRIBUTES:
        raise request.context.refusal(f"the output type {show(value)} is not served")
    return value


def exporter_attrs(value: dict[str, str], request: Request) -> dict[str, str]:
    """Judge an exporter's settings."""
    message = request.message
    kind = message.ExporterDeprecated if hasattr(message, "ExporterDeprecated") else message.Type
    return attributes(f"exporter:{kind}", value, request)


def tags(value: str, request: Request) -> str:
    """Note the names that the image is to have; whose they are, the root helper knows."""
    for name in value.split(","):
        if not REFERENCE.fullmatch(name):
            raise Malformed(f"{request.context.path}: {show(name)} is not the name of an image")
        if name not in request.tags:
            request.tags.append(name)
    return value


def push(value: str, request: Request) -> str:
    """Let only those push an image who may push images."""
    if value not in ("", "false"):
        request.pushes = True
    return value


def ulimit(value: str, request: Request) -> str:
    """Judge the steps' ulimits, by the rule for containers'."""
    items: list[dict[str, object]] = []
    for text in value.split(",") if value else []:
        match = _ULIMIT.fullmatch(text)
        if not match:
            raise Malformed(f"{request.context.path}: {show(text)} is not NAME=SOFT[:HARD]")
        items.append({"Name": match[1], "Soft": int(match[2]), "Hard": int(match[3] or match[2])})
    bounds.ulimits(items, request.context)
    return value


def shm_size(value: str, request: Request) -> str:
    """Judge the size of the steps' /dev/shm, by the rule for containers'."""
    if not _SIZE.fullmatch(value):
        raise Malformed(f"{request.context.path}: {show(value)} is not a size in bytes")
    bounds.shm_size(int(value), request.context)
    return value


def scanner(value: str, request: Request) -> str:
    """Judge the image that scans a result. It is trusted like a frontend's.

    BuildKit makes that step itself, after the build: on its own bridge, below no user's cgroup, from an image that
    nobody has looked at (`bases`), and that no list of registries holds.
    """
    if registries.ALL not in request.context.names("frontends") or not registries.free(request.context):
        why = "may not have the builder run a scanner's image (allowed: leave it out, and scan what was built)"
        raise request.context.refusal(why, "frontends")
    return value


def entitlements(value: list[str], request: Request) -> list[str]:
    """Judge what a build may ask for in its steps: the host's network, or everything."""
    for item in value:
        if item == "network.host" and "network" in request.context.names("host_namespaces"):
            continue
        rule = "host_namespaces" if item == "network.host" else "privileged"
        if rule == "host_namespaces" or not request.context.flag(rule):
            raise request.context.refusal(f"may not give a build {show(item)} (allowed: leave it out)", rule)
    return value


RULES |= {
    function.__name__: function
    for function in (
        own_ref, own_session, sent_session, frontend, syntax, frontend_attrs, namespace, label, source, cache_from,
        cache_imports, cache, cache_attrs, exporter, exporter_attrs, tags, push, ulimit, shm_size, scanner,
        entitlements,
    )
}  # fmt: skip
RULES |= {name: held(judge) for name, judge in SHARED.items()}
