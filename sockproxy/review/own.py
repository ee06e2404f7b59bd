"""Give people their own lines of the record: `python -I -m sockproxy.review.own`.

SECURITY: runs as the user `sockproxy-reader`, which may read the record and change nothing. Anybody may connect, and
gets the calls that the record has under the uid that the kernel tells of the connection, whatever is asked; not root,
which reads the record itself, and no process in a container, whose uids are not people. What is read from a client are
two times. Each connection has a process of its own with bounds, a few of each person's, and that it was read is on the
record before anything is told.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import resource
import signal
import socket
import sys

from sockproxy.activation import sockets
from sockproxy.audit.chain import encode
from sockproxy.review.reading import note
from sockproxy.review.search import calls, contents
from sockproxy_helpers.channel.notify import Watchdog, notify
from sockproxy_helpers.system import peer
from sockproxy_helpers.system.confine import confine

MOST, EACH = 16, 4  # connections at a time, and of one person's: one that was told all is here a little longer
PATIENCE = 10.0  # seconds for a client to ask, and to take what it is told
CPU = 60  # seconds; ten million records take about ten
ASKED = 4096  # bytes of a question
LONGEST = 32  # letters of a time
FOREIGN = "the record's lines are for people on the host, and this is a process in a container, or root"
BUSY = "the record is being read: try again"


def main() -> None:
    """Serve until SIGTERM."""
    listener = sockets()["own"]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us passes it on as SIGTERM
    if not confine():
        print("sockproxy own lines: this kernel has no Landlock: the process is not confined", file=sys.stderr)
    busy: dict[int, int] = {}  # process: uid
    watchdog = Watchdog()
    notify("READY=1")
    while True:
        sock = watchdog.accept(listener)
        _reap(busy)
        with sock:
            sock.settimeout(PATIENCE)
            who = peer.of(sock)
            refused = FOREIGN if who.uid == 0 or who.trouble or who.containers else ""
            refused = refused or (BUSY if len(busy) >= MOST or list(busy.values()).count(who.uid) >= EACH else "")
            if refused:
                _say(sock, refused)
                continue
            pid = os.fork()
            if pid == 0:
                listener.close()
                _begin(sock, who.uid)
            busy[pid] = who.uid


def _reap(busy: dict[int, int]) -> None:
    """Forget the processes that have ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)[0]) > 0:
            busy.pop(ended, None)


def _begin(sock: socket.socket, uid: int) -> None:
    """Be the process of one connection."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for limit, value in ((resource.RLIMIT_CPU, CPU), (resource.RLIMIT_CORE, 0)):
            resource.setrlimit(limit, (value, value))
        with contextlib.suppress(PermissionError):  # a unit's filter of system calls
            os.nice(10)
        tell(sock, uid, os.environ["SOCKPROXY_LOG_DIR"], os.environ["SOCKPROXY_RUNTIME"])
    except (OSError, ValueError):
        pass  # the client has left, or asks for something else
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def tell(sock: socket.socket, uid: int, folder: str, runtime: str) -> None:
    """Read the question and write the lines.

    Raises:
        OSError: the client has left, or the record can't be read.
        ValueError: it is no question.
    """
    untrusted_asked = json.loads(sock.recv(ASKED))
    since, until = (_time(untrusted_asked, name) for name in ("since", "until"))
    if not note(runtime, f"own lines of uid {uid} ({_name(uid)})"):
        _say(sock, "that the record is read can't be recorded, so it is not")
        return
    needle = b'"who":{"uid":%d,' % uid
    with sock.makefile("wb") as file:
        for call in calls(contents(folder, since, until), [needle]):
            if call.who.get("uid") == uid:
                for record in filter(None, (call.record, call.outcome)):
                    file.write(encode(record) + b"\n")


def _time(untrusted_asked: object, name: str) -> str:
    value = untrusted_asked.get(name, "") if isinstance(untrusted_asked, dict) else None
    if not isinstance(value, str) or len(value) > LONGEST:
        raise ValueError(name)
    return value


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "no account"


def _say(sock: socket.socket, error: str) -> None:
    with contextlib.suppress(OSError):
        sock.send(json.dumps({"error": error}).encode() + b"\n")


if __name__ == "__main__":
    main()
