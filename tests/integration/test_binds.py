"""Folders and files of the host in containers: opened as who asked, root inside is that person outside.

Each hole is shown on the bare engine first. `folder` is a shared mount, as `/` is where systemd runs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import assert_done, assert_refused
from tests.support.proxy import Proxy, eventually
from tests.support.users import User, Users

pytestmark = pytest.mark.daemon

BECOME_ROOT = "cp /bin/busybox /h/become && chmod 4755 /h/become"


@pytest.fixture
def home(users: Users) -> Iterator[Path]:
    """Alice's folder for a test."""
    place = users.alice.home / "work"
    place.mkdir()
    os.chown(place, users.alice.uid, users.alice.gid)
    yield place
    for entry in sorted(place.rglob("*"), key=lambda path: len(path.parts), reverse=True):
        entry.unlink() if entry.is_symlink() or not entry.is_dir() else entry.rmdir()
    place.unlink() if place.is_symlink() else place.rmdir()


def run(proxy: Proxy, user: User, *arguments: str) -> str:
    return assert_done(proxy.run(user, ["docker", "run", "--rm", *arguments]))


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


def stages(proxy: Proxy) -> list[str]:
    return os.listdir(proxy.runtime / "binds")


def test_root_leaves_what_is_its_users(proxy: Proxy, users: Users, home: Path) -> None:
    alice = users.alice
    bare = proxy.engine.docker("run", "--rm", "-v", f"{home}:/h", "busybox", "sh", "-c", BECOME_ROOT)
    assert bare.returncode == 0
    assert (owner(home / "become")[0], (home / "become").stat().st_mode & stat.S_ISUID) == (0, stat.S_ISUID)
    (home / "become").unlink()
    seen = run(proxy, alice, "-v", f"{home}:/h", "busybox", "sh", "-c", f"{BECOME_ROOT}; stat -c %u:%g /h /h/become")
    assert seen.split() == ["0:0", "0:0"]
    assert owner(home / "become") == (alice.uid, alice.gid)
    assert (home / "become").stat().st_mode & stat.S_ISUID  # and it makes nobody anything but alice


@pytest.mark.parametrize("form", ["-v", "--mount"])
@pytest.mark.parametrize("mode", ["rw", "ro"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_forms_and_modes(proxy: Proxy, users: Users, home: Path, form: str, mode: str, kind: str) -> None:
    source = home
    if kind == "file":
        source = home / "file"
        source.write_text("before\n")
        os.chown(source, users.alice.uid, users.alice.gid)
    mount = f"{source}:/h:{mode}" if form == "-v" else f"type=bind,src={source},dst=/h{',ro' * (mode == 'ro')}"
    script = "echo after > /h/x" if kind == "folder" else "echo after > /h"
    found = proxy.run(
        users.alice,
        ["docker", "run", "--rm", form, mount, "busybox", "sh", "-c", f"{script}; grep ' /h ' /proc/self/mountinfo"],
    )
    options = assert_done(found).split()[5].split(",")
    assert {"nosuid", "nodev", "idmapped", mode} <= set(options)
    written = (home / "x").exists() if kind == "folder" else source.read_text() == "after\n"
    assert written is (mode == "rw")
    eventually(lambda: stages(proxy) == [], "nothing stays attached")


def test_devices_are_not_made(proxy: Proxy, users: Users, home: Path) -> None:
    script = ["busybox", "mknod", "/h/disk", "b", "7", "0"]
    proxy.engine.docker("run", "--rm", "-v", f"{home}:/h", *script)
    assert stat.S_ISBLK((home / "disk").stat().st_mode)
    (home / "disk").unlink()
    assert proxy.run(users.alice, ["docker", "run", "--rm", "-v", f"{home}:/h", *script]).returncode == 1
    assert list(home.iterdir()) == []


def test_a_link_leads_where_its_owner_could_go_and_not_out_of_the_place(proxy: Proxy, users: Users, home: Path) -> None:
    secret = proxy.folder / "secret"
    secret.mkdir(mode=0o700, exist_ok=True)
    (secret / "shadow").write_text("secret")
    (home / "out").symlink_to(secret)
    (home / "inner").mkdir()
    (home / "absolute").symlink_to(home / "inner")
    bare = proxy.engine.docker("run", "--rm", "-v", f"{home}/out:/h", "busybox", "cat", "/h/shadow")
    assert bare.stdout == "secret"
    done = proxy.run(users.alice, ["docker", "run", "--rm", "-v", f"{home}/out:/h", "busybox", "cat", "/h/shadow"])
    assert_refused(done, 125)
    assert "secret" not in done.stdout
    assert run(proxy, users.alice, "-v", f"{home}/absolute:/h:ro", "busybox", "ls", "/h") == ""


def test_what_is_swapped_after_the_check_is_checked_again_at_the_start(proxy: Proxy, users: Users, home: Path) -> None:
    secret = proxy.folder / "secret"
    secret.mkdir(mode=0o700, exist_ok=True)
    (secret / "shadow").write_text("secret")
    (home / "a").mkdir()
    for target in (proxy.engine, None):
        create = ["create", "--name", "swapped", "-v", f"{home}/a:/h:ro", "busybox", "cat", "/h/shadow"]
        if target:
            target.docker(*create)
        else:
            assert_done(proxy.run(users.alice, ["docker", *create]))
        os.rename(home / "a", home / "b")
        (home / "a").symlink_to(secret)
        started = proxy.engine.docker("start", "-a", "swapped", check=False)
        assert (started.stdout, started.returncode == 0) == (("secret", True) if target else ("", False))
        (home / "a").unlink()
        os.rename(home / "b", home / "a")
        proxy.engine.docker("rm", "-f", "swapped")


def test_a_missing_source_is_made_as_its_owner(proxy: Proxy, users: Users, home: Path) -> None:
    run(proxy, users.alice, "-v", f"{home}/new/deep:/h", "busybox", "touch", "/h/x")
    for path in ("new", "new/deep", "new/deep/x"):
        assert owner(home / path) == (users.alice.uid, users.alice.gid)
    done = proxy.run(users.alice, ["docker", "run", "--rm", "--mount", f"type=bind,src={home}/none,dst=/h", "busybox"])
    assert "bind source path does not exist" in done.stderr
    assert not (home / "none").exists()


def test_nobody_elses_folder(proxy: Proxy, users: Users, home: Path) -> None:
    home.chmod(0o700)
    done = proxy.run(users.bob, ["docker", "run", "--rm", "-v", f"{home}:/h", "busybox", "ls", "/h"])
    assert_refused(done, 125)
    link = users.bob.home / "link"
    link.symlink_to(home)
    assert_refused(proxy.run(users.bob, ["docker", "run", "--rm", "-v", f"{link}:/h", "busybox", "ls", "/h"]), 125)
    link.unlink()


def test_binds_are_in_no_list_of_volumes(proxy: Proxy, users: Users, home: Path) -> None:
    assert_done(proxy.run(users.alice, ["docker", "create", "--name", "holder", "-v", f"{home}:/h", "busybox"]))
    for user in (users.alice, users.root):
        assert "sockproxy" not in assert_done(proxy.run(user, ["docker", "volume", "ls", "-q"]))
    assert "sockproxy" not in proxy.engine.docker("volume", "ls", "-q").stdout
