"""`sockproxy audit today`: the day in one screen."""

from __future__ import annotations

import argparse
from collections import Counter

from sockproxy.review import choose, show
from sockproxy.review.search import calls, contents
from sockproxy.review.summary import Summary, summarize
from sockproxy.review.text import plain
from sockproxy.review.verify import Verifier, verify

ROWS = 10


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--since", metavar="TIME", type=choose.moment, default=choose.moment("today"), help="(midnight UTC)"
    )
    parser.add_argument("--no-verify", action="store_true", help="do not look whether the record is sound")


def main(options: argparse.Namespace) -> int:
    """Run the command; 1 when the record is damaged."""
    found = (call for call in calls(contents(options.log_dir, options.since), []) if call.time >= options.since)
    summary = summarize(options.log_dir, found, options.since, "")
    proof = None if options.no_verify else verify(options.log_dir)
    for line in screen(summary, proof, options.since):
        print(plain(line))
    return 1 if proof and proof.findings else 0


def screen(summary: Summary, proof: Verifier | None, since: str) -> list[str]:
    """Form the lines."""
    total = summary.total
    if total:
        lines = [f"since {since[:16]}Z: {total.total()} calls by {len(summary.users)} users, {_counts(total)}"]
        lines += _table("user", summary.users)
        lines += _table("operation", summary.operations)
    else:
        lines = [f"since {since[:16]}Z: no calls. --since looks further back, --log-dir elsewhere"]
    if summary.rules:
        lines += ["", f"{'refused':>8}  rule, and one of the reasons"]
        lines += [f"{count:>8}  {rule}: {summary.reasons[rule]}" for rule, count in summary.rules.most_common(ROWS)]
    for name, new in (("users", summary.new_users), ("images", summary.new_images)):
        if new:
            lines += ["", f"never seen before: {name} {', '.join(new[:ROWS])}"]
    notable = [record for record in summary.events if record["ev"] not in ("read", "start", "stop")]
    if notable:
        lines += ["", "events"] + [show.event(record) for record in notable[-ROWS:]]
    reads = Counter(str(record.get("peer", {}).get("uid")) for record in summary.events if record["ev"] == "read")
    if reads:
        lines += [
            "",
            "the record was read: " + ", ".join(f"{count} times by uid {uid}" for uid, count in reads.items()),
        ]
    if proof:
        state = (
            f"{proof.findings[0].word} {proof.findings[0].place}: {proof.findings[0].text}"
            if proof.findings
            else "sound"
        )
        lines += ["", f"record  {state}; {proof.records} records, sealed up to {proof.sealed}, last {proof.last}"]
    return lines


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{counter[word]} {word}" for word in ("allowed", "refused", "failed", "unknown") if counter[word])


def _table(name: str, table: dict[str, Counter[str]]) -> list[str]:
    rows = sorted(table.items(), key=lambda item: -item[1].total())
    lines = ["", f"{'calls':>8}  {'refused':>7}  {name}"]
    lines += [f"{count.total():>8}  {count['refused'] or '-':>7}  {key}" for key, count in rows[:ROWS]]
    return lines + ([f"{'':>8}  {'':>7}  … {len(rows) - ROWS} more"] if len(rows) > ROWS else [])
