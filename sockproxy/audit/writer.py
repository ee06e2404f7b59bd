"""Write down what others report: `python -I -m sockproxy.audit.writer`.

SECURITY: runs as the user `sockproxy-audit`, which owns the log and nothing else. Reads records from root's processes
and from the front, which is taken to be hostile: it can add records under its own uid, which the writer takes from the
kernel, but neither change one, nor number or date it, nor keep others from writing. Standard library only.

An acknowledgement is a promise: the record is in the file. Who gets none, or {"error": …}, must not act.
"""

from __future__ import annotations

import json
import os
import pwd
import select
import signal
import socket
import struct
import sys
from collections import deque

from sockproxy import activation
from sockproxy.audit.log import RESERVED, Entry, Log, LogError, encode, gap

LIMIT = 64 * 1024  # bytes of a record; a request's head may have 32 KiB
BURST = 64  # records taken from one connection at a time, so that none waits for a busy one
CONNECTIONS = 64  # of one uid; each process needs one
FRONT = "sockproxy"
_PEERCRED = struct.Struct("iII")
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class _Client:
    """Hold a connection.

    Invariant: while it has not taken its acknowledgements nothing more is read from it, so `acks` has at most BURST.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pid, self.uid, _ = _PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
        self.acks: deque[bytes] = deque()
        self.interest = _IN


class Writer:
    """Serve clients until told to stop."""

    def __init__(self, listener: socket.socket, log: Log, allowed: frozenset[int]) -> None:
        """Prepare to serve.

        Args:
            listener: a listening SOCK_SEQPACKET socket.
            log: where the records go.
            allowed: the uids that may connect.
        """
        self._listener, self._log, self._allowed = listener, log, allowed
        self._clients: dict[int, _Client] = {}
        self._batch: list[tuple[_Client | None, Entry]] = []
        self._ended: list[_Client] = []  # closed at the end of the turn, behind their acknowledgements
        self._epoll = select.epoll()
        listener.setblocking(False)
        self._epoll.register(listener, _IN)

    def run(self, stop: socket.socket) -> None:
        """Serve until something can be read from `stop`; what was sent before that is still written."""
        self._epoll.register(stop, _IN)
        stopping = False
        while not stopping:
            stopping = stop.fileno() in self._turn(-1)
        self._epoll.unregister(stop)
        while self._turn(0):
            pass
        for client in list(self._clients.values()):
            self._close(client)
        self._epoll.close()

    def _turn(self, timeout: float) -> list[int]:
        """Wait for something to do and do it; tell which descriptors were ready."""
        ready = self._epoll.poll(timeout)
        for fd, events in ready:
            client = self._clients.get(fd)
            if client is None:
                if fd == self._listener.fileno():
                    self._accept()
            elif events & _OUT:
                self._send(client)
            else:
                self._receive(client)
        if self._batch:
            self._write()
        while self._ended:
            self._close(self._ended.pop())
        return [fd for fd, _ in ready]

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # it has left again
            return
        sock.setblocking(False)
        client = _Client(sock)
        others = sum(other.uid == client.uid for other in self._clients.values())
        if client.uid not in self._allowed or others >= CONNECTIONS:
            print(f"uid {client.uid} (pid {client.pid}) may not connect, or not so often", file=sys.stderr)
            sock.close()
            return
        self._clients[sock.fileno()] = client
        self._epoll.register(sock, _IN)

    def _receive(self, client: _Client) -> None:
        """Take records of a connection into the batch."""
        for _ in range(BURST):
            try:
                untrusted_record, _, flags, _ = client.sock.recvmsg(LIMIT)
            except BlockingIOError:
                return
            except OSError:
                untrusted_record, flags = b"", 0
            if not untrusted_record:
                self._ended.append(client)
                return
            try:
                if flags & socket.MSG_TRUNC:
                    raise ValueError(f"more than {LIMIT} bytes")
                self._batch.append((client, Entry(check(untrusted_record), client.uid, client.pid)))
            except (ValueError, RecursionError) as error:
                print(f"no record from uid {client.uid} (pid {client.pid}): {error}", file=sys.stderr)
                self._batch.append((None, gap("a message that is no record", client.uid, client.pid)))
                self._ended.append(client)
                return

    def _write(self) -> None:
        """Write the batch and acknowledge what is in the file."""
        batch, self._batch = self._batch, []
        written = self._log.append([entry for _, entry in batch])
        first = self._log.seq - written + 1
        answers = [b'{"seq":%d}' % seq for seq in range(first, first + written)]
        if self._log.error:
            print(f"{len(batch) - written} records not written: {self._log.error}", file=sys.stderr)
            answers += [encode({"error": self._log.error})] * (len(batch) - written)
        waiting = {}
        for (client, _), answer in zip(batch, answers, strict=True):
            if client:
                client.acks.append(answer)
                waiting[client.sock] = client
        for client in waiting.values():
            self._send(client)

    def _send(self, client: _Client) -> None:
        """Send a connection its acknowledgements; while it doesn't take them, it waits, and nobody else does.

        The kernel keeps few for it (net.unix.max_dgram_qlen: 10), so that it must wait is no sign of bad will.
        """
        try:
            while client.acks:
                client.sock.send(client.acks[0])
                client.acks.popleft()
        except BlockingIOError:
            pass
        except OSError:
            client.acks.clear()  # it has left, which the next read tells
        interest = _OUT if client.acks else _IN
        if interest != client.interest:
            client.interest = interest
            self._epoll.modify(client.sock, interest)

    def _close(self, client: _Client) -> None:
        self._epoll.unregister(client.sock)
        del self._clients[client.sock.fileno()]
        client.sock.close()


def check(untrusted_record: bytes) -> bytes:
    """Take one JSON object and encode it anew.

    Raises:
        ValueError, RecursionError: it is none, or it says what only the writer may say.
    """
    record = json.loads(untrusted_record.decode("utf-8"))
    if type(record) is not dict or not record:
        raise ValueError("not a JSON object with a key")
    if reserved := RESERVED & record.keys():
        raise ValueError(f"reserved: {' '.join(sorted(reserved))}")
    return encode(record)


def main() -> None:
    """Serve the socket named `audit` until SIGTERM."""
    stop, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nothing to reload: the log is continued, never replaced
    try:
        log = Log(os.environ["SOCKPROXY_LOG_DIR"])
    except (LogError, OSError) as error:
        raise SystemExit(f"cannot write the audit log: {error}") from None
    writer = Writer(activation.sockets()["audit"], log, frozenset((0, pwd.getpwnam(FRONT).pw_uid)))
    activation.notify("READY=1")
    writer.run(stop)


if __name__ == "__main__":
    main()
