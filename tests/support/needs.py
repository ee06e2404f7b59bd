"""Say that something a test needs is missing: a failure in CI, a skip on a developer's machine."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test; fail it when CI is set, where nothing may be missing."""
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(f"missing in CI: {what}")
    pytest.skip(what)


def root() -> None:
    """Demand that the tests run as root."""
    if os.geteuid() != 0:
        missing("needs root")
