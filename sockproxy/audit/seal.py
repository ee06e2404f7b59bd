"""Seal the chain: sign its head with a key that is replaced by each seal, and tell the system's log.

A seal names the public key of the next one, and the key that made it is forgotten. So whoever breaks in can sign what
comes from then on, and nothing that came before: that would take a key that is no more.
The seal's hash also goes to syslog, or the journal, which may be on another machine: an anchor. Without one newer than
a cut, nobody can tell that the end was cut off.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sockproxy.audit.chain import VERSION, Entry, encode, parse
from sockproxy.audit.segments import LIVE, closed, open_file

KEY = "seal.key"
SYSLOG = "/dev/log"
_PRIORITY = 10 << 3 | 5  # authpriv.notice (syslog(3))


class Sealer:
    """Make seals.

    Invariant: the key file holds the key of the next seal and the one after it, so that whenever this process dies one
    of them is what the log's last seal names. The key of a seal that is on the disk is in neither.

    Attributes:
        fresh: there was no key: what is sealed from here on rests on a new one, once that is in the file (`begin`).
        open: number and hash of a seal of the log's whose key is not forgotten, as the writer died before that: it is
            to be, with `forget`, before there is another seal.
    """

    def __init__(self, folder: str, syslog: str = SYSLOG) -> None:
        """Load the keys. Nothing is written where there are some: a writer that died comes back on a full disk.

        Raises:
            OSError: the key file can't be read.
        """
        self._path, self._syslog = os.path.join(folder, KEY), syslog
        keys = self._load()
        self.fresh = len(keys) != 2
        if self.fresh:
            keys = [Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()]
        self._key, self._next = keys
        self.open = None if self.fresh else _find(folder, b'"next":"%s"' % _public(self._next))

    def _load(self) -> list[Ed25519PrivateKey]:
        try:
            with open(self._path, encoding="ascii") as file:
                stored = json.load(file)
            return [Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key)) for key in stored]
        except (FileNotFoundError, ValueError, TypeError):
            return []

    def _store(self, *keys: Ed25519PrivateKey) -> None:
        draft = f"{self._path}.new"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="ascii") as file:
            json.dump([key.private_bytes_raw().hex() for key in keys], file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self._path)

    def begin(self) -> str:
        """Store fresh keys, before there is a seal; tell why they are not, "" if they are."""
        try:
            self._store(self._key, self._next)
        except OSError as error:
            return f"{KEY}: {error.strerror}"
        return ""

    def announcement(self) -> Entry:
        """Form the record of a key that no seal has named, and tell the system's log of it."""
        key = _public(self._key).decode()
        self.tell(f"key={key}")
        return Entry(encode({"v": VERSION, "ev": "key", "key": key}), os.getuid(), os.getpid())

    def seal(self) -> Entry:
        """Form a seal. There must not be another one before `forget`."""
        seal = {"v": VERSION, "ev": "seal", "key": _public(self._key).decode(), "next": _public(self._next).decode()}
        return Entry(encode(seal), os.getuid(), os.getpid(), self._sign)

    def _sign(self, content: bytes) -> bytes:
        return self._key.sign(content).hex().encode()

    def forget(self, seq: int, head: bytes) -> bool:
        """Forget the key of a seal that is on the disk, and tell the system's log.

        Returns:
            Whether that could be done; if not (a full disk), it is to be tried again before there is another seal.
        """
        old, key, after = self._key, self._next, Ed25519PrivateKey.generate()
        try:
            self._store(key, after)
        except OSError:
            return False
        self._key, self._next = key, after
        named = f"key={_public(old).decode()} next={_public(key).decode()}"
        self.tell(f"seal seq={seq} h={head.decode()} {named}")
        return True

    def tell(self, text: str) -> None:
        """Say something where it outlives this machine's disk, perhaps; nobody may be listening."""
        message = f"<{_PRIORITY}>sockproxy-audit[{os.getpid()}]: {text}".encode()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(message, self._syslog)


def valid(key: str, signature: str, content: bytes) -> bool:
    """Tell whether a seal was made with a key."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw().hex().encode()


def _find(folder: str, text: bytes) -> tuple[int, bytes] | None:
    """Look for a text in the whole lines of the newest two files: a seal that was torn is none.

    Returns:
        Number and hash of the line.
    """
    for name in [LIVE, *closed(folder)[-1:]]:
        with contextlib.suppress(FileNotFoundError), open_file(folder, name) as file:
            for line in file:
                if text in line and (found := parse(line.removesuffix(b"\n"))):
                    return found
    return None
