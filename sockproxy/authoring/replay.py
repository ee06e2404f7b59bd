"""Gather recorded calls, equal ones together, to judge them again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass

from sockproxy import paths
from sockproxy.policy.compile import compile_file, dump
from sockproxy.review import LOG_DIR, RUNTIME, choose
from sockproxy.review.again import Again, again, as_then
from sockproxy.review.reading import note
from sockproxy.review.search import Call
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system.caller import Caller

BUILT_IN = "built-in"


@dataclass(slots=True)
class Kind:
    """Hold one of several equal calls, and how many there are."""

    call: Call
    who: Caller
    count: int = 1

    def judge(self, policy: Policy) -> Again:
        """Judge it by a policy."""
        return again(policy, self.call, self.who)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose calls."""
    parser.add_argument("--log-dir", metavar="PATH", default=LOG_DIR, help="where the record is (%(default)s)")
    parser.add_argument("--runtime-dir", metavar="PATH", default=RUNTIME, help="(%(default)s)")
    choose.add_filters(parser)


def kinds(options: argparse.Namespace) -> list[Kind]:
    """Read the calls that the options choose, and have it recorded that they were read.

    Raises:
        OSError: the record can't be read.
    """
    note(options.runtime_dir, f"policy {options.command}")
    found: dict[str, Kind] = {}
    for call in choose.chosen(options):
        who = {key: call.who.get(key) for key in ("uid", "user", "groups", "via", "container")}
        key = json.dumps([who, {**call.request}, call.denied], sort_keys=True)
        if key in found:
            found[key].count += 1
        else:
            found[key] = Kind(call, as_then(call))
    return list(found.values())


def policy(file: str) -> Policy:
    """Load a policy file, or the built-in policy by its word.

    Raises:
        ConfigError: at the first mistake.
    """
    return Policy(dump(compile_file(None if file == BUILT_IN else paths.policy_file(file))))


def times(kinds: Iterable[Kind]) -> str:
    """Say how many calls these are."""
    count = sum(kind.count for kind in kinds)
    return f"{count} call{'s' if count != 1 else ''}"
