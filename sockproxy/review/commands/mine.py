"""`sockproxy audit mine`: what the record has of oneself, as the process `own` tells it to anybody."""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import sys

from sockproxy.paths import RUNNING
from sockproxy.review import choose, show
from sockproxy.review.search import Content, calls, load
from sockproxy.review.text import plain

PATIENCE = 90.0  # seconds


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    choose.add_filters(parser)
    parser.add_argument("--story", action="store_true", help="tell all of each call, not one line")


def main(options: argparse.Namespace) -> int:
    """Run the command; 1 when there is nothing, 2 when it is not told."""
    lines = _ask(f"{options.runtime_dir}/own-lines.sock", options.since, options.until)
    error = load(lines[:1000]).get("error")
    if error:
        print(f"sockproxy audit: {plain(error)}", file=sys.stderr)
        return 2
    code = 1
    for call in calls(iter([Content("mine", lines)]), []):
        if choose.matches(call, options) and all(text in str(call.record) for text in options.text):
            print(*([*show.story(call), ""] if options.story else [show.line(call)]), sep="\n")
            code = 0
    return code


def _ask(path: str, since: str, until: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect(path)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}. {RUNNING}", path) from None
        told = []
        with contextlib.suppress(BrokenPipeError):  # it has answered, and does not want to know the question
            sock.send(json.dumps({"since": since, "until": until}).encode())
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(1 << 16):
                told.append(data)
        return b"".join(told)
