"""Fixtures of the tests of attacks."""

from tests.integration.conftest import _noted_proxy, fake_daemon, noted

__all__ = ["_noted_proxy", "fake_daemon", "noted"]
