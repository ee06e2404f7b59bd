"""Judge the fields of BuildKit's messages: one function a rule of the tables.

Each takes a field's value and the request, and returns what to send; it raises the refusal of the request's context.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from sockproxy.buildkit.request import Request
from sockproxy.buildkit.schema import rows
from sockproxy_helpers import bounds
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.objects import OWNER
from sockproxy_helpers.operations import REFERENCE
from sockproxy_helpers.rules import refuse_label
from sockproxy_helpers.strict import show

Rule = Callable[[Any, Request], Any]
_UPLOAD = re.compile(r"http://buildkit-session/[A-Za-z0-9_-]+")  # a tar that comes by the caller's own session
_OWN_SOURCE = re.compile(r"(?:local|docker-image|oci-layout):.*")
_ULIMIT = re.compile(r"([a-z]{1,16})=(-?[0-9]{1,18})(?::(-?[0-9]{1,18}))?")
_SIZE = re.compile(r"[0-9]{1,18}")
_MODES = ("", "none", "sandbox", "default")
ALL = "ALL"


def own_ref(value: str, request: Request) -> str:
    """Make a build's name the caller's; "" where it stands for all of them."""
    return request.own(value) if value else value


def own_session(value: str, request: Request) -> str:
    """Make a session's name the caller's."""
    return request.own(value)


def frontend(value: str, request: Request) -> str:
    """Allow the built-in frontend for Dockerfiles: another is a program that may ask the builder for anything."""
    if value not in ("", "dockerfile.v0") and not request.context.flag("unmodelled"):
        raise request.context.refusal(f"may not use the frontend {show(value)} (allowed: dockerfile.v0)", "unmodelled")
    return value


def syntax(value: str, request: Request) -> str:
    """Judge another frontend, by the name of its image."""
    if not request.context.flag("unmodelled"):
        raise request.context.refusal("may not use a frontend's image (allowed: leave it out)", "unmodelled")
    return value


def frontend_attrs(value: dict[str, str], request: Request) -> dict[str, str]:
    """Judge the frontend's settings, and add our own: whose the image is, and what keeps users' steps apart."""
    built = _attributes("frontend", value, request)
    own = f"sockproxy-{request.context.caller.uid}"
    built[f"label:{OWNER}"] = str(request.context.caller.uid)
    built["build-arg:BUILDKIT_CACHE_MOUNT_NS"] = own  # cache mounts of other users have other names
    # The name of the host that a step runs on is part of what it is cached by: steps of two users are never the same,
    # so neither gets the other's result, nor has the other's secrets used for it.
    built["hostname"] = own
    if not request.context.flag("build_bridge") and built.get("force-network-mode", "") != "host":
        built["force-network-mode"] = "none"
    if not request.context.flag("unmodelled"):
        built["cmdline"] = "sockproxy"  # with it the built-in frontend passes over "# syntax=" lines
    return built


def namespace(value: str, request: Request) -> str:
    """Keep what keeps users apart out of clients' hands."""
    raise request.context.refusal("is set by sockproxy (allowed: leave it out)")


def label(value: str, request: Request) -> str:
    """Keep our own labels out of clients' hands."""
    path = request.context.path
    refuse_label(path.partition(":")[2], request.context)
    return value


def source(value: str, request: Request) -> str:
    """Allow a build context of the caller's own, and images; the daemon is not sent anywhere else."""
    if not (_UPLOAD.fullmatch(value) or _OWN_SOURCE.fullmatch(value)) and not request.context.flag("fetch"):
        raise request.context.refusal("may not let the daemon fetch a build context (allowed: send it)", "fetch")
    return value


def cache_from(value: str, request: Request) -> str | None:
    """Leave out what the cache is to be filled from, where the role may not fill what all share.

    An imported result is kept under its key, and is the result of that step for everybody from then on.
    """
    return value if request.context.flag("cache_imports") else None


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
        built.append({"Type": cache(kind, request), "Attrs": _attributes(f"cache:{kind}", attrs, request)})
    return cache_from(json.dumps(built), request)


def cache(value: str, request: Request) -> str:
    """Allow the kinds of caches that have rows."""
    if f"cache:{value}" not in ATTRIBUTES:
        raise request.context.refusal(f"the cache type {show(value)} is not served")
    return value


def cache_attrs(value: dict[str, str], request: Request) -> dict[str, str]:
    """Judge a cache's settings."""
    return _attributes(f"cache:{request.message.Type}", value, request)


def exporter(value: str, request: Request) -> str:
    """Allow the exporters that have rows."""
    if f"exporter:{value}" not in ATTRIBUTES:
        raise request.context.refusal(f"the output type {show(value)} is not served")
    return value


def exporter_attrs(value: dict[str, str], request: Request) -> dict[str, str]:
    """Judge an exporter's settings."""
    message = request.message
    kind = message.ExporterDeprecated if hasattr(message, "ExporterDeprecated") else message.Type
    return _attributes(f"exporter:{kind}", value, request)


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


def fetches(value: str, request: Request) -> str:
    """Let the daemon speak to any host only where the role says so."""
    if not request.context.flag("fetch"):
        raise request.context.refusal("may not have the daemon speak to any host (allowed: leave it out)", "fetch")
    return value


def cgroup_parent(value: str, request: Request) -> str:
    """Judge the parent cgroup of a build's steps."""
    if value and not request.context.flag("cgroup_parent"):
        raise request.context.refusal("may not choose the parent cgroup (allowed: leave it out)", "cgroup_parent")
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


def network(value: str, request: Request) -> str:
    """Judge the network of a build's steps."""
    if value not in _MODES and "network" not in request.context.names("host_namespaces"):
        raise request.context.refusal("may not share the host's network namespace (allowed: none)", "host_namespaces")
    return value


def scanner(value: str, request: Request) -> str:
    """Judge the image that scans a result, which is run without regard to any list of base images."""
    if ALL not in request.context.names("base_images"):
        raise request.context.refusal("may not use a scanner's image (allowed: leave it out)", "base_images")
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


def returned(value: dict[str, bytes], request: Request) -> dict[str, bytes]:
    """Take back of a result what the daemon said of it, unchanged: it holds the image's labels."""
    for key, item in value.items():
        if not request.facts.saw(item):
            raise request.context.refusal("is not what the builder returned", at=f".{show(key)}")
    return value


def own_content(value: str, request: Request) -> str:
    """Let a client read what the history of its own builds has named to it, on this connection."""
    if not request.facts.saw(value.encode()) and not request.context.flag("sees_all"):
        raise request.context.refusal(f"{show(value)} is not of a build of yours")
    return value


def sent_details(value: list[object], request: Request) -> list[object]:
    """Leave out the details of a client's own error: the daemon has no use for them."""
    return []


def _attributes(name: str, value: dict[str, str], request: Request) -> dict[str, str]:
    """Judge a map by its rows in tables/attributes.txt."""
    path, built = request.context.path, {}
    for key, item in sorted(value.items()):
        rule = next((rule for pattern, rule in ATTRIBUTES.get(name, ()) if _fits(pattern, key)), None)
        request.context.path = f"{path}.{key if key.isprintable() else show(key)}"
        if rule is None:
            raise request.context.refusal("is not known to this version (allowed: leave it out)")
        if rule == "never":
            raise request.context.refusal("is not served (allowed: leave it out)")
        kept = item if rule == "free" else RULES[rule](item, request)
        if kept is not None:
            built[key] = kept
    return built


def _fits(pattern: str, key: str) -> bool:
    return key.startswith(pattern[:-1]) if pattern.endswith("*") else key == pattern


def _load() -> dict[str, list[tuple[str, str]]]:
    table: dict[str, list[tuple[str, str]]] = {}
    for names, pattern, rule in rows("attributes"):
        group, _, types = names.partition(":")
        for name in [f"{group}:{kind}" for kind in types.split("|")] if types else [group]:
            table.setdefault(name, []).append((pattern, rule))
    return table


ATTRIBUTES = _load()
RULES: dict[str, Rule] = {
    function.__name__: function
    for function in (
        own_ref, own_session, frontend, syntax, frontend_attrs, namespace, label, source, cache_from, cache_imports,
        cache, cache_attrs, exporter, exporter_attrs, tags, push, fetches, cgroup_parent, ulimit, shm_size, network,
        scanner, entitlements, returned, own_content, sent_details,
    )
}  # fmt: skip
