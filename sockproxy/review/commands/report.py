"""`sockproxy audit report --html FILE`: one page that needs nothing else, to hand over."""

from __future__ import annotations

import argparse
import os

from sockproxy.review import choose, page
from sockproxy.review.search import Call, calls, contents
from sockproxy.review.summary import summarize, verdict_of
from sockproxy.review.verify import verify

LISTED = 2000  # refused or failed calls on the page; a page of more helps nobody


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--html", metavar="FILE", required=True, help="where to write it; must not be there yet")
    parser.add_argument(
        "--since", metavar="TIME", type=choose.moment, default=choose.moment("today"), help="(midnight UTC)"
    )
    parser.add_argument("--until", metavar="TIME", type=choose.moment, default="")


def main(options: argparse.Namespace) -> int:
    """Run the command; 1 when the record is damaged."""
    listed: list[Call] = []

    def found() -> object:
        for call in calls(contents(options.log_dir, options.since, options.until), []):
            if call.time >= options.since and (not options.until or call.time <= options.until):
                if verdict_of(call) != "allowed":
                    listed.append(call)
                yield call

    summary = summarize(options.log_dir, found(), options.since, options.until)  # type: ignore[arg-type]
    proof = verify(options.log_dir)
    text = page.form(summary, listed[-LISTED:], proof, options.since, options.until)
    fd = os.open(options.html, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # it is as confidential as the record
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"{options.html}: {summary.total.total()} calls, {len(text) / 1000:.0f} kB")
    return 1 if proof.findings else 0
