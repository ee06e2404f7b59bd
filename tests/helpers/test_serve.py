"""A whole helper in this process: the front's messages in, the daemon's requests and the records out."""

from __future__ import annotations

import json
import os
import pwd
import socket

import pytest

from sockproxy.policy import compile as compiler
from sockproxy_helpers.calls import serve
from sockproxy_helpers.channel import asking, wire
from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import BadPolicy, Refused
from sockproxy_helpers.judge import policyfile
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system import caller
from sockproxy_helpers.totals.cgroupfs import Cgroups
from sockproxy_helpers.who import assertion
from tests.helpers.support import Listener, Peer, assert_closed, descriptors, message, run

ME = pwd.getpwuid(os.getuid()).pw_name
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
INSPECT = message("ContainerInspect", vars={"id": "x"})
ID = "1" * 64
MARK = f"io.sockproxy.owner={os.getuid()}"
LABELS = dict([MARK.split("=")])
CONTAINER = json.dumps({"Id": ID, "Config": {"Labels": LABELS}, "HostConfig": {"ContainerIDFile": MARK}}).encode()
SCOPES = ("lifecycle", "network", "filesystem")


def policy(role: str) -> bytes:
    text = f"version: 1\nauth: {{accounts: none}}\nbindings:\n  - {{user: {ME}, role: {role}}}\n"
    text += "roles:\n  developer: {extends: developer, limits: {containers: null}}\n"  # else the daemon is asked first
    return compiler.dump(compiler.compile_text(text.encode(), "test.yaml"))


def pretend(monkeypatch: pytest.MonkeyPatch, uid: int, mode: int) -> None:
    """Make files look as if they had this owner and mode, whoever runs the tests."""
    real = os.stat

    def fstat(fd: int) -> os.stat_result:
        status = real(fd)
        return os.stat_result((0o100000 | mode, *status[1:4], uid, *status[5:]))

    monkeypatch.setattr(policyfile.os, "fstat", fstat)


class Stage:
    """A helper with a daemon, an audit writer, a front and users around it."""

    def __init__(self, folder, monkeypatch) -> None:
        self.loop, self.folder = Loop(), folder
        for name in ("helpers", "audit"):
            (folder / name).mkdir()
        self.daemon = Listener(self.loop, folder / "docker.sock")
        self.audit = Listener(self.loop, folder / "audit/audit.sock", socket.SOCK_SEQPACKET)
        self.users = Listener(self.loop, folder / "user.sock")
        self.environment = {
            "SOCKPROXY_POLICY": str(folder / "policy.json"),
            "SOCKPROXY_DOCKER_SOCKET": str(folder / "docker.sock"),
            "SOCKPROXY_LISTEN": str(folder / "user.sock"),
            "SOCKPROXY_RUNTIME": str(folder),
            "SOCKPROXY_BINDS": str(folder / "binds"),
            "SOCKPROXY_BINDS_SOCKET": str(folder / "checks.sock"),
            "SOCKPROXY_PLUGIN": "sockproxy",
            "SOCKPROXY_STATE": str(folder),
            "SOCKPROXY_ASSERTION_KEY": "",
        }
        monkeypatch.setattr(assertion, "read_key", lambda path: b"k" * 32)
        monkeypatch.setattr(serve, "FRONT", ME)
        pretend(monkeypatch, 0, 0o644)
        caller._accounts.clear()
        (folder / "policy.json").write_bytes(policy("admin"))
        self.helpers, self.closing = {}, []
        self.records: list[dict] = []
        self.requests: list[bytes] = []
        self.lookups: list[bytes] = []
        self.stopped = False
        self.channels = []

    def helper(self, scope: str = "lifecycle") -> serve.Helper:
        helper = self.helpers[scope] = serve.Helper(scope, self.loop, self.environment, Cgroups("sockproxy", 0, []))
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        listener.bind(str(self.folder / f"helpers/{scope}.sock"))
        listener.listen()
        self.loop.spawn(helper.listen(listener))
        self.closing.append(listener)
        return helper

    def front(self, scope: str = "lifecycle") -> Peer:
        """Open a channel."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel.connect(str(self.folder / f"helpers/{scope}.sock"))
        self.closing.append(channel)
        return Peer(self.loop, channel)

    async def user(self) -> tuple[Peer, socket.socket]:
        """Connect as a user; give the user's end and the accepted one."""
        theirs = socket.socket(socket.AF_UNIX)
        theirs.connect(str(self.folder / "user.sock"))
        self.closing.append(theirs)
        return Peer(self.loop, theirs), (await self.users.accept()).sock

    async def ask(self, front: Peer, header: dict | bytes, fds: list[int], payload: bytes = b"") -> tuple[dict, bytes]:
        """Send a message and take the last word on it; an empty one when the channel ends."""
        data = header if isinstance(header, bytes) else wire.pack(header, payload)
        wire._send(front.sock, data, fds)
        while reply := await asking.receive(self.loop, front.sock):
            answer, rest = wire.unpack(reply)
            if answer != {"sent": True}:
                return answer, rest
        return {}, b""

    async def write(self, acknowledge: bool = True) -> None:
        """Be the audit writer."""
        peer = await self.audit.accept()
        self.writer = peer
        self.loop.spawn(self.write(acknowledge))
        while True:
            peer.buffer.clear()
            data = await peer.more()
            if not data:
                return
            self.records += map(json.loads, data.splitlines())
            if acknowledge:
                await peer.send(b'{"seq":1}')

    async def serve(self, answer: bytes = OK) -> None:
        """Be the daemon: take requests without a body."""
        while True:
            peer = await self.daemon.accept()
            self.loop.spawn(self.answer(peer, answer))

    async def answer(self, peer: Peer, answer: bytes) -> None:
        try:
            while True:
                request = await peer.request()
                if b" HTTP/1.0\r\n" in request:  # the helper's own question what a name stands for
                    self.lookups.append(request)
                    await peer.send(b"HTTP/1.0 200 OK\r\n\r\n" + CONTAINER)
                    return
                self.requests.append(request)
                await peer.send(answer)
        except EOFError:
            pass
        finally:
            peer.close()

    def run(self, part, acknowledge: bool = True, answer: bytes = OK) -> None:
        self.loop.spawn(self.write(acknowledge))
        self.loop.spawn(self.serve(answer))
        run(self.loop, part)

    def events(self) -> list[str]:
        return [record["ev"] for record in self.records]

    def close(self) -> None:
        for sock in self.closing:
            sock.close()

        async def settle() -> None:
            for _ in range(3):
                await self.loop.wait({}, 0.001)

        run(self.loop, settle())  # the helper sees that the channels have ended
        for helper in self.helpers.values():
            helper.recorder._drop()
        for listener in (self.daemon, self.audit, self.users):
            listener.close()


@pytest.fixture
def stage(tmp_path, monkeypatch):
    stage = Stage(tmp_path, monkeypatch)
    yield stage
    stage.close()


def test_allowed_call_is_recorded_before_and_after(stage):
    stage.helper()

    async def part() -> None:
        _, sock = await stage.user()
        header, payload = await stage.ask(stage.front(), INSPECT, [sock.fileno()])
        assert header == {"keep": True, "answer": len(payload)}
        assert payload.endswith(b"\r\n\r\nok")
        while len(stage.records) < 2:
            await stage.loop.wait({}, 0.001)

    stage.run(part())
    intent, outcome = stage.records
    assert stage.events() == ["intent", "outcome"]
    assert stage.requests == [f"GET /v1.41/containers/{ID}/json HTTP/1.1\r\nHost: docker\r\n\r\n".encode()]
    assert (intent["rid"], outcome["rid"]) == ("0123456789abcdef",) * 2
    assert intent["who"]["uid"] == os.getuid()
    assert intent["who"]["user"] == ME
    assert intent["req"]["op"] == "ContainerInspect"
    assert intent["req"]["method"] == "GET"
    assert intent["decision"]["role"] == "admin"
    assert intent["decision"]["policy"] == stage.helpers["lifecycle"].policy.sha256
    assert outcome["out"]["status"] == 200


def test_daemon_is_asked_only_after_the_acknowledgement(stage):
    stage.helper()

    async def part() -> None:
        _, sock = await stage.user()
        front = stage.front()
        wire._send(front.sock, wire.pack(INSPECT), [sock.fileno()])
        while not stage.records:
            await stage.loop.wait({}, 0.001)
        await stage.loop.wait({}, 0.01)
        assert stage.requests == []
        stage.writer.sock.send(b'{"seq":1}')
        reply = await asking.receive(stage.loop, front.sock)
        assert wire.unpack(reply)[0]["keep"] is True

    stage.run(part(), acknowledge=False)
    assert len(stage.requests) == 1


@pytest.mark.parametrize("how", ["gone", "dies", "hangs", "fails"])
@pytest.mark.parametrize("role", ["admin", "viewer"])
def test_nothing_is_done_unrecorded(stage, how, role, monkeypatch):
    """Writer gone: calls are refused, reads too, and so are refusals answered with 503."""
    monkeypatch.setattr("sockproxy_helpers.audit.record.TIMEOUT", 0.01)
    (stage.folder / "policy.json").write_bytes(policy(role))
    stage.helper()
    if how == "gone":
        (stage.folder / "audit/audit.sock").unlink()

    async def part() -> None:
        _, sock = await stage.user()
        front = stage.front()
        start = message("ContainerStart", vars={"id": "x"})
        wire._send(front.sock, wire.pack(start), [sock.fileno()])
        if how in ("dies", "fails"):
            while not stage.records:
                await stage.loop.wait({}, 0.001)
            if how == "dies":
                stage.loop.close(stage.writer.sock)
            else:
                stage.writer.sock.send(b'{"error":"No space left on device"}')
        reply = await asking.receive(stage.loop, front.sock)
        header, _ = wire.unpack(reply)
        assert header["error"] == 503
        assert "record" in header["message"]

    stage.run(part(), acknowledge=False)
    assert stage.requests == []


def test_role_is_checked_again(stage):
    (stage.folder / "policy.json").write_bytes(policy("viewer"))
    stage.helper()

    async def part() -> None:
        _, sock = await stage.user()
        start = message("ContainerStart", vars={"id": "x"})
        front = stage.front()
        header, _ = await stage.ask(front, start, [sock.fileno()])
        assert header["error"] == 403
        assert "viewer does not allow ContainerStart" in header["message"]
        assert header["at"].startswith("roles.yaml:")
        header, _ = await stage.ask(front, INSPECT, [sock.fileno()])  # the channel goes on
        assert header["keep"] is True

    stage.run(part())
    assert len(stage.requests) == 1
    deny = stage.records[0]
    assert deny["ev"] == "deny"
    assert deny["decision"]["verdict"] == "deny"
    assert deny["decision"]["at"].startswith("roles.yaml:")


def test_several_calls_on_a_channel_one_after_the_other(stage):
    stage.helper()

    async def part() -> None:
        _, sock = await stage.user()
        front = stage.front()
        for number in range(5):
            wire._send(front.sock, wire.pack({**INSPECT, "vars": {"id": ID}, "rid": f"{number:016x}"}), [sock.fileno()])
            header, _ = wire.unpack(await asking.receive(stage.loop, front.sock))
            assert header["keep"] is True
        while len(stage.records) < 10:  # of reads they come together, soon
            await stage.loop.wait({}, 0.01)

    stage.run(part())
    assert len(stage.requests) == 5
    assert len(stage.lookups) == 1  # an ID means the same for ever
    assert stage.daemon.accepted == 2
    assert [record["rid"][-1] for record in stage.records if record["ev"] == "intent"] == list("01234")


def test_secrets_are_not_recorded(stage):
    """docker-api 5: registry credentials, bodies and query values stay out of the record."""
    stage.helper("filesystem")

    async def part() -> None:
        _, sock = await stage.user()
        header = message(
            "ImageCreate",
            query=[["fromImage", "busybox"], ["message", "s3cret"], ["changes", "ENV A=s3cret"]],
            headers={"x-registry-auth": "s3cret"},
        )
        await stage.ask(stage.front("filesystem"), header, [sock.fileno()])

    stage.run(part())
    assert b"X-Registry-Auth: s3cret\r\n" in stage.requests[0]
    query = stage.records[0]["req"]["query"]
    assert query["fromImage"] == "busybox"
    assert query["message"].startswith("#")
    assert "s3cret" not in json.dumps(stage.records)


def test_flood_of_query_names_keeps_its_record_small(stage):
    stage.helper()

    async def part() -> None:
        _, sock = await stage.user()
        query = [["\u00e4" * 1000 + str(number), ""] for number in range(300)]
        front = stage.front()
        wire.send(front.sock, wire.pack(message("ContainerList", query=query)), [sock.fileno()])
        reply = await asking.receive(stage.loop, front.sock)
        header, _ = wire.unpack(reply)
        assert header["error"] in (400, 403)

    stage.run(part())
    assert stage.requests == []
    assert all(len(json.dumps(record)) < 60_000 for record in stage.records)
    assert "deny" in stage.events()


HOSTILE = {
    "no descriptor": (INSPECT, ""),
    "operation of another scope": (message("NetworkList"), "user"),
    "unknown operation": (message("Frobnicate"), "user"),
    "the siblings' message": ({"part": "ContainerCreate", "body": {}}, "user"),
    "no JSON": (b"hello\n", "user"),
    "a socketpair": (INSPECT, "pair"),
    "the listener": (INSPECT, "listener"),
    "the user's end": (INSPECT, "client"),
    "a connection to the daemon": (INSPECT, "daemon"),
    "a datagram socket": (INSPECT, "datagram"),
    "a TCP socket": (INSPECT, "tcp"),
    "a socket that was never connected": (INSPECT, "fresh"),
    "a socket bound to the path's text": (INSPECT, "abstract"),
    "the channel itself": (INSPECT, "channel"),
    "a pipe": (INSPECT, "pipe"),
    "a file": (INSPECT, "file"),
    "two sockets": (INSPECT, "two"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_message_ends_the_channel_and_is_recorded(stage, name):
    helper = stage.helper()
    header, kind = HOSTILE[name]

    async def part() -> None:
        before = descriptors()
        them, sock = await stage.user()
        front = stage.front()
        extra = socket.socketpair()
        others = {
            "pair": extra[0],
            "listener": stage.users.sock,
            "client": them.sock,
            "datagram": socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
            "tcp": socket.socket(),
            "fresh": socket.socket(socket.AF_UNIX),
            "abstract": socket.socket(socket.AF_UNIX),
            "daemon": socket.socket(socket.AF_UNIX),
            "channel": front.sock,
            "user": sock,
        }
        others["abstract"].bind("\0" + str(stage.folder / "user.sock"))
        others["daemon"].connect(str(stage.folder / "docker.sock"))
        pipe = os.pipe()
        file = os.open(stage.folder / "policy.json", os.O_RDONLY)
        numbers = {"": [], "pipe": [pipe[0]], "file": [file], "two": [sock.fileno()] * 2}
        fds = numbers[kind] if kind in numbers else [others[kind].fileno()]
        assert await stage.ask(front, header, fds) == ({}, b"")
        for fd in (*pipe, file):
            os.close(fd)
        for other in (*extra, *others.values()):
            if other not in (them.sock, sock, front.sock, stage.users.sock):
                other.close()
        while not stage.records:
            await stage.loop.wait({}, 0.001)
        # a good call is served as before
        reply, _ = await stage.ask(stage.front(), INSPECT, [(await stage.user())[1].fileno()])
        assert reply["keep"] is True
        assert_closed(before + 20)

    stage.run(part())
    assert stage.events()[0] == "hostile"
    assert stage.records[0]["uid"] == os.getuid()
    assert len(stage.requests) == 1
    assert helper.loop is stage.loop


def test_neither_front_nor_sibling(stage):
    """Should the socket's mode ever let somebody else connect."""
    helper = stage.helper()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    stage.closing += [ours, theirs]

    async def part() -> None:
        _, sock = await stage.user()
        for header in (INSPECT, {"part": "ContainerCreate", "body": {}}):
            wire._send(theirs, wire.pack(header), [sock.fileno()])
            with pytest.raises(wire.WireError, match="neither"):
                await helper._message(ours, None, os.getuid() + 1, [])

    stage.run(part())
    assert stage.requests == []


@pytest.mark.parametrize("when", ["idle", "before the answer"])
def test_channel_closed(stage, when):
    stage.helper()

    async def part() -> None:
        before = descriptors()
        them, sock = await stage.user()
        front = stage.front()
        if when == "idle":
            stage.loop.close(front.sock)
        else:
            wire._send(front.sock, wire.pack(message("ContainerLogs", vars={"id": "x"})), [sock.fileno()])
            while not stage.requests:
                await stage.loop.wait({}, 0.001)
            stage.loop.close(front.sock)
            while len(stage.records) < 2:
                await stage.loop.wait({}, 0.001)
            assert stage.records[1]["out"]["error"] == "the front cancelled"
        stage.loop.close(them.sock)
        stage.loop.close(sock)
        for _ in range(3):
            await stage.loop.wait({}, 0.001)
        assert_closed(before + 3)  # the recorder's connection, both ends, and its listener's

    stage.run(part(), answer=b"")


def test_many_idle_channels_do_not_hinder_others(stage):
    stage.helper()

    async def part() -> None:
        for _ in range(200):
            stage.front()
            await stage.loop.wait({}, 0)
        _, sock = await stage.user()
        header, _ = await stage.ask(stage.front(), INSPECT, [sock.fileno()])
        assert header["keep"] is True

    stage.run(part())


@pytest.mark.skipif(os.getuid() != 0, reason="helpers ask each other as uid 0")
class TestSiblings:
    BODY = b'{"Image":"x","HostConfig":{"NetworkMode":"none","Memory":1048576}}'

    def create(self, stage, role: str, body: bytes, siblings: tuple[str, ...] = SCOPES[1:]) -> dict:
        (stage.folder / "policy.json").write_bytes(policy(role))
        stage.helper()
        for scope in siblings:
            stage.helper(scope)._front_uid = -1
        replies = []

        async def part() -> None:
            _, sock = await stage.user()
            header = message("ContainerCreate", body=len(body))
            replies.append((await stage.ask(stage.front(), header, [sock.fileno()], body))[0])

        stage.run(part())
        return replies[0]

    def test_create_is_judged_by_three_and_sent_by_one(self, stage):
        reply = self.create(stage, "admin", self.BODY)
        assert reply["keep"] is True
        head, _, body = stage.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v1.41/containers/create HTTP/1.1\r\n")
        built = json.loads(body)
        assert built["Image"] == "x"
        assert built["HostConfig"]["NetworkMode"] == "none"
        assert built["HostConfig"]["Memory"] == 1048576

    @pytest.mark.parametrize(
        "body",
        [
            b'{"Image":"x","HostConfig":{"Privileged":true}}',
            b'{"Image":"x","HostConfig":{"NetworkMode":"host"}}',
            b'{"Image":"x","HostConfig":{"NetworkMode":"none","Binds":["/etc:/etc"]}}',
            b'{"Image":"x","HostConfig":{"Frobnicate":1}}',
        ],
    )
    def test_refusal_of_a_part_is_the_refusal_of_all(self, stage, body):
        reply = self.create(stage, "developer", body)
        assert reply["error"] == 403
        assert stage.requests == []
        assert stage.events() == ["deny"]

    @pytest.mark.parametrize("body", [b"[]", b"{", b'{"a":1,"A":1}', b'{"Image":1}', b'{"HostConfig":[]}'])
    def test_malformed_body(self, stage, body):
        reply = self.create(stage, "developer", body)
        assert reply["error"] in (400, 403)
        assert stage.requests == []

    @pytest.mark.parametrize("siblings", [(), ("network",), ("filesystem",)])
    def test_sibling_that_is_not_there(self, stage, siblings):
        reply = self.create(stage, "admin", self.BODY, siblings)
        assert reply["error"] == 502
        assert stage.requests == []
        assert stage.events() == ["intent", "deny"]  # it was to be done, and could not be

    def test_sibling_decides_by_the_clients_socket(self, stage):
        """A sibling believes the asking helper no more than the front: without a client it gives no part."""
        helper = stage.helper("network")
        helper._front_uid = -1

        async def part() -> None:
            pair = socket.socketpair()
            stage.closing += pair
            header = {"part": "ContainerCreate", "body": {}}
            assert await stage.ask(stage.front("network"), header, [pair[0].fileno()]) == ({}, b"")
            _, sock = await stage.user()
            header, _ = await stage.ask(stage.front("network"), {"part": "ContainerCreate"}, [sock.fileno()])
            assert "body" in header
            for other in ("NetworkConnect", "ContainerStart", 7):
                header, _ = await stage.ask(stage.front("network"), {"part": other}, [sock.fileno()])
                assert header["error"] == 400

        stage.run(part())
        assert stage.requests == []


def test_reload_keeps_the_old_policy_when_the_new_one_is_wrong(stage):
    helper = stage.helper()
    before = helper.policy
    (stage.folder / "policy.json").write_bytes(b"{}")
    with pytest.raises(BadPolicy):
        helper.reload()
    assert helper.policy is before
    (stage.folder / "policy.json").write_bytes(policy("viewer"))
    helper.reload()
    assert helper.policy.sha256 == Policy(policy("viewer")).sha256


@pytest.mark.parametrize(("uid", "mode"), [(1, 0o644), (0, 0o664), (0, 0o646)])
def test_policy_that_others_may_write_is_refused(stage, monkeypatch, uid, mode):
    pretend(monkeypatch, uid, mode)
    with pytest.raises(Refused):
        stage.helper()


def test_policy_that_is_a_link_is_refused(stage):
    (stage.folder / "real.json").write_bytes(policy("admin"))
    (stage.folder / "policy.json").unlink()
    (stage.folder / "policy.json").symlink_to("real.json")
    with pytest.raises(OSError, match="symbolic links"):
        stage.helper()


def test_calls_under_way_of_a_person_are_bounded_and_counted_back(stage):
    """Who has as many as the role allows is refused, others are not; ends are counted however they come."""
    helper = stage.helper()
    for role in helper.policy._roles.values():
        role.rules["traffic"] = ({"connections": None, "streams": 2, "requests": None}, "p.yaml:9")
    wait = message("ContainerWait", vars={"id": ID})

    async def part() -> None:
        _, sock = await stage.user()
        fronts = [stage.front() for _ in range(3)]
        for front in fronts[:2]:
            wire._send(front.sock, wire.pack(wait), [sock.fileno()])
        while len(stage.requests) < 2:
            await stage.loop.wait({}, 0.001)
        refused, _ = await stage.ask(stage.front(), wait, [sock.fileno()])
        assert (refused["error"], refused["at"]) == (429, "p.yaml:9")
        assert "may have 2 calls under way" in refused["message"]
        fronts[0].close()
        while helper._streams._counts != {os.getuid(): 1}:
            await stage.loop.wait({}, 0.001)
        wire._send(fronts[2].sock, wire.pack(wait), [sock.fileno()])
        while len(stage.requests) < 3:
            await stage.loop.wait({}, 0.001)
        for front in fronts[1:]:
            front.close()
        while helper._streams._counts:
            await stage.loop.wait({}, 0.001)

    stage.run(part(), answer=b"")
    assert helper._streams._counted == {}
    assert stage.events().count("deny") == 1
