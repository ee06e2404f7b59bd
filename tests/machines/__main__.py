"""Boot virtual machines with other kernels, install sockproxy's package there, and print what was seen as a table.

As root, at the top of the checkout, after ./check has installed what it needs:

  .venv/bin/python -m tests.machines [CASE...]

Seen on 2026-11-26 (Linux 5.10.46 and 6.1.176 as User-Mode Linux; in the latter there is no Landlock): RESULT.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.machines import cases, virtual

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
