"""`sockproxy audit show REQUEST`: the story of one request."""

from __future__ import annotations

import argparse
import sys

from sockproxy.review import show
from sockproxy.review.search import Call, calls, contents, inner
from sockproxy.review.text import plain


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("request", metavar="REQUEST", help="its id, as refusals and X-Sockproxy-Request-Id tell it")


def main(options: argparse.Namespace) -> int:
    """Run the command; 1 when there is no such request."""
    found = of(options)
    for index, call in enumerate(found):
        print(*([""] if index else []), *show.story(call), sep="\n")
    return 0 if found else 1


def of(options: argparse.Namespace) -> list[Call]:
    """Find a request; both its records where it was to be done and then refused."""
    mark = b'"rid":"' + inner(options.request)
    found = [call for call in calls(contents(options.log_dir), [mark]) if call.rid.startswith(options.request)]
    if not found:
        print(f"sockproxy audit: no request {plain(options.request)} in {options.log_dir}", file=sys.stderr)
    return found
