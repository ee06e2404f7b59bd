"""Whose connection it is, on real sockets."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from sockproxy_helpers.errors import Refused
from sockproxy_helpers.system import caller
from sockproxy_helpers.who import connection
from tests.support import needs


@pytest.fixture(autouse=True)
def _no_cache() -> Iterator[None]:
    caller._accounts.clear()
    yield
    caller._accounts.clear()


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


class Net:
    """Make sockets that are closed at the end."""

    def __init__(self, stack: contextlib.ExitStack, folder: str) -> None:
        self._stack = stack
        self.path = f"{folder}/docker.sock"
        self.other = f"{folder}/other.sock"

    def make(self, kind: int = socket.SOCK_STREAM, family: int = socket.AF_UNIX) -> socket.socket:
        return self._stack.enter_context(socket.socket(family, kind))

    def listen(self, path: str | bytes, kind: int = socket.SOCK_STREAM) -> socket.socket:
        sock = self.make(kind)
        sock.bind(path)
        sock.listen()
        return sock

    def connect(self, listener: socket.socket, bind: str = "") -> tuple[socket.socket, socket.socket]:
        client = self.make(listener.type)
        if bind:
            client.bind(bind)
        client.connect(listener.getsockname())
        return client, self._stack.enter_context(listener.accept()[0])

    def pair(self) -> tuple[socket.socket, socket.socket]:
        one, two = socket.socketpair()
        return self._stack.enter_context(one), self._stack.enter_context(two)


@pytest.fixture
def net(stack: contextlib.ExitStack, tmp_path: os.PathLike[str]) -> Net:
    return Net(stack, os.fspath(tmp_path))


def test_a_connection_accepted_from_our_listener_is_a_clients(net: Net) -> None:
    _, accepted = net.connect(net.listen(net.path))
    connection.verify_client(accepted, net.path)
    # As a helper gets it: a descriptor out of a message.
    with socket.socket(fileno=os.dup(accepted.fileno())) as passed:
        connection.verify_client(passed, net.path)


def test_what_was_verified_is_no_word_for_another_socket_or_listener(net: Net) -> None:
    listener = net.listen(net.path)
    _, accepted = net.connect(listener)
    connection.verify_client(accepted, net.path)
    with pytest.raises(Refused, match="not accepted from our listener"):
        connection.verify_client(accepted, net.path + "x")
    stranger, _ = net.pair()
    fd = accepted.fileno()
    accepted.close()
    os.dup2(stranger.fileno(), fd)  # the same number, which is what a helper sees again and again
    with socket.socket(fileno=fd) as passed, pytest.raises(Refused, match="not accepted from our listener"):
        connection.verify_client(passed, net.path)


def test_it_stays_one_when_the_client_has_left(net: Net) -> None:
    client, accepted = net.connect(net.listen(net.path))
    client.close()
    connection.verify_client(accepted, net.path)
    assert caller.from_socket(accepted).uid == os.geteuid()


def listener(net: Net) -> socket.socket:
    return net.listen(net.path)


def pair(net: Net) -> socket.socket:
    return net.pair()[0]


def client_end(net: Net) -> socket.socket:
    return net.connect(net.listen(net.path))[0]


def client_end_that_has_our_path(net: Net) -> socket.socket:
    """In a mount namespace of its own, the front can bind a client's end to the same text, and connect to root."""
    return net.connect(net.listen(net.other), bind=net.path)[0]


def other_listeners(net: Net) -> socket.socket:
    return net.connect(net.listen(net.other))[1]


def abstract(net: Net) -> socket.socket:
    return net.connect(net.listen(b"\0" + net.path.encode()))[1]


def client_with_an_address(net: Net) -> socket.socket:
    return net.connect(net.listen(net.path), bind=net.other)[1]


def seqpacket(net: Net) -> socket.socket:
    return net.connect(net.listen(net.path, socket.SOCK_SEQPACKET))[1]


def datagram(net: Net) -> socket.socket:
    sock = net.make(socket.SOCK_DGRAM)
    sock.bind(net.path)
    return sock


def never_connected(net: Net) -> socket.socket:
    sock = net.make()
    sock.bind(net.path)
    return sock


def tcp(net: Net) -> socket.socket:
    return net.make(family=socket.AF_INET)


def tcp_under_a_false_name(net: Net) -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=net.make(family=socket.AF_INET).detach())


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (listener, "a listening socket"),
        (pair, "not accepted from our listener"),
        (client_end, "not accepted from our listener"),
        (client_end_that_has_our_path, "not the accepting end"),
        (other_listeners, "not accepted from our listener"),
        (abstract, "not accepted from our listener"),
        (client_with_an_address, "not the accepting end"),
        (seqpacket, "not a stream socket"),
        (datagram, "not a stream socket"),
        (never_connected, "not a connected socket"),
        (tcp, "not an AF_UNIX socket"),
        (tcp_under_a_false_name, "not an AF_UNIX socket"),
    ],
)
def test_anything_else_is_refused(net: Net, make: object, why: str) -> None:
    sock = make(net)  # type: ignore[operator]
    with sock, pytest.raises(Refused, match=why):
        connection.verify_client(sock, net.path)


@pytest.mark.xfail(reason="socket calls can't tell it; so the front gets no pair of root's, and makes no namespaces")
def test_a_pair_bound_to_our_path_is_refused(net: Net) -> None:
    one, _ = net.pair()
    one.bind(net.path)
    with pytest.raises(Refused):
        connection.verify_client(one, net.path)


def test_the_kernel_names_the_peer(net: Net) -> None:
    _, accepted = net.connect(net.listen(net.path))
    who = caller.from_socket(accepted)
    assert (who.uid, who.gid, who.pid) == (os.geteuid(), os.getegid(), os.getpid())
    entry = pwd.getpwuid(os.geteuid())
    assert (who.user, who.home) == (entry.pw_name, entry.pw_dir)


@pytest.mark.root
def test_the_peer_is_who_connected_not_who_holds_the_socket(net: Net) -> None:
    needs.root()
    entry = pwd.getpwnam("daemon")
    listening = net.listen(net.path)
    os.chmod(os.path.dirname(net.path), 0o755)
    client = net.make()
    wait, stay = os.pipe()
    if (child := os.fork()) == 0:
        try:
            # Raw, since /tmp/pytest-of-root is closed to others: the working folder is already open.
            os.chdir(os.path.dirname(net.path))
            os.chmod("docker.sock", 0o666)
            os.setgroups([])
            os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
            os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
            client.connect("docker.sock")
            os.close(stay)
            os.read(wait, 1)
        finally:
            os._exit(0)
    with listening.accept()[0] as accepted:
        who = caller.from_socket(accepted)
    os.close(stay)
    os.close(wait)
    os.waitpid(child, 0)
    assert (who.uid, who.pid, who.user) == (entry.pw_uid, child, "daemon")


def account(**more: object) -> SimpleNamespace:
    return SimpleNamespace(**{"pw_name": "carol", "pw_uid": 7001, "pw_gid": 7001, "pw_dir": "/home/carol", **more})


def test_groups_are_the_accounts_supplementary_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {7001: "carol", 50: "staff", 60: "staff"}

    def group(gid: int) -> SimpleNamespace:
        return SimpleNamespace(gr_name=names[gid])  # 999 has no name: KeyError

    monkeypatch.setattr(caller.pwd, "getpwuid", lambda uid: account())
    monkeypatch.setattr(caller.os, "getgrouplist", lambda name, gid: [gid, 50, 60, 999])
    monkeypatch.setattr(caller.grp, "getgrgid", group)
    assert caller.account(7001) == ("carol", ("carol", "staff"), "/home/carol")


def test_an_unknown_uid_is_nobody() -> None:
    assert caller.account(3_999_999_999) == ("", (), "")


@pytest.mark.parametrize("uid", [65534, 2**32 - 1])
def test_a_uid_that_stands_for_many_is_nobody(uid: int) -> None:
    assert caller.account(uid) == ("", (), "")


def test_a_directory_that_does_not_answer_leaves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, gid: int) -> list[int]:
        raise OSError("the directory server is away")

    monkeypatch.setattr(caller.os, "getgrouplist", fail)
    assert caller.account(0) == ("", (), "")


def test_an_account_is_asked_for_again_after_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    clock = [100.0]

    def look_up(uid: int) -> SimpleNamespace:
        asked.append(uid)
        return account()

    monkeypatch.setattr(caller.pwd, "getpwuid", look_up)
    monkeypatch.setattr(caller.os, "getgrouplist", lambda name, gid: [])
    monkeypatch.setattr(caller.time, "monotonic", lambda: clock[0])
    for now, count in ((100.0, 1), (104.9, 1), (105.0, 2), (105.1, 2)):
        clock[0] = now
        caller.account(7001)
        assert len(asked) == count


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "CACHE_ENTRIES", 3)
    for uid in range(3_000_000_000, 3_000_000_010):
        caller.account(uid)
    assert len(caller._accounts) <= 3
