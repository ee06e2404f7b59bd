"""`sockproxy policy schema`: print the JSON Schema of policy files."""

from __future__ import annotations

import argparse
import json

from sockproxy.policy import editors


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options: none."""


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    print(json.dumps(editors.schema(), indent=2))
    return 0
