"""Help to write a policy: `sockproxy policy …`.

Each command is a module that is imported when it runs.
"""

from __future__ import annotations

import argparse
import importlib

# command: what it does
COMMANDS = {
    "schema": "print the JSON Schema of policy files, for editors",
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command group to a command line."""
    policy = commands.add_parser("policy", help="write a policy: schema", add_help=False)
    policy.add_argument("arguments", nargs=argparse.REMAINDER)
    policy.set_defaults(run=lambda options: main(options.arguments))


def main(arguments: list[str]) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(prog="sockproxy policy", description="Write a policy.")
    group = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    for name, sentence in COMMANDS.items():
        command = group.add_parser(name, help=sentence, description=sentence)
        if arguments[:1] == [name]:
            importlib.import_module(f"sockproxy.authoring.{name}").add(command)
    options = parser.parse_args(arguments)
    code: int = importlib.import_module(f"sockproxy.authoring.{options.command}").main(options)
    return code
