"""Who in a container is the caller on disk: users by name and by number, and where the daemon remaps them all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import assert_done
from tests.support.engines import Engine
from tests.support.proxy import Proxy
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]
ADD_NODE = "echo node:x:4321:4322::/:/bin/sh >>/etc/passwd; echo staff:x:50: >>/etc/group"
MAKE = "touch /h/x; stat -c %u:%g /h /h/x"


@pytest.fixture
def work(users: Users) -> Iterator[Path]:
    """A folder of alice's that is closed to all others."""
    place = users.alice.home / "mapped"
    place.mkdir(mode=0o700)
    os.chown(place, users.alice.uid, users.alice.gid)
    yield place
    for entry in place.iterdir():
        entry.unlink()
    place.rmdir()


@pytest.fixture(scope="module")
def image(engine28: Engine) -> Iterator[str]:
    """An image with a user `node`, whom it runs as."""
    engine28.docker("run", "--name", "maker", "busybox", "sh", "-c", ADD_NODE)
    engine28.docker("commit", "-c", "USER node", "-c", 'CMD ["sh"]', "maker", "noded")
    engine28.docker("rm", "maker")
    yield "noded"
    engine28.docker("rmi", "-f", "noded", check=False)


def run(proxy: Proxy, user: User, *arguments: str) -> str:
    return assert_done(proxy.run(user, ["docker", "run", "--rm", *arguments]))


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ([], "4321:4322"),
        (["--user", "node"], "4321:4322"),
        (["--user", "4321"], "4321:4322"),
        (["--user", "node:staff"], "4321:50"),
        (["--user", "33"], "33:0"),
        (["--user", "root"], "0:0"),
    ],
)
def test_a_user_by_name_is_the_caller(
    proxy28: Proxy, users: Users, work: Path, image: str, options: list[str], seen: str
) -> None:
    bind = [*options, "-v", f"{work}:/h", image, "sh", "-c", MAKE]
    if options == ["--user", "node"]:  # what the daemon does by itself
        assert "Permission denied" in proxy28.engine.docker("run", "--rm", *bind, check=False).stderr
    assert run(proxy28, users.alice, *bind).split() == [seen, seen]
    assert owner(work / "x") == (users.alice.uid, users.alice.gid)
    assert "sockproxy-reads" not in proxy28.engine.docker("ps", "-a").stdout


def test_who_is_not_in_the_image_does_not_run(proxy28: Proxy, users: Users, work: Path, image: str) -> None:
    done = proxy28.run(users.alice, ["docker", "run", "--rm", "-u", "nobody-here", "-v", f"{work}:/h", image])
    assert "unable to find user nobody-here" in done.stderr  # the daemon's own words
    assert list(work.iterdir()) == []


@pytest.fixture(scope="module")
def remapped(folder: Path, users: Users) -> Iterator[Engine]:
    """An engine whose containers' root is a subordinate ID of bob's on the host."""
    engine = Engine("28", folder / "remapped", f"--userns-remap={users.bob.name}")
    yield engine
    engine.stop()


def subordinate(user: User) -> int:
    lines = [line.split(":") for line in Path("/etc/subuid").read_text().splitlines()]
    return next(int(first) for name, first, _ in lines if name == user.name)


def test_where_the_daemon_remaps_users_root_is_the_caller_all_the_same(
    remapped: Engine, start_proxy: Callable[..., Proxy], users: Users, work: Path
) -> None:
    alice, proxy = users.alice, start_proxy(remapped)
    inside = run(proxy, alice, "busybox", "cat", "/proc/self/uid_map").split()
    assert inside == ["0", str(subordinate(users.bob)), "65536"]
    script = "cp /bin/busybox /h/become && chmod 4755 /h/become; stat -c %u:%g /h /h/become; grep ' /h ' /proc/mounts"
    seen = run(proxy, alice, "-v", f"{work}:/h", "busybox", "sh", "-c", script).split()
    assert seen[:2] == ["0:0", "0:0"]
    assert {"nosuid", "nodev"} <= set(seen[5].split(","))
    assert owner(work / "become") == (alice.uid, alice.gid)
    assert (work / "become").stat().st_mode & stat.S_ISUID
    assert (
        run(proxy, alice, "-u", "1000:1000", "-v", f"{work}:/h", "busybox", "sh", "-c", MAKE).split()
        == ["1000:1000"] * 2
    )
    assert owner(work / "x") == (alice.uid, alice.gid)
    run(proxy, alice, "-v", f"{work}:/h", "busybox", "sh", "-c", "touch /h/other; chown 999 /h/other")
    assert owner(work / "other") == (subordinate(alice) + 999, alice.gid)
