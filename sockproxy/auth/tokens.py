"""Keep tokens: short-lived words that stand for a password once given.

Only their digests are kept. A token is good for the user who got it, until it expires, and for connections like the one
on which it was given: of the same peer uid, inside the same container or outside of any. So a token that is stolen out
of another user's file is good for nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from typing import NamedTuple

FORM = re.compile(r"spx_[A-Za-z0-9_-]{43}")
EACH = 32  # tokens of a user; one more and the oldest goes
ALL = 10_000


class Token(NamedTuple):
    """Hold what is known of a token.

    Attributes:
        peer: uid of the process that asked for it.
        container: ID of the container in which that ran; "" for none.
        until: seconds since the epoch.
    """

    uid: int
    peer: int
    container: str
    until: int


class Tokens:
    """Issue, find and revoke tokens; a folder keeps them over restarts."""

    def __init__(self, folder: str) -> None:
        self._file = os.path.join(folder, "tokens.json")
        self._tokens: dict[str, Token] = {}
        try:
            with open(self._file, encoding="ascii") as file:
                self._tokens = {digest: _token(fields) for digest, fields in json.load(file).items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):  # damaged: everybody logs in again
            self._save()

    def issue(self, token: Token, now: float) -> str:
        """Make a token; nobody can tell it again.

        Raises:
            OSError: it can't be kept.
        """
        self._tokens = {digest: known for digest, known in self._tokens.items() if known.until > now}
        own = [digest for digest, known in self._tokens.items() if known.uid == token.uid]
        for digest in own[: max(0, len(own) - EACH + 1)]:
            del self._tokens[digest]
        if len(self._tokens) >= ALL:
            raise OSError("there are too many tokens")
        word = "spx_" + secrets.token_urlsafe(32)
        self._tokens[digest_of(word)] = token
        self._save()
        return word

    def find(self, untrusted_word: str, peer: int, container: str, now: float) -> Token | None:
        """Find a token that is good on a connection."""
        token = self._tokens.get(digest_of(untrusted_word)) if FORM.fullmatch(untrusted_word) else None
        good = token is not None and token.until > now and (token.peer, token.container) == (peer, container)
        return token if good else None

    def lives(self, digest: str, now: float) -> bool:
        """Tell whether a token that was good on its connection is so still."""
        token = self._tokens.get(digest)
        return token is not None and token.until > now

    def revoke(self, uid: int, untrusted_word: str = "") -> int:
        """Revoke one of a user's tokens, or all of them; tell how many.

        Raises:
            OSError: they would be good again after a restart.
        """
        gone = [
            digest
            for digest, token in self._tokens.items()
            if token.uid == uid and (not untrusted_word or digest == digest_of(untrusted_word))
        ]
        for digest in gone:
            del self._tokens[digest]
        self._save()
        return len(gone)

    def _save(self) -> None:
        draft = f"{self._file}.new"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="ascii") as file:
            json.dump(self._tokens, file)
            file.flush()
            os.fsync(fd)
        os.replace(draft, self._file)


def _token(fields: list[object]) -> Token:
    if [type(field) for field in fields] != [int, int, str, int]:
        raise TypeError("not what a token has")
    return Token(*fields)  # type: ignore[arg-type]


def digest_of(word: str) -> str:
    """Give what a token is kept under."""
    return hashlib.sha256(word.encode("utf-8", "surrogateescape")).hexdigest()
