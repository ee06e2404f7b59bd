"""Where binds can be had: each file system, what is mounted below, groups; what a role may loosen, and bound."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sockproxy.doctor.machine import Machine
from sockproxy.supervise.table import Settings
from tests.support import needs
from tests.support.cli import assert_done, assert_refused
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root, pytest.mark.parametrize("engine", ["28"], indirect=True)]
SIZES = {"ext4": "32M", "xfs": "320M", "btrfs": "128M"}
MKFS = {"ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q"], "btrfs": ["mkfs.btrfs", "-q"]}


def _do(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, users: Users, proxy: Proxy) -> Iterator[Path]:
    """A folder of alice's on a file system of its own."""
    kind, found, image = str(request.param), users.alice.home / "place", proxy.folder / f"{request.param}.img"
    found.mkdir()
    if kind in MKFS:
        if not shutil.which(MKFS[kind][0]):
            needs.missing(f"no {MKFS[kind][0]} on this host")
        _do("truncate", "-s", SIZES[kind], image)
        _do(*MKFS[kind], image)
        done = subprocess.run(["mount", "-t", kind, "-o", "loop", image, found], capture_output=True, text=True)
        if done.returncode:
            needs.missing(f"this kernel mounts no {kind}: {done.stderr.strip()}")
    elif kind == "overlay":
        parts = {name: proxy.folder / f"overlay-{name}" for name in ("lowerdir", "upperdir", "workdir")}
        for part in parts.values():
            part.mkdir(exist_ok=True)
        _do("mount", "-t", "overlay", "-o", ",".join(f"{k}={v}" for k, v in parts.items()), "overlay", found)
    elif kind == "fuse":
        below = proxy.folder / "below-fuse"
        below.mkdir()
        below.chmod(0o777)
        if not shutil.which("bindfs") or not os.path.exists("/dev/fuse"):
            needs.missing("no bindfs or no /dev/fuse on this host")
        _do("bindfs", "-o", "allow_other", below, found)
    else:
        _do("mount", "-t", kind, kind, found)
    os.chown(found, users.alice.uid, users.alice.gid)
    yield found
    proxy.engine.clean()
    _do("umount", "--lazy", found)
    found.rmdir()
    image.unlink(missing_ok=True)
    shutil.rmtree(proxy.folder / "below-fuse", ignore_errors=True)


def docker(proxy: Proxy, user: User, *arguments: str) -> str:
    return assert_done(proxy.run(user, ["docker", *arguments])).strip()


@pytest.mark.parametrize("place", ["ext4", "xfs", "btrfs", "tmpfs"], indirect=True)
def test_file_systems_that_can_be_mapped(proxy: Proxy, users: Users, place: Path) -> None:
    alice = users.alice
    options = docker(
        proxy,
        alice,
        "run",
        "--rm",
        "-v",
        f"{place}:/h",
        "busybox",
        "sh",
        "-c",
        "touch /h/x; grep ' /h ' /proc/self/mountinfo",
    )
    assert {"nosuid", "nodev", "idmapped"} <= set(options.split()[5].split(","))
    assert ((place / "x").stat().st_uid, (place / "x").stat().st_gid) == (alice.uid, alice.gid)
    # Also where it is mounted below what is bound, and not where only the top is asked for
    listed = ["run", "--rm", "-v", f"{alice.home}:/h", "busybox", "ls", "/h/place"]
    assert docker(proxy, alice, *listed).split()[-1] == "x"
    top = f"type=bind,src={alice.home},dst=/h,bind-recursive=disabled"
    assert docker(proxy, alice, "run", "--rm", "--mount", top, "busybox", "ls", "/h/place") == ""


@pytest.mark.parametrize("place", ["overlay", "fuse"], indirect=True)
def test_file_systems_that_can_not(
    proxy: Proxy, users: Users, place: Path, start_proxy: Callable[..., Proxy], engine: Engine
) -> None:
    alice, script = users.alice, ["busybox", "sh", "-c", "touch /h/x; ls /h"]
    done = proxy.run(alice, ["docker", "run", "--rm", "-v", f"{place}:/h:ro", *script])
    assert_refused(done, 125, "roles.yaml")
    assert "its file system does not let root in the container be you on disk (allowed: ext4, xfs" in done.stderr
    below = proxy.run(alice, ["docker", "run", "--rm", "-v", f"{alice.home}:/h", *script])
    assert "something that is mounted below it" in below.stderr
    doctor = Machine(Settings(None, *["/x"] * 5))
    assert [doctor.mappable(str(path)) for path in (place, alice.home, users.bob.home)] == ["none", "top", "all"]
    other = start_proxy(
        engine, policy=default_policy(users) + "roles: {developer: {extends: developer, unmapped_binds: true}}\n"
    )
    assert (
        "(allowed: read-only, :ro)" in other.run(alice, ["docker", "run", "--rm", "-v", f"{place}:/h", *script]).stderr
    )
    read = other.run(alice, ["docker", "run", "--rm", "-v", f"{place}:/h:ro", *script])
    assert (assert_done(read), "Read-only file system" in read.stderr, list(place.iterdir())) == ("", True, [])


@pytest.mark.parametrize("place", ["fuse"], indirect=True)
def test_a_file_system_that_stalls_keeps_its_user_alone(proxy: Proxy, users: Users, place: Path) -> None:
    """Its server may be the user's own, and answer nothing: opening what lies there then never ends."""
    (place / "sub").mkdir()
    listed = subprocess.run(["pgrep", "--full", f"bindfs .* {place}$"], check=True, capture_output=True, text=True)
    server = int(listed.stdout)
    os.kill(server, signal.SIGSTOP)
    try:
        run = ["docker", "run", "--rm", "-v", f"{place}/sub:/h:ro", "busybox", "true"]
        waiting = [proxy.start(users.alice, run, stderr=subprocess.PIPE) for _ in range(3)]
        bobs = ["run", "--rm", "-v", f"{users.bob.home}:/h", "busybox", "sh", "-c", "echo x >/h/new"]
        docker(proxy, users.bob, *bobs)
        assert (users.bob.home / "new").stat().st_uid == users.bob.uid
        assert [one.poll() for one in waiting] == [None] * 3
    finally:
        os.kill(server, signal.SIGCONT)
    for one in waiting:
        assert b"its file system does not let root" in one.communicate(timeout=30)[1]


def test_groups_and_the_number_of_binds_are_the_roles(
    proxy: Proxy, users: Users, start_proxy: Callable[..., Proxy], engine: Engine
) -> None:
    alice, shared = users.alice, users.alice.home / "shared"
    group = next(gid for gid in alice.groups if gid != alice.gid)
    shared.mkdir()
    (shared / "file").write_text("old")
    for path in (shared, shared / "file"):
        os.chown(path, alice.uid, group)
        path.chmod(0o770)
    write = ["docker", "run", "--rm", "-v", f"{shared}:/h", "busybox", "sh", "-c", "echo new > /h/file"]
    assert proxy.run(alice, write).returncode == 1  # the group is nobody in there, so nothing is writable
    rules = "bind_groups: true, totals: {binds: 2}"
    other = start_proxy(
        engine, policy=default_policy(users) + f"roles: {{developer: {{extends: developer, {rules}}}}}\n"
    )
    assert_done(other.run(alice, write))
    assert (shared / "file").read_text() == "new\n"
    eventually(lambda: not list((other.folder / "state" / "binds" / str(alice.uid)).iterdir()), "no bind is left", 10)
    two = ["-v", f"{shared}:/a", "-v", f"{shared}:/b"]
    three = other.run(alice, ["docker", "create", *two, "-v", f"{shared}:/c", "busybox"])
    assert_refused(three)
    assert "may have 2 binds, and you have 0" in three.stderr
    assert_done(other.run(alice, ["docker", "create", *two, "busybox"]))
    shutil.rmtree(shared)
