"""Remember whose each uid is: what is whose goes by it, and the host gives a uid again when an account is gone.

The first name that a uid calls by is written down. Under another one it is nobody's until an administrator says that
the new account may have what is the old one's: because it was renamed, or since nothing is left.
"""

from __future__ import annotations

import os
import re

FILE = "uids"
LINE = re.compile(r"(0|[1-9][0-9]{0,9}) ([^\s:]{1,256})")


def names(text: str) -> dict[int, str]:
    """Read the file: of lines of one uid the last counts; half a line does not."""
    found = (LINE.fullmatch(line) for line in text.rpartition("\n")[0].split("\n"))
    return {int(match[1]): match[2] for match in found if match}


class Uids:
    """Keep the file, in a folder that is this process's alone."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, FILE)
        try:
            with open(self._path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                self._names = names(file.read())
        except FileNotFoundError:
            self._names = {}

    def of(self, uid: int, name: str) -> str:
        """Give the name that a uid has here; from now on this one where it had none.

        Raises:
            OSError: that can't be written down.
        """
        if uid not in self._names:
            self.set(uid, name)
        return self._names[uid]

    def set(self, uid: int, name: str) -> str:
        """Give a uid this name; give the one that it had, "" for none.

        Raises:
            OSError: that can't be written down.
        """
        line = f"{uid} {name}"
        if not LINE.fullmatch(line):
            raise OSError("not a name that can be written down")
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        end = os.fstat(fd).st_size
        # What a power failure has left of a line stays none: no line ends with a space.
        torn = " \n" if end and os.pread(fd, 1, end - 1) != b"\n" else ""
        with open(fd, "wb", buffering=0) as file:
            try:
                file.write(f"{torn}{line}\n".encode("utf-8", "surrogateescape"))
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, end)
                raise
        old, self._names[uid] = self._names.get(uid, ""), name
        return old
