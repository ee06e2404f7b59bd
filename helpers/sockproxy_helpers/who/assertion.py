"""Vouch for who is at the other end of a connection, in a form that a hostile front can not make or reuse.

SECURITY: an assertion says "on this very socket, until then, the caller is that user, known in that way", under a key
that only the auth process and root's helpers have, new at every start. It names the socket by the cookie that the
kernel gave it and gives to no other, so that what was said of one connection is worth nothing on another. It names the
token, too, so that the helper can ask whether that is still good, without the front.
"""

from __future__ import annotations

import hashlib
import os
import re
import time

from sockproxy_helpers.errors import Refused

LIFETIME = 60.0  # seconds; who has been vouched for is asked about again, so that a token that is revoked ends
KEY_SIZE = 32
_FORM = re.compile(r"([0-9]{1,10})\.(password|token)\.([0-9]{1,20})\.([0-9]{1,12})\.([0-9a-f]{64})?\.([0-9a-f]{64})")
_DOMAIN = b"sockproxy assertion 2\0"


def read_key(path: str) -> bytes:
    """Read the key that the supervisor made.

    Raises:
        OSError: it is not there, or not ours to read.
        Refused: it is no key, or others than root could have written it.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(fd, "rb") as file:
        status, key = os.fstat(fd), file.read(KEY_SIZE + 1)
    if status.st_uid != 0 or status.st_mode & 0o027 or len(key) != KEY_SIZE:
        raise Refused("", "the key of assertions is not root's alone")
    return key


def sign(key: bytes, uid: int, via: str, cookie: int, token: str = "") -> tuple[str, int]:
    """Make an assertion; give also the time until which it holds, by the monotonic clock that all processes share.

    Args:
        token: the digest of what was presented, if that was a token.
    """
    until = int(time.monotonic() + LIFETIME)
    text = f"{uid}.{via}.{cookie}.{until}.{token}"
    return f"{text}.{_mac(key, text)}", until


def verify(key: bytes, untrusted: str, cookie: int) -> tuple[int, str]:
    """Give the uid and the way that an assertion vouches for.

    Raises:
        Refused: it is none, or one for another connection, or for another time.
    """
    match = _FORM.fullmatch(untrusted)
    if not match:
        raise Refused("", "it has not the form of an assertion")
    text, _, mac = untrusted.rpartition(".")
    if _mac(key, _mac(key, text)) != _mac(key, mac):  # of MACs, so that the time tells nothing about the right one
        raise Refused("", "it was not made by the auth process")
    if int(match[3]) != cookie:
        raise Refused("", "it was made for another connection")
    if int(match[4]) < time.monotonic():
        raise Refused("", "it has expired")
    return int(match[1]), match[2]


def token_of(assertion: str) -> str:
    """Give the digest of the token that a verified assertion was made for; "" for none."""
    return assertion.split(".")[4] if assertion else ""


def _mac(key: bytes, text: str) -> str:
    return hashlib.blake2b(_DOMAIN + text.encode("ascii"), key=key, digest_size=32).hexdigest()
