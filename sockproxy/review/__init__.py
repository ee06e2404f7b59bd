"""Read the record: `sockproxy audit …`.

Each command is a module that is imported when it runs, so that it starts at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

LOG_DIR, RUNTIME = "/var/log/sockproxy", "/run/sockproxy"
# command: what it does. All but those in QUIET tell the writer that the record was read; of `mine` the reader does.
COMMANDS = {
    "today": "the day in one screen: who did what, what was refused, what is new, is the record sound",
    "find": "find calls by user, operation, container, image, rule, verdict, time, or any text",
    "mine": "find one's own calls: anybody may",
    "show": "tell the story of one request: who, asked, changed, why, outcome",
    "trail": "the whole life of a container, across renames",
    "play": "show what an exec or attach printed, if the role has sessions recorded",
    "why": "tell why a request was decided so, and whether today's policy still says it",
    "follow": "tell what happens, as it happens",
    "verify": "prove that nothing was changed, and say what can't be proved",
    "export": "write calls for other programs: jsonl, csv, ocsf",
    "report": "write one page of HTML to hand over",
    "prune": "delete old files, on the record (as root)",
    "completion": "print what makes a shell complete these commands",
}
QUIET = ("completion", "mine", "prune", "verify")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command group to a command line; all words behind its name, `--help` too, are its own to read."""
    audit = commands.add_parser(
        "audit", help="read the record, and prove that it is as it was written", add_help=False, prefix_chars="\0"
    )
    audit.add_argument("arguments", nargs=argparse.REMAINDER)
    audit.set_defaults(run=lambda options: main(options.arguments))


def main(arguments: list[str]) -> int:
    """Run a command and return its exit code."""
    parser = _parser(arguments[0] if arguments and arguments[0] in COMMANDS else "")
    options = parser.parse_args(arguments)
    if options.command not in QUIET:
        from sockproxy.review.reading import note

        if not note(options.runtime_dir, " ".join(arguments)):
            text = f"no writer at {options.runtime_dir}: this reading is not on the record"
            print(f"sockproxy audit: {text}", file=sys.stderr)
    try:
        code: int = importlib.import_module(f"sockproxy.review.commands.{options.command}").main(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        print(f"sockproxy audit: {error.filename or options.log_dir}: {error.strerror}", file=sys.stderr)
        return 2
    return code


def _parser(wanted: str) -> argparse.ArgumentParser:
    """Make the parser; only of the command that is wanted with all its options."""
    parser = argparse.ArgumentParser(prog="sockproxy audit", description="Read the record, and prove it.")
    group = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    for name, sentence in COMMANDS.items():
        command = group.add_parser(name, help=sentence, description=sentence)
        command.add_argument("--log-dir", metavar="PATH", default=LOG_DIR, help="(%(default)s)")
        command.add_argument("--runtime-dir", metavar="PATH", default=RUNTIME, help="(%(default)s)")
        if name == wanted:
            importlib.import_module(f"sockproxy.review.commands.{name}").add(command)
    return parser
