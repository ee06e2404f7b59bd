"""`sockproxy policy diff OLD NEW`: which recorded calls would be decided otherwise."""

from __future__ import annotations

import argparse
import sys

from sockproxy.authoring import replay
from sockproxy.authoring.replay import Kind
from sockproxy.review.again import HIDDEN, NAMED
from sockproxy.review.text import plain


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("old", metavar="OLD", help=f"a policy file, or `{replay.BUILT_IN}`")
    parser.add_argument("new", metavar="NEW", help=f"a policy file, or `{replay.BUILT_IN}`")
    replay.add_options(parser)


def main(options: argparse.Namespace) -> int:
    """Run the command: 0 no verdict changes, 1 some do.

    Raises:
        ConfigError: a file is no policy.
        OSError: the record can't be read.
    """
    old, new = replay.policy(options.old), replay.policy(options.new)
    found, changed, untold = replay.kinds(options), list[Kind](), list[tuple[Kind, str]]()
    for kind in found:
        before, after = kind.judge(old), kind.judge(new)
        if before.untold != after.untold:
            untold.append((kind, after.untold or before.untold))
        elif before.refused != after.refused:
            changed.append(kind)
            words = (kind.call.user, kind.call.operation, kind.call.about() or "-")
            print(f"{'refused' if after.refused else 'allowed':<8} {plain(' '.join(words))}: {replay.times([kind])}")
            refusing = after if after.refused else before
            at = f": rule {refusing.at}" if refusing.at else ""
            print(f"         {plain(refusing.verdict)}{plain(at)} [{plain(kind.call.rid)}]")
    print(f"{replay.times(changed)} of {replay.times(found)} would be decided otherwise by {plain(options.new)}")
    for kind, what in untold:
        print(f"cannot be told: {plain(kind.call.operation)}: {plain(what)} [{plain(kind.call.rid)}]")
    print(f"note: {HIDDEN}", file=sys.stderr)
    if any(kind.who.container for kind in found):
        print(f"note: {NAMED}", file=sys.stderr)
    return 1 if changed else 0
