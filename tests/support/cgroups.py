"""The cgroups of users, as the kernel has them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
FILES = {  # of version 1, and of version 2
    "memory": ("memory/{}/memory.limit_in_bytes", "{}/memory.max"),
    "memory used": ("memory/{}/memory.usage_in_bytes", "{}/memory.current"),
    "cpu": ("cpu/{}/cpu.cfs_quota_us", "{}/cpu.max"),
    "cpu used": ("cpuacct/{}/cpuacct.usage", "{}/cpu.stat"),
    "cpu stat": ("cpu/{}/cpu.stat", "{}/cpu.stat"),
    "pids": ("pids/{}/pids.max", "{}/pids.max"),
    "pids used": ("pids/{}/pids.current", "{}/pids.current"),
}


def path(what: str, cgroup: str) -> Path:
    """Find the file of a cgroup that tells something."""
    return ROOT / FILES[what][0 if (ROOT / "memory").is_dir() else 1].format(cgroup)


def read(what: str, cgroup: str) -> str:
    """Read it; "" when there is no such cgroup."""
    try:
        return path(what, cgroup).read_text().split("\n", 1)[0].split()[0]
    except OSError:
        return ""


def number(what: str, cgroup: str) -> int:
    """Read a number; 0 when there is none."""
    text = read(what, cgroup)
    return int(text) if text.isdecimal() else 0


made: set[str] = set()  # names of folders that this test run has had made


def remove_all() -> None:
    """Remove what is left of this test run's, once its engines have ended."""
    for name in made:
        remove(name)


def remove(name: str) -> None:
    """Remove what is empty below the folders of a name, and those."""
    for top in [*ROOT.glob(f"*/{name}"), ROOT / name]:
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
