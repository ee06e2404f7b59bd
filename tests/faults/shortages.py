"""Faults of the machine: a process that gets no more descriptors, memory, threads or room on the disk."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sockproxy.review.verify import verify
from tests.bench import loads, upstream
from tests.faults.asking import asking
from tests.faults.calls import whole_records
from tests.faults.scene import API, ROOT_HELPERS, WHOLE, Scene
from tests.support.cgroups import ROOT
from tests.support.proxy import eventually
from tests.support.raw import BrokenOff

ASKED = (*ROOT_HELPERS, "audit", "auth", "front")
FILLED = (*ROOT_HELPERS, "auth", "front")  # the audit writer takes 64 connections of one uid: see exhausted_writer
FEW = 140  # descriptors that a process may have; the supervisor numbers those that it passes on from 100
MOMENT = 0.3  # seconds without
MEMORY = 2 << 20  # bytes more than it has
CREATE = f"POST {API}/containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n".encode()
LARGE = b'{"Image": "busybox", "Env": ["A=' + b"x" * 1_400_000 + b'"]}'


def fill(scene: Scene, name: str, left: int) -> list[socket.socket]:
    """Connect to a process until it can accept no more, then leave some again."""
    kind = socket.SOCK_STREAM if name == "front" else socket.SOCK_SEQPACKET
    folder = name if name in ("audit", "auth") else "helpers"
    path = scene.path if name == "front" else f"{scene.proxy.runtime}/{folder}/{name}.sock"
    pid, socks = scene.proxy.processes[name], list[socket.socket]()
    for _ in range(FEW):
        socks.append(socket.socket(socket.AF_UNIX, kind))
        socks[-1].connect(path)
    # To look at who has connected takes four for a moment: who comes then is turned away.
    eventually(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= FEW - 4, f"{name} has no descriptors left")
    # Behind those that it holds are those that wait for it: what comes free goes to them first.
    for sock in socks[len(socks) // 2 :]:
        sock.close()
    for sock in socks[:left]:
        sock.close()
    return socks[left : len(socks) // 2]


def without_descriptors(scene: Scene, count: int) -> None:
    """Each running process without descriptors, with one, two … left, while it is asked: calls wait, or say so."""
    few = Scene(scene.proxy.folder / "few", FEW)
    answers = failures = 0
    try:
        for name in FILLED:
            pid = few.proxy.processes[name]
            for left in range(count):
                socks = fill(few, name, left)
                try:
                    with asking(few, timeout=1.0) as asked:
                        time.sleep(MOMENT)
                finally:
                    for sock in socks:
                        sock.close()
                eventually(few.serves, f"service after {name}", 5)
                assert few.proxy.processes[name] == pid, f"{name} has ended"
                answers, failures = answers + asked.answers, failures + asked.failures
        assert "Traceback" not in few.proxy.errors(), few.proxy.errors()
    finally:
        few.close()
    scene.said.append(f"{len(FILLED)} processes with 0 to {count - 1} of {FEW} left: {answers} answers, {failures}")
    scene.said.append("said so or came too late; none ended")


@contextlib.contextmanager
def bounded_memory(pid: int) -> Iterator[None]:
    """Let a process have little memory beyond what it has: pages that it has stay with the cgroup that it leaves."""
    one = (ROOT / "memory" if (ROOT / "memory").is_dir() else ROOT) / f"sockproxy-fault-{pid}"
    one.mkdir()
    try:
        limit = one / "memory.limit_in_bytes"
        (limit if limit.exists() else one / "memory.max").write_text(str(MEMORY))
        (one / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with contextlib.suppress(OSError):  # it is gone, the way that this is about
            (one.parent / "cgroup.procs").write_text(str(pid))
        eventually(lambda: _removed(one), "the cgroup is empty")


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def short_of_memory(scene: Scene, count: int) -> None:
    """Each process without memory while bodies of the largest size come: killed or not, all that was done is recorded.

    And what was asked for and not done was not answered as if it were.
    """
    made = [0]
    lock = threading.Lock()

    def answer(sock: socket.socket, head: bytes) -> None:
        with lock:
            made[0] += b"/containers/create" in head
        length = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r")[0] or b"0")
        left = length - len(head.partition(b"\r\n\r\n")[2])
        while left > 0 and (more := sock.recv(65536)):
            left -= len(more)
        sock.sendall(WHOLE[0])

    scene.daemon.answer = answer
    ended, done, before, longest = list[str](), 0, _recorded(scene), 0.0
    for name in ASKED:
        pid = scene.proxy.processes[name]
        with bounded_memory(pid):
            for _ in range(count):
                done += _create(scene)
        if scene.proxy.processes.get(name) != pid:
            ended.append(name)
        begun = time.monotonic()
        eventually(scene.serves, f"service after {name}", 20)
        longest = max(longest, time.monotonic() - begun)
    asked = _recorded(scene) - before
    assert done <= made[0] <= asked, (done, made[0], asked)
    scene.said.append(f"{len(ASKED) * count} bodies of 1.4 MB: {done} done, {asked} on the record; {len(ended)}")
    scene.said.append(f"processes ended ({', '.join(ended) or 'none'}); {longest:.2f} s until service at most")


def _recorded(scene: Scene) -> int:
    """Count the containers that were to be created."""
    return sum(one["ev"] == "intent" and "'ContainerCreate'" in str(one["req"]) for one in whole_records(scene.proxy))


def _create(scene: Scene) -> int:
    """Send the largest body; tell whether that was said to have been done."""
    try:
        with loads.connect(scene.path) as sock:
            sock.sendall(CREATE + b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE)
            return loads._answer(sock) != b""
    except (OSError, AssertionError, BrokenOff):
        return 0


@contextlib.contextmanager
def limited(pid: int, name: str, value: int) -> Iterator[None]:
    """Lower a limit of a running process for a while, as its user: root may need a capability for that."""
    status = os.stat(f"/proc/{pid}")
    command = ["setpriv", f"--reuid={status.st_uid}", f"--regid={status.st_gid}", "--clear-groups", "prlimit"]
    command += ["--pid", str(pid)]
    before = subprocess.check_output([*command, f"--{name}", "--output=SOFT", "--noheadings"], text=True).strip()
    subprocess.run([*command, f"--{name}={value}:"], check=True)
    try:
        yield
    finally:
        subprocess.run([*command, f"--{name}={before}:"], check=True)


def exhausted_writer(scene: Scene, count: int) -> None:
    """The audit writer without descriptors, threads, and room for its file, as where a quota is used up (EFBIG there).

    Meanwhile a helper is killed, which must connect to it anew. What is done is on the record; nothing is done without,
    and the same writer goes on. Its memory: `short_of_memory`.
    """
    writer = scene.proxy.processes["audit"]
    folder = Path(f"/proc/{writer}/fd")
    file = scene.proxy.log / "audit.jsonl"
    made = [0]

    def answer(sock: socket.socket, head: bytes) -> None:
        if b"/containers/create" in head:
            made[0] += 1
            sock.sendall(WHOLE[0])
        else:
            kind = b"Content-Type: application/json\r\nContent-Length: "
            sock.sendall(b"HTTP/1.1 200 OK\r\n%b%d\r\n\r\n%b" % (kind, len(upstream.SMALL), upstream.SMALL))

    scene.daemon.answer = answer
    refused = {"nofile": 0, "nproc": 0, "fsize": 0}
    for what, spare in (*(("nofile", left) for left in range(count)), ("nproc", 0), ("fsize", 0), ("fsize", 300)):
        before, made[0], done = _recorded(scene), 0, 0
        value = {
            "nofile": max(int(name) for name in os.listdir(folder)) + 1 + spare,
            "nproc": 1,
            "fsize": file.stat().st_size + spare,  # where the line is cut that comes next
        }[what]
        with limited(writer, what, value), asking(scene, timeout=1.0), contextlib.ExitStack() as held:
            killed = scene.proxy.processes["lifecycle"]
            os.kill(killed, signal.SIGKILL)
            for _ in range(8 if what == "nofile" else 0):  # what it has had goes to others before it
                sock = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                sock.connect(f"{scene.proxy.runtime}/audit/audit.sock")
            end = time.monotonic() + 3 * MOMENT
            while time.monotonic() < end:
                status = _create_small(scene)
                done += status == 200
                refused[what] += status == 503
        eventually(scene.serves, "service", 10)
        eventually(lambda: _create_small(scene) == 200, "creates", 10)
        assert done + 1 <= made[0] <= _recorded(scene) - before, (what, spare, done, made, _recorded(scene) - before)
        assert scene.proxy.processes["audit"] == writer, f"the writer has ended: {scene.proxy.errors()[-2000:]}"
        found = verify(str(scene.proxy.log)).findings
        assert found == [], found
    assert refused["nofile"], "who can't be accepted was served"
    assert refused["fsize"], "a file that can't grow has refused nothing"
    scene.said.append(f"without descriptors (0 to {count - 1} left): {refused['nofile']} refused; without threads:")
    scene.said.append(f"{refused['nproc']}; without room in its file: {refused['fsize']}; all others done and recorded")


def _create_small(scene: Scene) -> int:
    """Ask for a container; give the status, 0 where none came."""
    try:
        with scene.connect(8.0) as connection:
            return connection.call("POST", f"{API}/containers/create", {"Image": "busybox"}).status
    except (OSError, BrokenOff):
        return 0
