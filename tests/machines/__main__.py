"""Boot virtual machines with other kernels, install sockproxy's package there, and print what was seen as a table.

As root, at the top of the checkout, after ./check has installed what it needs:

  .venv/bin/python -m tests.machines [CASE...]

Seen on 2026-11-26, each to its end, with Docker 20.10 (beside a full test run; the second kernel has no Landlock):

| Linux | case | what was seen |
|---|---|---|
| 5.10.46 | before idmapped mounts | refused; with unmapped_binds read: ro,nosuid,nodev; no stage left |
| 6.1.176 | cgroups of systemd | 40 processes, 64 MiB, half a CPU, also of classic builds |
| 6.1.176 | cgroups of the daemon | the same |
| 6.1.176 | steps of buildkit | Docker 28.5: below a slice of systemd's, bounded by it; no 41st process |
| 6.1.176 | network file system | nfs4: refused; with unmapped_binds read, not written |
| 6.1.176 | file system in user space | fuse: refused; with unmapped_binds read, not written |
| 6.1.176 | apparmor | docker-default, a profile by name; taken over and back; exposure up to 2.9 |
| 6.1.176 | accounts of a directory (sssd) | own folder bound, and what the last group alone opens, by its people |
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.machines import cases, virtual
from tests.support import booted

DEB = Path(__file__).resolve().parents[2] / "systemd" / "deb"
SECONDS = 3600.0  # for one machine


def main() -> int:
    """Print the table; 1 when a case failed."""
    wanted = {
        case.__name__: kernel
        for case, kernel in cases.CASES.items()
        if case.__name__ in sys.argv[1:] or not sys.argv[1:]
    }
    failed = 0
    with tempfile.TemporaryDirectory(prefix="spt-machines-", dir="/var/tmp") as name:
        folder = Path(name)
        made = subprocess.run([DEB, folder], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        Path(made).rename(folder / "sockproxy.deb")
        for path in ("usr/sbin/dockerd", "usr/libexec/docker/cli-plugins/docker-buildx"):
            shutil.copy(booted.later() / path, folder)
        print("| case | | what was seen |\n|---|---|---|", flush=True)
        for kernel in dict.fromkeys(wanted.values()):
            here = [case for case in wanted if wanted[case] == kernel]
            failed |= virtual.run(folder, kernel, Path(cases.__file__), *here, seconds=SECONDS)
            out = folder / "out"
            print(
                out.read_text() if out.exists() else (folder / "console").read_text(errors="replace")[-3000:],
                flush=True,
            )
    return failed


if __name__ == "__main__":
    sys.exit(main())
