"""`sockproxy audit verify`: say what is proved of the record, what is not, and where it was changed."""

from __future__ import annotations

import argparse
import sys

from sockproxy.review.verify import MOST, Anchors, Verifier, read_anchors, verify

CANNOT = """what this can't prove:
- that nothing behind the last seal was cut off or changed: only an anchor that is newer, kept elsewhere, can
- that records since the last seal were not forged by somebody who was root, or the writer, at that time
- that the first key is the writer's own: compare it with the one in the system's log of that day{anchored}
- that the clock was right; and that what the record tells is all that happened on this host: it is what went through
  sockproxy"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--anchors", metavar="FILE", help="seals kept elsewhere: journalctl -t sockproxy-audit; - reads"
    )


def main(options: argparse.Namespace) -> int:
    """Run the command; 0: sound, 1: a finding, 2: it could not be read."""
    try:
        anchors = _anchors(options.anchors) if options.anchors else None
        found = verify(options.log_dir, anchors)
    except OSError as error:
        print(f"sockproxy audit verify: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    if not found.records and not found.findings:
        print(f"sockproxy audit verify: there is no record in {options.log_dir}", file=sys.stderr)
        return 2
    for line in report(found, anchors):
        print(line)
    return 1 if found.findings else 0


def _anchors(path: str) -> Anchors:
    if path == "-":
        return read_anchors(sys.stdin.buffer.read().decode("utf-8", "replace"))
    with open(path, encoding="utf-8", errors="replace") as file:
        return read_anchors(file.read())


def report(found: Verifier, anchors: Anchors | None) -> list[str]:
    """Put the result into words."""
    first = found.first or 1
    lines = [f"records   {found.records:,}, numbers {first} to {found.last}, until {found.ended}"]
    unsealed = found.last - found.sealed if found.sealed else found.records
    lines.append(
        f"sealed    up to number {found.sealed}, by {found.seals:,} seals; {unsealed:,} records not sealed (yet)"
    )
    if anchors is None:
        lines.append("anchored  nothing: no anchors were given (--anchors)")
    else:
        newest = max(anchors.heads, default=0)
        lines.append(f"anchored  up to number {newest}: {found.matched} of {len(anchors.heads)} anchors match")
    if found.key:
        lines.append(f"key       the first: {found.key}")
    if found.pruned:
        lines.append(f"pruned    records 1 to {found.pruned} were deleted by `prune`, on the record")
    if found.repaired:
        lines.append(f"torn      {found.repaired} writes were cut off (power, a full disk) and are accounted for")
    if found.lost:
        lines.append(f"lost      {found.lost} events could not be written, as the record itself says (full disk)")
    lines += [f"{finding.word:9} {finding.place}: {finding.text}" for finding in found.findings]
    if len(found.findings) >= MOST:
        lines.append(f"… and perhaps more: only {MOST} findings are named")
    lines.append("result    " + ("DAMAGED: this record is not as it was written" if found.findings else "sound"))
    return [*lines, *CANNOT.format(anchored="" if anchors is None else ", which --anchors did").split("\n")]
