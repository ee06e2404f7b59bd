"""Give each user a cgroup of the user's own, with the totals of the role: the parent of all that runs for that user.

SECURITY: writes as root below folders of our own in the cgroup file system, which who starts this process has made
(`make`) and which are the only ones there that Landlock leaves to it. What is written are numbers of the compiled
policy; the path below has the uid that the kernel attests, in decimal. Limits hold for everything below a cgroup, so
whatever the daemon puts there, and however it sets its own cgroups, stays within them (cgroups(7)).
"""

from __future__ import annotations

import os

Totals = dict[str, int | float | None]  # memory in bytes, cpus, pids; None: without limit
Write = tuple[str, str, str]  # controller, file, text
PERIOD = 100_000  # microseconds: the kernel's default period of the CPU quota
CONTROLLERS = ("memory", "cpu", "pids")
BUILDS = "builds"  # below a user's: podman has no cgroup of its own for a step below the one that it is told


class Hierarchy:
    """Hold a mounted hierarchy: one of several of version 1, or the one of version 2.

    Attributes:
        mount: where it is mounted.
        controllers: what it controls.
    """

    __slots__ = ("controllers", "mount")

    def __init__(self, mount: str, controllers: list[str]) -> None:
        self.mount, self.controllers = mount, controllers


class Cgroups:
    """Keep the users' cgroups of one sockproxy.

    Attributes:
        name: of the folder in each hierarchy, and of it as a parent for the daemon.
        version: 1 or 2; 0 where limits can't be set here.
        hierarchies: that limits are set in.
        folders: what this process has to be able to write to; none where they were not made.
    """

    def __init__(self, name: str, version: int, hierarchies: list[Hierarchy]) -> None:
        self.name, self.version, self.hierarchies = name, version, hierarchies
        self.folders: tuple[str, ...] = tuple(f"{one.mount}/{name}" for one in hierarchies)

    def make(self) -> None:
        """Make the folders; of version 2 also hand the controllers down to them.

        Raises:
            OSError: the cgroup file system is not ours to change.
        """
        for hierarchy, folder in zip(self.hierarchies, self.folders, strict=True):
            _make_at_top(hierarchy.mount, folder)
            for place in (hierarchy.mount, folder) if self.version == 2 else ():
                _write(f"{place}/cgroup.subtree_control", " ".join(f"+{one}" for one in CONTROLLERS))

    def apply(self, uid: int, totals: Totals) -> None:
        """Make a user's cgroup, or bring its limits up to date.

        Raises:
            OSError: the kernel refuses: of version 1, memory that is in use and can't be given back.
        """
        for hierarchy, folder in zip(self.hierarchies, self.folders, strict=True):
            own = f"{folder}/{uid}"
            _make(own)
            if self.version == 1 and "cpu" in hierarchy.controllers and totals["cpus"] is not None:
                _lower_below(own, totals["cpus"])
            for controller, name, text in writes(self.version, totals):
                if controller in hierarchy.controllers:
                    _write_limit(f"{own}/{name}", text)

    def users(self) -> set[int]:
        """Tell who has a cgroup."""
        return {int(name) for folder in self.folders[:1] for name in os.listdir(folder) if name.isdecimal()}

    def remove(self, uid: int) -> None:
        """Remove a user's cgroup if nothing is in it."""
        for folder in self.folders:
            for own in (f"{folder}/{uid}/{BUILDS}", f"{folder}/{uid}"):
                try:
                    os.rmdir(own)
                except OSError:  # EBUSY: something is
                    pass


def find(name: str, mountinfo: str = "") -> Cgroups:
    """Find the hierarchies that limits can be set in; of version 0 and without folders, where there are none.

    Args:
        name: of our folders in them.
        mountinfo: as in proc_pid_mountinfo(5), where it is not to be this process's.
    """
    old: dict[str, Hierarchy] = {}
    new: list[Hierarchy] = []
    for line in filter(None, (mountinfo or read("/proc/self/mountinfo")).split("\n")):
        mount = line.split(" ")[4]  # a name has neither newline nor space there, and may have all else of Unicode's
        kind, _, options = line.partition(" - ")[2].split(" ", 2)
        if kind == "cgroup":
            old.setdefault(options, Hierarchy(mount, options.split(",")))  # mounted twice: the first
        elif kind == "cgroup2":
            new.append(Hierarchy(mount, read(f"{mount}/cgroup.controllers").split()))
    for version, found in ((1, list(old.values())), (2, new[:1])):
        if all(any(controller in one.controllers for one in found) for controller in CONTROLLERS):
            return Cgroups(name, version, found)
    return Cgroups(name, 0, [])


def writes(version: int, totals: Totals) -> list[Write]:
    """List what to write where. Swap is allowed as much as memory, as the daemon does for a container.

    Memory and swap together can't be less than memory, so which has to be written first depends on what was there.
    """
    memory, cpus, pids = totals["memory"], totals["cpus"], totals["pids"]
    none = "-1" if version == 1 else "max"
    ram, most = none if memory is None else str(int(memory)), none if pids is None else str(int(pids))
    quota = none if cpus is None else str(int(cpus * PERIOD))
    if version == 2:
        return [
            ("memory", "memory.swap.max", ram),
            ("memory", "memory.max", ram),
            ("cpu", "cpu.max", f"{quota} {PERIOD}"),
            ("pids", "pids.max", most),
        ]
    both = none if memory is None else str(int(2 * memory))
    return [
        ("memory", "memory.memsw.limit_in_bytes", both),
        ("memory", "memory.limit_in_bytes", ram),
        ("memory", "memory.memsw.limit_in_bytes", both),
        ("cpu", "cpu.cfs_period_us", str(PERIOD)),
        ("cpu", "cpu.cfs_quota_us", quota),
        ("pids", "pids.max", "max" if pids is None else most),
    ]


def _lower_below(folder: str, cpus: float) -> None:
    """Lower the quotas of a user's containers that are above the total: version 1 refuses a total below any of them."""
    for child, _, _ in os.walk(folder, topdown=False):
        try:
            period = int(read(f"{child}/cpu.cfs_period_us"))
            if child != folder and int(read(f"{child}/cpu.cfs_quota_us")) > cpus * period:
                _write(f"{child}/cpu.cfs_quota_us", str(int(cpus * period)))
        except OSError:  # its container has ended
            pass


def _make(folder: str) -> None:
    try:
        os.mkdir(folder, 0o755)
    except FileExistsError:
        pass


def _make_at_top(mount: str, folder: str) -> None:
    """Make a folder at the top of a hierarchy, whose mode (0555) stops even its owner without CAP_DAC_OVERRIDE.

    An owner may change that mode: so it does, for this moment, and no process needs the capability.
    """
    try:
        _make(folder)
    except PermissionError:
        mode = os.stat(mount).st_mode & 0o7777
        os.chmod(mount, mode | 0o200)
        try:
            _make(folder)
        finally:
            os.chmod(mount, mode)


def _write_limit(path: str, text: str) -> None:
    try:
        _write(path, text)
    except OSError:
        if not is_of_swap(path):  # not accounted by each kernel, or written once more
            raise


def is_of_swap(path: str) -> bool:
    """Tell whether a file limits swap, which not each kernel counts."""
    return "memsw" in path or "swap" in path


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def read(path: str) -> str:
    """Read a file of the kernel's; names of people's choice are in some, which may be no text and hold any line end."""
    with open(path, encoding="ascii", errors="surrogateescape", newline="\n") as file:
        return file.read()
