"""`sockproxy audit follow`: tell what happens, as it happens."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator

from sockproxy.audit.segments import LIVE
from sockproxy.review import choose, show
from sockproxy.review.search import Call, genuine, load, outcome

PAUSE = 0.2  # seconds between looks
WAITING = 10_000  # calls whose outcome is awaited
SLOW = 2.0  # seconds after which a call is told though it goes on


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    choose.add_filters(parser)


def main(options: argparse.Namespace) -> int:
    """Run the command until it is interrupted."""
    open_calls: dict[str, tuple[Call, float]] = {}
    for line in _lines(os.path.join(options.log_dir, LIVE)):
        record = load(line)
        rid, now = str(record.get("rid")), time.monotonic()
        if record.get("ev") == "outcome" and rid in open_calls:
            call, _ = open_calls.pop(rid)
            call.outcome = outcome(record)
            _tell(call, options)
        elif record.get("ev") == "deny":
            _tell(Call(record), options)
        elif record.get("ev") == "intent" and genuine(record) and len(open_calls) < WAITING:
            open_calls[rid] = (Call(record), now)
        elif record and record.get("ev") not in ("intent", "outcome", "seal"):
            print(show.event(record), flush=True)
        for late in [rid for rid, (_, since) in open_calls.items() if now - since > SLOW]:
            _tell(open_calls.pop(late)[0], options)
    return 0


def _tell(call: Call, options: argparse.Namespace) -> None:
    if choose.matches(call, options) and all(text in str(call.record) for text in options.text):
        print(show.line(call), flush=True)


def _lines(path: str) -> Iterator[bytes]:
    """Give the lines that are added to a file, and to the one that takes its place; now and then nothing."""
    file = open(path, "rb")  # noqa: SIM115 (closed below)
    file.seek(0, os.SEEK_END)
    rest = b""
    while True:
        chunk = file.read(1 << 16)
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if chunk:
            continue
        yield b""
        time.sleep(PAUSE)
        try:
            replaced = os.stat(path).st_ino != os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            continue
        if replaced and not file.peek(1):
            file.close()
            file, rest = open(path, "rb"), b""  # noqa: SIM115
