"""Read the record: `sockproxy audit …`.

Each command is a module that is imported when it runs, so that it starts at once.
"""

from __future__ import annotations

import argparse
import importlib

LOG_DIR = "/var/log/sockproxy"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command group to a command line."""
    audit = commands.add_parser("audit", help="read the record, and prove that it is as it was written")
    group = audit.add_subparsers(title="commands", required=True, metavar="COMMAND")
    verify = _command(group, "verify", "prove that nothing was changed, and say what can't be proved")
    verify.add_argument(
        "--anchors", metavar="FILE", help="seals kept elsewhere: journalctl -t sockproxy-audit; - reads"
    )


def _command(
    group: argparse._SubParsersAction[argparse.ArgumentParser], name: str, sentence: str
) -> argparse.ArgumentParser:
    parser = group.add_parser(name, help=sentence, description=sentence)
    parser.add_argument("--log-dir", metavar="PATH", default=LOG_DIR, help="(%(default)s)")
    parser.set_defaults(run=lambda options: _run(name, options))
    return parser


def _run(name: str, options: argparse.Namespace) -> int:
    code: int = importlib.import_module(f"sockproxy.review.{name}_command").main(options)
    return code
