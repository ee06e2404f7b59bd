"""Clients that speak gRPC by hand: others' builds and sessions, floods, bombs, cut frames; then all is as before."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from h2.exceptions import ProtocolError

from tests.integration.test_buildkit import build, dockerfile, folder
from tests.support import llb
from tests.support.cli import assert_done
from tests.support.engines import Engines
from tests.support.grpc import CONTROL, SCHEMA, Ended, Grpc, message
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.raw import Connection
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]


def mediators(proxy: Proxy) -> list[int]:
    """List the mediator's processes: the first, and one a connection (which may have lower numbers: those wrap)."""
    listed = subprocess.run(
        ["pgrep", "-u", "sockproxy-build", "-f", "sockproxy.buildkit"], capture_output=True, text=True
    )
    parents: dict[int, int] = {}
    for pid in map(int, listed.stdout.split()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/stat") as file:
            parents[pid] = int(file.read().rpartition(")")[2].split()[1])
    first = [pid for pid, parent in parents.items() if parent == proxy.up.pid]
    return first + [pid for pid, parent in parents.items() if parent in first]


def test_nobody_follows_anothers_build(proxy28: Proxy, users: Users) -> None:
    told = users.alice.home / "told.json"
    text = "FROM busybox\nRUN echo a-word-of-$((40+2))\n"
    assert_done(dockerfile(proxy28, users.alice, text, "--metadata-file", str(told)))
    ref = json.loads(told.read_text())["buildx.build.ref"].rpartition("/")[2]
    for user, name, seen in (
        (users.alice, ref, True),
        (users.bob, ref, False),
        (users.bob, f"u{users.alice.uid}-{ref}", False),
    ):
        client = Grpc.open(proxy28.listen, user)
        reply = client.call(CONTROL + "Status", message("control.StatusRequest", Ref=name))
        assert ((reply.status == 0), b"a-word-of-42" in reply.data) == (seen, seen), (user.name, reply.text)
        listed = client.call(CONTROL + "ListenBuildHistory", message("control.BuildHistoryRequest", EarlyExit=True))
        found = [SCHEMA.parse("control.BuildHistoryEvent", one).record.Ref for one in listed.messages]
        assert (ref in found) == (user is users.alice)
        client.close()


def by_hand(path: Path | str, user: User, ref: str, *operations: bytes) -> tuple[str, str]:
    """Have a low-level definition solved; give what was said against it, and what its steps printed."""
    client = Grpc.open(path, user)
    definition = llb.definition(*operations)
    solving = client.start(
        CONTROL + "Solve", message("control.SolveRequest", Ref=ref, Session="s", Definition=definition)
    )
    told = client.wait(client.start(CONTROL + "Status", message("control.StatusRequest", Ref=ref)))
    why = client.wait(solving).text
    client.close()
    logs = [line.msg for one in told.messages for line in SCHEMA.parse("control.StatusResponse", one).logs]
    return why, b"".join(logs).decode()


def test_low_level_definitions_of_others_caches_and_images(
    proxy28: Proxy, users: Users, start_proxy: Callable[..., Proxy]
) -> None:
    rules = "roles:\n  developer: {extends: developer, registries: ['docker.io/*']}\n"
    alice, bob, engine, listing = users.alice, users.bob, proxy28.engine, proxy28
    proxy28 = start_proxy(engine, default_policy(users) + rules)
    hers = "FROM busybox\nRUN --mount=type=cache,id=llb,target=/c echo hers >/c/word\n"
    assert_done(dockerfile(proxy28, alice, hers, "-t", "llb:1"))
    base = llb.source("docker-image://docker.io/library/busybox:latest")
    cached = llb.step(base, "cat", "/c/word", mounts=(llb.cache(f"sockproxy-{alice.uid}/llb"),))
    assert by_hand(engine.socket, users.root, "direct", base, cached)[1] == "hers\n"  # the bare daemon gives it
    why, printed = by_hand(proxy28.listen, bob, "cache", base, cached)
    assert ("did not complete successfully" in why, "hers" in printed) == (True, False), (why, printed)
    for number, name in enumerate(("llb:1", "index.docker.io/library/llb:1", "docker.io/library/llb:1")):
        image = llb.source(f"docker-image://{name}")
        why, printed = by_hand(proxy28.listen, bob, f"image{number}", image, llb.step(image, "true"))
        assert "denied by policy" in why, why
    assert "may not build at once what images are in" in by_hand(listing.listen, bob, "free", base, cached)[0]
    own = llb.step(base, "sh", "-c", "hostname; cat /proc/self/cgroup")
    why, printed = by_hand(proxy28.listen, bob, "own", base, own)
    assert (why, printed.startswith(f"sockproxy-{bob.uid}\n"), f"/{bob.uid}/builds/" in printed) == ("", True, True)


SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # a frame: what a server says first


def session(proxy: Proxy, user: User, name: str) -> Connection:
    """Open a session by hand."""
    connection = Connection(proxy.listen, user)
    head = "POST /session HTTP/1.1\r\nHost:\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    head += f"X-Docker-Expose-Session-Uuid: {name}\r\nX-Docker-Expose-Session-Name: x\r\n"
    head += "X-Docker-Expose-Session-Grpc-Method: /moby.filesync.v1.FileSync/DiffCopy\r\n\r\n"
    connection.send(head.encode())
    return connection


def test_nobody_calls_anothers_client(proxy28: Proxy, users: Users) -> None:
    hers = session(proxy28, users.alice, "shared")
    assert hers.head().status == 101
    hers.send(SETTINGS)
    his = session(proxy28, users.bob, "shared")  # the same name is another's own
    assert his.head().status == 101
    again = session(proxy28, users.alice, "shared")
    assert again.head().status >= 400
    for name in ("a:b", "", "../x", "x" * 200):
        refused = session(proxy28, users.alice, name)
        assert refused.head().status == 400
        refused.close()
    his.close()
    attrs = {"filename": "Dockerfile"}
    client = Grpc.open(proxy28.listen, users.bob)
    for name in (f"u{users.alice.uid}-shared", "shared"):
        fields = {"Ref": f"r{name}", "Session": name, "Frontend": "dockerfile.v0", "FrontendAttrs": attrs}
        assert client.call(CONTROL + "Solve", message("control.SolveRequest", **fields)).status != 0
    client.close()
    hers.sock.setblocking(False)
    got = hers.buffer + hers.sock.recv(65536) if not hers.buffer else hers.buffer
    assert b"DiffCopy" not in got
    assert len(got) < 300  # the preface and settings
    mine = Grpc.open(proxy28.listen, users.alice)
    fields = {"Ref": "hers", "Session": "shared", "Frontend": "dockerfile.v0", "FrontendAttrs": attrs}
    mine.start(CONTROL + "Solve", message("control.SolveRequest", **fields))
    hers.sock.settimeout(20)
    assert hers.sock.recv(65536)  # a call, to her
    for one in (mine, hers, again):
        one.close()


def flood_of_streams(client: Grpc) -> None:
    client.h2.remote_settings.update({3: 1 << 20})  # whatever was agreed on
    for _ in range(300):
        client.start(CONTROL + "Status")


def flood_of_resets(client: Grpc) -> None:
    for _ in range(2000):
        number = client.start(CONTROL + "Info")
        client.h2.reset_stream(number)
    client.flush()


def bomb_of_headers(client: Grpc) -> None:
    client.start(CONTROL + "Info", b"", **{f"x-{i}": "a" * 4000 for i in range(60)})


def bomb_of_a_message(client: Grpc) -> None:
    number = client.start(CONTROL + "Solve")
    client.send(number, b"\x00\x00\xff\xff\xff")
    client.send(number, b"x" * (20 << 20))


def flood_of_settings(client: Grpc) -> None:
    client.sock.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * 10_000)


def flood_of_pings_unread(client: Grpc) -> None:
    client.sock.settimeout(3)
    client.sock.sendall((b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"x" * 8) * 60_000)


def half_a_frame(client: Grpc) -> None:
    client.sock.sendall(b"\x00\x40\x00\x00\x00\x00\x00\x00\x01abc")


def windows_too_wide(client: Grpc) -> None:
    client.sock.sendall(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\xff\xff" * 3)


ATTACKS = [
    flood_of_streams, flood_of_resets, bomb_of_headers, bomb_of_a_message, flood_of_settings, flood_of_pings_unread,
    half_a_frame, windows_too_wide,
]  # fmt: skip


def test_floods_and_bombs_hurt_their_own_connection_only(proxy28: Proxy, users: Users) -> None:
    eventually(lambda: len(mediators(proxy28)) == 1, "nothing left of earlier tests")
    with contextlib.closing(Grpc.open(proxy28.listen, users.bob)) as other:
        for attack in ATTACKS:
            with contextlib.closing(Grpc.open(proxy28.listen, users.alice)) as client:
                with contextlib.suppress(OSError, Ended, ProtocolError):  # cut off
                    attack(client)
                assert other.call(CONTROL + "Info").status == 0, attack.__name__
                assert max(memory(pid) for pid in mediators(proxy28)) < 400 << 20, attack.__name__
        # What was sent before the end is still read: some seconds of work for the tens of thousands of frames.
        eventually(lambda: len(mediators(proxy28)) == 2, "their processes end", 180)  # a busy machine takes its time
    eventually(lambda: len(mediators(proxy28)) == 1, "all but the first end")


def memory(pid: int) -> int:
    """Tell a process's resident bytes; 0 when it has ended."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * 4096
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_bytes_that_come_one_by_one(proxy28: Proxy, users: Users) -> None:
    client = Grpc.open(proxy28.listen, users.alice)
    whole, client.sock = client.sock, Slow(client.sock)  # type: ignore[assignment]
    assert client.call(CONTROL + "Info").status == 0
    whole.close()


class Slow:
    """Send a byte at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self.recv = sock, sock.recv

    def sendall(self, data: bytes) -> None:
        """Send all, slowly."""
        for byte in data:
            self._sock.sendall(bytes([byte]))


def test_only_listed_registries(proxy28: Proxy, users: Users, start_proxy: Callable[..., Proxy]) -> None:
    rules = "roles:\n  developer: {extends: developer, registries: ['docker.io/library/busybox:*']}\n"
    proxy = start_proxy(proxy28.engine, default_policy(users) + rules)
    proxy28.engine.docker("tag", "busybox", "other:1")
    assert_done(dockerfile(proxy, users.alice, "FROM busybox\nRUN true\n"))
    for text in (
        "FROM other:1\n",
        "FROM busybox\nCOPY --from=other:1 /bin/sh /x\n",
        "FROM busybox\nRUN --mount=from=other:1,target=/o true\n",
    ):
        done = dockerfile(proxy, users.alice, text)
        assert (done.returncode, "denied by policy" in done.stderr) == (1, True), done.stderr[-1000:]
    context = folder(users.alice, "named", {"Dockerfile": "FROM base\n"})
    done = build(proxy, users.alice, "--build-context", "base=docker-image://other:1", str(context))
    assert (done.returncode, "denied by policy" in done.stderr) == (1, True), done.stderr[-1000:]
    proxy28.engine.docker("rmi", "other:1")


def test_only_listed_frontends(proxy28: Proxy, users: Users, start_proxy: Callable[..., Proxy]) -> None:
    engine = proxy28.engine
    for name in ("frontend:1", "other:2"):  # what runs as a frontend says so, and speaks no gRPC
        text = 'FROM busybox\nENTRYPOINT ["sh", "-c", "echo i-am-a-frontend >&2; exit 7"]\n'
        engine.docker("build", "-t", name, "-", input=text)
    listed = "roles:\n  developer: {extends: developer, frontends: ['docker.io/library/frontend:*']}\n"
    proxy = start_proxy(engine, default_policy(users) + listed)
    ran, refused, passed = "exit code: 7", "denied by policy", ""
    for using, line, why in (
        (proxy, "# syntax=frontend:1", ran),
        (proxy, "# syntax=other:2", refused),
        (proxy28, "# syntax=frontend:1", passed),
        (proxy, "# plain", passed),
    ):
        done = dockerfile(using, users.alice, f"{line}\nFROM other:2\nRUN true\n")
        assert (done.returncode == 0, why in done.stderr) == (why == passed, True), (line, done.stderr[-1000:])
    engine.docker("rmi", "frontend:1", "other:2")


def test_no_scanner_is_run_outside_ones_share(proxy28: Proxy, users: Users) -> None:
    """BuildKit runs what scans a result by itself: below no user's cgroup, on its bridge, whoever's image it is."""
    engine, bob = proxy28.engine, users.bob
    text = 'FROM busybox\nENTRYPOINT ["sh", "-c", "echo i-am-a-scanner; cat /proc/self/cgroup; exit 7"]\n'
    engine.docker("build", "-t", "scanner:1", "-", input=text)
    context = str(folder(bob, "scanned", {"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
    bare = proxy28.environment(users.root) | {"DOCKER_HOST": f"unix://{engine.socket}"}
    for name in ("BUILDKIT_ATTEST_SBOM", "BUILDKIT_ATTEST_sbom"):
        asked = ["--build-arg", f"{name}=generator=scanner:1", "--output", "type=local,dest=out", context]
        done = build(proxy28, users.root, *asked, env=bare, cwd=users.root.home)
        assert "i-am-a-scanner" in done.stderr, f"does not work on the bare daemon: {done.stderr[-800:]}"
        assert ":/docker/buildkit/" in done.stderr
        done = build(proxy28, bob, *asked)
        assert (done.returncode, "may not have the builder run a scanner" in done.stderr) == (1, True), done.stderr
        assert "i-am-a-scanner" not in done.stderr
    engine.docker("rmi", "scanner:1")


def test_two_build_at_once_from_the_same_folder(proxy28: Proxy, users: Users) -> None:
    text = (
        "FROM busybox\nRUN --mount=type=cache,target=/c echo x$(cat /c/w) >/was; hostname >/c/w; sleep 1; cp /c/w /is\n"
    )
    people = (users.alice, users.bob)
    running = []
    for user in people:
        context = folder(user, "same", {"Dockerfile": text})
        running.append(
            proxy28.start(
                user, ["docker", "build", "-q", "-t", f"at{user.uid}", str(context)], stdout=subprocess.DEVNULL
            )
        )
    assert [one.wait(60) for one in running] == [0, 0]
    for user in people:
        done = proxy28.docker(user, "run", "--rm", f"at{user.uid}", "cat", "/was", "/is")
        assert done.stdout.splitlines() == ["x", f"sockproxy-{user.uid}"], done


def test_an_engine_without_source_policies_builds_for_nobody_with_a_list(
    engines: Engines, users: Users, start_proxy: Callable[..., Proxy]
) -> None:
    rules = "roles:\n  developer: {extends: developer, registries: ['docker.io/library/busybox:*']}\n"
    proxy = start_proxy(engines.get("20"), default_policy(users) + rules)
    done = dockerfile(proxy, users.alice, "FROM busybox\nRUN true\n")
    assert (done.returncode, "can't be held to registries" in done.stderr) == (1, True), done.stderr[-1000:]
    proxy.reload(default_policy(users))
    assert_done(dockerfile(proxy, users.alice, "FROM busybox\nRUN true\n"))
