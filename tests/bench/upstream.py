"""Be the daemon of the benchmark: answer at once, so that what is measured is what stands before it.

    python -m tests.bench.upstream SOCKET

It speaks just the wire of the loads in `loads`: small answers, bulk both ways, upgraded streams that are echoed.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading

BLOCK = bytes(1 << 20)
SMALL = b'{"Id":"' + b"c" * 64 + b'","Name":"/x","Config":{"Labels":{}},"HostConfig":{}}'
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
_SIZE = re.compile(rb"size-([0-9]+)-(length|chunked)")


def main() -> None:
    """Serve until killed."""
    path = sys.argv[1]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(4096)
    threading.stack_size(128 * 1024)  # thousands of idle streams, a thread each
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock,), daemon=True).start()


def serve(sock: socket.socket) -> None:
    """Answer one connection's requests."""
    data = b""
    with sock, contextlib.suppress(OSError):
        while True:
            while (end := data.find(b"\r\n\r\n")) < 0:
                more = sock.recv(65536)
                if not more:
                    return
                data += more
            head, data = data[: end + 2], data[end + 4 :]
            keep = b" HTTP/1.1\r\n" in head
            if b"/attach" in head:
                echo(sock)
                return
            data = take_body(sock, head, data)
            answer(sock, head, keep)
            if not keep:
                return


def echo(sock: socket.socket) -> None:
    """Upgrade, then send back what comes; a first byte of "d" asks for that many blocks instead."""
    sock.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
    while data := sock.recv(65536):
        if data[:1] == b"d":
            for _ in range(int(data[1:])):
                sock.sendall(BLOCK)
        else:
            sock.sendall(data)


def take_body(sock: socket.socket, head: bytes, data: bytes) -> bytes:
    """Read a body and drop it; give what follows it."""
    length = _LENGTH.search(head)
    if length:
        left = int(length[1]) - len(data)
        buffer = bytearray(1 << 18)
        while left > 0:
            if not (count := sock.recv_into(buffer)):
                raise ConnectionError("the body was cut")
            left -= count
        return b""
    if _CHUNKED.search(head):
        tail = data
        while not tail.endswith(b"0\r\n\r\n"):
            if not (more := sock.recv(1 << 18)):
                raise ConnectionError("the body was cut")
            tail = tail[-5:] + more
    return b"" if _CHUNKED.search(head) else data


def answer(sock: socket.socket, head: bytes, keep: bool) -> None:
    """Send a small object, or as much as the path says."""
    wish = _SIZE.search(head)
    if not wish:
        sock.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(SMALL) + SMALL
        )
        return
    blocks = int(wish[1]) >> 20
    if wish[2] == b"length":
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (blocks << 20))
        for _ in range(blocks):
            sock.sendall(BLOCK)
        return
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"8000\r\n" + BLOCK[:0x8000] + b"\r\n"  # what Go's io.Copy makes of it
    for _ in range(blocks * 32):
        sock.sendall(chunk)
    sock.sendall(b"0\r\n\r\n")


if __name__ == "__main__":
    main()
