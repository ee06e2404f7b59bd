"""Be `sockproxy status`: who is connected, what is under way, what was refused last."""

from sockproxy.status.command import main

__all__ = ["main"]
