"""Be `sockproxy explain`: tell what would happen to a request, and why, without a daemon."""

from sockproxy.explain.command import main

__all__ = ["main"]
