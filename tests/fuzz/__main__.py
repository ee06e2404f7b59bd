"""Fuzz a target, guided by coverage, until a time is over or something is found.

    .venv/bin/pip install atheris
    .venv/bin/python -m tests.fuzz TARGET SECONDS [FOLDER]       FOLDER keeps what was found worth keeping

The targets are in `targets`; `test_fuzz` runs each for a moment.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sockproxy", "sockproxy_helpers"]):
    from tests.fuzz.targets import TARGETS, seeds


def main() -> None:
    """Run libFuzzer."""
    name, seconds, *folder = sys.argv[1:]
    corpus = Path(folder[0] if folder else tempfile.mkdtemp())
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=16384", str(corpus)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
