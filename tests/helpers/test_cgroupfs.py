"""Users' cgroups: which hierarchies a machine has, and what is written where, of both versions."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sockproxy_helpers.calls import process
from sockproxy_helpers.totals import cgroupfs
from sockproxy_helpers.totals.cgroupfs import Cgroups, Hierarchy, find, writes
from sockproxy_helpers.totals.shares import holds
from tests.support import needs

TOTALS = {"memory": 1 << 30, "cpus": 1.5, "pids": 100}
NOTHING = {"memory": None, "cpus": None, "pids": None}
BOTH = "memory.memsw.limit_in_bytes"
V1 = """25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw
33 32 0:28 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 {options}
35 32 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup rw,cpu,cpuacct
36 32 0:31 / /sys/fs/cgroup/memory rw shared:16 - cgroup cgroup rw,memory
37 32 0:32 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
38 32 0:33 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
39 32 0:32 / /elsewhere rw - cgroup cgroup rw,pids
"""


def mounted(tmp_path, controllers: str, v1: str = "") -> str:
    """Describe a machine with version 2 at a folder that stands for it."""
    (tmp_path / "cgroup.controllers").write_text(controllers)
    return v1 + f"33 32 0:28 / {tmp_path} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def test_version_2(tmp_path) -> None:
    found = find("sp", mounted(tmp_path, "cpuset cpu io memory pids\n"))
    assert (found.version, found.folders) == (2, (f"{tmp_path}/sp",))


def test_version_1_and_hybrid(tmp_path) -> None:
    v1 = "".join(line for line in V1.splitlines(True) if "cgroup2" not in line)
    found = find("sp", mounted(tmp_path, "hugetlb\n", v1))
    assert found.version == 1
    places = ("cpu,cpuacct", "memory", "pids", "systemd")
    assert found.folders == tuple(f"/sys/fs/cgroup/{place}/sp" for place in places)


def test_what_a_mount_point_is_called_is_no_line_of_the_kernels(tmp_path) -> None:
    """With FUSE people choose them; the kernel writes space, tab, newline and backslash in another way, and no more."""
    mounts, told = tmp_path / "mounts", []
    for end in "\r\v\f\x1c\x85\u2028":
        mine = f"/home/mallory/é{end}" + "\x1f".join(
            ("36", "32", "0:9", "/", f"{tmp_path}", "rw - cgroup cgroup rw,memory")
        )
        told.append(f"90 25 0:50 / {mine.replace(' ', chr(0x1F))} rw - fuse.x x rw\n")
        told.append(f"91 25 0:51 / {mine[:16]} rw - fuse.x x rw\n")
    mounts.write_text("".join(told) + V1.replace("{options}", ""), newline="\n")
    listed = cgroupfs.read(str(mounts))
    v1 = "".join(line + "\n" for line in listed.split("\n") if line and "cgroup2" not in line)
    assert find("sp", mounted(tmp_path, "hugetlb\n", v1)).folders == tuple(
        f"/sys/fs/cgroup/{place}/sp" for place in ("cpu,cpuacct", "memory", "pids", "systemd")
    )


MAKE = """
import sys
sys.path.insert(0, sys.argv[1])
from sockproxy_helpers.totals.cgroupfs import find
find(sys.argv[2]).make()
"""


@pytest.mark.root
def test_the_folders_are_made_without_a_capability() -> None:
    """As the unit that prepares does: the top of a hierarchy is closed even to root then."""
    needs.root()
    found = find(f"spmade{os.getpid()}")
    if not found.version:
        pytest.skip("no hierarchies that limits can be set in")
    modes = [os.stat(os.path.dirname(folder)).st_mode for folder in found.folders]
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", sys.executable, "-I", "-c", MAKE]
    helpers = os.path.dirname(os.path.dirname(cgroupfs.__file__))
    try:
        subprocess.run([*command, helpers, found.name], check=True)
        assert all(map(os.path.isdir, found.folders))
        assert [os.stat(os.path.dirname(folder)).st_mode for folder in found.folders] == modes
    finally:
        for folder in found.folders:
            os.rmdir(folder)


@pytest.mark.parametrize("controllers", ["", "cpu memory\n", "pids memory\n"])
def test_neither(tmp_path, controllers) -> None:
    found = find("sp", mounted(tmp_path, controllers))
    assert (found.version, found.folders) == (0, ())


def test_what_is_written() -> None:
    assert writes(2, TOTALS) == [
        ("memory", "memory.swap.max", "1073741824"),
        ("memory", "memory.max", "1073741824"),
        ("cpu", "cpu.max", "150000 100000"),
        ("pids", "pids.max", "100"),
    ]
    assert writes(1, TOTALS) == [
        ("memory", BOTH, "2147483648"),
        ("memory", "memory.limit_in_bytes", "1073741824"),
        ("memory", BOTH, "2147483648"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "150000"),
        ("pids", "pids.max", "100"),
    ]
    assert [text for _, _, text in writes(2, NOTHING)] == ["max", "max", "max 100000", "max"]
    assert [text for _, _, text in writes(1, NOTHING)] == ["-1", "-1", "-1", "100000", "-1", "max"]


class Machine:
    """Folders that stand for hierarchies."""

    def __init__(self, folder, version: int, *names: str) -> None:
        for name in names:
            (folder / name).mkdir()
        hierarchies = [Hierarchy(str(folder / name), name.split(",")) for name in names]
        self.folder, self.cgroups = folder, Cgroups("sp", version, hierarchies)

    def files(self) -> dict[str, str]:
        """List what was written."""
        return {
            str(path.relative_to(self.folder)): path.read_text() for path in self.folder.rglob("*") if path.is_file()
        }


def test_version_1_on_disk(tmp_path) -> None:
    machine = Machine(tmp_path, 1, "cpu,cpuacct", "memory", "pids", "name=systemd")
    machine.cgroups.make()
    machine.cgroups.make()
    assert machine.files() == {}
    machine.cgroups.apply(1000, TOTALS)
    machine.cgroups.apply(1001, NOTHING)
    assert machine.files()["memory/sp/1000/memory.limit_in_bytes"] == "1073741824"
    assert machine.files()["cpu,cpuacct/sp/1000/cpu.cfs_quota_us"] == "150000"
    assert machine.files()["pids/sp/1001/pids.max"] == "max"
    assert (tmp_path / "name=systemd/sp/1000").is_dir()
    assert machine.cgroups.users() == {1000, 1001}


def test_version_2_on_disk(tmp_path) -> None:
    machine = Machine(tmp_path, 2, "cpu,memory,pids")
    machine.cgroups.make()
    assert machine.files() == {
        "cpu,memory,pids/cgroup.subtree_control": "+memory +cpu +pids",
        "cpu,memory,pids/sp/cgroup.subtree_control": "+memory +cpu +pids",
    }
    machine.cgroups.apply(1000, TOTALS)
    assert machine.files()["cpu,memory,pids/sp/1000/cpu.max"] == "150000 100000"


def test_containers_above_a_lower_total(tmp_path) -> None:
    machine = Machine(tmp_path, 1, "cpu", "memory", "pids")
    machine.cgroups.make()
    for name, quota, period in (("above", 400000, 100000), ("below", 1000, 10000), ("free", -1, 100000)):
        child = tmp_path / "cpu/sp/1000" / name
        child.mkdir(parents=True)
        (child / "cpu.cfs_quota_us").write_text(str(quota))
        (child / "cpu.cfs_period_us").write_text(str(period))
    machine.cgroups.apply(1000, TOTALS)
    quotas = {name: machine.files()[f"cpu/sp/1000/{name}/cpu.cfs_quota_us"] for name in ("above", "below", "free")}
    assert quotas == {"above": "150000", "below": "1000", "free": "-1"}


@pytest.mark.parametrize(("file", "fatal"), [("memory.limit_in_bytes", True), (BOTH, False), ("pids.max", True)])
def test_what_the_kernel_refuses(tmp_path, monkeypatch, file, fatal) -> None:
    """Swap is not accounted everywhere; a limit that can't be set is no limit."""
    machine = Machine(tmp_path, 1, "cpu", "memory", "pids")
    machine.cgroups.make()
    real = cgroupfs._write

    def write(path: str, text: str) -> None:
        if path.endswith(file):
            raise PermissionError(path)
        real(path, text)

    monkeypatch.setattr(cgroupfs, "_write", write)
    if fatal:
        with pytest.raises(OSError, match=file):
            machine.cgroups.apply(1000, TOTALS)
    else:
        machine.cgroups.apply(1000, TOTALS)
        assert machine.files()["memory/sp/1000/memory.limit_in_bytes"] == "1073741824"


def test_removing(tmp_path) -> None:
    machine = Machine(tmp_path, 1, "cpu", "memory", "pids")
    machine.cgroups.make()
    for place in ("cpu", "memory", "pids"):
        (tmp_path / place / "sp/1000").mkdir()
    (tmp_path / "cpu/sp/1001/container").mkdir(parents=True)
    for uid in (1000, 1001, 1002):
        machine.cgroups.remove(uid)
    assert machine.cgroups.users() == {1001}


@pytest.mark.parametrize("version", [1, 2])
def test_what_somebody_else_keeps(tmp_path, version) -> None:
    names = ("cpu", "memory", "pids") if version == 1 else ("cpu,memory,pids",)
    machine = Machine(tmp_path, version, *names)
    machine.cgroups.make()
    assert not holds(machine.cgroups, "/sp/1000", TOTALS)
    machine.cgroups.apply(1000, TOTALS)
    assert holds(machine.cgroups, "/sp/1000", TOTALS)
    assert holds(machine.cgroups, "/sp/1000", {**TOTALS, "memory": TOTALS["memory"] + 7})  # the kernel counts pages
    assert holds(machine.cgroups, "/sp/1000", NOTHING)
    for key in TOTALS:
        assert not holds(machine.cgroups, "/sp/1000", {**TOTALS, key: TOTALS[key] * 2})
    assert not holds(Cgroups("sp", 0, []), "/sp/1000", TOTALS)


def test_a_helper_whose_folders_were_not_made(tmp_path, monkeypatch) -> None:
    """When it was started cgroups were read-only, perhaps. What systemd keeps it finds all the same, and now."""
    monkeypatch.setenv("SOCKPROXY_SHARES", "sp")
    machine = Machine(tmp_path, 1, "cpu", "memory", "pids")
    monkeypatch.setattr(process, "find", lambda name: Cgroups(name, 1, machine.cgroups.hierarchies))
    (tmp_path / "cpu/sp").mkdir()
    found = process._cgroups("lifecycle")
    assert (found.folders, found.users()) == ((), set())
    found.remove(1000)
    machine.cgroups.make()
    machine.cgroups.apply(1000, TOTALS)
    assert holds(found, "/sp/1000", TOTALS)
    assert process._cgroups("lifecycle").folders == machine.cgroups.folders
    assert process._cgroups("network").folders == ()
