"""The faults: each is done to a running sockproxy, at a scale, and asserts what must hold meanwhile."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable

from tests.bench import loads, upstream
from tests.faults.asking import asking
from tests.faults.lent import lent_connections
from tests.faults.scene import API, BODY, ID, LIST, ROOT_HELPERS, WHOLE, Scene, latencies, percent
from tests.faults.shortages import exhausted_writer, short_of_memory, without_descriptors
from tests.support.proxy import eventually
from tests.support.raw import BrokenOff, Connection, call

Fault = Callable[[Scene, int], None]
STREAMING = f"{API}/containers/{ID}/logs?stdout=1"  # of which nothing is looked up for an admin
REQUESTS = (
    f"GET {LIST} HTTP/1.1\r\nHost: d\r\n\r\n".encode(),
    f"POST {API}/containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n".encode()
    + b'Content-Length: 20\r\n\r\n{"Image": "busybox"}',
    loads.LOAD + b"Transfer-Encoding: chunked\r\n\r\n400\r\n" + bytes(1024) + b"\r\n0\r\n\r\n",
    loads.ATTACH + b"early bytes",
)


def idle_streams(scene: Scene, count: int) -> None:
    """So many idle upgraded streams, and traffic beside them; each stream still carries exactly its own bytes."""
    alone, memory = latencies(scene, 1), scene.memory()
    streams = [loads.attach(scene.path) for _ in range(count)]
    try:
        grown = (scene.memory() - memory) * 1024 / count
        beside = latencies(scene, 2)
        for number in range(0, count, max(1, count // 200)):
            text = b"stream %d " % number * 10
            streams[number].sendall(text)
            got = b""
            while len(got) < len(text):
                got += streams[number].recv(4096)
            assert got == text
    finally:
        for sock in streams:
            sock.close()
    scene.said.append(f"{count} streams, {grown:.1f} KiB each; median beside them {percent(beside, 0.5)}")
    scene.said.append(f"(without {percent(alone, 0.5)}), p99 {percent(beside, 0.99)}")


def burst(scene: Scene, count: int) -> None:
    """So many connections at once, each with a request; all are answered."""
    begun = time.monotonic()
    socks = [loads.connect(scene.path) for _ in range(count)]
    connected = time.monotonic() - begun
    for sock in socks:
        sock.sendall(loads.SMALL)
    for sock in socks:
        assert loads._answer(sock) == upstream.SMALL
        sock.close()
    took = time.monotonic() - begun
    scene.said.append(f"{count} connected in {connected:.2f} s, all answered after {took:.2f} s")


def slow_readers(scene: Scene, count: int) -> None:
    """Downloads and uploads that stand still do not slow others, and in their own time come to their end."""
    alone = latencies(scene, 1)
    socks = []
    for number in range(count):
        sock = loads.connect(scene.path)
        if number % 2:
            sock.sendall(loads.LOAD + b"Content-Length: 1048576\r\n\r\n" + bytes(1000))
        else:
            sock.sendall(loads.GET % (4 << 20, b"length" if number % 4 else b"chunked"))
        socks.append(sock)
    beside = latencies(scene, 2)
    for sock in socks[:8]:
        if socks.index(sock) % 2:
            sock.sendall(bytes((1 << 20) - 1000))
            assert loads._answer(sock) == upstream.SMALL
        else:
            got = loads._answer(sock, until=b"end")
            while len(got) < 4 << 20:
                got += sock.recv(1 << 20)
            assert len(got) >= 4 << 20
    for sock in socks:
        sock.close()
    scene.said.append(f"{count} that stand still; median beside them {percent(beside, 0.5)}")
    scene.said.append(f"(without {percent(alone, 0.5)}), p99 {percent(beside, 0.99)}")


def killed(scene: Scene, count: int) -> None:
    """Each process killed so many times at random moments of calls: what fails says so, nothing is invented."""
    chance, longest = random.Random(1), dict[str, float]()
    with asking(scene) as asked:
        for _ in range(count):
            for name in ("front", "lifecycle", "network", "filesystem", "audit", "auth", "binds", "attacher"):
                time.sleep(chance.random() * 0.05)
                pid = scene.proxy.processes[name]
                os.kill(pid, signal.SIGKILL)
                begun = time.monotonic()
                eventually(lambda name=name, pid=pid: scene.proxy.processes.get(name, pid) != pid, name)  # type: ignore[misc]
                eventually(scene.serves, "service", 30)
                longest[name] = max(longest.get(name, 0.0), time.monotonic() - begun)
    slowest = max(longest, key=longest.__getitem__)
    scene.said.append(f"{8 * count} kills, {asked.answers} answers beside them, {asked.failures} failed and said so;")
    scene.said.append(f"longest until service: {longest[slowest]:.2f} s ({slowest})")


def frozen_daemon(scene: Scene, count: int) -> None:
    """A daemon that hangs: so many calls wait, what needs no daemon is answered, and then all are."""
    release = threading.Event()

    def hang(sock: socket.socket, head: bytes) -> None:
        release.wait(60)
        sock.sendall(WHOLE[0])

    scene.daemon.answer = hang
    connections = [scene.connect() for _ in range(count)]
    for connection in connections:
        connection.request("GET", LIST)
    begun = time.monotonic()
    assert call(scene.path, "OPTIONS", "/_ping").status == 200
    assert call(scene.path, "GET", "/nonsense").status == 404
    refused = time.monotonic() - begun
    release.set()
    for connection in connections:
        with connection:
            assert connection.answer().body == BODY
    scene.said.append(f"{count} calls waited and were answered; refusals meanwhile in {refused * 1000:.0f} ms")


def restarted_daemon(scene: Scene, count: int) -> None:
    """A daemon that goes away and comes back so many times: each call in between says so, no connection is stale."""
    with scene.connect() as connection:
        for _ in range(count):
            assert connection.call("GET", LIST).status == 200
            scene.daemon.stop()
            answer = connection.call("GET", LIST)
            assert (answer.status, "Docker daemon" in answer.message) == (502, True)
            scene.daemon.start()
            assert connection.call("GET", LIST).status == 200
    scene.said.append(f"{count} restarts, the same client connection throughout")


def garbage(scene: Scene, count: int) -> None:
    """A daemon that answers nonsense: a clean 502, or an answer that is one; the client's connection stays in step."""
    chance, statuses = random.Random(2), dict.fromkeys((200, 502), 0)

    def answer(sock: socket.socket, head: bytes) -> None:
        data = bytearray(chance.choice(WHOLE))
        for _ in range(chance.randint(1, 6)):
            at = chance.randint(0, len(data) - 1)
            data[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        sock.sendall(bytes(data) if chance.random() < 0.8 else chance.randbytes(300) + b"\r\n\r\n")

    scene.daemon.answer = answer
    for _ in range(count):
        with scene.connect() as connection:
            try:
                found = connection.call("GET", LIST)
            except (BrokenOff, ValueError):
                continue
            assert found.status == 502 or 200 <= found.status < 600, found.status
            statuses[502 if found.status == 502 else 200] += 1
    scene.said.append(f"{count} answers: {statuses[502]} refused with 502, {statuses[200]} still were answers")


def cut_answers(scene: Scene, count: int) -> None:
    """An answer that is cut at each byte looks cut to the client, and has no byte that was not sent."""
    at, whole = [0], [WHOLE[0]]

    def answer(sock: socket.socket, head: bytes) -> None:
        sock.sendall(whole[0][: at[0]])

    scene.daemon.answer = answer
    tried = 0
    for whole[0] in WHOLE:
        for target in (LIST, STREAMING):
            for at[0] in range(0, len(whole[0]), max(1, len(whole[0]) // count)):
                tried += 1
                with scene.connect() as connection:
                    connection.request("GET", target, Connection="close")
                    head, _, body = connection.rest().partition(b"\r\n\r\n")
                    if not head.startswith(b"HTTP/1.1 502 "):
                        sent = whole[0].partition(b"\r\n\r\n")[2]
                        assert sent.startswith(body), body
                        assert len(body) < len(sent), at[0]
    scene.said.append(f"{tried} cuts, none looked whole")


def vanishing_clients(scene: Scene, count: int) -> None:
    """A client that leaves at each byte of a request, of each kind."""
    tried = 0
    for request in REQUESTS:
        for end in range(0, len(request) + 1, max(1, len(request) // count)):
            tried += 1
            with contextlib.closing(loads.connect(scene.path)) as sock:
                sock.sendall(request[:end])
                if end % 3 == 0:
                    sock.shutdown(socket.SHUT_WR)
    for _ in range(count):  # and in the middle of an answer
        tried += 1
        with contextlib.closing(loads.connect(scene.path)) as sock:
            sock.sendall(loads.GET % (16 << 20, b"chunked"))
            sock.recv(random.randint(1, 65536))
    scene.said.append(f"{tried} clients left")


def half_requests(scene: Scene, count: int) -> None:
    """Half a head, half a body, and silence: others are served as before."""
    alone, socks = latencies(scene, 1), []
    for number in range(count):
        request = REQUESTS[number % len(REQUESTS)]
        socks.append(loads.connect(scene.path))
        socks[-1].sendall(request[: len(request) // 2 if number % 2 else -1])
    beside = latencies(scene, 2)
    for sock in socks:
        sock.close()
    scene.said.append(f"{count} silent clients; median beside them {percent(beside, 0.5)}")
    scene.said.append(f"(without {percent(alone, 0.5)})")


def large_bodies(scene: Scene, count: int) -> None:
    """Bodies of the largest size at once: what they take of memory is bounded, and given back."""
    before = scene.memory()
    text = b'{"Image": "busybox", "Env": ["A=' + b"x" * 1_400_000 + b'"]}'
    head = f"POST {API}/containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n".encode()
    socks, most = [], before
    for _ in range(count):
        sock = loads.connect(scene.path)
        sock.sendall(head + b"Content-Length: %d\r\n\r\n" % len(text) + text[: len(text) // 2])
        socks.append(sock)
        most = max(most, scene.memory())
    assert call(scene.path, "GET", LIST).status == 200
    for sock in socks:
        sock.close()
    scene.said.append(f"{count} bodies of 1.4 MB half sent: {most - before:.0f} MiB more")
    assert most - before < 200  # LARGE of sockproxy/server/traffic.py, and what the allocator keeps


def stopped_processes(scene: Scene, count: int) -> None:
    """Each of sockproxy's processes stopped (SIGSTOP) for a moment: calls wait or are refused, and go on."""
    for name in (*ROOT_HELPERS, "audit", "auth", "front"):
        pid = scene.proxy.processes[name]
        os.kill(pid, signal.SIGSTOP)
        try:
            with contextlib.suppress(TimeoutError, BrokenOff), Connection(scene.path, timeout=0.5) as connection:
                assert connection.call("GET", LIST).status in (200, 502, 503)
        finally:
            os.kill(pid, signal.SIGCONT)
        eventually(scene.serves, f"service after {name}", 5)
    scene.said.append("6 processes, each for half a second")


FAULTS: dict[Fault, tuple[int, int]] = {  # how much in the command, and in the tests
    idle_streams: (5000, 150),
    burst: (1000, 100),
    slow_readers: (200, 20),
    killed: (2, 0),  # more often, and the supervisor waits longer; the tests kill with a real daemon
    frozen_daemon: (500, 20),
    restarted_daemon: (50, 3),
    garbage: (3000, 100),
    cut_answers: (10_000, 12),
    vanishing_clients: (10_000, 15),
    lent_connections: (10_000, 12),
    half_requests: (500, 40),
    large_bodies: (150, 0),
    stopped_processes: (1, 0),
    without_descriptors: (8, 0),
    short_of_memory: (20, 0),
    exhausted_writer: (3, 0),
}

__all__ = ["FAULTS", "Fault"]
