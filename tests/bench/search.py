"""How long an auditor waits: the commands on a record of a million lines, made for the purpose.

.venv/bin/python -m tests.bench.search [FOLDER [LINES]]     the folder is kept, and used again
"""

from __future__ import annotations

import datetime
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sockproxy.audit.chain import START, Entry, encode, form
from sockproxy.audit.segments import LIVE, closed_name

LINES = 1_000_000
SEGMENT = 64 << 20
USERS, BOXES = 50, 2000
OPERATIONS = ("ContainerList", "ContainerInspect", "ContainerStart", "ContainerExec", "ExecStart", "ImageList")


def made(folder: Path, lines: int) -> None:
    """Write a record as the writer does, but for its seals: calls of 50 users on 2000 containers, 1 % refused."""
    chooser, head, seq = random.Random(1), START, 0
    size, first, when = 0, 1, datetime.datetime(2026, 1, 1)
    file = open(folder / LIVE, "wb", buffering=1 << 20)  # noqa: SIM115 (closed below)
    while seq < lines:
        user, box, operation = chooser.randrange(USERS), chooser.randrange(BOXES), chooser.choice(OPERATIONS)
        rid, refused = f"{chooser.getrandbits(64):016x}", chooser.random() < 0.01
        who = {
            "uid": 1000 + user,
            "user": f"user{user}",
            "gid": 100,
            "groups": ["users", "dev"],
            "pid": seq,
            "via": "peer",
        }
        objects: list[dict[str, object]] = [
            {"kind": "container", "id": f"{box:064x}", "name": f"box{box}", "owner": 1000 + user}
        ]
        if operation == "ExecStart":
            objects = [{"kind": "exec", "id": rid * 4, "name": "", "owner": 1000 + user, "container": f"{box:064x}"}]
        if operation.endswith("List"):
            objects = []
        method = "GET" if operation.endswith(("List", "Inspect")) else "POST"
        said = {"v": 1, "ev": "deny" if refused else "intent", "rid": rid, "who": who,
                "req": {"method": method, "path": f"/v1.47/containers/box{box}/json", "op": operation, "query": {}},
                "decision": {"verdict": "deny" if refused else "allow", "role": "developer", "at": "roles.yaml:47",
                             "policy": "a" * 64}, "via": {"helper": "lifecycle"}, "objects": objects}  # fmt: skip
        out = {"v": 1, "ev": "outcome", "rid": rid, "via": {"helper": "lifecycle"},
               "out": {"status": 200, "error": "", "ms": 1.5, "bytes_in": 0, "bytes_out": 900}}  # fmt: skip
        when += datetime.timedelta(milliseconds=500)
        for record in (said,) if refused else (said, out):
            seq += 1
            line, head = form(
                Entry(encode(record), 0, 1), seq, (when.isoformat("T", "microseconds") + "Z").encode(), head
            )
            size += file.write(line)
        if size >= SEGMENT:
            file.close()
            (folder / LIVE).rename(folder / closed_name(first))
            size, first = 0, seq + 1
            file = open(folder / LIVE, "wb", buffering=1 << 20)  # noqa: SIM115
    file.close()


def main() -> None:
    """Print the table."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    lines = int(sys.argv[2]) if len(sys.argv) > 2 else LINES
    if not (folder / LIVE).exists():
        made(folder, lines)
    size = sum(path.stat().st_size for path in folder.glob("audit*"))
    print(f"{lines:,} lines, {size / 1e6:.0f} MB, not compressed\n\n| command | lines told | seconds |\n|---|---|---|")
    commands = [["find", "--user", "user7", "--verdict", "deny"], ["find", "--container", "box77"], ["trail", "box77"]]
    commands += [
        ["find", "--last", "50", "--operation", "ContainerStart", "--user", "user3"],
        ["find", "nothing-has-this"],
    ]
    commands += [["today", "--since", "2026-01-01", "--no-verify"], ["verify"]]
    for command in commands:
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-I", "-m", "sockproxy", "audit", *command, "--log-dir", str(folder)],
            capture_output=True, text=True,
        )  # fmt: skip
        print(f"| `{' '.join(command)}` | {done.stdout.count(chr(10))} | {time.monotonic() - begin:.2f} |", flush=True)


if __name__ == "__main__":
    main()
