"""Keep what was asked for of each bind, from the container's creation until the container is gone.

A bind goes to the daemon as a volume of our plugin, under a name that nobody can guess. The filesystem helper writes
the record, when it has judged the bind; the binds helper serves no name without one; the lifecycle helper shows it.

Invariant: a record is written whole or not at all, and never changed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

_NAME = re.compile(r"sockproxy-([0-9]{1,10})-[0-9a-f]{32}")
_DRAFT = ".new"  # ends the name of a record that is being written
LARGEST = 65536


class Bind:
    """Hold one bind.

    Attributes:
        user, uid, role: whose it is, as which the source is opened.
        source: the path on the host, as the model has cleaned it.
        writable: else read-only.
        recursive: with the mounts below it.
        made: a folder is made where there is nothing, as `-v` has it.
        ids: the container's user and group: on disk the caller and the caller's group.
        root: which IDs of the host root in the container has; not [0, 0] where the daemon remaps users.
        form: "Binds" or "Mounts": where it stood in the request.
        asked: the text or the mount that stood there.
        target: in the container.
        own_socket: it is the daemon's socket that was asked for; the users' is what they get.
    """

    __slots__ = (
        "asked",
        "form",
        "ids",
        "made",
        "own_socket",
        "recursive",
        "role",
        "root",
        "source",
        "target",
        "uid",
        "user",
        "writable",
    )

    def __init__(self, fields: dict[str, object]) -> None:
        """Take the record's fields.

        Raises:
            ValueError: not the record of a bind.
        """
        fields = {"root": [0, 0], **fields}  # those of before it was kept
        if fields.keys() != set(self.__slots__):
            raise ValueError("not the record of a bind")
        for name, kind in _KINDS.items():
            if type(fields[name]) is not kind:
                raise ValueError(f"the record of a bind: {name}")
            setattr(self, name, fields[name])
        self.asked = fields["asked"]
        self.uid: int
        self.user: str
        self.role: str
        self.source: str
        self.target: str
        self.form: str
        self.writable: bool
        self.recursive: bool
        self.made: bool
        self.own_socket: bool
        self.ids: list[int]
        self.root: list[int]

    @property
    def field(self) -> str:
        """Where it stood in the request, for refusals."""
        return f"HostConfig.{self.form}"

    def fields(self) -> dict[str, object]:
        """Give what `__init__` takes."""
        return {name: getattr(self, name) for name in self.__slots__}


_KINDS = {
    **dict.fromkeys(("user", "role", "source", "target", "form"), str),
    **dict.fromkeys(("writable", "recursive", "made", "own_socket"), bool),
    "uid": int,
    "ids": list,
    "root": list,
}


def new_name(uid: int) -> str:
    """Choose the name of a volume."""
    return f"sockproxy-{uid}-{os.urandom(16).hex()}"


def owner(name: str) -> int | None:
    """Tell whose bind a volume's name stands for; None when it stands for none."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


class BindLedger:
    """Keep the records in a folder, one below it for each uid."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def _path(self, name: str) -> str:
        uid = owner(name)
        if uid is None:
            raise KeyError(name)
        return f"{self._folder}/{uid}/{name}"

    def write(self, name: str, bind: Bind) -> None:
        """Write a record; who belongs to the folder's group can read it, by the folder's setgid bit."""
        path = self._path(name)
        os.makedirs(os.path.dirname(path), 0o750, exist_ok=True)
        draft = path + _DRAFT
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        with open(fd, "wb") as file:
            file.write(json.dumps(bind.fields(), separators=(",", ":")).encode())
            file.flush()
            os.fsync(fd)  # the daemon's own record of the container will be on disk, too
        os.rename(draft, path)

    def read(self, name: str) -> Bind:
        """Read a record.

        Raises:
            KeyError: there is none.
        """
        try:
            with open(self._path(name), "rb") as file:
                fields = json.loads(file.read(LARGEST))
            return Bind(fields if isinstance(fields, dict) else {})
        except (OSError, ValueError) as error:
            raise KeyError(name) from error

    def remove(self, name: str) -> None:
        """Forget a bind."""
        try:
            os.unlink(self._path(name))
        except FileNotFoundError:
            pass

    def clear(self) -> None:
        """Remove what its only writer, this process, was killed at in an earlier life."""
        for folder in self._folders():
            for name in os.listdir(folder):
                if name.endswith(_DRAFT):
                    os.unlink(f"{folder}/{name}")

    def count(self, uid: int) -> int:
        """Count a user's binds."""
        return sum(1 for _ in self._names(f"{self._folder}/{uid}"))

    def names(self) -> Iterator[tuple[str, float]]:
        """List all names, with when they were written (seconds since the epoch)."""
        for folder in self._folders():
            yield from self._names(folder)

    def _folders(self) -> list[str]:
        try:
            with os.scandir(self._folder) as folders:
                return [entry.path for entry in folders if entry.name.isdecimal()]
        except FileNotFoundError:
            return []

    def _names(self, folder: str) -> Iterator[tuple[str, float]]:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if owner(entry.name) is not None:
                        yield entry.name, entry.stat(follow_symlinks=False).st_mtime
        except FileNotFoundError:
            return
