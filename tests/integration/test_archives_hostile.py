"""Archives that would lead out: contexts of builds, images, what is copied in and out; judged by the host's files.

Devices are refused where the daemon would make them on the host's disk, below a bind. In an image they stay what they
are for the daemon: names that the containers' device cgroup keeps shut, and that no user can carry to the host.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.belongings import Person, Root
from tests.support.proxy import Proxy
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]
Packed = tuple[str, dict[str, Any], bytes]
DISK: Packed = ("disk", {"type": tarfile.BLKTYPE, "mode": 0o666, "devmajor": 7, "devminor": 0}, b"")
CONFIG = json.dumps({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["sh"]}})


class Host:
    """What on the host an archive could reach.

    Attributes:
        reach: a folder that all may write to, so that only the daemon itself would keep something out of it.
        secret: a file of root's.
        work: a folder of alice's.
    """

    def __init__(self, proxy: Proxy, users: Users) -> None:
        self.reach, self.work = proxy.folder / "reach", users.alice.home / "unpacked"
        for place in (self.reach, self.work):
            place.mkdir()
            place.chmod(0o777)
        os.chown(self.work, users.alice.uid, users.alice.gid)
        self.secret = self.work / "roots"
        self.secret.write_text("the secret of root")
        self.secret.chmod(0o600)

    def climbing(self) -> list[list[Packed]]:
        """Give archives that lead to `reach` or to the secret, if to anywhere on the host."""
        up = "../" * 12
        return [
            [(f"{up}{self.reach}/climbed", {}, b"x")],
            [(f"a/{up}{self.reach}/climbed", {}, b"x")],
            [("way", {"type": tarfile.SYMTYPE, "linkname": str(self.reach)}, b""), ("way/planted", {}, b"x")],
            [("way", {"type": tarfile.SYMTYPE, "linkname": f"{up}{self.reach}"}, b""), ("way/planted", {}, b"x")],
            [("hard", {"type": tarfile.LNKTYPE, "linkname": f"{up}{self.secret}"}, b"")],
            [("hard", {"type": tarfile.LNKTYPE, "linkname": str(self.secret)}, b"")],
            [("soft", {"type": tarfile.SYMTYPE, "linkname": str(self.secret)}, b"")],
        ]

    def remove(self) -> None:
        for place in (self.reach, self.work):
            shutil.rmtree(place)


@pytest.fixture
def host(proxy28: Proxy, users: Users) -> Iterator[Host]:
    found = Host(proxy28, users)
    yield found
    proxy28.engine.clean()
    proxy28.engine.docker("image", "prune", "-f")  # what builds leave without a name
    found.remove()


@pytest.fixture
def alice(proxy28: Proxy, users: Users) -> Person:
    return Person(proxy28, users.alice)


def pack(*members: Packed) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, fields, content in members:
            entry = tarfile.TarInfo("x")
            entry.name, entry.size, entry.mode = name, len(content), 0o644
            for key, value in fields.items():
                setattr(entry, key, value)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def text(name: str, content: str) -> Packed:
    return name, {}, content.encode()


def image(layer: bytes, *more: Packed) -> bytes:
    """Pack an image as `docker save` does; `more` takes the place of the layer."""
    config = json.dumps({**json.loads(CONFIG), "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]}})
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["hostile:1"], "Layers": ["l.tar"]}])
    return pack(*(more or [("l.tar", {}, layer)]), text("c.json", config), text("manifest.json", manifest))


def _digest(layer: bytes) -> str:
    return f"sha256:{hashlib.sha256(layer).hexdigest()}"


BUILD = "FROM busybox\nCOPY . /all\nRUN cat /all/* /all/*/* || true\n"


def test_no_archive_leads_to_the_hosts_files(alice: Person, host: Host) -> None:
    made = alice.run("holder", HostConfig={"Binds": [f"{host.work}:/h"]})
    for members in host.climbing():
        answers = [
            alice.ask("POST", "/build?nocache=1&rm=1", pack(text("Dockerfile", BUILD), *members)),
            alice.ask("POST", "/images/load", image(pack(*members))),
            alice.ask("POST", "/images/load", image(b"", ("l.tar", *members[0][1:]))),
            alice.ask("POST", "/images/create?fromSrc=-&repo=hostile&tag=2", pack(*members)),
            alice.ask("PUT", f"/containers/{made}/archive?path=/h", pack(*members)),
            alice.ask("PUT", f"/containers/{made}/archive?path=/", pack(*members)),
        ]
        assert list(host.reach.iterdir()) == [], members
        assert not any(b"the secret" in answer.body for answer in answers), members
        for name in ("hostile:1", "hostile:2"):
            alice.ask("DELETE", f"/images/{name}?force=1")
    assert host.secret.stat().st_nlink == 1  # and nobody has got another name for it
    assert host.secret.read_text() == "the secret of root"


BUSYBOX = Path("/bin/busybox")


@pytest.mark.parametrize("way", ["load", "import"])  # a build takes none in its context
def test_devices_of_an_image_are_shut_and_stay_in_it(alice: Person, host: Host, proxy28: Proxy, way: str) -> None:
    shell = [(f"bin/{name}", {"mode": 0o755}, BUSYBOX.read_bytes()) for name in ("sh", "cp")]
    layer = pack(DISK, ("become", {"mode": 0o4755}, b"#!/bin/sh\n"), *shell)
    target = "/images/load" if way == "load" else "/images/create?fromSrc=-&repo=held&tag=latest"
    packed = image(layer).replace(b"hostile:1", b"held:last") if way == "load" else layer
    assert alice.ask("POST", target, packed).status == 200
    name, docker = "held:last" if way == "load" else "held", proxy28.engine.docker
    bare = docker("run", "--rm", "--privileged", name, "sh", "-c", "true < /disk")
    assert bare.returncode == 0  # it is one
    docker("run", "--rm", "-v", f"{host.work}:/h", name, "cp", "-a", "/disk", "/h/")
    assert stat.S_ISBLK((host.work / "disk").stat().st_mode)
    (host.work / "disk").unlink()
    run = ["docker", "run", "--rm", "-v", f"{host.work}:/h"]
    shut = proxy28.run(alice.user, [*run, name, "sh", "-c", "true < /disk"])
    assert "Operation not permitted" in shut.stderr
    proxy28.run(alice.user, [*run, name, "cp", "-a", "/disk", "/become", "/h/"])
    found = {path.name: path.lstat() for path in host.work.iterdir() if path != host.secret}
    assert set(found) <= {"become"}
    assert all(status.st_uid == alice.user.uid for status in found.values())
    docker("rmi", "-f", name)


def test_an_images_content_is_not_put_into_a_bind(alice: Person, host: Host, proxy28: Proxy) -> None:
    """As into an empty volume, by the daemon, with all that it may."""
    shell = [(f"bin/{name}", {"mode": 0o755}, BUSYBOX.read_bytes()) for name in ("ls", "true")]
    disk = (f"h/{DISK[0]}", *DISK[1:])
    alice.ask("POST", "/images/create?fromSrc=-&repo=filled&tag=latest", pack(disk, *shell))
    proxy28.engine.docker("run", "--rm", "-v", "filled:/h", "filled", "ls")
    volume = Path(proxy28.engine.docker("volume", "inspect", "-f", "{{.Mountpoint}}", "filled").stdout.strip())
    assert "disk" in os.listdir(volume)
    proxy28.run(alice.user, ["docker", "run", "--rm", "-v", f"{host.work}:/h", "filled", "true"], check=True)
    assert list(host.work.iterdir()) == [host.secret]
    proxy28.engine.docker("volume", "rm", "filled")
    proxy28.engine.docker("rmi", "-f", "filled")


def test_nothing_is_copied_out_that_its_owner_may_not_read(
    alice: Person, host: Host, proxy28: Proxy, users: Users
) -> None:
    """The daemon reads as root, also what is somebody else's in a folder of alice's: but not through the map."""
    root = Root(proxy28, users.root)
    bare = root.ask("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Binds": [f"{host.work}:/h"]}})
    (host.work / "mine").write_text("what is mine")
    os.chown(host.work / "mine", alice.user.uid, alice.user.gid)
    mine, theirs = (f"/archive?path=/h/{name}" for name in ("mine", "roots"))
    assert b"the secret" in root.ask("GET", f"/containers/{json.loads(bare.body)['Id']}{theirs}").body
    made = alice.create(HostConfig={"Binds": [f"{host.work}:/h"]})
    assert b"what is mine" in alice.ask("GET", f"/containers/{made}{mine}").body
    assert b"the secret" not in alice.ask("GET", f"/containers/{made}{theirs}").body
    assert b"the secret" not in alice.ask("GET", f"/containers/{made}/archive?path=/h").body
    # And what comes in belongs to who sends it, or to nobody else: here with root's and with bob's IDs in it.
    for uid in (0, users.bob.uid):
        assert (
            alice.ask(
                "PUT",
                f"/containers/{made}/archive?path=/h&copyUIDGID=1",
                pack(("sent", {"uid": uid, "gid": uid, "mode": 0o6755}, b"x")),
            ).status
            == 200
        )
        assert (host.work / "sent").stat().st_uid not in ({0, users.bob.uid} if uid else {0})
        (host.work / "sent").unlink()
