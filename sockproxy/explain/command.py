"""Read what the command line names, judge it, print it."""

from __future__ import annotations

import argparse
import os
import pwd
import sys

from sockproxy import paths
from sockproxy.errors import ConfigError
from sockproxy.explain import show
from sockproxy.explain.judge import judge
from sockproxy.http.answer import printable
from sockproxy.http.body import MAX_BODY
from sockproxy.policy.compile import compile_file, dump
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system import caller
from sockproxy_helpers.system.caller import Caller

REFUSED = 3
BODY = "a file's name after --body, or - for standard input: echo '{…}' | sockproxy explain … --body -"


def main(options: argparse.Namespace) -> int:
    """Explain a request.

    Args:
        options: user (None: who runs this), config, format ("text" or "json"), method, target, body.

    Raises:
        ConfigError: something that is named is not there, or can't be part of a request.
    """
    compiled = compile_file(paths.policy_file(options.config))
    who = _caller(options.user)
    for name, word in (("METHOD", options.method), ("PATH", options.target)):
        if not word or not all("!" <= letter <= "~" for letter in word):  # would be another request, or none
            raise ConfigError(name, 0, 0, "not visible ASCII", "what stands in a request line, percent-encoded")
    found = judge(Policy(dump(compiled)), who, options.method, options.target, _read(options.body))
    binding = show.binding(compiled, found)
    print(show.as_json(found, binding) if options.format == "json" else show.as_text(found, binding))
    return REFUSED if found.refusal else 0


def _caller(user: str | None) -> Caller:
    """Form the caller that the front and the helpers would see: they know the uid, and the account by that."""
    try:
        entry = pwd.getpwnam(user) if user else pwd.getpwuid(os.getuid())
    except (KeyError, ValueError):
        wanted = f"the name {printable(user)}" if user else f"the uid {os.getuid()}"
        raise ConfigError("--user", 0, 0, f"no account on this host has {wanted}") from None
    name, groups, home = caller.account(entry.pw_uid)
    return Caller(entry.pw_uid, entry.pw_gid, 0, name, list(groups), home)


def _read(file: str | None) -> bytes:
    """Read a body, one byte more than is allowed at the most."""
    if file is None:
        return b""
    try:
        if file == "-":
            return sys.stdin.buffer.read(MAX_BODY + 1)
        with open(file, "rb") as opened:
            return opened.read(MAX_BODY + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(printable(file), 0, 0, f"can't be read: {reason}", BODY) from None
