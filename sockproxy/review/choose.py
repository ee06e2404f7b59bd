"""Choose records by what the command line says."""

from __future__ import annotations

import argparse
import datetime
import re
from collections.abc import Iterator

from sockproxy.review.search import Call, calls, contents, inner, needle

_AGO = re.compile(r"([0-9]{1,6})([smhdw])")
_HEX = re.compile(r"[0-9a-f]{4,64}")  # an ID, perhaps: what made it has it in its outcome only
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
FIELDS = ("user", "operation", "container", "image", "rule", "verdict")


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose calls."""
    group = parser.add_argument_group("which calls")
    group.add_argument("--user", metavar="NAME", help="by this user, or `uid:NUMBER`")
    group.add_argument("--operation", metavar="NAME", help="ContainerCreate, … as the Engine API names it")
    group.add_argument("--container", metavar="NAME", help="on this container: a name, or the beginning of an ID")
    group.add_argument("--image", metavar="NAME", help="on this image, or with it")
    group.add_argument("--rule", metavar="FILE:LINE", help="decided by this line of the policy")
    group.add_argument("--verdict", choices=("allow", "deny"))
    group.add_argument("--would", action="store_true", help="let through by a role in warn mode, else refused")
    group.add_argument("--since", metavar="TIME", type=moment, default="", help="2026-11-25[T08:30[:00]] (UTC), 2h, 7d")
    group.add_argument("--until", metavar="TIME", type=moment, default="")
    group.add_argument("text", nargs="*", metavar="TEXT", help="anything that stands in the record")


def moment(text: str) -> str:
    """Read a time: a date, a date and time (UTC), today, yesterday, or how long ago.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text:  # the default: no bound
        return ""
    now = datetime.datetime.now(datetime.UTC)
    if found := _AGO.fullmatch(text):
        return stamp(now - datetime.timedelta(seconds=int(found[1]) * _UNITS[found[2]]))
    if text in ("today", "yesterday"):
        return stamp(
            (now - datetime.timedelta(days=text == "yesterday")).replace(hour=0, minute=0, second=0, microsecond=0)
        )
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: 2026-11-25, 2026-11-25T08:30, 2h, 7d, today") from None
    return stamp(parsed.replace(tzinfo=datetime.UTC) if parsed.tzinfo is None else parsed.astimezone(datetime.UTC))


def stamp(time: datetime.datetime) -> str:
    """Write a time as the record does."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def chosen(options: argparse.Namespace) -> Iterator[Call]:
    """Find the calls that the options choose.

    Raises:
        OSError: the record can't be read.
    """
    for call in calls(contents(options.log_dir, options.since, options.until), _needles(options)):
        if matches(call, options):
            yield call


def _needles(options: argparse.Namespace) -> list[bytes]:
    found = [inner(text) for text in options.text]  # those that few lines have come first
    if options.container and not _HEX.fullmatch(options.container):
        found.append(inner(options.container))
    if options.rule:
        found.append(inner(options.rule))
    if options.image:
        found.append(inner(options.image.removeprefix("sha256:").partition(":")[0]))  # name and tag may stand apart
    if options.user and not options.user.startswith("uid:"):
        found.append(needle("user", options.user))
    if options.would:
        found.append(b'"would_refuse"')
    if options.operation:
        found.append(needle("op", options.operation))
    if options.verdict:
        found.append(needle("verdict", options.verdict))
    return found


def matches(call: Call, options: argparse.Namespace) -> bool:
    """Tell whether a call is one of those."""
    if (options.since and call.time < options.since) or (options.until and call.time > options.until):
        return False
    if options.user and options.user not in (call.who.get("user"), f"uid:{call.who.get('uid')}"):
        return False
    if options.would and (call.denied or not call.would):
        return False
    if options.verdict and call.denied != (options.verdict == "deny"):
        return False
    if options.operation and options.operation != call.operation:
        return False
    if options.rule and options.rule not in str(call.decision.get("at")):
        return False
    if (
        options.image
        and options.image not in (call.image, call.image.partition(":")[0])
        and not names(call, "image", options.image)
    ):
        return False
    return not options.container or names(call, "container", options.container)


def names(call: Call, kind: str, name: str) -> bool:
    """Tell whether a call is about the object of that name, or whose ID begins so, or what is in or with it."""
    for item in call.objects:
        if item.get("kind") == kind:
            told, identities = str(item.get("name")), (item.get("id"), item.get("digest"))
        else:  # an exec tells its container, a container its image
            told = str(item.get("image")) if kind == "image" else ""
            identities = (item.get("image_id"), None) if kind == "image" else (item.get(kind), None)
        short = told.removeprefix("docker.io/").removeprefix("library/") if kind == "image" else told
        if name in (told, short, short.partition(":")[0]) or _begins(name, *identities):
            return True
    asked = call.request.get("query")
    created = call.operation == "ContainerCreate" and isinstance(asked, dict) and asked.get("name") == name
    return kind == "container" and created


def _begins(name: str, *identities: object) -> bool:
    return any(str(one or "").startswith((name, f"sha256:{name}")) for one in identities)
