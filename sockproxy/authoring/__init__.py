"""Help to write a policy: `sockproxy policy …`, `sockproxy import-tecnativa`.

Each command is a module that is imported when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import sys

# command: what it does
COMMANDS = {
    "diff": "tell which recorded calls another policy would decide otherwise",
    "learn": "write the least role that allows what the record says was done",
    "schema": "print the JSON Schema of policy files, for editors",
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command group to a command line; all words behind its name, `--help` too, are its own to read."""
    policy = commands.add_parser(
        "policy", help="write a policy: diff, learn, schema", add_help=False, prefix_chars="\0"
    )
    policy.add_argument("arguments", nargs=argparse.REMAINDER)
    policy.set_defaults(run=lambda options: main(options.arguments))
    sentence = "write a policy that does what an environment of Tecnativa's docker-socket-proxy does"
    tecnativa = commands.add_parser("import-tecnativa", help=sentence, description=sentence)
    tecnativa.add_argument("--env-file", metavar="FILE", help="lines VARIABLE=VALUE, or those of a Compose file")
    tecnativa.add_argument("variables", metavar="VARIABLE=VALUE", nargs="*")
    tecnativa.set_defaults(run=_tecnativa)


def main(arguments: list[str]) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(prog="sockproxy policy", description="Write a policy.")
    group = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    for name, sentence in COMMANDS.items():
        command = group.add_parser(name, help=sentence, description=sentence)
        if arguments[:1] == [name]:
            importlib.import_module(f"sockproxy.authoring.{name}").add(command)
    options = parser.parse_args(arguments)
    try:
        code: int = importlib.import_module(f"sockproxy.authoring.{options.command}").main(options)
    except OSError as error:
        print(f"sockproxy policy: {error.filename or options.log_dir}: {error.strerror}", file=sys.stderr)
        return 2
    return code


def _tecnativa(options: argparse.Namespace) -> int:
    from sockproxy.authoring import tecnativa

    return tecnativa.main(options)
