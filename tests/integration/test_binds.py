"""Folders and files of the host in containers: opened as who asked, root inside is that person outside.

Each hole is shown on the bare engine first. `folder` is a shared mount, as `/` is where systemd runs.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.belongings import Person, Root
from tests.support.cli import assert_done, assert_refused
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.users import User, Users

pytestmark = pytest.mark.daemon

BECOME_ROOT = "cp /bin/busybox /h/become && chmod 4755 /h/become"


@pytest.fixture
def home(users: Users, proxy: Proxy) -> Iterator[Path]:
    """Alice's folder for a test; its containers go first, since a mount would make it again."""
    place = users.alice.home / "work"
    place.mkdir()
    os.chown(place, users.alice.uid, users.alice.gid)
    yield place
    proxy.engine.clean()
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


def test_inspect_and_ps_show_what_was_asked_for(proxy: Proxy, users: Users, home: Path) -> None:
    alice, mounts = users.alice, "{{json .Mounts}}\n{{json .HostConfig.Binds}}\n{{json .HostConfig.Mounts}}"
    binds = ["-v", f"{home}:/a:ro", "-v", f"{home}:/c:private", "--mount", f"type=bind,src={home},dst=/b"]
    binds += ["--mount", f"type=bind,src={home},dst=/d,ro,bind-propagation=private"]
    create = ["create", "--name", "shown", *binds, "busybox"]
    proxy.engine.docker(*create)
    bare = proxy.engine.docker("inspect", "-f", mounts, "shown").stdout.splitlines()
    listed = proxy.engine.docker("ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.Mounts}}").stdout
    proxy.engine.docker("rm", "shown")
    assert_done(proxy.run(alice, ["docker", *create]))
    for user in (alice, users.root):
        found = assert_done(proxy.run(user, ["docker", "inspect", "-f", mounts, "shown"])).splitlines()
        order = [sorted(json.loads(text) or [], key=str) for text in found]
        assert order == [sorted(json.loads(text) or [], key=str) for text in bare]
    ps = ["docker", "ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.Mounts}}"]
    assert assert_done(proxy.run(alice, ps)) == listed
    for spread in ("rshared", "slave"):
        for form in (
            ["-v", f"{home}:/a:{spread}"],
            ["--mount", f"type=bind,src={home},dst=/b,bind-propagation={spread}"],
        ):
            done = proxy.run(alice, ["docker", "create", *form, "busybox"])
            assert_refused(done)
            assert "private" in done.stderr  # what would be allowed


def test_records_go_with_their_containers(proxy: Proxy, users: Users, home: Path) -> None:
    """The sweep leaves young records alone, of whatever container; here they are made old."""
    for name in ("kept", "gone"):
        assert_done(proxy.run(users.alice, ["docker", "create", "--name", name, "-v", f"{home}:/h", "busybox"]))
    for path in records(proxy, users.alice):
        os.utime(path, (1, 1))
    assert_done(proxy.run(users.alice, ["docker", "rm", "gone"]))
    eventually(lambda: len(records(proxy, users.alice)) == 1, "one record")
    assert_done(proxy.run(users.alice, ["docker", "start", "kept"]))
    assert_done(proxy.run(users.alice, ["docker", "rm", "-f", "kept"]))
    eventually(lambda: records(proxy, users.alice) == [], "no record")


def records(proxy: Proxy, user: User) -> list[Path]:
    return list((proxy.folder / "state" / "binds" / str(user.uid)).glob("sockproxy-*"))


def test_the_daemons_socket_is_the_users_own_in_a_container(
    engine: Engine, start_proxy: Callable[..., Proxy], users: Users
) -> None:
    places = ", ".join(f"{{path: {path}, mode: ro}}" for path in ("/usr", "/lib", "/lib64"))
    role = f"roles: {{developer: {{extends: developer, binds: [{places}]}}}}\n"
    proxy = start_proxy(engine, policy=default_policy(users) + role)
    libraries = [option for path in ("/usr", "/lib", "/lib64") for option in ("-v", f"{path}:{path}:ro")]
    sock = "/var/run/docker.sock"
    curl = ["/usr/bin/curl", "-s", "--unix-socket", sock, "http://d/containers/json?all=1"]
    proxy.engine.docker("create", "--name", "roots", "busybox")
    for user in (users.alice, users.bob):
        command = ["docker", "run", "--name", f"{user.name}s", *libraries, "-v", f"{sock}:{sock}", "busybox", *curl]
        seen = json.loads(assert_done(proxy.run(user, command)))
        assert [one["Names"] for one in seen] == [[f"/{user.name}s"]]
    before = proxy.listen.stat()
    script = f"chmod 777 {sock}; chown 1 {sock}; rm -f {sock}; ls -ln {sock}"
    proxy.run(users.alice, ["docker", "run", "--rm", "-v", f"{sock}:{sock}", "busybox", "sh", "-c", script])
    after = proxy.listen.stat()
    assert (before.st_ino, before.st_mode, before.st_uid) == (after.st_ino, after.st_mode, after.st_uid)


SWAPS = 100_000
SWAP = """
import ctypes, sys
libc = ctypes.CDLL(None)
done = 0
print("begins", flush=True)
while True:
    for _ in range(1000):
        libc.renameat2(-100, sys.argv[1].encode(), -100, sys.argv[2].encode(), 2)
    done += 1000
    with open(sys.argv[3], "w") as file:
        file.write(str(done))
"""


@pytest.mark.parametrize("engine", ["28"], indirect=True)  # it is the kernel that opens
def test_no_swap_of_the_source_wins(proxy: Proxy, users: Users, home: Path) -> None:
    """A folder and a link to what is root's change places all the time: on the bare engine the link wins sometimes."""
    alice, secret, counter = users.alice, proxy.folder / "secret", users.alice.home / "swaps"
    secret.mkdir(mode=0o700, exist_ok=True)
    (secret / "shadow").write_text("secret")
    (home / "a").mkdir()
    (home / "b").symlink_to(secret)
    counter.write_text("0")
    for path in (home / "a", counter):
        os.chown(path, alice.uid, alice.gid)
    racer = proxy.start(
        alice, [sys.executable, "-I", "-c", SWAP, f"{home}/a", f"{home}/b", str(counter)], stdout=subprocess.PIPE
    )
    try:
        assert racer.stdout
        racer.stdout.readline()
        show = ["run", "--rm", "-v", f"{home}/a:/h", "busybox", "cat", "/h/shadow"]
        bare = [proxy.engine.docker(*show, check=False).stdout for _ in range(8)]
        assert "secret" in bare
        begun, starts = int(counter.read_text() or "0"), 0
        while starts < 12 or int(counter.read_text() or "0") - begun < SWAPS:
            found = proxy.run(alice, ["docker", *show])
            assert found.stdout == ""
            starts += 1
    finally:
        racer.kill()
        racer.communicate()
        counter.unlink()


def test_ownership_of_those_who_change_user_at_their_start(proxy: Proxy, users: Users, home: Path) -> None:
    """As images of databases do: root gives the folder to another user, and becomes that user."""
    alice = users.alice
    fields = [line.split(":") for line in Path("/etc/subuid").read_text().splitlines()]
    first = next(int(first) for name, first, _ in fields if name == alice.name)
    run(proxy, alice, "-v", f"{home}:/h", "busybox", "sh", "-c", "chown 999:999 /h && chmod 700 /h && touch /h/own")
    assert (owner(home)[0], owner(home / "own")[0]) == (first + 999, alice.uid)
    assert run(proxy, alice, "-v", f"{home}:/h:ro", "busybox", "stat", "-c", "%u", "/h").strip() == "999"
    run(proxy, alice, "-v", f"{home}:/h", "busybox", "chown", "0", "/h")
    seen = run(
        proxy, alice, "-u", "1000:1000", "-v", f"{home}:/h", "busybox", "sh", "-c", "touch /h/as; stat -c %u:%g /h/as"
    )
    assert seen.strip() == "1000:1000"
    assert owner(home / "as") == (alice.uid, alice.gid)


def special(kind: bytes, name: str = "disk", **more: object) -> bytes:
    """Pack a file, and then one of a special kind."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        first = tarfile.TarInfo("first")
        first.size = 3
        archive.addfile(first, io.BytesIO(b"one"))
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.devmajor, entry.devminor = kind, 0o666, 7, 0
        for key, value in more.items():
            setattr(entry, key, value)
        archive.addfile(entry)
    return packed.getvalue()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [tarfile.BLKTYPE, tarfile.CHRTYPE])
def test_devices_do_not_come_with_an_archive(proxy: Proxy, users: Users, home: Path, kind: bytes, packed: bool) -> None:
    """The daemon itself unpacks, as root with all its capabilities, through the bind of a container."""
    person, root = Person(proxy, users.alice), Root(proxy, users.root)
    made = person.create(HostConfig={"Binds": [f"{home}:/h"]})
    upload = special(kind) if not packed else gzip.compress(special(kind, "h/disk"))
    target = f"/containers/{made}/archive?path={'/' if packed else '/h'}"
    assert root.ask("PUT", target, upload).status == 200
    found = (home / "disk").lstat()
    assert stat.S_ISBLK(found.st_mode) or stat.S_ISCHR(found.st_mode)
    (home / "disk").unlink()
    answer = person.ask("PUT", target, upload)
    assert (answer.status, (home / "disk").exists()) == (403, False)
    assert "may not copy the device" in answer.message


def test_what_an_archive_makes_in_a_bind_is_its_owners(proxy: Proxy, users: Users, home: Path) -> None:
    """Also with other people's IDs, setuid bits and file capabilities in it; links stay in the container."""
    person, alice = Person(proxy, users.alice), users.alice
    made = person.create(HostConfig={"Binds": [f"{home}:/h"]})
    capability = {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\udc80" + "\x00" * 15}
    upload = special(tarfile.REGTYPE, "root", mode=0o6755, pax_headers=capability)
    answer = person.ask("PUT", f"/containers/{made}/archive?path=/h", upload)
    assert answer.status == 200, answer.body
    found = (home / "root").lstat()
    assert (found.st_uid, found.st_gid) == (alice.uid, alice.gid)
    assert os.getxattr(home / "root", "security.capability")[-4:] != b"\0\0\0\0"  # of root in alice's map, so of nobody
    secret = proxy.folder / "out-of-reach"
    upload = special(tarfile.SYMTYPE, "out", linkname=str(secret))
    assert person.ask("PUT", f"/containers/{made}/archive?path=/h", upload).status == 200
    person.ask("PUT", f"/containers/{made}/archive?path=/h/out", special(tarfile.FIFOTYPE, "pipe"))
    assert not secret.exists()


def test_nobody_can_name_what_stands_for_a_bind(proxy: Proxy, users: Users, home: Path) -> None:
    """Not even who somehow learnt the name, and not the driver either."""
    before = set(records(proxy, users.alice))
    assert_done(proxy.run(users.alice, ["docker", "create", "--name", "named", "-v", f"{home}:/h", "busybox"]))
    (record,) = set(records(proxy, users.alice)) - before
    name, driver = record.name, Path(proxy.plugin).stem
    for user in (users.alice, users.bob):
        for command in (
            ["create", "-v", f"{name}:/x", "busybox"],
            ["create", "--mount", f"type=volume,src={name},dst=/x", "busybox"],
            ["create", "--mount", f"type=volume,src={name},dst=/x,volume-driver={driver}", "busybox"],
            ["create", "--volume-driver", driver, "-v", "mine:/x", "busybox"],
            ["volume", "create", "-d", driver, name],
            ["volume", "inspect", name],
            ["volume", "rm", "-f", name],
        ):
            done = proxy.run(user, ["docker", *command])
            assert done.returncode != 0 or command[1] == "rm", command
    mine = ["volume", "create", "-d", driver, f"sockproxy-{users.bob.uid}-{'0' * 32}"]
    assert (
        "no such bind" in proxy.engine.docker(*mine, check=False).stderr
    )  # root may name the driver, and gets nothing
    assert proxy.engine.docker("volume", "inspect", "-f", "{{.Driver}}", name).stdout.strip() == driver
    assert_done(proxy.run(users.alice, ["docker", "start", "named"]))
