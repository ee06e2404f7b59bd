"""Be the plainest thing that can stand before a socket: a relay that copies bytes and looks at none.

python -m tests.bench.relay SOCKET UPSTREAM
"""

from __future__ import annotations

import os
import socket
import sys
import threading


def main() -> None:
    """Serve until killed."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    os.chmod(sys.argv[1], 0o666)
    listener.listen(4096)
    threading.stack_size(128 * 1024)
    while True:
        client, _ = listener.accept()
        daemon = socket.socket(socket.AF_UNIX)
        daemon.connect(sys.argv[2])
        for source, sink in ((client, daemon), (daemon, client)):
            threading.Thread(target=copy, args=(source, sink), daemon=True).start()


def copy(source: socket.socket, sink: socket.socket) -> None:
    """Copy one way until its end, and pass that on."""
    buffer = memoryview(bytearray(65536))
    try:
        while count := source.recv_into(buffer):
            sink.sendall(buffer[:count])
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()


if __name__ == "__main__":
    main()
