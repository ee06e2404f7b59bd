"""End what a client asks about a build of its own that was refused.

A client asks for a build, for its progress and its gateway at once, and ends when all three have. BuildKit waits three
seconds for a build that it does not know; so would the client for a refusal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import trio

_REFUSED, _NAME = 1000, 128  # of one connection; characters


class Following:
    """Know the builds of one connection that were refused."""

    def __init__(self) -> None:
        self._refused: set[str] = set()
        self._scopes: dict[str, list[trio.CancelScope]] = {}

    @contextlib.contextmanager
    def follow(self, ref: str) -> Iterator[trio.CancelScope]:
        """Cancel what is done in here when the build of this name is refused, or was; "" is no build's."""
        with trio.CancelScope() as scope:
            if ref and ref in self._refused:
                scope.cancel()
            scopes = self._scopes.setdefault(ref, [])
            scopes.append(scope)
            try:
                yield scope
            finally:
                scopes.remove(scope)
                if not scopes:
                    del self._scopes[ref]

    def forget(self, ref: str) -> None:
        """Take note that a build is asked for, perhaps once more."""
        self._refused.discard(ref)

    def refuse(self, ref: str) -> None:
        """Take note of a build that does not begin; clients call each another name."""
        if len(self._refused) < _REFUSED and len(ref) <= _NAME:
            self._refused.add(ref)
        for scope in self._scopes.get(ref, ()) if ref else ():
            scope.cancel()
