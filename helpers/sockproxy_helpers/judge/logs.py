"""Bound what a container's log may take of the disk, and of the daemon's work and memory on its way there."""

from __future__ import annotations

import re

from sockproxy_helpers.api.strict import CHEAP, is_cheap, show
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.upstream.objects import member
from .context import Context
from .walk import is_zero

BOUNDED = ("json-file", "local")  # drivers that keep files, and take the same options
SIZE, FILES, BUFFER = "max-size", "max-file", "max-buffer-size"
BUFFERED = 8 << 20  # bytes of a container's output that wait in the daemon, which nobody's limits count (its own: 1m)
_CHOOSING = ("env", "env-regex", "labels", "labels-regex")
_FREE = (SIZE, FILES, BUFFER, "compress", *_CHOOSING, "mode", "tag")
# What the daemon documents of its templates. Others can pad a text to the size of the machine's memory, or never end.
_FIELD = r"\{\{ ?\.(?:ID|FullID|Name|ImageID|ImageFullID|ImageName|DaemonName) ?\}\}"
_TAG = re.compile(rf"(?:[^{{]|{_FIELD})*")
TAG = 128  # characters of it; a field is a name, of 511 at most
# Bytes of environment and labels that a driver writes with each line, however short: a line itself has up to 16 KiB.
EACH_LINE = 4 << 10
_SIZE = re.compile(r"([0-9]{1,15})([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS = ("", "k", "m", "g", "t")


def log_options(value: dict[str, str] | None, ctx: Context) -> dict[str, str] | None:
    """Allow options of the drivers that keep files, and have them rotate within the role's bound.

    Without a driver, it is the daemon's own default that gets the options: see `unless_bounded`.
    """
    options, driver = dict(value or {}), str(ctx.built.get("Type", ""))
    for key in options:
        if key not in _FREE and not ctx.flag("driver_options"):
            raise ctx.refusal(f"may not set {show(key)} (allowed: {', '.join(_FREE)})", "driver_options")
    if not is_zero(options.get(BUFFER)) and not ctx.flag("driver_options") and _bytes(options[BUFFER], ctx) > BUFFERED:
        allowed = f"(allowed: up to {BUFFERED >> 20}m)"
        raise ctx.refusal(f"may not have a log's buffer of {options[BUFFER]} {allowed}", "driver_options")
    _texts(options, ctx)
    limit = ctx.number("limits", "logs")
    if limit is None or driver not in ("", *BOUNDED):
        return value
    if is_zero(options.get(FILES)):
        options[FILES] = "1" if options.get(SIZE) else "2"
        if driver == "local" and options[FILES] == "1":  # it would pack what it rotates, and refuses that with one file
            options.setdefault("compress", "false")
    if not re.fullmatch("[1-9][0-9]{0,3}", options[FILES]):
        raise Malformed(f"{ctx.path}: {show(options[FILES])} is no number of files")
    if is_zero(options.get(SIZE)):
        options[SIZE] = str(int(limit) // int(options[FILES]))
    if _bytes(options[SIZE], ctx) * int(options[FILES]) > limit:
        asked = f"{FILES} {options[FILES]} of {SIZE} {options[SIZE]}"
        raise ctx.refusal(f"may not keep logs of {asked} (allowed: together up to {limit} bytes)", "limits")
    return options


def _texts(options: dict[str, str], ctx: Context) -> None:
    """Refuse what the daemon would take much memory or time to read."""
    tag = options.get("tag", "")
    if not ((len(tag) <= TAG and _TAG.fullmatch(tag)) or ctx.flag("driver_options")):
        fields = "ID, FullID, Name, ImageID, ImageFullID, ImageName, DaemonName"
        allowed = f"(allowed: {TAG} characters, with {{{{.FIELD}}}}: {fields})"
        raise ctx.refusal(f"may not set this tag {allowed}", "driver_options")
    for key in ("env-regex", "labels-regex"):
        if not (is_cheap([options.get(key, "")]) or ctx.flag("driver_options")):
            raise ctx.refusal(f"may not set this {key} (allowed: {CHEAP})", "driver_options")


def _bytes(text: str, ctx: Context) -> int:
    """Read a size as the daemon does, or larger: it takes k for 1000 with one driver, for 1024 with the other."""
    match = _SIZE.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise Malformed(f"{ctx.path}: {show(text)} is no size (10m)")
    return int(match[1]) << 10 * _UNITS.index(match[2].lower())


def unless_bounded(host: dict[str, object], default: str) -> None:
    """Take our options out of a container's configuration where the daemon's default driver has none of them."""
    config = host.get("LogConfig")
    if isinstance(config, dict) and not config.get("Type") and default not in BOUNDED:
        options = config.get("Config")
        kept = {key: item for key, item in options.items() if key not in (SIZE, FILES)} if options else {}
        host["LogConfig"] = {**config, "Config": kept}


def chosen(part: object) -> dict[str, object]:
    """Give the log options by which a driver writes environment or labels with each line; none, most often."""
    options = member(part, "HostConfig", "LogConfig", "Config")
    return {key: text for key, text in options.items() if key in _CHOOSING} if isinstance(options, dict) else {}


def judge_chosen(part: object, image: dict[str, object], ctx: Context) -> None:
    """Bound what they choose, of the container's own and its image's.

    Args:
        part: the lifecycle part of a ContainerCreate.
        image: the image's configuration.

    Raises:
        Refused: it is too much: nobody's limits count what the daemon writes.
    """
    options, size = chosen(part), 0
    for kind, name in (("env", "Env"), ("labels", "Labels")):
        named, matched = str(options.get(kind, "")).split(","), options.get(f"{kind}-regex")
        texts = {**_pairs(image.get(name)), **_pairs(member(part, name))}  # what a pattern matches is Go's to say: all
        size += sum(len(f"{key}{text}".encode()) for key, text in texts.items() if matched or key in named)
    if size > EACH_LINE and not ctx.flag("driver_options"):
        ctx.path = "HostConfig.LogConfig.Config"
        why = f"may not have {size} bytes of environment and labels written with each line of a log"
        raise ctx.refusal(f"{why} (allowed: {EACH_LINE}: name fewer, by env and labels)", "driver_options")


def _pairs(value: object) -> dict[str, object]:
    if isinstance(value, list):
        return {key: text for key, _, text in (str(item).partition("=") for item in value)}
    return value if isinstance(value, dict) else {}
