"""`sockproxy audit find`: one line a call."""

from __future__ import annotations

import argparse

from sockproxy.review import choose, show
from sockproxy.review.commands import export


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    choose.add_filters(parser)
    parser.add_argument("--format", choices=("text", "jsonl", "csv"), default="text", help="(%(default)s)")
    parser.add_argument("--last", metavar="N", type=int, default=0, help="only the last N")


def main(options: argparse.Namespace) -> int:
    """Run the command; 1 when there is nothing."""
    found = choose.chosen(options)
    if options.last > 0:
        found = iter(list(found)[-options.last :])
    if options.format != "text":
        return export.write(found, options.format)
    code = 1
    for call in found:
        print(show.line(call))
        code = 0
    return code
