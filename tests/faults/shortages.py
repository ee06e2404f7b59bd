"""Faults of the machine: a process that gets no more descriptors, or no more memory."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import loads
from tests.faults.asking import asking
from tests.faults.scene import API, ROOT_HELPERS, WHOLE, Scene
from tests.support.cgroups import ROOT
from tests.support.proxy import eventually
from tests.support.raw import BrokenOff

ASKED = (*ROOT_HELPERS, "audit", "auth", "front")
FILLED = (*ROOT_HELPERS, "auth", "front")  # the audit writer takes 64 connections of one uid, and so is never full
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
    return sum(one["ev"] == "intent" and "'ContainerCreate'" in str(one["req"]) for one in scene.proxy.records())


def _create(scene: Scene) -> int:
    """Send the largest body; tell whether that was said to have been done."""
    try:
        with loads.connect(scene.path) as sock:
            sock.sendall(CREATE + b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE)
            return loads._answer(sock) != b""
    except (OSError, AssertionError, BrokenOff):
        return 0
