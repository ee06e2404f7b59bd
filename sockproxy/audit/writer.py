"""Write down what others report: `python -I -m sockproxy.audit.writer`.

SECURITY: runs as the user `sockproxy-audit`, which owns the log and nothing else. Reads records from root's processes
and from the front, which is taken to be hostile: it can add records under its own uid, which the writer takes from the
kernel, but neither change one, nor number or date it, nor keep others from writing. Who may read the log may say here
that it was read, and nothing else.

An acknowledgement is a promise, see `keeper`. Who gets none, or {"error": …}, must not act.
"""

from __future__ import annotations

import errno
import json
import math
import os
import pwd
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque

from sockproxy import activation
from sockproxy.audit.chain import RESERVED
from sockproxy.audit.keeper import ON_FULL, Keeper, Slot, pack_all
from sockproxy.audit.log import Log, LogError
from sockproxy.audit.recordings import STACK, Recordings
from sockproxy.audit.seal import Sealer
from sockproxy_helpers.channel.notify import Watchdog, notify

LIMIT = 64 * 1024  # bytes of a record; a request's head may have 32 KiB
BURST = 64  # messages taken from one connection at a time, so that none waits for a busy one; records in a message
WAITING = 1024  # messages of one connection that are not acknowledged: nothing more is read from it meanwhile
CONNECTIONS = 64  # of one uid; each process needs one
PAUSE = 0.05  # seconds without descriptors, which epoll would tell again and again
FRONT = "sockproxy"
OWN = ("seal", "key", "segment", "gap")
_PEERCRED = struct.Struct("iII")
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_TRUNC = int(socket.MSG_TRUNC)


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"{text} is no number of JSON's")


_DECODER = json.JSONDecoder(parse_constant=_finite, parse_float=_finite)


class _Client:
    """Hold a connection.

    Invariant: `slots` are those of its messages, in their order, that it was not answered. They have at most WAITING
    and BURST entries: while there are more, or it does not take its acknowledgements, nothing is read from it.
    """

    def __init__(self, sock: socket.socket, reader: bool) -> None:
        self.sock, self.reader = sock, reader
        self.pid, self.uid, _ = _PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
        self.slots: deque[Slot] = deque()
        self.interest = _IN
        self.ended = False


class Writer:
    """Serve clients until told to stop."""

    def __init__(
        self, listener: socket.socket, keeper: Keeper, allowed: frozenset[int], readers: socket.socket | None = None,
        recordings: Recordings | None = None,
    ) -> None:  # fmt: skip
        """Prepare to serve.

        Args:
            listener: a listening SOCK_SEQPACKET socket.
            keeper: where the records go.
            allowed: the uids that may connect.
            readers: where those may connect whom the socket's file lets, to say that they read the log.
            recordings: takes over what root's helpers connect for the output of a session.
        """
        self._listeners = {sock.fileno(): sock for sock in (listener, readers) if sock}
        self._readers, self._keeper, self._allowed, self._recordings = readers, keeper, allowed, recordings
        self._clients: dict[int, _Client] = {}
        self._batch: list[tuple[Slot, dict[str, object], int, int]] = []
        self._epoll = select.epoll()
        for sock in self._listeners.values():
            sock.setblocking(False)
            self._epoll.register(sock, _IN)
        self._epoll.register(keeper.done, _IN)

    def run(self, stop: socket.socket) -> None:
        """Serve until something can be read from `stop`; what was sent before that is still written.

        What is read is the numbers of signals: SIGHUP has the policy read again.
        """
        self._epoll.register(stop, _IN)
        stopping, watchdog = False, Watchdog()
        while not stopping:
            watchdog.alive()
            if stop.fileno() in self._turn(min(self._keeper.tick(), watchdog.pause or math.inf)):
                stopping = any(number != signal.SIGHUP for number in stop.recv(64))
                if not stopping:
                    self._keeper.on_full = on_full()
        self._epoll.unregister(stop)
        while self._turn(0):
            pass
        self._keeper.close()
        for client in list(self._clients.values()):
            self._send(client)
            self._close(client)
        self._epoll.close()

    def _turn(self, timeout: float) -> list[int]:
        """Wait for something to do and do it; tell which descriptors were ready."""
        ready = self._epoll.poll(timeout)
        for fd, events in ready:
            client = self._clients.get(fd)
            if client is None:
                if fd in self._listeners:
                    self._accept(self._listeners[fd])
                elif fd == self._keeper.done:
                    self._keeper.committed()
            elif events & _OUT:
                self._send(client)
            elif events & _IN:
                self._receive(client)
            else:
                client.ended = True
        if self._batch:
            batch, self._batch = self._batch, []
            self._keeper.write(batch)
        for client in [client for client in self._clients.values() if client.slots or client.ended]:
            self._send(client)
        return [fd for fd, _ in ready]

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError as error:  # it has left again, or no descriptors are left: those in use come free
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(PAUSE)  # who waits here is not served: so few connections take all only by a fault
            return
        sock.setblocking(False)
        client = _Client(sock, listener is self._readers)
        others = sum(other.uid == client.uid for other in self._clients.values())
        if (client.uid not in self._allowed and not client.reader) or others >= CONNECTIONS:
            print(f"uid {client.uid} (pid {client.pid}) may not connect, or not so often", file=sys.stderr)
            sock.close()
            return
        self._clients[sock.fileno()] = client
        self._epoll.register(sock, _IN)

    def _receive(self, client: _Client) -> None:
        """Take records of a connection into the batch; those of one message are acknowledged together."""
        for _ in range(BURST):
            try:
                untrusted_message, _, flags, _ = client.sock.recvmsg(LIMIT)
            except BlockingIOError:
                return
            except OSError:
                untrusted_message, flags = b"", 0
            if not untrusted_message:
                client.ended = True
                return
            try:
                if flags & _TRUNC:
                    raise ValueError(f"more than {LIMIT} bytes")
                records = check_all(untrusted_message, client.reader)
                if records[0].get("ev") == "recording":
                    self._hand_over(client, records[0])
                    return
            except (ValueError, RecursionError) as error:
                print(f"no record from uid {client.uid} (pid {client.pid}): {error}", file=sys.stderr)
                client.ended = True
                records = [{"v": 1, "ev": "gap", "why": "a message that is no record"}]
            slot = Slot(True in [record.pop("sync", False) for record in records])
            self._batch += [(slot, record, client.uid, client.pid) for record in records]
            if client.ended:
                return
            client.slots.append(slot)

    def _hand_over(self, client: _Client, record: dict[str, object]) -> None:
        """Leave a connection to a recording.

        Raises:
            ValueError: it may not become one.
        """
        if client.uid != 0 or client.reader or client.slots or not self._recordings:
            raise ValueError("no recording is begun so")
        self._forget(client)
        self._recordings.begin(client.sock, record.get("rid"))

    def _send(self, client: _Client) -> None:
        """Send a connection its acknowledgements; while it doesn't take them, it waits, and nobody else does.

        The kernel keeps few for it (net.unix.max_dgram_qlen: 10), so that it must wait is no sign of bad will.
        """
        blocked = False
        try:
            while client.slots and (answer := client.slots[0].answer) is not None:
                client.sock.send(answer)
                client.slots.popleft()
        except BlockingIOError:
            blocked = True
        except OSError:
            client.slots.clear()  # it has left, which the next read tells
        if client.ended and (not client.slots or blocked):
            self._close(client)
            return
        interest = _OUT if blocked else 0 if client.ended or len(client.slots) >= WAITING else _IN
        if interest != client.interest:
            client.interest = interest
            self._epoll.modify(client.sock, interest)

    def _close(self, client: _Client) -> None:
        self._forget(client)
        client.sock.close()

    def _forget(self, client: _Client) -> None:
        self._epoll.unregister(client.sock)
        del self._clients[client.sock.fileno()]


def check_all(untrusted_message: bytes, reader: bool = False) -> list[dict[str, object]]:
    """Take the records of a message, a line each.

    Raises:
        ValueError, RecursionError: as `check`, or there are too many.
    """
    lines = untrusted_message.split(b"\n")
    if len(lines) > BURST:
        raise ValueError(f"more than {BURST} records")
    records = [check(line, reader) for line in lines]
    if len(records) > 1 and any(record.get("ev") == "recording" for record in records):
        raise ValueError("a recording among records")
    return records


def check(untrusted_record: bytes, reader: bool = False) -> dict[str, object]:
    """Take one JSON object.

    Raises:
        ValueError, RecursionError: it is none, or it says what only the writer, or another sender, may say.
    """
    record = _DECODER.decode(untrusted_record.decode("utf-8"))
    if type(record) is not dict or not record:
        raise ValueError("not a JSON object with a key")
    if reserved := RESERVED & record.keys():
        raise ValueError(f"reserved: {' '.join(sorted(reserved))}")
    if record.get("ev") in OWN:
        raise ValueError(f"only the writer may say {record['ev']}")
    if reader and (record.keys() != {"v", "ev", "what"} or record["ev"] != "read" or type(record["what"]) is not str):
        raise ValueError("not what a reader may say")
    return record


def on_full() -> str:
    """Read what the policy says of a full disk; the strictest where it can't be read."""
    try:
        with open(os.environ["SOCKPROXY_POLICY"], "rb") as file:
            said = json.load(file)["audit"]["on_full"]
    except (KeyError, OSError, TypeError, ValueError):
        said = None
    return said if said in ON_FULL else "refuse-all"


def main() -> None:
    """Serve the sockets named `audit` and `readers` until SIGTERM."""
    stop, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    folder = os.environ["SOCKPROXY_LOG_DIR"]
    try:
        keeper = Keeper(Log(folder), Sealer(folder), on_full())
    except (LogError, OSError) as error:
        raise SystemExit(f"cannot write the audit log: {error}") from None
    threading.Thread(target=pack_all, args=(folder,), daemon=True).start()
    passed = activation.sockets()
    allowed = frozenset((0, pwd.getpwnam(FRONT).pw_uid))
    threading.stack_size(STACK)  # of this whole process: records are read in its main thread
    writer = Writer(passed["audit"], keeper, allowed, passed["readers"], Recordings(folder))
    notify("READY=1")
    writer.run(stop)


if __name__ == "__main__":
    main()
