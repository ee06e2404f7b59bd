"""`sockproxy audit why REQUEST`: why it was decided so, and what today's policy says to the same request."""

from __future__ import annotations

import argparse
import json
import pwd
import sys
import urllib.parse

from sockproxy import paths
from sockproxy.errors import ConfigError
from sockproxy.explain.judge import Finding, judge
from sockproxy.policy.compile import compile_file, dump
from sockproxy.review.commands import show
from sockproxy.review.search import Call
from sockproxy.review.text import plain
from sockproxy_helpers import caller
from sockproxy_helpers.caller import Caller
from sockproxy_helpers.policy import Policy

HIDDEN = "secret values were not kept, so hashes stand for them; names and owners of objects are not looked up"


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
    today = _again(policy, call)
    if isinstance(today, str):
        print(f"today  cannot be told: {today}")
        return 1
    at = getattr(today.refusal, "at", "") or (today.decision.at if today.decision else "")
    print(f"today  {plain(f'refused: {today.refusal}' if today.refusal else 'allowed')}")
    print(f"       role {plain(today.decision.role if today.decision else 'none')}, rule {plain(at or '-')}")
    print(f"       policy {policy.sha256}{' (the same)' if policy.sha256 == call.decision.get('policy') else ''}")
    print(f"note   {HIDDEN}")
    return 0 if bool(today.refusal) == call.denied else 1


def _again(policy: Policy, call: Call) -> Finding | str:
    """Judge a recorded request by a policy; say why that can't be done."""
    try:
        entry = pwd.getpwnam(str(call.who.get("user")))
    except KeyError:
        return "the user has no account on this host any more"
    name, groups, home = caller.account(entry.pw_uid)
    who = Caller(entry.pw_uid, entry.pw_gid, 0, name, list(groups), home)
    query, body = call.request.get("query") or {}, call.request.get("body")
    if not isinstance(query, dict):
        return "its query was not kept"
    target = str(call.request.get("path"))
    if query:
        target += "?" + urllib.parse.urlencode({str(key): str(value) for key, value in query.items()})
    if not all("!" <= letter <= "~" for letter in target):
        return "its path is none"
    content = json.dumps(body).encode() if body else b""
    return judge(policy, who, str(call.request.get("method")), target, content)
