"""What a confined process can still do with files, and what it can't."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

HELPERS = Path(__file__).resolve().parents[2] / "helpers"
CONFINED = """
import os, socket, sys
sys.path.insert(0, sys.argv[1])
from sockproxy_helpers.system.confine import confine
os.chdir(sys.argv[2])
assert confine((os.path.abspath("own"),)), "no Landlock"
try:
    exec(sys.argv[3])
except OSError as error:
    print(type(error).__name__)
else:
    print("done")
"""


def confined(folder: Path, code: str) -> str:
    """Run code in a process that may write in the folder `own`."""
    for name in ("own", "other"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "own/old").touch()
    (folder / "other/old").touch()
    command = [sys.executable, "-I", "-c", CONFINED, str(HELPERS), str(folder), code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


REFUSED = """
import ctypes, errno, sys
sys.path.insert(0, sys.argv[1])
from sockproxy_helpers.system import confine
class Libc:
    class syscall:
        restype = None
        def __new__(cls, *_):
            ctypes.set_errno(int(sys.argv[2]))
            return -1
confine.ctypes.CDLL = lambda *_, **__: Libc
print(confine.confine())
"""


@pytest.mark.parametrize(("error", "kernel_has_none"), [("ENOSYS", True), ("EOPNOTSUPP", True), ("EPERM", False)])
def test_no_landlock_is_told_from_one_that_is_kept_from_us(error: str, kernel_has_none: bool) -> None:
    command = [sys.executable, "-I", "-c", REFUSED, str(HELPERS), str(getattr(errno, error))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == (("0\n", 0) if kernel_has_none else ("", 1)), done.stderr
    assert kernel_has_none or done.stderr.startswith("Landlock is refused (Operation not permitted): let this")


@pytest.mark.parametrize(
    "code",
    [
        "open('own/new', 'w').write('x')",
        "open('own/old', 'w').close()",
        "os.truncate('own/old', 0)",
        "open('own/new', 'w').close(); os.replace('own/new', 'own/old')",
        "os.unlink('own/old')",
        "os.mkdir('own/below'); open('own/below/new', 'w').close()",
        "os.mkdir('own/below'); os.rmdir('own/below')",
        "os.open('own', os.O_RDONLY | os.O_DIRECTORY); os.fsync(os.open('own/old', os.O_RDWR))",
        "open('other/old').read()",
        "os.listdir('other')",
    ],
)
def test_possible(tmp_path, code):
    assert confined(tmp_path, code) == "done"


@pytest.mark.parametrize(
    "code",
    [
        "open('other/old', 'w')",
        "open('other/old', 'r+')",
        "open('new', 'w')",
        "os.unlink('other/old')",
        "os.truncate('other/old', 0)",
        "os.mkdir('other/below')",
        "os.rename('own/old', 'other/new')",
        "os.rename('other/old', 'own/new')",
        "os.link('other/old', 'own/new')",
        "os.symlink('old', 'own/link')",
        "os.mkfifo('own/fifo')",
        "socket.socket(socket.AF_UNIX).bind('own/socket')",
        "os.execv('/bin/true', ['true'])",
        "socket.socket().bind(('127.0.0.1', 0))",
    ],
)
def test_impossible(tmp_path, code):
    assert confined(tmp_path, code) in ("PermissionError", "OSError")
