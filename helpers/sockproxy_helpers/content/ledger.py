"""Keep whose an image's names are: tags and digests have no labels that could say it.

SECURITY: the file is root's, in a folder that root alone can read; one process writes it, the filesystem helper. A line
is appended and brought to the disk before the daemon is asked to set a name, so that no crash can leave a name without
the owner that it was set for. Names in it are of the grammar of `names`.

Invariant: the last line about a name counts. A name whose image is unknown (`id` None) is being set, or was when the
process ended: it is its owner's whatever it names. One whose image is known is its owner's as long as it names that
image: who moves it past sockproxy, the administrator, takes it away, and what is not in here is shared by all.
An image's ID in the place of a name stands for itself: see `brought`. A repository and an ID stand for a push, see
`withheld`.
"""

from __future__ import annotations

import json
import os

from sockproxy_helpers.errors import Unavailable

FILE = "tags.jsonl"
LOADED, PULLED, PUSHED = "loaded", "pulled", "pushed"
_SHARED: dict[object, str] = {LOADED: LOADED, PULLED: PULLED, PUSHED: PUSHED, True: LOADED}  # true: an older version's
SLACK = 1000  # lines that are no longer true, before the file is written anew


class Entry:
    """Hold what is known of a name.

    Attributes:
        id: the image that it names; None while that is open.
        shared: how others may use the image by this name: "" not at all; LOADED if no label makes it somebody's; PULLED
            in any case, since whoever built it, it came from a registry.
        was: the image that it is known to have named before, while what it names is open; None for none.
    """

    __slots__ = ("id", "shared", "uid", "was")

    def __init__(self, uid: int, identity: str | None, shared: str, was: str | None = None) -> None:
        self.uid, self.id, self.shared, self.was = uid, identity, shared, was


class Ledger:
    """Read the file, as it grows."""

    def __init__(self, folder: str) -> None:
        """Hold the ledger of a folder; nothing is read before it is asked for."""
        self._path = f"{folder}/{FILE}"
        self._entries: dict[str, Entry] = {}
        self._owned: dict[int, set[str]] = {}
        self._seen = (0, 0)  # device and inode
        self._read = self._lines = 0

    def find(self, name: str, identity: str) -> Entry | None:
        """Find whose a full name is that names this image now; None for what all share. See `refresh`."""
        entry = self._entries.get(name)
        return entry if entry and entry.id in (None, identity) else None

    def of(self, uid: int) -> list[str]:
        """List the full names that are somebody's."""
        return sorted(self._owned.get(uid, ()))

    def brought(self) -> list[str]:
        """List the IDs of images."""
        return [name for name, entry in self._entries.items() if entry.id == name]

    def pushes(self, uid: int | None = None) -> list[str]:
        """List what was pushed, by one user or by all; the oldest first."""
        found = [(name, entry) for name, entry in self._entries.items() if entry.shared == PUSHED]
        return [name for name, entry in found if uid in (None, entry.uid)]

    def refresh(self) -> None:
        """Read what was written since.

        Raises:
            Unavailable: a line is damaged. Without it, what is somebody's alone could be everybody's.
        """
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) != self._seen or status.st_size < self._read:
                self._entries.clear()
                self._owned.clear()
                self._read = self._lines = 0
                self._seen = (status.st_dev, status.st_ino)
            if status.st_size == self._read:
                return
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]  # a line that is being written, or never was, does not count yet
        before = self._lines
        for line in whole.split(b"\n") if whole else ():
            try:
                self._take(json.loads(line))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                at, self._lines = f"{self._path}:{self._lines + 1}", before
                why = f"{at} is damaged: it says whose a name of an image is (put back what it was, or take it out)"
                raise Unavailable(why, 503) from error
        self._read += len(whole) + 1 if whole else 0

    def _take(self, line: dict[str, object]) -> None:
        name, uid, identity, shared = str(line["name"]), line["uid"], line["id"], _SHARED.get(line["shared"], "")
        self._lines += 1
        old = self._entries.pop(name, None)
        if old:
            self._owned.get(old.uid, set()).discard(name)
        if isinstance(uid, int):
            entry = Entry(uid, str(identity) if identity else None, shared)
            entry.was = str(line["was"]) if line.get("was") else None
            self._entries[name] = entry
            if identity != name and entry.shared != PUSHED:
                self._owned.setdefault(uid, set()).add(name)


class Writer(Ledger):
    """Write the file; one process does."""

    def __init__(self, folder: str) -> None:
        """Take over the file as the last process has left it.

        Raises:
            OSError: it can't be written.
            Unavailable: it can't be read.
        """
        super().__init__(folder)
        self._folder, self._fd = folder, -1
        self.refresh()
        self._rewrite()

    def unsettled(self) -> list[str]:
        """List the names whose image is open."""
        return [name for name, entry in self._entries.items() if entry.id is None]

    def get(self, name: str) -> Entry | None:
        """Find what is written of a name."""
        return self._entries.get(name)

    def put(self, name: str, entry: Entry | None) -> None:
        """Write whose a name is, None for nobody's; it is on the disk when this returns."""
        self._write(self._fd, _line(name, entry))
        if self._lines > 2 * len(self._entries) + SLACK:
            self._rewrite()

    def _write(self, fd: int, data: bytes) -> None:
        end = os.fstat(fd).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, end)  # half a line would swallow the next
            raise
        if fd == self._fd:
            self.refresh()

    def _rewrite(self) -> None:
        """Leave out what is no longer true, and what a crash has left of a line."""
        new = f"{self._path}.new"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._write(fd, b"".join(_line(name, entry) for name, entry in self._entries.items()))
        os.rename(new, self._path)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fsync(folder)
        os.close(folder)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self.refresh()


def _line(name: str, entry: Entry | None) -> bytes:
    uid, identity, shared = (entry.uid, entry.id, entry.shared) if entry else (None, None, "")
    told = {"name": name, "uid": uid, "id": identity, "shared": shared}
    return json.dumps(told | ({"was": entry.was} if entry and entry.was else {})).encode("ascii") + b"\n"
