"""Be `sockproxy install` and `sockproxy uninstall`: plan what changes on this machine, ask, do it; undo it."""

from sockproxy.install.command import install, uninstall

__all__ = ["install", "uninstall"]
