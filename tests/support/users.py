"""Real unix users for tests, named anew in each run so that two runs do not meet."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path


class User:
    """A unix user with a home folder."""

    def __init__(self, name: str) -> None:
        entry = pwd.getpwnam(name)
        self.name, self.uid, self.gid, self.home = name, entry.pw_uid, entry.pw_gid, Path(entry.pw_dir)
        self.groups = os.getgrouplist(name, self.gid)

    def environment(self, **more: str) -> dict[str, str]:
        """Give the environment of a fresh login of this user."""
        path = "/usr/local/bin:/usr/bin:/bin"
        return {
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "PATH": path,
            "LC_ALL": "C.UTF-8",
        } | more

    def command(self, argv: list[str | Path]) -> list[str | Path]:
        """Wrap a command so that root runs it as this user, with no privilege left."""
        identity = [f"--reuid={self.uid}", f"--regid={self.gid}", "--init-groups"]
        return ["setpriv", *identity, "--inh-caps=-all", *argv]


class Users:
    """The people of the tests.

    Attributes:
        alice, bob: in the group `developers`, which the tests' policy makes developers.
        carol: a viewer, bound by her name.
        mallory: bound to nothing.
        root: host root, an admin.
        developers: the group's name.
    """

    def __init__(self, homes: Path) -> None:
        mark = f"{os.getpid() % 100000}"
        self.developers = f"spdev{mark}"
        self._names = {name: f"{name}{mark}" for name in ("alice", "bob", "carol", "mallory")}
        _run("groupadd", self.developers)
        for name, unix_name in self._names.items():
            groups = ["-G", self.developers] if name in ("alice", "bob") else []
            _run("useradd", "-d", homes / name, "-m", "-s", "/bin/sh", *groups, unix_name)
        self.alice, self.bob, self.carol, self.mallory = (User(name) for name in self._names.values())
        self.root = User("root")
        self.root.home = homes / "root"  # the tests leave the real one alone
        self.root.home.mkdir(mode=0o700)

    def add_plugins(self, plugins: Path) -> None:
        """Give all of them docker's compose and buildx."""
        for user in (self.alice, self.bob, self.carol, self.mallory, self.root):
            folder = user.home / ".docker" / "cli-plugins"
            folder.mkdir(parents=True, exist_ok=True)
            for plugin in plugins.iterdir():
                (folder / plugin.name).unlink(missing_ok=True)
                (folder / plugin.name).symlink_to(plugin)
            _run("chown", "-R", f"{user.uid}:{user.gid}", user.home / ".docker")

    def remove(self) -> None:
        """Remove the users, their homes and the group."""
        for name in self._names.values():
            _run("userdel", "-rf", name)  # -f: a process of theirs may be ending
        _run("groupdel", self.developers)


def shared_folder() -> Path:
    """Make a temporary folder that all users may enter, on a path short enough for sockets.

    For root it is a shared mount, as `/` is where systemd runs: engines see what is mounted below it after their start.
    """
    folder = Path(tempfile.mkdtemp(prefix="spt-"))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        _run("mount", "--bind", folder, folder)
        _run("mount", "--make-shared", folder)
    return folder


def remove_folder(folder: Path) -> None:
    """Remove a folder that engines have used."""
    if os.geteuid() == 0:
        _run("umount", "--recursive", "--lazy", folder)
    shutil.rmtree(folder, ignore_errors=True)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")
