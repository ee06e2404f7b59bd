"""`sockproxy audit play REQUEST`: what an exec or attach printed, if its role has sessions recorded."""

from __future__ import annotations

import argparse
import os
import sys
import time

from sockproxy.audit.recordings import RID, path_of
from sockproxy.review import recordings
from sockproxy.review.commands import show
from sockproxy.review.text import plain

PAUSE = 2.0  # seconds that nothing happened are shown as so many, at most


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    show.add(parser)
    parser.add_argument(
        "--terminal", action="store_true", help="as it looked, in its time; only what draws is passed on"
    )
    parser.add_argument("--speed", metavar="FACTOR", type=float, default=1.0, help="of --terminal (%(default)s)")


def main(options: argparse.Namespace) -> int:
    """Run the command; 1 when there is no recording, or it is not what the record says."""
    found = [call for call in show.of(options) if "recording" in call.outcome or _live(options, call.rid)]
    if not found:
        print("sockproxy audit: no recording of that request", file=sys.stderr)
        return 1
    code = 0
    for call in found:
        said = call.outcome.get("recording") or {"error": "it goes on, and is not proved yet"}
        if finding := recordings.trouble(options.log_dir, call.rid, said):
            print(f"sockproxy audit: {finding.word} {finding.place}: {finding.text}", file=sys.stderr)
            code = 1
        if said.get("error"):
            print(f"sockproxy audit: not whole: {plain(said['error'])}", file=sys.stderr)
        if os.path.exists(path_of(options.log_dir, call.rid)):
            _play(options, call.rid)
    return code


def _live(options: argparse.Namespace, rid: str) -> bool:
    return bool(RID.fullmatch(rid)) and os.path.exists(path_of(options.log_dir, rid))


def _play(options: argparse.Namespace, rid: str) -> None:
    events = recordings.events(options.log_dir, rid)
    if not options.terminal:
        for line in recordings.lines_of(
            text if kind == "o" else f"\n[{text}]\n" for _, kind, text in events if kind in "om"
        ):
            print(line)
        return
    screen, before = recordings.Screen(), 0.0
    try:
        for at, kind, text in events:
            if kind == "o":
                sys.stdout.flush()
                time.sleep(min(PAUSE, max(0.0, (at - before) / max(options.speed, 0.01))))
                before = at
                sys.stdout.write(screen.feed(text))
    finally:
        sys.stdout.write(recordings.RESET)
