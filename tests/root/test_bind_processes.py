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
from sockproxy_helpers.system import kernel, confine
from sockproxy_helpers.folders import seccomp
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
# Nothing is mounted there; the clock is a system call where the kernel has no faster way to tell it.
print(attempt(kernel.detach, sys.argv[2]), call(228, 1, ctypes.create_string_buffer(16)))
for number, arguments in ((428, (folder, b"", 1 | 0x1000)), (429, (-100, b"/tmp", -100, b"/mnt", 0)),
                          (429, (folder, b"", -100, b"/mnt", 0x44)), (165, (b"none", b"/mnt", b"tmpfs", 0, 0)),
                          (166, (b"/mnt", 0)), (166, (b"/mnt", 1)), (272, (0x10000000,)), (308, (folder, 0)),
                          (105, (0,)), (59, (b"/bin/true", 0, 0)), (57, ()), (56, (17,)), (41, (1, 1, 0)),
                          (101, (0, 0, 0, 0)), (321, (0, 0, 0)), (442, (folder, b"", 0x1000, 0, 0)), (90, (b"/mnt", 0)),
                          (40, (0, 0, 0, 0)), (425, (1, 0))):
    print(number, call(number, *arguments))
"""
# As before Linux 5.12, where nothing can be set on what is not attached.
ATTACHER_OLD = """
from sockproxy_helpers.folders.attacher import Attacher
kernel.follow_the_hosts_mounts()
tree = kernel.clone_tree(os.open("/usr", os.O_PATH), False)
name = f"sockproxy-1000-{'0' * 32}.1.00000000"
assert seccomp.allow_only("attacher", "attacher-old")
request = {"ask": "attach", "stage": name, "folder": True, "restrict": True}
path = Attacher(sys.argv[2], 0)._answer(request, [tree])["path"]
with open("/proc/self/mountinfo") as file:
    print(*(" ".join(line.split()[5:7]) for line in file if name in line))
for flags in (0, 0x1000, 0x20, 0x1020, 0x1021, 0x1023, 0x1025, 0x5027, 0x100000):
    print(flags, call(165, b"/usr", path.encode(), b"tmpfs", flags, 0))
for flags in (1, 0x1001, 0x89001, 0x80001):
    print(flags, call(428, folder, b"", flags))
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
# What its capabilities would allow, and what the filter alone forbids: without Landlock, as on a kernel that has none.
FILTERED = """
tree = kernel.clone_tree(folder, False)
assert seccomp.allow_only("binds")
kernel.set_attributes(kernel.clone_tree(folder, False), kernel.NODEV, False)  # may be done
with open("/proc/self/status") as file:
    assert "Seccomp:\t2" in file.read()
pid = os.fork()
if pid == 0:
    kernel.unshare(kernel.CLONE_NEWUSER)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
socket.socketpair(socket.AF_UNIX)[0].setblocking(False)
for number, arguments in (
    (429, (tree, b"", -100, sys.argv[2].encode(), 4)), (428, (-100, b"/tmp", 0)), (428, (folder, b"", 0x1000)),
    (165, (b"none", sys.argv[2].encode(), b"tmpfs", 0, 0)), (166, (b"/", 2)), (161, (b"/tmp",)), (155, (b"/", b"/")),
    (430, (b"tmpfs", 0)), (432, (folder, 0, 0)), (442, (-100, b"/", 0, 0, 0)), (308, (folder, 0)),
    (272, (0x20000,)), (272, (0x10020000,)), (56, (0x10000011,)), (56, (0x20011,)), (57, ()), (58, ()), (435, (0, 0)),
    (105, (0,)), (106, (0,)), (117, (0, 0, 0)), (119, (0, 0, 0)), (126, (0, 0)), (59, (b"/bin/true", 0, 0)),
    (322, (-100, b"/bin/true", 0, 0, 0)), (101, (0, 0, 0, 0)), (310, (1, 0, 0, 0, 0, 0)), (321, (0, 0, 0)),
    (298, (0, 0, -1, -1, 0)), (425, (1, 0)), (41, (2, 1, 0)), (41, (16, 3, 0)), (41, (17, 3, 0)), (62, (1, 15)),
    (157, (22, 2, 0)), (16, (0, 0x5412, b"x")), (133, (b"/tmp/x", 0o60666, 0x700)), (259, (-100, b"/tmp/x", 0o666, 0)),
    (90, (b"/tmp", 0)), (92, (b"/tmp", 0, 0)), (87, (b"/tmp/x",)), (82, (b"/a", b"/b")), (86, (b"/a", b"/b")),
    (88, (b"/a", b"/b")), (313, (0, b"", 0)), (246, (0, 0, 0, 0)), (175, (0, 0, b"")), (169, (0, 0, 0, 0)),
    (250, (0, 0)), (304, (0, 0, 0)), (323, (0,)), (188, (b"/tmp", b"user.x", b"", 0, 0)), (164, (0, 0)),
    (170, (b"", 0)),
):
    print(number, call(number, *arguments))
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
    assert allowed == "EINVAL done"
    assert {line.split()[1] for line in others} == {"EPERM"}, others


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers here are x86_64's")
def test_on_an_old_kernel_the_attacher_can_take_rights_from_a_mount_too(place: Path) -> None:
    attached, *others = run("attacher", ATTACHER_OLD, place)
    options, propagation = attached.split()
    assert {"ro", "nosuid", "nodev"} <= set(options.split(","))
    assert propagation == "-"  # private: no field before the separator
    assert {line.split()[1] for line in others} == {"EPERM"}, others


def test_the_resolver_can_not_mount_write_or_start_anything(place: Path) -> None:
    found = dict(line.rsplit(" ", 1) for line in run("binds", RESOLVER, place))
    assert found == {
        "move_mount": "EPERM", "umount": "EPERM", "mount": "no", "write": "EACCES", "exec": "EACCES",
        "shadow": "EACCES", "root's own folder": "EACCES",
    }  # fmt: skip


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers here are x86_64's")
def test_the_resolvers_filter_leaves_of_its_capabilities_what_binds_need(place: Path) -> None:
    found = run("binds", FILTERED, place)
    assert len(found) > 50
    assert {line.split()[1] for line in found} == {"EPERM"}, found
