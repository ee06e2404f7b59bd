"""What is fuzzed of the files that processes keep for themselves, as a crash may leave them; see `targets`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sockproxy.auth import tokens as kept_tokens
from sockproxy.auth import uids as kept_uids
from sockproxy_helpers.content import ledger as kept_names
from sockproxy_helpers.content.ledger import Entry, Ledger, Writer
from sockproxy_helpers.errors import Unavailable

_FOLDER = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
_WORD = "spx_" + "a" * 43
Known = list[tuple[str, int, str | None, str, str | None]]


def _put(file: str, data: bytes) -> str:
    (Path(_FOLDER.name) / file).write_bytes(data)
    return _FOLDER.name


def names(data: bytes) -> None:
    """A ledger of names is the same when it was written anew, and what is added to it is there."""
    folder = _put(kept_names.FILE, data)
    try:
        first = Ledger(folder)
        first.refresh()
    except Unavailable:
        return  # root's own file, and whole lines in it: somebody else has written them
    writer = Writer(folder)
    try:
        assert _known(writer) == _known(first) == _known(_again(folder))
        assert writer.pushes() == first.pushes()
        writer.put("x", Entry(7, None, kept_names.PUSHED, "y"))
        assert _known(_again(folder)) == _known(writer)
        assert writer.unsettled()[-1] == writer.pushes(7)[-1] == "x"
    finally:
        os.close(writer._fd)


def _again(folder: str) -> Ledger:
    ledger = Ledger(folder)
    ledger.refresh()
    return ledger


def _known(ledger: Ledger) -> Known:
    """List what a ledger has, the oldest first."""
    return [(name, one.uid, one.id, one.shared, one.was) for name, one in ledger._entries.items()]


def uids(data: bytes) -> None:
    """Whose a uid is stands in whole lines; what is added is there, whatever stood at the end, and changes no other."""
    folder = _put(kept_uids.FILE, data)
    kept = kept_uids.Uids(folder)
    before = dict(kept._names)
    kept.set(1001, "bob")
    assert kept_uids.Uids(folder)._names == {**before, 1001: "bob"}


def tokens(data: bytes) -> None:
    """What is no file of tokens has none: everybody logs in again, and that is all."""
    folder = _put("tokens.json", data)
    kept = kept_tokens.Tokens(folder)
    kept.find(_WORD, 1000, "", 0.0)
    kept.issue(kept_tokens.Token(1000, 1000, "", 100), 1.0)
    kept.revoke(1001)
    assert kept_tokens.Tokens(folder)._tokens == kept._tokens
