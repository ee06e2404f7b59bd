"""`sockproxy audit trail CONTAINER`: its whole life, across renames, with its execs."""

from __future__ import annotations

import argparse
import sys

from sockproxy.review import choose, show
from sockproxy.review.search import Call, calls, contents, inner
from sockproxy.review.text import plain

LEAST = 12  # letters of what is taken for the beginning of an ID


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("container", metavar="CONTAINER", help="a name that it ever had, or the beginning of its ID")
    parser.add_argument("--all", action="store_true", help="also what only looked at it")


def main(options: argparse.Namespace) -> int:
    """Run the command; 1 when there is no such container."""
    ids = _ids(options.log_dir, options.container)
    if not ids:
        print(f"sockproxy audit: no container {plain(options.container)} in {options.log_dir}", file=sys.stderr)
    for index, identity in enumerate(ids):
        life = _life(options.log_dir, identity)
        names = dict.fromkeys(name for call in life for name in _names(call, identity))
        print(*([""] if index else []), f"container {identity}", f"names     {plain(' '.join(names)) or '-'}", sep="\n")
        for call in life:
            if options.all or call.denied or call.request.get("method") not in ("GET", "HEAD"):
                print(show.line(call))
    return 0 if ids else 1


def _ids(folder: str, name: str) -> list[str]:
    """Find the containers that had this name, in the order of their appearance."""
    found: dict[str, None] = {}
    for call in calls(contents(folder), [inner(name)]):
        asked = choose.names(call, "container", name) and call.operation == "ContainerCreate"
        renamed = call.operation == "ContainerRename" and call.request.get("query", {}).get("name") == name
        for item in call.objects:
            identity = str(item.get("id"))
            of_that = item.get("name") == name or (len(name) >= LEAST and identity.startswith(name))
            if item.get("kind") == "container" and (of_that or asked or renamed):
                found[identity] = None
    return list(found)


def _life(folder: str, identity: str) -> list[Call]:
    """Find all about a container: execs name the one that they are in; what made it has its ID in the outcome only."""
    found = [*_made(folder, identity), *calls(contents(folder), [identity.encode()])]
    return sorted({call.rid + str(call.denied): call for call in found}.values(), key=lambda call: call.time)


def _made(folder: str, identity: str) -> list[Call]:
    mark = b'"made":[{"kind":"container","id":"%s"' % identity.encode()
    for content in contents(folder):
        for _, line in content.lines(mark):
            rid = line.partition(b'"rid":"')[2][:16]
            return list(calls(contents(folder), [b'"rid":"' + rid]))
    return []


def _names(call: Call, identity: str) -> list[str]:
    names = [str(item.get("name")) for item in call.objects if item.get("id") == identity and item.get("name")]
    asked = call.request.get("query", {})
    if call.operation in ("ContainerCreate", "ContainerRename") and not call.denied and asked.get("name"):
        names.append(str(asked["name"]))
    return names
