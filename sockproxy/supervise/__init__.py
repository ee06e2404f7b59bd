"""Be `sockproxy up`: start all processes with exactly their rights, watch them, end them in order."""

from sockproxy.supervise.supervisor import main

__all__ = ["main"]
