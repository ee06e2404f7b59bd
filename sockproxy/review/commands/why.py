"""`sockproxy audit why REQUEST`: why it was decided so, and what today's policy says to the same request."""

from __future__ import annotations

import argparse
import sys

from sockproxy import paths
from sockproxy.errors import ConfigError
from sockproxy.policy.compile import compile_file, dump
from sockproxy.review.again import HIDDEN, Again, again, as_now
from sockproxy.review.commands import show
from sockproxy.review.text import plain
from sockproxy_helpers.judge.policy import Policy


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    show.add(parser)
    parser.add_argument("--config", metavar="FILE", help=f"the policy file ({paths.POLICY_FILE} if it is there)")


def main(options: argparse.Namespace) -> int:
    """Run the command: 0 today's verdict is the same, 1 it is not, or there is no such request."""
    found = show.of(options)
    if not found:
        return 1
    call = found[-1]
    then = f"refused: {call.why}" if call.denied else "allowed"
    role = call.decision.get("role") or "none"
    print(f"then   {plain(then)}")
    print(f"       {plain(call.time)}, role {plain(role)}, rule {plain(call.decision.get('at') or '-')}")
    print(f"       policy {plain(call.decision.get('policy', '-'))}")
    try:
        policy = Policy(dump(compile_file(paths.policy_file(options.config))))
    except ConfigError as error:
        print(f"sockproxy audit: {error}", file=sys.stderr)
        return 2
    who = as_now(call)
    today = again(policy, call, who) if who else Again(None, "the user has no account on this host any more")
    print(f"today  {plain(today.verdict)}")
    if not today.finding:
        return 1
    print(
        f"       role {plain(today.finding.decision.role if today.finding.decision else 'none')}, "
        f"rule {plain(today.at or '-')}"
    )
    print(f"       policy {policy.sha256}{' (the same)' if policy.sha256 == call.decision.get('policy') else ''}")
    print(f"note   {HIDDEN}")
    return 0 if today.refused == call.denied else 1
