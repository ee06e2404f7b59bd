"""Judge what a container may see of the host's files, in each syntax that the API has for it.

SECURITY: this compares text only, and is the first filter. What a path leads to when the container starts is the
kernel's to say: the binds helper opens it with the caller's own rights (see `stage`).
"""

from __future__ import annotations

import re

from sockproxy_helpers.api.operations import NAME
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed
from . import bounds
from .context import Context
from .places import DAEMON_SOCKETS, allowed, join, places
from .rules import clean, only

_ODD = re.compile(r"[\x00-\x1f\x7f]")
_FREE_MODES = ("rw", "ro", "nocopy", "private", "rprivate", "consistent", "cached", "delegated", "default")

_TMPFS = re.compile(
    "rw|ro|no(?:exec|suid|dev|atime|diratime)|exec|suid|dev|atime|diratime|(?:rel|strict)atime|(?:a)?sync|"
    "(?:mode|uid|gid|nr_inodes|nr_blocks)=[0-9]{1,18}|size=(?:[0-9]{1,15}[kmgKMG]?|[0-9]{1,3}%)"
)
_TMPFS_WORDS = "rw, ro, exec, noexec, suid, nosuid, dev, nodev, the times', size, mode, uid, gid, nr_inodes, nr_blocks"

propagation = only(("", "private", "rprivate"), "security_options", "share mounts with the host")


def _place(source: str, writable: bool, ctx: Context, at: str) -> str:
    """Allow a source at or below one of the role's places.

    Returns:
        The path, cleaned.
    """
    parts = clean(source)
    if not source.startswith("/") or _ODD.search(source):
        raise Malformed(f"{ctx.path}{at}: {show(source)} is not an absolute path")
    known = places(ctx.rule("binds"), ctx.caller.home)
    if allowed(parts, writable, known) or (join(parts) in DAEMON_SOCKETS and not ctx.flag("plain_binds")):
        return join(parts)
    instead = ", ".join(f"{join(path)} {mode}" for path, mode in known) or "no host paths, named volumes"
    mode = "rw" if writable else "ro"
    raise ctx.refusal(f"may not bind {show(join(parts))} {mode} (allowed: {instead})", "binds", at)


def binds(value: list[str], ctx: Context) -> list[str]:
    """Judge `SOURCE:TARGET[:MODES]`, `VOLUME:TARGET[:MODES]` and `TARGET`."""
    return [_bind(text, ctx, f"[{index}]") for index, text in enumerate(value)]


def _bind(text: str, ctx: Context, at: str) -> str:
    parts = text.split(":")
    target = parts[min(1, len(parts) - 1)]
    if len(parts) > 3 or not target.startswith("/") or _ODD.search(text):
        raise Malformed(f"{ctx.path}{at}: {show(text)} is not SOURCE:/TARGET:MODE")
    if len(parts) == 1:
        return text
    modes = parts[2].split(",") if len(parts) == 3 else []
    for mode in modes:
        if mode not in _FREE_MODES and not ctx.flag("security_options"):
            free = ", ".join(_FREE_MODES)
            raise ctx.refusal(f"may not use the mode {show(mode)} (allowed: {free})", "security_options", at)
    return ":".join([_source(parts[0], "ro" not in modes, ctx, at), *parts[1:]])


def _source(source: str, writable: bool, ctx: Context, at: str) -> str:
    if source.startswith("/"):
        return _place(source, writable, ctx, at)
    if not NAME.fullmatch(source):
        raise Malformed(f"{ctx.path}{at}: {show(source)} is neither an absolute path nor the name of a volume")
    return source


def mounts(value: list[dict[str, object]], ctx: Context) -> list[dict[str, object]]:
    """Judge mounts by their type; the rows below judge their options."""
    for index, mount in enumerate(value):
        source, at = str(mount.get("Source", "")), f"[{index}]"
        kind = mount.get("Type", "")
        if kind == "bind":
            mount["Source"] = _place(source, _is_writable(mount, ctx), ctx, at + ".Source")
        elif kind == "volume":
            if source and not NAME.fullmatch(source):
                raise Malformed(f"{ctx.path}{at}.Source: {show(source)} is not the name of a volume")
        elif kind == "tmpfs":
            if source:
                raise Malformed(f"{ctx.path}{at}.Source: a tmpfs has none")
        elif kind != "image":
            raise ctx.refusal(
                f"mounts of type {show(str(kind))} (allowed: bind, volume, tmpfs, image)", at=f"{at}.Type"
            )
    return value


def _is_writable(mount: dict[str, object], ctx: Context) -> bool:
    """Tell whether any of a bind could be written: the mounts below it stay so when read-only is not recursive."""
    options = mount.get("BindOptions")
    shallow = isinstance(options, dict) and options.get("ReadOnlyNonRecursive") is True
    return mount.get("ReadOnly") is not True or shallow


def mount_points(value: dict[str, object], ctx: Context) -> dict[str, object]:
    """Make sure that the keys are paths in the container."""
    for path in value:
        if not path.startswith("/"):
            raise Malformed(f"{ctx.path}: {show(path)} is not an absolute path")
    return value


def tmpfs(value: dict[str, str], ctx: Context) -> dict[str, str]:
    """Allow the usual options of a tmpfs, and no size above the container's memory: in that it counts."""
    mount_points({**value}, ctx)
    for path, text in value.items():
        for option in text.split(",") if text else ():
            if not _TMPFS.fullmatch(option):
                raise ctx.refusal(f"the tmpfs option {show(option)} (allowed: {_TMPFS_WORDS})", at=f".{show(path)}")
            key, _, size = option.partition("=")
            if key == "size":
                bounds.tmpfs_size(_bytes(size), ctx)
    return value


def _bytes(size: str) -> int:
    """Read a tmpfs's size as the kernel does; a share of the machine's memory counts as the largest."""
    units = {"": 0, "k": 10, "m": 20, "g": 30}
    return 1 << 62 if size.endswith("%") else int(size.rstrip("kmgKMG")) << units[size.lstrip("0123456789").lower()]


def storage_opt(value: dict[str, str], ctx: Context) -> dict[str, str]:
    """Allow to bound the size of the container's own files."""
    for key in value:
        if key != "size" and not ctx.flag("driver_options"):
            raise ctx.refusal(f"may not set {show(key)} (allowed: size)", "driver_options")
    return value
