"""Do all faults to a running sockproxy, at full scale, and print what was held and survived as a table.

As root, at the top of the checkout: .venv/bin/python -m tests.faults [NAME...]

The tables of earlier runs are in `results.md`. `test_survival` does the same at a small scale in each run of the tests.
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
import threading
import traceback

from tests.faults.faults import FAULTS
from tests.faults.scene import Scene, many_descriptors
from tests.support.users import remove_folder, shared_folder


def main() -> int:
    """Print the table; 1 when a fault was not survived."""
    many_descriptors()
    threading.stack_size(128 * 1024)  # thousands of connections to the daemon, a thread each
    names, failed = sys.argv[1:], False
    folder = shared_folder()
    scene = Scene(folder)
    try:
        print(f"{datetime.date.today()}, {os.cpu_count()} cores, Linux {platform.release()}, load", end=" ")
        print(f"{os.getloadavg()[0]:.1f}\n\n| fault | | what was seen |\n|---|---|---|")
        for fault, (count, _) in FAULTS.items():
            if names and fault.__name__ not in names:
                continue
            scene.said.clear()
            verdict = "held"
            try:
                with scene.whole():
                    fault(scene, count)
            except Exception:
                verdict, failed = "FAILED", True
                traceback.print_exc()
            print(f"| {fault.__name__.replace('_', ' ')} | {verdict} | {' '.join(scene.said)} |", flush=True)
    finally:
        scene.close()
        remove_folder(folder)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
