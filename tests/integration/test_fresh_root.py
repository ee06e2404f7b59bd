"""The quickstart does everything on a minimal Debian 12 that has only python3."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import needs

pytestmark = [pytest.mark.daemon, pytest.mark.root]

FRESH_ROOT = Path(__file__).resolve().parents[1] / "fresh-root"
COMMANDS = """
./quickstart -- docker ps --format '{{.ID}}' || exit 1
begin=$(date +%s)
./quickstart -- sh -c 'docker version -f "server {{.Server.Version}}"; sleep 3; exit 7' & first=$!
./quickstart -- sh -c 'docker ps >/dev/null && exit 8' & second=$!
wait $first; echo "first $?"; wait $second; echo "second $?"
echo "seconds $(($(date +%s) - begin))"
grep -c sockproxy /proc/mounts
"""


def test_quickstart_on_a_fresh_machine() -> None:
    needs.root()
    if not shutil.which("mmdebstrap"):
        needs.missing("no mmdebstrap on this host")
    done = subprocess.run([FRESH_ROOT, "sh", "-c", COMMANDS], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    words = done.stdout.split()
    assert words[:1] == ["server"], done.stderr
    assert words[2:6] == ["first", "7", "second", "8"], done.stderr
    assert int(words[7]) < 20
    assert words[8] == "0", "mounts are left"
    assert "left running" not in done.stderr
