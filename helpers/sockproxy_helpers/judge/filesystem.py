"""Judge the fields of images, builds and volumes; a container's mounts are judged in `mounts`."""

from __future__ import annotations

import re

from sockproxy_helpers.api import names
from sockproxy_helpers.api.fields import Rules
from sockproxy_helpers.api.operations import NAME
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.upstream.objects import OWNER
from . import bounds, mounts, registries, rules
from .context import Context
from .rules import needs, network_mode, only

_INSTRUCTION = re.compile(r"\s*(?:ONBUILD\s+)?([A-Za-z]+)(?:\s+(.*))?", re.IGNORECASE)
_KEY = r"[A-Za-z0-9_./:-]+"
_PAIR = rf"""(?:({_KEY})|"({_KEY})"|'({_KEY})')=(?:"[^"\\]*"|'[^'\\]*'|[^\s"'\\]*)"""
_PAIRS = re.compile(rf"{_PAIR}(?:\s+{_PAIR})*\s*")
_OLD_PAIR = re.compile(rf"({_KEY})\s+[^\\]*")
_ACCOUNT = re.compile("[a-z0-9_-]+")  # of Docker Hub: what has no dot or colon is no host
_BUILDKIT = re.compile(r"(?:.*/)?moby/buildkit(?:[:@].*)?")
_PLATFORM = ("architecture", "os", "os.version", "os.features", "variant")


def changes(value: list[str], ctx: Context) -> list[str]:
    """Keep our labels out of Dockerfile instructions, by reading LABEL more strictly than the daemon does.

    A line ends where it does for the daemon: what `str.splitlines` takes for an end besides is a letter to it.
    """
    for change in value:
        for line in change.split("\n"):
            _change(line, ctx)
    return value


def image_changes(value: list[str] | None, ctx: Context) -> list[str] | None:
    """Judge the instructions for an imported image, and write down in it whose it is; a pull has none."""
    value = changes(value or [], ctx)
    return [*value, f"LABEL {OWNER}={ctx.caller.uid}"] if ctx.built.get("fromSrc") else value or None


def _change(line: str, ctx: Context) -> None:
    match = _INSTRUCTION.fullmatch(line)
    if line.strip() and (not match or line.rstrip().endswith(("\\", "`"))):
        raise Malformed(f"{ctx.path}: {show(line)} is not one Dockerfile instruction on a line of its own")
    if not match or match[1].upper() != "LABEL":
        return
    rest = match[2] or ""
    old = _OLD_PAIR.fullmatch(rest)
    if old:
        keys = [old[1]]
    elif _PAIRS.fullmatch(rest):
        keys = ["".join(found) for found in re.findall(_PAIR, rest)]
    else:
        raise ctx.refusal(
            'a LABEL that is not plain (allowed: LABEL key=value key2="a value", without \\ or $ in keys)'
        )
    for key in keys:
        rules.refuse_label(key, ctx)


def builder(value: str | None, ctx: Context) -> str | None:
    """Allow the classic builder, unless who sees all has a list of registries: those Dockerfiles are not read here."""
    if value == "2":
        raise ctx.refusal("BuildKit is served by docker buildx build only (allowed: that, or the classic builder)")
    if value not in ("", "1", None):
        raise Malformed(f"{ctx.path}: {show(value)} is no builder")
    if ctx.flag("sees_all") and not registries.free(ctx):
        raise ctx.refusal("may not use the classic builder (allowed: docker buildx build)", registries.RULE)
    return value


def platform(value: object, ctx: Context) -> object:
    """Make sure that a platform is one: its fields have dots in their names, so they can't be rows."""
    if not isinstance(value, dict) or not value.keys() <= set(_PLATFORM):
        raise Malformed(f"{ctx.path}: not a platform (allowed: an object with {', '.join(_PLATFORM)})")
    for item in value.values():
        words = item if isinstance(item, list) else [item]
        if not all(isinstance(word, str) for word in words):
            raise Malformed(f"{ctx.path}: a platform has strings only")
    return value


def platforms(value: list[object], ctx: Context) -> list[object]:
    """Judge several platforms."""
    return [platform(item, ctx) for item in value]


def from_image(value: str, ctx: Context) -> str:
    """Allow the images of the role's registries, but BuildKit's own: buildx pulls it to run a privileged builder."""
    if _BUILDKIT.fullmatch(value) and not ctx.flag("privileged"):
        why = "may not start a BuildKit builder (allowed: the daemon's own, docker buildx use default)"
        raise ctx.refusal(why, "privileged")
    if value and not registries.free(ctx):
        repository, tag, digest = names.pulled(value, str(ctx.built.get("tag", "")))
        registries.judge(f"{repository}@{digest}" if digest else f"{repository}:{tag or '*'}", ctx)
    return value


def asked_of(value: str, ctx: Context) -> str:
    """Allow to ask the role's registries what they have."""
    if not registries.free(ctx):
        registries.judge(names.full(value), ctx)
    return value


def search_term(value: str, ctx: Context) -> str:
    """Allow a search at Docker Hub; a term may name another host, and the daemon would ask that one."""
    first, slash, _ = value.partition("/")
    elsewhere = slash and (first == "localhost" or not _ACCOUNT.fullmatch(first))
    if elsewhere and not ctx.flag("fetch"):
        raise ctx.refusal("may not have the daemon search at other hosts (allowed: Docker Hub, by words)", "fetch")
    registries.judge_host(first if elsewhere else "docker.io", ctx)
    return value


def volume_name(value: str, ctx: Context) -> str:
    """Allow the Engine's grammar of volume names; "" lets the daemon choose one."""
    if value and not NAME.fullmatch(value):
        raise Malformed(f"{ctx.path}: {show(value)} is not a name (allowed: letters, digits, _ . -)")
    return value


RULES: Rules = {
    "asked_of": asked_of,
    "binds": mounts.binds,
    "build_network": network_mode,
    "builder": builder,
    "changes": changes,
    "cpu_quota_or_limit": bounds.cpu_quota_or_limit,
    "driver_options": rules.driver_options,
    "from_image": from_image,
    "from_src": only(("", "-"), "fetch", "let the daemon fetch a URL"),
    "ignored": rules.ignored,
    "image_changes": image_changes,
    "isolation": rules.isolation,
    "labels": rules.labels,
    "own_cache": rules.own_cache,
    "own_cgroup": rules.own_cgroup,
    "own_filters": rules.own_filters,
    "search_term": search_term,
    "seen_filters": rules.seen_filters,
    "owned_labels": rules.owned_labels,
    "memory_or_limit": bounds.memory_or_limit,
    "memory_swap": bounds.memory_swap,
    "mount_points": mounts.mount_points,
    "mounts": mounts.mounts,
    "platform": platform,
    "platforms": platforms,
    "propagation": mounts.propagation,
    "remote": needs("fetch", "let the daemon fetch a build context: send it"),
    "security_options": needs("security_options", "set security options"),
    "shm_size": bounds.shm_size,
    "swept": rules.swept,
    "tmpfs": mounts.tmpfs,
    "tmpfs_size": bounds.tmpfs_size,
    "storage_opt": mounts.storage_opt,
    "ulimits": bounds.ulimits,
    "volume_driver": only(("", "local"), "driver_options", "choose this volume driver"),
    "volume_name": volume_name,
    "working_dir": rules.working_dir,
}
