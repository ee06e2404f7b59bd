"""A container's user, as the daemon will find it in the image's files."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

from sockproxy_helpers.folders.imageusers import ImageUsers, numbers
from tests.helpers.asked import Asked, finish
from tests.support.belongings import tar

PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1001::/home/node:/bin/sh\n33:x:7:8::/:\nwww:x:33:34::/:\nbad:x:y:z\n"
)
GROUP = "root:x:0:\nstaff:x:50:node\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("node", [1000, 1001]),
        ("1000", [1000, 1001]),
        ("1234", [1234, 0]),
        ("33", [7, 8]),  # moby: a user of this name, or of this number; the first in the file
        ("node:staff", [1000, 50]),
        ("node:50", [1000, 50]),
        ("node:99", [1000, 99]),
        ("99:99", [99, 99]),
        (":staff", [0, 50]),
        ("nobody-here", [0, 0]),
        ("bad", [0, 0]),
        ("1_0", [0, 0]),
        ("-1", [0, 0]),
        ("\u0661", [0, 0]),
        ("9999999999", [0, 0]),
        ("node:", [1000, 1001]),
    ],
)
def test_numbers(user: str, expected: list[int]) -> None:
    assert numbers(user, PASSWD, GROUP) == expected


@pytest.fixture
def daemon() -> Asked:
    daemon = Asked()
    daemon.files = {"/etc/passwd": tar(passwd=PASSWD), "/etc/group": tar(group=GROUP)}
    daemon.image("busybox", user="node:staff")
    daemon.image("plain")
    return daemon


def ids(users: ImageUsers, daemon: Any, image: str, user: str = "") -> list[int]:
    return finish(users.ids(daemon, image, user))


def test_an_image_is_read_once_in_a_container_that_goes(daemon: Asked) -> None:
    users = ImageUsers()
    assert [ids(users, daemon, "busybox") for _ in range(3)] == [[1000, 50]] * 3
    assert [asked.partition(" ")[0] for asked in daemon.asked if "/containers/" in asked] == [
        "POST",
        "GET",
        "GET",
        "DELETE",
    ]
    assert daemon._objects["containers"] == []


@pytest.mark.parametrize("user", ["0", "root", "1000:50", "0:0"])
def test_what_needs_no_file_asks_nothing(daemon: Asked, user: str) -> None:
    expected = [int(part) for part in user.split(":")] if ":" in user else [0, 0]
    assert ids(ImageUsers(), daemon, "busybox", user) == expected
    assert daemon.asked == []


def test_an_image_of_root_is_only_looked_at(daemon: Asked) -> None:
    assert ids(ImageUsers(), daemon, "plain") == [0, 0]
    assert daemon.asked == ["GET /images/plain/json"]


def link() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("passwd")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/shadow"
        archive.addfile(entry)
    return packed.getvalue()


@pytest.mark.parametrize("archive", [None, b"", b"no archive" * 100, link(), tar(other="node:x:5:5::/:")])
def test_an_image_without_the_file_has_no_such_user(daemon: Asked, archive: bytes | None) -> None:
    daemon.files = {} if archive is None else {"/etc/passwd": archive}
    assert ids(ImageUsers(), daemon, "plain", "node") == [0, 0]
    assert ids(ImageUsers(), daemon, "plain", "1000") == [1000, 0]
    assert daemon._objects["containers"] == []


@pytest.mark.parametrize("end", "\v\f\x1c\x1d\x1e\x85\u2028\r")
def test_lines_end_as_for_the_daemon(end: str) -> None:
    """The files are the image's maker's: who is named behind another end of a line is no user there."""
    assert numbers("node", f"other:x:5:5:{end}node:x:6:6:\nnode:x:7:7::/:\n", "") == [7, 7]
    assert numbers("a:staff", "", f"b:x:5:{end}staff:x:6:\nstaff:x:7:\n") == [0, 7]
