"""Be `sockproxy doctor`: find what on this machine leads around sockproxy, weakens it, or will end it one day."""

from sockproxy.doctor.command import main

__all__ = ["main"]
