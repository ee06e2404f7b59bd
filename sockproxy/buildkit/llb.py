"""Judge the operations of low-level definitions (LLB), by the rules that a Dockerfile's steps are held to.

A definition is a list of encoded operations, each of which names those that it builds on by the digests of their
bytes. So an operation that is made anew has another name, and what builds on it has to call it by that.

What is not here: BuildOp, since the daemon would take its operations from a file that nobody has judged. Which images
may be used, and whether anything is fetched, the daemon sees to: see policy.py.
"""

from __future__ import annotations

import hashlib
from typing import Any

from sockproxy.buildkit.attributes import ATTRIBUTES, RULES, attributes
from sockproxy.buildkit.request import Request
from sockproxy.buildkit.rules import UPLOAD
from sockproxy_helpers.api import names
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.judge import bounds

MOST = 20_000  # operations; those of a large build are some hundreds
KINDS = ("exec", "source", "file", "build", "merge", "diff")
UNSET, HOST, NONE = range(3)  # NetMode
CACHE, TMPFS = 3, 4  # MountType


def operations(value: list[bytes], request: Request) -> list[bytes]:
    """Judge a definition operation by operation, and make it anew. What it says of each goes with the new digest."""
    definition, path = request.message, request.context.path
    if len(value) > MOST:
        raise request.context.refusal(f"of more than {MOST} operations")
    built: list[bytes] = []
    renamed: dict[str, str] = {}
    for index, untrusted_data in enumerate(value):
        data = _operation(untrusted_data, request, f"{path}[{index}]", renamed)
        renamed[_digest(untrusted_data)] = _digest(data)
        built.append(data)
    for entries in definition.metadata, definition.Source.locations:
        kept = [(renamed[key], _copy(entry)) for key, entry in entries.items() if key in renamed]
        entries.clear()
        for key, entry in kept:
            entries[key].CopyFrom(entry)
    return built


def _operation(untrusted_data: bytes, request: Request, path: str, renamed: dict[str, str]) -> bytes:
    operation = request.inner("pb.Op", untrusted_data, path)
    if sum(operation.HasField(kind) for kind in KINDS) > 1:
        raise Malformed(f"{path}: more than one operation")
    for item in operation.inputs:
        if item.digest not in renamed:
            raise Malformed(f"{path}.inputs: {show(item.digest[:80])} does not stand before it")
        item.digest = renamed[item.digest]
    data: bytes = operation.SerializeToString(deterministic=True)
    # The daemon knows a step of its own again by its own encoding, which may have the fields in another order.
    if request.facts.saw(untrusted_data) and _same(untrusted_data, operation):
        return untrusted_data
    return data


def _same(untrusted_data: bytes, operation: Any) -> bool:
    return bool(type(operation).FromString(untrusted_data) == operation)


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _copy(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def step_network(value: int, request: Request) -> int:
    """Judge a step's network."""
    if value not in (UNSET, HOST, NONE):
        raise Malformed(f"{request.context.path}: no such network mode")
    RULES["network"]("host" if value == HOST else "", request)
    return NONE if value == UNSET and not request.context.flag("build_bridge") else value


def step_security(value: int, request: Request) -> int:
    """Judge whether a step is privileged."""
    if not request.context.flag("privileged"):
        raise request.context.refusal("may not have a privileged step (allowed: leave it out)", "privileged")
    return value


def step_hostname(value: str, request: Request) -> str:
    """Keep steps of two users from being the same: see rules.frontend_attrs."""
    return request.apart


def step_cgroup(value: str, request: Request) -> str:
    """Have a step run below the user's own cgroup, unless the role lets the caller choose and the caller has."""
    return request.facts.cgroup if value in ("", request.facts.cgroup) else RULES["cgroup_parent"](value, request)


def step_ulimit(value: str, request: Request) -> str:
    """Judge a step's ulimit, by the rule for containers'."""
    item = request.message
    bounds.ulimits([{"Name": value, "Soft": item.Soft, "Hard": item.Hard}], request.context)
    return value


def step_mount(value: int, request: Request) -> int:
    """Put the user into a cache mount's name, which is the place where it is mounted if it has no other."""
    if not 0 <= value <= TMPFS:
        raise Malformed(f"{request.context.path}: no such kind of mount")
    mount = request.message
    if value == CACHE and not mount.cacheOpt.ID.startswith(f"{request.apart}/"):
        mount.cacheOpt.ID = f"{request.apart}/{mount.cacheOpt.ID or mount.dest}"
    return value


def origin(value: str, request: Request) -> str:
    """Judge what files are taken from, and write an image's name as the rules that the daemon applies do."""
    scheme, separator, rest = value.partition("://")
    if not separator or f"source:{scheme}" not in ATTRIBUTES:
        raise request.context.refusal(f"{show(value[:80])} is no kind of source that is served")
    if scheme == "docker-image":
        repository, tag, digest = names.split(rest)
        tag = tag or ("" if digest else "latest")
        value = f"docker-image://{repository}{tag and ':' + tag}{digest and '@' + digest}"
    elif scheme in ("git", "http", "https") and not UPLOAD.fullmatch(value):
        RULES["fetches"](value, request)
    request.origins.append(value)
    return value


def origin_attrs(value: dict[str, str], request: Request) -> dict[str, str]:
    """Judge the settings of a source."""
    return attributes(f"source:{request.message.identifier.partition('://')[0]}", value, request)


RULES |= {
    function.__name__: function
    for function in (
        operations, step_network, step_security, step_hostname, step_cgroup, step_ulimit, step_mount, origin,
        origin_attrs,
    )
}  # fmt: skip
