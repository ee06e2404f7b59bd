"""What the two processes that make binds can not do, tried with their rights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sockproxy import paths
from sockproxy.supervise.child import take_rights
from sockproxy.supervise.host import account
from sockproxy.supervise.table import Row, Settings, table
from tests.support import needs

pytestmark = pytest.mark.root

PRELUDE = """
import ctypes, errno, os, socket, struct, sys
sys.path.insert(0, sys.argv[1])
from sockproxy_helpers import kernel, seccomp, confine
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    given = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    ctypes.set_errno(0)
    libc.syscall(ctypes.c_long(number), *given)
    return errno.errorcode.get(ctypes.get_errno(), "done")
def attempt(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
folder = os.open(sys.argv[2], os.O_PATH)
"""
ATTACHER = """
assert seccomp.allow_only("attacher")
print(attempt(kernel.detach, sys.argv[2]))  # nothing is mounted there: this call alone may be made
for number, arguments in ((428, (folder, b"", 1 | 0x1000)), (429, (-100, b"/tmp", -100, b"/mnt", 0)),
                          (429, (folder, b"", -100, b"/mnt", 0x44)), (165, (b"none", b"/mnt", b"tmpfs", 0, 0)),
                          (166, (b"/mnt", 0)), (166, (b"/mnt", 1)), (272, (0x10000000,)), (308, (folder, 0)),
                          (105, (0,)), (59, (b"/bin/true", 0, 0)), (57, ()), (56, (17,)), (41, (1, 1, 0)),
                          (101, (0, 0, 0, 0)), (321, (0, 0, 0)), (442, (folder, b"", 0x1000, 0, 0)), (90, (b"/mnt", 0)),
                          (40, (0, 0, 0, 0)), (425, (1, 0))):
    print(number, call(number, *arguments))
"""
RESOLVER = """
tree = kernel.clone_tree(folder, False)
assert confine.confine(may={"/proc": confine.WRITE, "/": confine.MAKE_FOLDERS})
kernel.set_attributes(tree, kernel.NODEV, False)  # may be done
print("move_mount", attempt(kernel.attach, tree, sys.argv[2]))
print("umount", attempt(kernel.detach, "/"))
print("mount", "done" if libc.mount(b"none", sys.argv[2].encode(), b"tmpfs", 0, None) == 0 else "no")
print("write", attempt(os.open, sys.argv[2] + "/new", os.O_WRONLY | os.O_CREAT))
print("exec", attempt(os.execv, "/bin/true", ["true"]))
print("shadow", attempt(os.open, "/etc/shadow", os.O_RDONLY))
print("root's own folder", attempt(os.listdir, "/root"))
"""


def rights(name: str) -> Row:
    needs.root()
    row = next(row for row in table(Settings(None, *["/x"] * 5)) if row.name == name)
    account(row.user)
    return row


def run(name: str, script: str, folder: Path) -> list[str]:
    folder.chmod(0o777)
    command = [
        *take_rights(rights(name)),
        "--",
        os.path.realpath(sys.executable),
        "-I",
        "-S",
        "-B",
        "-c",
        PRELUDE + script,
    ]
    done = subprocess.run([*command, paths.helpers_dir(), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def place(folder: Path) -> Path:
    found = folder / "place"
    found.mkdir(exist_ok=True)
    return found


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers here are x86_64's")
def test_the_attacher_can_attach_and_detach_and_nothing_else(place: Path) -> None:
    allowed, *others = run("attacher", ATTACHER, place)
    assert allowed == "EINVAL"
    assert {line.split()[1] for line in others} == {"EPERM"}, others


def test_the_resolver_can_not_mount_write_or_start_anything(place: Path) -> None:
    found = dict(line.rsplit(" ", 1) for line in run("binds", RESOLVER, place))
    assert found == {
        "move_mount": "EPERM", "umount": "EPERM", "mount": "no", "write": "EACCES", "exec": "EACCES",
        "shadow": "EACCES", "root's own folder": "EACCES",
    }  # fmt: skip
