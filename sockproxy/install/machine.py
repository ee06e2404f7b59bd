"""Change a machine: files and commands, as data that can be shown before it is done.

SECURITY: runs as root, at an administrator's word. Files are written to folders that only root may change, complete or
not at all; nothing is removed that is not, byte by byte, what was written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from typing import Any, NamedTuple

from sockproxy.paths import MANIFEST

DRAFT = ".sockproxy-new"  # behind the name of a file that is being written


class InstallError(Exception):
    """Say in a sentence why it can't be done."""


class Write(NamedTuple):
    """Write a file, and the folders above it.

    Attributes:
        must: its failure is a failure of the whole.
    """

    path: str
    text: str
    must: bool = True

    def __str__(self) -> str:
        return f"write {self.path}"


class Remove(NamedTuple):
    """Remove a file that still is as it was written.

    Attributes:
        known: SHA-256 of what may have been.
    """

    path: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"remove {self.path}"


class RemoveFolder(NamedTuple):
    """Remove a folder, if nothing is in it. Never more: mounts of people's files may be below one."""

    path: str

    def __str__(self) -> str:
        return f"remove {self.path}, if it is empty"


class Run(NamedTuple):
    """Run a command.

    Attributes:
        must: its failure is a failure of the whole.
    """

    argv: tuple[str, ...]
    must: bool = True

    def __str__(self) -> str:
        return f"run {' '.join(self.argv)}"


Step = Write | Remove | RemoveFolder | Run


def digest(text: str) -> str:
    """Give the SHA-256 of a file's text."""
    return hashlib.sha256(text.encode()).hexdigest()


class Machine:
    """Do steps; files lie below `root`, so that a test can have a small machine in a folder."""

    def __init__(self, root: str = "") -> None:
        """Prepare.

        Args:
            root: what stands before each path, "" on a real machine.
        """
        self._root = root

    def read(self, path: str) -> str | None:
        """Read a file; None when there is none."""
        try:
            with open(self._root + path, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise InstallError(f"{path} can't be read: {error}") from error

    def missing_folders(self, path: str) -> list[str]:
        """Name the folders above a path that are not there yet, the lowest first."""
        found = []
        while not os.path.isdir(self._root + (path := os.path.dirname(path))):
            found.append(path)
        return found

    def output(self, *argv: str) -> str:
        """Run a command that changes nothing; give what it prints, "" if it fails."""
        try:
            done = subprocess.run(argv, capture_output=True, text=True)  # noqa: S603 (constants)
        except OSError:
            return ""
        return done.stdout if done.returncode == 0 else ""

    def manifest(self) -> dict[str, Any]:
        """Read what an install has written down; {} where there was none."""
        text = self.read(MANIFEST)
        try:
            found = json.loads(text) if text else {}
        except ValueError as error:
            raise InstallError(f"{MANIFEST} is damaged: {error}") from error
        return found if isinstance(found, dict) else {}

    def do(self, step: Step) -> str:
        """Do a step; give what is to be said about it.

        Raises:
            InstallError: it failed.
        """
        if isinstance(step, Write):
            self._write(step)
        elif isinstance(step, Remove):
            return self._remove(step)
        elif isinstance(step, RemoveFolder):
            with contextlib.suppress(OSError):
                os.rmdir(self._root + step.path)
        else:
            self._run(step)
        return ""

    def _write(self, step: Write) -> None:
        place = self._root + step.path
        try:
            os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
            draft = place + DRAFT
            with open(draft, "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(step.text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, place)
        except OSError as error:
            if step.must:
                raise InstallError(f"{step.path} can't be written: {error.strerror}") from error

    def _remove(self, step: Remove) -> str:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._root + step.path + DRAFT)
        text = self.read(step.path)
        if text is not None and digest(text) not in step.known:
            return f"{step.path} stays: it was changed after the installation"
        if text is not None:
            os.unlink(self._root + step.path)
        return ""

    def _run(self, step: Run) -> None:
        try:
            done = subprocess.run(step.argv, capture_output=True, text=True)  # noqa: S603 (from the plan)
        except OSError as error:
            raise InstallError(f"cannot run {step.argv[0]}: {error.strerror}") from error
        if done.returncode and step.must:
            raise InstallError(f"{' '.join(step.argv)} failed: {(done.stderr or done.stdout).strip()}")
