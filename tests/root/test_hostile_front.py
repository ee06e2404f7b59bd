"""A front that was taken over, before the real helpers: whatever it says, nothing reaches the daemon unlawfully.

`sockproxy up` runs as in production; its front is stopped and this file takes its place: it accepts the users with the
front's own listening socket, and opens channels to the helpers as the front's user. It is judged by the bytes that
reach the daemon, by the records, and by the helpers, which must go on serving.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockproxy.supervise.table import WATCHDOG
from sockproxy_helpers.channel import wire
from sockproxy_helpers.system import peer
from sockproxy_helpers.upstream.objects import OWNER
from sockproxy_helpers.who import assertion
from tests.helpers.support import message
from tests.helpers.test_call import WRONG, good
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.users import Users

pytestmark = pytest.mark.root
SCOPES = ("lifecycle", "network", "filesystem")
# For each helper a call that carol, a viewer, may make, and one that she may not.
MAY = {
    "lifecycle": message("ContainerList"),
    "network": message("NetworkList"),
    "filesystem": message("VolumeList"),
}
MAY_NOT = {
    "lifecycle": message("ContainerStart", vars={"id": "x"}),
    "network": message("NetworkDelete", vars={"id": "x"}),
    "filesystem": message("VolumeDelete", vars={"name": "x"}),
}
CONTAINER = "c" * 64
_PIDFD_GETFD = 438  # the same on every architecture


class Daemon:
    """Write down every byte; have one container, of a given owner's, and answer all else with an empty list."""

    version = "hostile"

    def __init__(self, path: Path, owner: int) -> None:
        self.socket, self.received, self.connections = str(path), b"", 0
        self.plugin_dir = path.parent / "plugins"
        host = {"ContainerIDFile": f"{OWNER}={owner}"}
        self._container = {"Id": CONTAINER, "Config": {"Labels": {OWNER: str(owner)}}, "HostConfig": host}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket)
        os.chmod(self.socket, 0o660)
        self._listener.listen(4096)
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        self._open.add(sock)
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(65536):
                if data.startswith(b"GET /events"):  # the filesystem helper's own, for as long as it lives
                    self._open.discard(sock)
                    continue
                self.received += data
                if data.endswith(b"\r\n\r\n") and b"/logs" not in data:  # logs are followed without a word
                    inspect = data.startswith(b"GET /containers/") and data.split(b" ")[1].endswith(b"/json")
                    listed = data.startswith(b"GET /containers/json") or not inspect
                    answer = json.dumps([] if listed else self._container).encode()
                    sock.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
        self._open.discard(sock)

    @property
    def clients(self) -> int:
        """Count who is connected."""
        return len(self._open)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Hostile:
    """Be the front."""

    def __init__(self, proxy: Proxy, daemon: Daemon, users: Users) -> None:
        self.proxy, self.daemon, self.users = proxy, daemon, users
        self.front = pwd.getpwnam("sockproxy")
        self.pids = proxy.processes
        os.kill(self.pids["front"], signal.SIGSTOP)
        self._ended = threading.Event()
        threading.Thread(target=self._say_alive).start()
        self.listener = take_listener(self.pids["front"], str(proxy.listen))
        self.listener.settimeout(10)
        self._socks: list[socket.socket] = []
        self.seen = 0

    def _say_alive(self) -> None:
        """Say for the stopped front that it lives, or the watchdog would replace it; root may use its pid (unix(7))."""
        credentials = struct.pack("iII", self.pids["front"], self.front.pw_uid, self.front.pw_gid)
        rights = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)]
        while not self._ended.wait(WATCHDOG / 3):
            # The test may be somebody else just then, in all threads: next time.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(PermissionError):
                sock.connect(str(self.proxy.runtime / "notify/front"))
                sock.sendmsg([b"WATCHDOG=1"], rights)

    def end(self) -> None:
        """Let the front go on."""
        self._ended.set()
        os.kill(self.pids["front"], signal.SIGCONT)
        self.listener.close()
        self.clean()

    @contextlib.contextmanager
    def being(self, uid: int, gid: int) -> Iterator[None]:
        """Have somebody's identity, and none of root's capabilities."""
        groups = os.getgroups()
        os.setgroups([])
        os.setegid(gid)
        os.seteuid(uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)

    def channel(self, scope: str = "lifecycle") -> socket.socket:
        """Open a channel, as the front."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socks.append(channel)
        channel.settimeout(10)
        with self.being(self.front.pw_uid, self.front.pw_gid):
            channel.connect(str(self.proxy.runtime / f"helpers/{scope}.sock"))
        return channel

    def user(self, uid: int, gid: int) -> tuple[socket.socket, socket.socket]:
        """Have a user connect: the user's end, and the end that the front accepts."""
        theirs = socket.socket(socket.AF_UNIX)
        with self.being(uid, gid):
            theirs.connect(str(self.proxy.listen))
        ours, _ = self.listener.accept()
        ours.setblocking(False)
        self._socks += [theirs, ours]
        return theirs, ours

    def carol(self) -> socket.socket:
        """Hold a viewer's connection."""
        return self.user(self.users.carol.uid, self.users.carol.gid)[1]

    def ask(self, channel: socket.socket, header: dict | bytes, fds: list[int], payload: bytes = b"") -> dict:
        """Send a message and take the helper's last word; nothing when it ends the channel."""
        data = header if isinstance(header, bytes) else wire.pack(header, payload)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            (wire.send if len(data) > wire.INLINE else wire._send)(channel, data, fds)
        return self.reply(channel)

    def reply(self, channel: socket.socket) -> dict:
        """Take the helper's last word."""
        while True:
            try:
                data, fds = wire.receive(channel)
            except ConnectionResetError:
                return {}
            assert fds == []  # never gives anything away
            if not data:
                return {}
            header, _ = wire.unpack(data)
            if header != {"sent": True}:
                return header

    def records(self, events: tuple[str, ...], count: int = 1) -> list[dict]:
        """Wait for new records."""

        def new() -> list[dict]:
            return [record for record in self.written()[self.seen :] if record["ev"] in events]

        eventually(lambda: len(new()) >= count, f"records of {events}", 10)
        return new()

    def written(self) -> list[dict]:
        """Read the records whose lines are complete: one may be in the middle of being written."""
        *lines, _ = (self.proxy.log / "audit.jsonl").read_bytes().split(b"\n")
        return [json.loads(line) for line in lines]

    def forget(self) -> None:
        """Begin anew."""
        self.seen = len(self.written())
        self.daemon.received, self.daemon.connections = b"", 0

    def clean(self) -> None:
        """Close what a test opened."""
        while self._socks:
            self._socks.pop().close()

    def check_health(self) -> None:
        """See that each helper is the same process as before and serves."""
        for scope in SCOPES:
            reply = self.ask(self.channel(scope), MAY[scope], [self.carol().fileno()])
            assert reply.get("keep") is True, reply
        self.clean()
        running = self.proxy.processes
        assert running == self.pids
        errors = self.proxy.errors()
        assert "Traceback" not in errors, errors


def take_listener(pid: int, path: str) -> socket.socket:
    """Take the listening socket out of the front: the take-over, as it were."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    for number in (3, 4):  # those that were passed to it (sd_listen_fds(3))
        fd = libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
        assert fd >= 0, os.strerror(ctypes.get_errno())
        listener = socket.socket(fileno=fd)
        if listener.getsockname() == path:
            break
        listener.close()
    os.close(pidfd)
    assert listener.getsockname() == path
    return listener


@pytest.fixture(scope="module")
def _hostile(folder: Path, users: Users) -> Iterator[Hostile]:
    place = folder / "hostile"
    place.mkdir()
    daemon = Daemon(place / "daemon.sock", users.carol.uid)
    proxy = Proxy(daemon, place, default_policy(users))
    hostile = Hostile(proxy, daemon, users)
    yield hostile
    hostile.end()
    proxy.stop()
    daemon.stop()


@pytest.fixture
def hostile(_hostile: Hostile) -> Iterator[Hostile]:
    """The front's place; afterwards every helper must serve as before."""
    _hostile.forget()
    yield _hostile
    _hostile.clean()
    _hostile.check_health()


def nothing_reached(hostile: Hostile) -> None:
    """See that the daemon heard nothing."""
    assert hostile.daemon.received == b""
    assert hostile.daemon.connections == 0


# --- messages


@pytest.mark.parametrize("name", WRONG)
def test_field_that_is_wrong(hostile, name):
    key, value = WRONG[name]
    header = {**good(), key: value}
    if value is ...:
        del header[key]
    assert hostile.ask(hostile.channel(), header, [hostile.carol().fileno()], b"rest") == {}
    (record,) = hostile.records(("hostile",))
    assert record["via"] == {"helper": "lifecycle"}
    assert record["uid"] == hostile.front.pw_uid
    nothing_reached(hostile)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("other", SCOPES)
def test_operation_of_another_scope(hostile, scope, other):
    if scope == other:
        reply = hostile.ask(hostile.channel(scope), MAY[other], [hostile.carol().fileno()])
        assert reply["keep"] is True
        return
    for header in (MAY[other], MAY_NOT[other]):
        assert hostile.ask(hostile.channel(scope), header, [hostile.carol().fileno()]) == {}
    hostile.records(("hostile",), 2)
    nothing_reached(hostile)


@pytest.mark.parametrize("scope", SCOPES)
def test_role_of_a_live_user_cannot_be_exceeded(hostile, scope):
    reply = hostile.ask(hostile.channel(scope), MAY_NOT[scope], [hostile.carol().fileno()])
    assert reply["error"] == 403
    assert "viewer" in reply["message"]
    (record,) = hostile.records(("deny",))
    assert record["who"]["uid"] == hostile.users.carol.uid
    assert record["decision"]["verdict"] == "deny"
    nothing_reached(hostile)


def test_viewers_connection_with_a_container_create(hostile):
    body = json.dumps({"Image": "x", "HostConfig": {"Privileged": True}}).encode()
    header = message("ContainerCreate", body=len(body))
    assert hostile.ask(hostile.channel(), header, [hostile.carol().fileno()], body)["error"] == 403
    hostile.records(("deny",))
    nothing_reached(hostile)


@pytest.mark.parametrize(
    "body",
    [
        {"HostConfig": {"Privileged": True}},
        {"HostConfig": {"Binds": ["/:/host"]}},
        {"HostConfig": {"NetworkMode": "host"}},
        {"HostConfig": {"PidMode": "host"}},
        {"hostconfig": {"Privileged": True}},
        {"HostConfig": {"Frobnicate": 1}},
    ],
)
def test_developers_body_is_judged_by_the_helpers(hostile, body):
    alice = hostile.user(hostile.users.alice.uid, hostile.users.alice.gid)[1]
    payload = json.dumps({"Image": "x", **body}).encode()
    reply = hostile.ask(hostile.channel(), message("ContainerCreate", body=len(payload)), [alice.fileno()], payload)
    assert reply["error"] in (400, 403)
    hostile.records(("deny",))
    nothing_reached(hostile)


@pytest.mark.parametrize(
    "body",
    [
        b'{"Image":"x","Image":"y"}',
        b'{"Image":"x"} {}',
        b'{"Image":"x"}\0',
        b"\xef\xbb\xbf{}",
        b"[" * 10_000,
        b"{",
        b"1",
    ],
)
def test_body_that_two_parsers_could_read_differently(hostile, body):
    alice = hostile.user(hostile.users.alice.uid, hostile.users.alice.gid)[1]
    reply = hostile.ask(hostile.channel(), message("ContainerCreate", body=len(body)), [alice.fileno()], body)
    assert reply["error"] in (400, 403)
    hostile.records(("deny",))
    nothing_reached(hostile)


@pytest.mark.parametrize(
    "data",
    [
        b"hello\n",
        b"\xff\xfe\x00\n",
        b"{}",
        b"[]\n",
        b"null\n",
        b"{}\n",
        b"[" * 30_000 + b"\n",
        b'{"a":' * 10_000 + b"\n",
        b'{"op":' + b"9" * 50_000 + b"}\n",
        b"x" * (wire.INLINE + 2),
        b"x" * 150_000,
        b'{"part":"ContainerCreate","body":{"HostConfig":{"Privileged":true}}}\n',
        b'{"sent":true}\n',
        b'{"answer":0,"keep":true}\n',
    ],
)
def test_message_that_is_none(hostile, data):
    channel = hostile.channel()
    carol = hostile.carol()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        wire._send(channel, data, [carol.fileno()])
    assert hostile.reply(channel) == {}
    hostile.records(("hostile",))
    nothing_reached(hostile)


def test_key_given_twice_is_judged_as_it_is_done(hostile):
    """One parser reads a message: its last word is what is checked, recorded and done."""
    text = json.dumps(MAY_NOT["lifecycle"])[1:]
    data = b'{"op":"ContainerInspect",' + text.encode() + b"\n"
    assert hostile.ask(hostile.channel(), data, [hostile.carol().fileno()])["error"] == 403
    (record,) = hostile.records(("deny",))
    assert record["req"]["op"] == "ContainerStart"
    nothing_reached(hostile)


def memfd(size: int, seals: int, content: bytes = wire.pack(MAY["lifecycle"])) -> int:
    fd = os.memfd_create("hostile", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    if size:
        os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.mark.parametrize(
    ("size", "seals"),
    [(0, 0), (0, wire.SEALS & ~fcntl.F_SEAL_WRITE), (1 << 30, wire.SEALS), (wire.LARGEST + 1, wire.SEALS)],
)
def test_memfd_that_is_unsealed_or_huge(hostile, size, seals):
    fd = memfd(size, seals)
    assert hostile.ask(hostile.channel(), b"\n", [hostile.carol().fileno(), fd]) == {}
    os.close(fd)
    hostile.records(("hostile",))
    nothing_reached(hostile)


def test_memfd_of_zeros(hostile):
    fd = memfd(wire.LARGEST, wire.SEALS, b"")
    assert hostile.ask(hostile.channel(), b"\n", [hostile.carol().fileno(), fd]) == {}
    os.close(fd)
    hostile.records(("hostile",))
    nothing_reached(hostile)


# --- descriptors: whose connection it is


def foreign(kind: str, hostile: Hostile, stack: contextlib.ExitStack) -> list[int]:
    """Make the descriptors of a kind."""
    if kind == "none":
        return []
    if kind == "two":
        return [hostile.carol().fileno(), hostile.carol().fileno()]
    if kind == "a hundred":
        return [hostile.carol().fileno()] * 100
    if kind in ("file", "directory", "policy"):
        path = {"file": "/etc/passwd", "directory": "/", "policy": hostile.proxy.folder / "state/policy.json"}[kind]
        fd = os.open(path, os.O_RDONLY)
    elif kind == "pipe":
        fd, write = os.pipe()
        stack.callback(os.close, write)
    elif kind == "pidfd":
        fd = os.pidfd_open(os.getpid())
    else:
        sock = {
            "listener": lambda: hostile.listener.dup(),
            "user's end": lambda: hostile.user(0, 0)[0].dup(),
            "socketpair of root": lambda: pair(stack),
            "seqpacket": lambda: hostile.channel("network").dup(),
            "datagram": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
            "tcp": lambda: socket.socket(socket.AF_INET),
            "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
            "unconnected": lambda: socket.socket(socket.AF_UNIX),
            "abstract": lambda: abstract(str(hostile.proxy.listen), stack),
            "other service": lambda: other_service(hostile, stack),
            "status": lambda: accepted_for_status(hostile, stack),
            "own lines": lambda: asking_for_own_lines(hostile),
        }[kind]()
        fd = sock.detach()
    stack.callback(os.close, fd)
    return [fd]


def pair(stack: contextlib.ExitStack) -> socket.socket:
    """Give one end of root's socketpair."""
    one, other = socket.socketpair()
    stack.callback(other.close)
    return one


def abstract(path: str, stack: contextlib.ExitStack) -> socket.socket:
    """Accept root's connection on the abstract address of the same text."""
    listener, client = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
    listener.bind("\0" + path)
    listener.listen()
    client.connect("\0" + path)
    return listener.accept()[0]


def other_service(hostile: Hostile, stack: contextlib.ExitStack) -> socket.socket:
    """Accept root's connection at another path."""
    listener, client = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
    path = hostile.proxy.folder / "other.sock"
    stack.callback(path.unlink)
    listener.bind(str(path))
    listener.listen()
    client.connect(str(path))
    return listener.accept()[0]


def accepted_for_status(hostile: Hostile, stack: contextlib.ExitStack) -> socket.socket:
    """Accept root's connection at the front's own other socket."""
    path = str(hostile.proxy.runtime / "status.sock")
    listener = stack.enter_context(take_listener(hostile.pids["front"], path))
    stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
    return listener.accept()[0]


def asking_for_own_lines(hostile: Hostile) -> socket.socket:
    """Connect to what root listens at, as the front: the kernel says that root is at the other end."""
    sock = socket.socket(socket.AF_UNIX)
    with hostile.being(hostile.front.pw_uid, hostile.front.pw_gid):
        sock.connect(str(hostile.proxy.runtime / "own-lines.sock"))
    assert struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1] == 0
    return sock


KINDS = [
    *("none", "two", "a hundred", "file", "directory", "policy", "pipe", "pidfd", "listener", "user's end"),
    *("socketpair of root", "seqpacket", "datagram", "tcp", "netlink", "unconnected", "abstract", "other service"),
    *("status", "own lines"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_descriptor_that_is_no_users_connection(hostile, kind):
    """Root is the peer of many sockets: none of them may pass for a connection of root's."""
    with contextlib.ExitStack() as stack:
        fds = foreign(kind, hostile, stack)
        assert hostile.ask(hostile.channel(), MAY["lifecycle"], fds) == {}
    hostile.records(("hostile",))
    nothing_reached(hostile)


def test_own_connection_is_the_fronts_who_has_no_role(hostile):
    ours = hostile.user(hostile.front.pw_uid, hostile.front.pw_gid)[1]
    assert hostile.ask(hostile.channel(), MAY["lifecycle"], [ours.fileno()])["error"] == 403
    (record,) = hostile.records(("deny",))
    assert record["who"]["user"] == "sockproxy"
    nothing_reached(hostile)


def test_user_without_a_role(hostile):
    ours = hostile.user(hostile.users.mallory.uid, hostile.users.mallory.gid)[1]
    assert hostile.ask(hostile.channel(), MAY["lifecycle"], [ours.fileno()])["error"] == 403
    hostile.records(("deny",))
    nothing_reached(hostile)


def test_connection_whose_user_has_left(hostile):
    """Its credentials still stand, but nobody is there to get an answer."""
    theirs, ours = hostile.user(hostile.users.carol.uid, hostile.users.carol.gid)
    theirs.close()
    reply = hostile.ask(hostile.channel(), MAY["lifecycle"], [ours.fileno()])
    assert reply.keys() in ({"gone"}, set(), {"keep", "answer"})
    hostile.records(("hostile", "outcome", "deny"))


# Run in a mount namespace of its own, as root: more than the front can do. The client's end of a connection to the real
# listener, whose peer is root, gets the name that an accepted end has.
_NAMED = """
import ctypes, os, socket, subprocess, sys
listen, helper, uid, gid, message = sys.argv[1:]
client = socket.socket(socket.AF_UNIX)
client.connect(listen)
channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
os.setgroups([]); os.setegid(int(gid)); os.seteuid(int(uid))
channel.connect(helper)
os.seteuid(0); os.setegid(0)
assert ctypes.CDLL(None).unshare(0x00020000) == 0
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "none", os.path.dirname(listen)], check=True)
client.bind(listen)
assert client.getsockname() == listen
socket.send_fds(channel, [bytes.fromhex(message)], [client.fileno()])
print(channel.recv(1000))
"""


def test_users_end_that_is_named_like_an_accepted_one(hostile):
    arguments = [str(hostile.proxy.listen), str(hostile.proxy.runtime / "helpers/lifecycle.sock")]
    arguments += [str(hostile.front.pw_uid), str(hostile.front.pw_gid), wire.pack(MAY["lifecycle"]).hex()]
    done = subprocess.run([sys.executable, "-c", _NAMED, *arguments], capture_output=True, text=True, timeout=30)
    assert done.stdout == "b''\n", done.stderr
    hostile.listener.accept()[0].close()
    hostile.records(("hostile",))
    nothing_reached(hostile)


# --- assertions: the auth process's word about a connection


def asserted(hostile: Hostile, uid: int, sock: socket.socket, key: bytes = b"", token: str = "") -> str:
    """Make what the auth process would say of a connection."""
    key = key or (hostile.proxy.runtime / "key/assertions").read_bytes()
    return assertion.sign(key, uid, "token" if token else "password", peer.cookie_of(sock), token)[0]


@pytest.mark.parametrize("scope", SCOPES)
def test_an_assertion_is_good_on_its_connection_alone(hostile, scope):
    """mallory, who has no role, was vouched for as carol: there, and nowhere else, and no further than her role."""
    mallory_uid = hostile.users.mallory.uid
    mallory = hostile.user(mallory_uid, hostile.users.mallory.gid)[1]
    word = asserted(hostile, hostile.users.carol.uid, mallory)
    may, may_not = {**MAY[scope], "assertion": word}, {**MAY_NOT[scope], "assertion": word}
    assert hostile.ask(hostile.channel(scope), MAY[scope], [mallory.fileno()])["error"] == 403
    assert hostile.ask(hostile.channel(scope), may, [mallory.fileno()])["keep"] is True
    assert hostile.ask(hostile.channel(scope), may_not, [mallory.fileno()])["error"] == 403
    eventually(lambda: "'password'" in str(hostile.records(("intent",))), "record of the intent")
    record = next(one for one in hostile.records(("intent",)) if one["who"]["via"] == "password")
    assert record["who"]["uid"] == hostile.users.carol.uid
    assert (record["who"]["peer_uid"], record["who"]["peer_user"]) == (mallory_uid, hostile.users.mallory.name)
    hostile.forget()
    # Replayed on another connection of the same user's, and on somebody else's.
    for other in (hostile.user(hostile.users.mallory.uid, hostile.users.mallory.gid)[1], hostile.carol()):
        assert hostile.ask(hostile.channel(scope), may, [other.fileno()]) == {}
    assert {record["why"] for record in hostile.records(("hostile",), 2)} == {"it was made for another connection"}
    nothing_reached(hostile)


@pytest.mark.parametrize("kind", ["expired", "another key", "another start", "root's", "half", "not one", "a list"])
def test_an_assertion_that_is_none(hostile, kind, monkeypatch):
    carol = hostile.carol()
    if kind == "expired":
        monkeypatch.setattr(assertion, "LIFETIME", -2.0)
    word: object = asserted(hostile, 0, carol, key=os.urandom(32) if kind in ("another key", "another start") else b"")
    if kind == "root's":
        word = asserted(hostile, hostile.users.carol.uid, carol).replace(str(hostile.users.carol.uid), "0", 1)
    word = {"half": str(word)[:-1], "not one": "x", "a list": [word]}.get(kind, word)
    assert hostile.ask(hostile.channel(), {**MAY["lifecycle"], "assertion": word}, [carol.fileno()]) == {}
    hostile.records(("hostile",))
    nothing_reached(hostile)


def test_an_assertion_of_a_token_that_is_gone_is_worth_nothing(hostile):
    """The front goes on handing it over: the helper asks the auth process by itself."""
    carol = hostile.carol()
    word = asserted(hostile, hostile.users.carol.uid, carol, token="ab" * 32)
    reply = hostile.ask(hostile.channel(), {**MAY["lifecycle"], "assertion": word}, [carol.fileno()])
    assert (reply["error"], "the token is not good any more: it was revoked" in reply["message"]) == (403, True)
    nothing_reached(hostile)


def test_what_the_auth_process_says_is_for_the_connection_that_it_gets(hostile):
    """The front can ask; it gets no token for nothing, and no answer about accounts, which are root's question."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    hostile._socks.append(channel)
    channel.settimeout(10)
    with hostile.being(hostile.front.pw_uid, hostile.front.pw_gid):
        channel.connect(str(hostile.proxy.runtime / "auth/auth.sock"))
    carol = hostile.carol()
    for question in (
        {"ask": "account", "account": "root"},
        {"ask": "token", "token": "ab" * 32},
        {"ask": "identify"},
        {"ask": "login", "authorization": "Bearer x"},
    ):
        reply = hostile.ask(channel, question, [carol.fileno()])
        assert "assertion" not in reply
        assert "token" not in reply
        if not reply:  # cut off
            channel.close()
            channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            hostile._socks.append(channel)
            channel.settimeout(10)
            with hostile.being(hostile.front.pw_uid, hostile.front.pw_gid):
                channel.connect(str(hostile.proxy.runtime / "auth/auth.sock"))


# --- order and number


CANCELLED = {"gone": "the front cancelled"}
LOGS = message("ContainerLogs", vars={"id": "x"}, query=[["follow", "1"], ["stdout", "1"]])


def test_second_call_while_one_is_under_way(hostile):
    """It ends the first, as if the front had broken that off, and is judged like any other."""
    channel, carol = hostile.channel(), hostile.carol()
    wire._send(channel, wire.pack(LOGS), [carol.fileno()])  # which the daemon does not answer
    wire._send(channel, wire.pack(MAY_NOT["lifecycle"]), [carol.fileno()])
    wire._send(channel, wire.pack(MAY["network"]), [carol.fileno()])
    assert hostile.reply(channel) == CANCELLED
    assert hostile.reply(channel)["error"] == 403
    assert hostile.reply(channel) == {}
    assert hostile.daemon.received.count(b"HTTP/1.1\r\n") <= 1  # the first may have ended before it was sent


def test_second_call_behind_a_stream(hostile):
    channel, carol = hostile.channel(), hostile.carol()
    wire._send(channel, wire.pack(LOGS), [carol.fileno()])
    wire._send(channel, wire.pack(MAY["lifecycle"]), [carol.fileno()])
    assert hostile.reply(channel) == CANCELLED
    assert hostile.reply(channel)["keep"] is True
    assert hostile.daemon.received.count(b"HTTP/1.1\r\n") == 2
    channel.close()
    eventually(lambda: hostile.daemon.clients == 0, "the daemon's connection closed")
    hostile.records(("outcome",))


STEPS = ["at once", "after a descriptor", "after a call", "in a stream", "after an answer", "half-closed in a stream"]


@pytest.mark.parametrize("step", STEPS)
def test_channel_closed_at_each_step(hostile, step):
    channel, carol = hostile.channel(), hostile.carol()
    if step == "after a descriptor":
        wire._send(channel, b"{", [carol.fileno()])
    elif step == "after a call":
        wire._send(channel, wire.pack(MAY["lifecycle"]), [carol.fileno()])
    elif step == "after an answer":
        assert hostile.ask(channel, MAY["lifecycle"], [carol.fileno()])["keep"] is True
    elif "stream" in step:
        logs = message("ContainerLogs", vars={"id": "x"}, query=[["follow", "1"], ["stdout", "1"]])
        wire._send(channel, wire.pack(logs), [carol.fileno()])
        eventually(lambda: b"/logs" in hostile.daemon.received, "request")
    if step == "half-closed in a stream":
        channel.shutdown(socket.SHUT_WR)
    else:
        channel.close()
    eventually(lambda: hostile.daemon.clients == 0, "the daemon's connection closed")


def fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_two_thousand_idle_channels(hostile):
    pid = hostile.pids["lifecycle"]
    before = fds(pid)
    # Each with the descriptor of a call that never comes: 2000 of them would be too many for most limits.
    channels = [hostile.channel() for _ in range(2000)]
    assert hostile.ask(hostile.channel(), MAY["lifecycle"], [hostile.carol().fileno()])["keep"] is True
    eventually(lambda: fds(pid) >= before + 2000, "channels accepted")
    for channel in channels:
        channel.close()
    eventually(lambda: fds(pid) < before + 50, "channels closed")


def test_descriptors_cannot_be_left_behind(hostile):
    """An empty datagram with descriptors is no end of the channel, and each message's descriptors are closed."""
    pid, carol = hostile.pids["lifecycle"], hostile.carol()
    before = fds(pid)
    for data in (b"", b"\n", b"{}\n", b"x", wire.pack(MAY_NOT["lifecycle"])):
        for count in (1, 2, 20):
            for _ in range(20):
                channel = hostile.channel()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    for _ in range(5):
                        wire._send(channel, data, [carol.fileno()] * count)
                channel.close()
    eventually(lambda: fds(pid) < before + 30, "descriptors closed")
    nothing_reached(hostile)


def test_front_that_takes_no_answers(hostile):
    """Its channel fills up, and is closed; nobody else waits for it."""
    channel, carol = hostile.channel(), hostile.carol()
    channel.settimeout(0.2)
    message = wire.pack(MAY["lifecycle"])
    try:
        for _ in range(2000):
            wire._send(channel, message, [carol.fileno()])
    except (TimeoutError, BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass
    assert hostile.ask(hostile.channel(), MAY["lifecycle"], [hostile.carol().fileno()])["keep"] is True
    channel.close()


def test_blocking_connection(hostile):
    """A front that clears O_NONBLOCK on a connection that nobody reads does not stop the others."""
    theirs, ours = hostile.user(hostile.users.carol.uid, hostile.users.carol.gid)
    ours.setblocking(True)
    logs = message("ContainerLogs", vars={"id": "x"}, query=[["follow", "1"], ["stdout", "1"]])
    channel = hostile.channel()
    wire._send(channel, wire.pack(logs), [ours.fileno()])
    eventually(lambda: b"/logs" in hostile.daemon.received, "request")
    assert hostile.ask(hostile.channel(), MAY["lifecycle"], [hostile.carol().fileno()])["keep"] is True
    assert os.get_blocking(ours.fileno()) is False
    theirs.close()
    channel.close()


# --- around the helpers


_ELSEWHERE = """
import os, signal, socket, sys
def attempt(what, *arguments):
    try:
        what(*arguments)
    except OSError as error:
        print(error.errno)
    else:
        print("done")
daemon, listen_dir, policy, log, notify, *pids = sys.argv[1:]
attempt(socket.socket(socket.AF_UNIX).connect, daemon)
attempt(os.unlink, listen_dir + "/docker.sock")
attempt(open, policy, "r+")
attempt(open, log)
attempt(os.listdir, os.path.dirname(log))
attempt(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto, b"READY=1", notify)
for pid in pids:
    attempt(os.kill, int(pid), signal.SIGTERM)
    attempt(open, f"/proc/{pid}/mem", "rb")
"""


def test_other_ways_are_closed(hostile):
    """The front's user can not reach the daemon, the policy, the log or the other processes by itself."""
    folder = hostile.proxy.folder
    pids = [str(pid) for name, pid in hostile.pids.items() if name != "front"]
    paths = [hostile.daemon.socket, folder, folder / "state/policy.json", folder / "log/audit.jsonl"]
    paths.append(hostile.proxy.runtime / "notify/lifecycle-helper")
    identity = [f"--reuid={hostile.front.pw_uid}", f"--regid={hostile.front.pw_gid}", "--clear-groups"]
    command = ["setpriv", *identity, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "/usr/bin/python3"]
    done = subprocess.run(
        [*command, "-I", "-c", _ELSEWHERE, *map(str, paths), *pids], capture_output=True, text=True, timeout=30
    )
    words = done.stdout.split()
    assert len(words) == 6 + 2 * len(pids), done.stderr
    assert set(words) <= {str(errno.EACCES), str(errno.EPERM)}, words
    nothing_reached(hostile)


@pytest.mark.parametrize("scope", SCOPES)
def test_users_cannot_speak_to_a_helper(hostile, scope):
    path = str(hostile.proxy.runtime / f"helpers/{scope}.sock")
    user = hostile.users.alice
    with (
        hostile.being(user.uid, user.gid),
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel,
        pytest.raises(PermissionError),
    ):
        channel.connect(path)


def test_helpers_have_no_capability_and_no_way_to_new_ones(hostile):
    for scope in SCOPES:
        status = Path(f"/proc/{hostile.pids[scope]}/status").read_text()
        words = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert {words[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert words["NoNewPrivs"] == "1"


def test_record_says_who_reported(hostile):
    """What the front reports itself stands under its own uid, whatever it writes."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(10)
    with hostile.being(hostile.front.pw_uid, hostile.front.pw_gid):
        sock.connect(str(hostile.proxy.runtime / "audit/audit.sock"))
    forged = {"v": 1, "ev": "outcome", "rid": "0" * 16, "via": {"helper": "lifecycle"}, "out": {"status": 200}}
    sock.send(json.dumps(forged).encode())
    assert sock.recv(100).startswith(b'{"seq":')
    (record,) = [record for record in hostile.written() if record.get("rid") == forged["rid"]]
    assert record["peer"]["uid"] == hostile.front.pw_uid
    recording = {"v": 1, "ev": "recording", "rid": forged["rid"]}  # of a session that there never was
    for wrong in (*({**forged, reserved: 1} for reserved in ("seq", "ts", "peer")), recording):
        sock.send(json.dumps(wrong).encode())
        answer = sock.recv(100)
        assert not answer.startswith(b'{"seq":')
        sock.close()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(10)
        with hostile.being(hostile.front.pw_uid, hostile.front.pw_gid):
            sock.connect(str(hostile.proxy.runtime / "audit/audit.sock"))
    sock.close()
    assert not (hostile.proxy.log / "sessions").exists()
    nothing_reached(hostile)


def test_every_hostile_message_in_a_row_leaves_the_helper_as_it_was(hostile):
    """Endurance: memory and descriptors do not grow with what is refused."""
    pid, carol = hostile.pids["lifecycle"], hostile.carol()

    def storm() -> None:
        for key, value in WRONG.values():
            header = {**good(), key: value}
            if value is ...:
                del header[key]
            channel = hostile.channel()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                wire._send(channel, wire.pack(header), [carol.fileno()])
            channel.close()

    def size() -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096

    storm()
    time.sleep(0.2)
    before = size(), fds(pid)
    for _ in range(5):
        storm()
    hostile.records(("hostile",), 5 * len(WRONG))
    assert size() - before[0] < 4 << 20
    assert fds(pid) < before[1] + 10
    nothing_reached(hostile)
