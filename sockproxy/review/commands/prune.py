"""`sockproxy audit prune`: delete old files. What is deleted is on the record before it is, and verify knows of it."""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import os
import socket
import sys

from sockproxy.audit import chain, segments
from sockproxy.review import recordings
from sockproxy.review.choose import moment
from sockproxy.review.search import load


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--before", metavar="TIME", type=moment, required=True, help="files that ended before: 90d, a date"
    )
    parser.add_argument("--dry-run", action="store_true", help="only tell which")


def main(options: argparse.Namespace) -> int:
    """Run the command; 2 when it can't be recorded, and so is not done."""
    names = segments.closed(options.log_dir)
    old: list[str] = []
    last = b""
    for name in names:
        with segments.open_file(options.log_dir, name) as file:
            line = collections.deque(file, maxlen=1).pop()
        if chain.when(line) >= options.before:
            break
        old.append(name)
        last = line
    if not old:
        print("nothing is that old")
        return 0
    end = load(last)
    size = sum(os.path.getsize(os.path.join(options.log_dir, name)) for name in old)
    print(f"{len(old)} files, {size / 1e6:.1f} MB, records up to {end['seq']} of {end['ts']}: {' '.join(old)}")
    if options.dry_run:
        return 0
    record = {
        "v": 1,
        "ev": "retention",
        "last": end["seq"],
        "head": end["h"],
        "next": end.get("next", ""),
        "sync": True,
    }
    record |= {"files": len(old), "before": options.before, "at": datetime.datetime.now(datetime.UTC).isoformat()}
    if not _record(options.runtime_dir, record):
        print("sockproxy audit: nothing is deleted: the writer is not there, or you are not root", file=sys.stderr)
        return 2
    for name in old:
        with segments.open_file(options.log_dir, name) as file:
            recordings.remove(options.log_dir, iter(file))
        os.unlink(os.path.join(options.log_dir, name))
    for path in recordings.forsaken(options.log_dir, options.before):
        os.unlink(path)
    print("deleted, with the recordings of their sessions, on the record")
    return 0


def _record(runtime: str, record: dict[str, object]) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(10)
            sock.connect(f"{runtime}/audit/audit.sock")
            sock.send(json.dumps(record).encode())
            return bool(load(sock.recv(4096)).get("seq"))
    except OSError:
        return False
