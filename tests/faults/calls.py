"""The kinds of calls that are disturbed, each with what must hold of it however far it came."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sockproxy.audit import chain
from sockproxy.review.verify import verify
from tests.support.containers import API, create, interactive, run
from tests.support.proxy import PROCESSES, Proxy, default_policy, eventually
from tests.support.raw import TIMEOUT, Answer, BrokenOff, Connection, acting_as, call
from tests.support.users import Users

FILE = b"mine\n" * 20_000
UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
KINDS = tuple(f"{API}/{target}" for target in ("containers/json", "networks", "images/json"))


def whole_records(proxy: Proxy) -> list[dict[str, object]]:
    """Read the record; a line that a kill or a full disk has torn is none."""
    lines = (proxy.log / "audit.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines if chain.parse(line)]


class Ground:
    """Hold a sockproxy, who uses it, and how it was at first."""

    def __init__(self, proxy: Proxy, users: Users) -> None:
        self.proxy, self.users = proxy, users
        self.work = users.alice.home / "killing"
        self.work.mkdir(exist_ok=True)
        (self.work / "file").write_bytes(FILE)
        for path in (self.work, self.work / "file"):
            os.chown(path, users.alice.uid, users.alice.gid)
        self.count, self.narrow = 0, False

    def name(self) -> str:
        """Give a name that was not used before."""
        self.count += 1
        return f"killing{self.count}"

    def ask(self, method: str, target: str, body: object = None, **headers: str) -> Answer | None:
        """Ask as alice; None where the connection was cut before there was an answer."""
        try:
            answer = call(self.proxy.listen, method, API + target, body, self.users.alice, **headers)
        except (BrokenOff, ConnectionError):
            return None
        if answer.status >= 400:
            assert answer.message, answer.body
            # The daemon's own words: without the resolver a bind is a volume that is not there (404); what an attacher
            # has attached is detached by the next one, and if that was not mounted yet, runc misses it (400).
            assert answer.status in (400, 403, 404, 500, 502, 503), answer.body
        return answer

    def serves(self) -> bool:
        """Tell whether a call of each helper is answered; nothing but a clean error stands for one."""
        found = [call(self.proxy.listen, "GET", target, None, self.users.bob) for target in KINDS]
        assert all(answer.status == 200 or (answer.status in (502, 503) and answer.message) for answer in found)
        return all(answer.status == 200 for answer in found)

    def recorded(self, operation: str, name: str) -> bool:
        """Tell whether an intent of a call with this name in it is on the record."""
        return any(
            one["ev"] == "intent" and operation in str(one.get("req")) and name in str(one)
            for one in whole_records(self.proxy)
        )

    def at_engine(self, *words: str) -> list[str]:
        """Ask the engine itself."""
        return self.proxy.engine.docker(*words).stdout.split()

    def mounts(self) -> int:
        """Count the mounts below the runtime folder."""
        return Path("/proc/mounts").read_text().count(f" {self.proxy.runtime}")

    def held(self) -> dict[str, int]:
        """Count the descriptors and threads of each process that lasts."""
        found = {}
        for name, pid in self.proxy.processes.items():
            with contextlib.suppress(OSError):
                found[name] = len(os.listdir(f"/proc/{pid}/fd")) + len(os.listdir(f"/proc/{pid}/task"))
        return found

    def verify(self) -> None:
        """See that no line of the record is lost or altered."""
        assert verify(str(self.proxy.log)).findings == []


class Call(NamedTuple):
    """Describe a kind of call.

    Attributes:
        processes: those that have a part in it.
        prepare: makes what it is about, and gives its name.
        make: makes it, asserts what holds however far it came, and tells how far that was.
    """

    processes: tuple[str, ...]
    prepare: Callable[[Ground], str]
    make: Callable[[Ground, str], str]


def _said(answer: Answer | None) -> str:
    return "cut" if answer is None else "refused" if answer.status >= 400 else "done"


def listing(ground: Ground, name: str) -> str:
    """List: all, or nothing."""
    answer = ground.ask("GET", f'/containers/json?all=1&filters={{"name":["{name}"]}}')
    if answer and answer.status == 200:
        assert name.encode() in answer.body
        assert answer.body.endswith(b"]\n")
    return _said(answer)


def creating(ground: Ground, name: str) -> str:
    """Create with a bind: what was promised is there; what is there is on the record and the caller's."""
    body = {"Image": "busybox", "Cmd": ["cat", "/h/file"], "HostConfig": {"Binds": [f"{ground.work}:/h:ro"]}}
    answer = ground.ask("POST", f"/containers/create?name={name}", body)
    there = ground.at_engine("ps", "-aq", "--no-trunc", "--filter", f"name=^/{name}$")
    if answer and answer.status == 201:
        assert there == [answer.json["Id"]]
    if there:
        assert ground.recorded("ContainerCreate", name)
        owner = '{{index .Config.Labels "io.sockproxy.owner"}}'
        assert ground.at_engine("inspect", "-f", owner, name) == [str(ground.users.alice.uid)]
        ground.at_engine("rm", "-f", name)
    return _said(answer)


def _with_bind(ground: Ground) -> str:
    body: dict[str, object] = {"HostConfig": {"Binds": [f"{ground.work}:/h:ro"]}}
    return create(ground.proxy, ground.users.alice, "cat /h/file", **body)


def starting(ground: Ground, name: str) -> str:
    """Start with a bind: it reads the caller's file, all of it, or it has not run."""
    answer = ground.ask("POST", f"/containers/{name}/start")
    state = ground.at_engine("inspect", "-f", "{{.State.Status}}", name)
    if state != ["created"]:
        ground.proxy.engine.docker("wait", name)
        assert ground.recorded("ContainerStart", name)
    output = ground.proxy.engine.docker("logs", name).stdout.encode()
    assert output in ((FILE,) if answer and answer.status == 204 else (FILE, b""))
    ground.at_engine("rm", "-f", name)
    return _said(answer)


def _echoed(ground: Ground, request: bytes, clean: Callable[[bytes], bytes] = bytes) -> str:
    got = b""
    with contextlib.suppress(BrokenOff, ConnectionError), Connection(ground.proxy.listen, ground.users.alice) as stream:
        stream.send(request + FILE)
        answer = stream.head()
        if answer.status != 101:
            assert answer.status in (502, 503)
            return "refused"
        while len(clean(got)) < len(FILE) and (more := stream.receive()):
            got += more
        stream.half_close()
    assert FILE.startswith(clean(got))
    return "done" if clean(got) == FILE else "cut"


def _unframed(data: bytes) -> bytes:
    """Take the daemon's frames apart: eight bytes, of which the last four say how many of output follow."""
    found = b""
    while len(data) > 8:
        size = int.from_bytes(data[4:8])
        found, data = found + data[8 : 8 + size], data[8 + size :]
    return found


def attaching(ground: Ground, name: str) -> str:
    """Attach: what comes back is the beginning of what was sent."""
    head = f"POST {API}/containers/{name}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\n"
    came = _echoed(ground, (head + UPGRADE + "\r\n").encode())
    ground.at_engine("rm", "-f", name)
    return came


def executing(ground: Ground, name: str) -> str:
    """Run a process in a container: what comes back is the beginning of what was sent; it ran on the record."""
    body = json.dumps({"Detach": False, "Tty": False})
    head = f"POST {API}/exec/{name}/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
    came = _echoed(ground, f"{head}{UPGRADE}Content-Length: {len(body)}\r\n\r\n{body}".encode(), _unframed)
    if came != "refused":
        assert ground.recorded("ExecStart", name) or came == "cut"
    told = call(ground.proxy.engine.socket, "GET", f"{API}/exec/{name}/json").json
    if told["Running"] or told["ExitCode"] is not None:
        assert ground.recorded("ExecStart", name)
    ground.at_engine("rm", "-f", str(told["ContainerID"]))
    return came


def _exec(ground: Ground) -> str:
    container = run(ground.proxy, ground.users.alice, "sleep 1000")
    asked = {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True}
    answer = call(ground.proxy.listen, "POST", f"{API}/containers/{container}/exec", asked, ground.users.alice)
    assert answer.status == 201, answer.body
    return str(answer.json["Id"])


def _echo(ground: Ground) -> str:
    return run(ground.proxy, ground.users.alice, "stty raw -echo; cat", **interactive(Tty=True))


def uploading(ground: Ground, name: str) -> str:
    """Put a file into a container: all of it is there when that was said."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("put")
        member.size = len(FILE)
        tar.addfile(member, io.BytesIO(FILE))
    answer = ground.ask(
        "PUT", f"/containers/{name}/archive?path=/", archive.getvalue(), Content_Type="application/x-tar"
    )
    out = ground.proxy.engine.docker("cp", f"{name}:/put", str(ground.work / "put"), check=False)
    found = (ground.work / "put").read_bytes() if out.returncode == 0 else b""
    assert FILE.startswith(found)
    if answer and answer.status == 200:
        assert found == FILE
    if found:
        assert ground.recorded("PutContainerArchive", name)
    ground.at_engine("rm", "-f", name)
    return _said(answer)


def _idle(ground: Ground) -> str:
    return create(ground.proxy, ground.users.alice, "true")


def downloading(ground: Ground, name: str) -> str:
    """Get a file: its archive is whole, or is cut off."""
    answer = ground.ask("GET", f"/containers/{name}/archive?path=/bin/busybox")
    if answer and answer.status == 200:
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
            assert tar.getnames() == ["busybox"]
            assert tar.extractfile("busybox").read()[:4] == b"\x7fELF"  # type: ignore[union-attr]
    ground.at_engine("rm", "-f", name)
    return _said(answer)


def networking(ground: Ground, name: str) -> str:
    """Make a network: one, the caller's, on the record."""
    answer = ground.ask("POST", "/networks/create", {"Name": name})
    there = ground.at_engine("network", "ls", "-q", "--no-trunc", "--filter", f"name=^{name}$")
    assert len(there) <= 1
    if answer and answer.status == 201:
        assert there == [answer.json["Id"]]
    if there:
        assert ground.recorded("NetworkCreate", name)
        owner = '{{index .Labels "io.sockproxy.owner"}}'
        assert ground.at_engine("network", "inspect", "-f", owner, name) == [str(ground.users.alice.uid)]
        ground.at_engine("network", "rm", name)
    return _said(answer)


def building(ground: Ground, name: str, buildkit: str = "1") -> str:
    """Build, with BuildKit or without: the image is there when that was said, and the caller's."""
    (ground.work / "Dockerfile").write_text(f"FROM busybox\nLABEL of={name}\nRUN echo {name}\n")
    command = ["env", f"DOCKER_BUILDKIT={buildkit}", "docker", "build", "-q", "-t", name, str(ground.work)]
    done = ground.proxy.run(ground.users.alice, command)
    there = ground.at_engine("images", "-q", "--no-trunc", name)
    assert there if done.returncode == 0 else done.stderr
    if there:
        assert ground.recorded("", name)
        owner = '{{index .Config.Labels "io.sockproxy.owner"}}'
        assert ground.at_engine("inspect", "-f", owner, name) == [str(ground.users.alice.uid)]
        ground.at_engine("rmi", "-f", name)
    return "done" if done.returncode == 0 else "refused"


def building_classic(ground: Ground, name: str) -> str:
    """Build by the daemon's own builder."""
    return building(ground, name, "0")


def pulling(ground: Ground, name: str) -> str:
    """Pull: the answer tells of all, and the image is there, or it says so; it is on the record."""
    answer = ground.ask("POST", f"/images/create?fromImage={name}&tag=latest")
    there = ground.at_engine("images", "-q", "--no-trunc", name)
    if answer and answer.status == 200 and b'"error"' not in answer.body:
        assert b"Status: Downloaded newer image" in answer.body, answer.body[-300:]
        assert there
    if there:
        assert ground.recorded("ImageCreate", name)
        ground.at_engine("rmi", "-f", name)
    return "refused" if answer and b'"error"' in answer.body else _said(answer)


def _pushed(ground: Ground) -> str:
    name = f"{ground.proxy.engine.registry()}/killing"
    ground.at_engine("tag", "busybox", name)
    ground.at_engine("push", "-q", name)
    ground.at_engine("rmi", name)
    return name


def reading(ground: Ground, name: str) -> str:
    """Read one's own lines of the record: whole ones, and nobody else's."""
    with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(ConnectionError):
        sock.settimeout(TIMEOUT)
        with acting_as(ground.users.alice):
            sock.connect(str(ground.proxy.runtime / "own-lines.sock"))
        sock.sendall(b"{}")
        text = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        lines = [json.loads(line) for line in text.splitlines() if line.endswith(b"}")]
        if lines and "error" in lines[0]:
            return "refused"
        assert {line["who"]["uid"] for line in lines if "who" in line} <= {ground.users.alice.uid}
        return "done" if lines and text.endswith(b"\n") else "cut"
    return "cut"


def _some(ground: Ground) -> str:
    ground.ask("GET", "/containers/json")
    eventually(lambda: str(ground.users.alice.uid) in str(whole_records(ground.proxy)), "a line")
    return ""


def _other_policy(ground: Ground) -> str:
    own = f"bindings:\n  - {{user: {ground.users.alice.name}, role: viewer}}\n"
    text = default_policy(ground.users)
    ground.narrow = not ground.narrow
    ground.proxy.config.write_text(text.replace("bindings:\n", own) if ground.narrow else text)
    return ""


def reloading(ground: Ground, name: str) -> str:
    """Load another policy: each process comes to go by it, also one that was killed when it was told."""
    ground.proxy.up.send_signal(signal.SIGHUP)
    expected = {403} if ground.narrow else {404}
    found: set[int] = set()

    def in_force() -> bool:
        answers = [ground.ask(method, target, {}) for method, target in REFUSED_TO_VIEWERS]
        found.clear()
        found.update(answer.status if answer else 0 for answer in answers)
        return found == expected

    eventually(in_force, f"a new policy ({expected}) in force", 20)
    return "done"


def restarting(ground: Ground, name: str) -> str:
    """End all and start it again: also where one does not live to be told, no process, socket or mount is left."""
    running = ground.proxy.processes
    assert ground.proxy._stop() == 0, ground.proxy.errors()[-2000:]
    assert [pid for pid in running.values() if Path(f"/proc/{pid}").exists()] == []
    assert [path for path in ground.proxy.runtime.rglob("*") if path.is_socket()] == []
    assert not ground.proxy.listen.exists()
    ground.proxy.restart()
    return "done" if ground.serves() else "refused"


def _nothing(ground: Ground) -> str:
    return ground.name()


def _asked_anew(ground: Ground) -> str:
    ground.proxy.reload()  # forgets whose account was found to be usable
    return ""


REFUSED_TO_VIEWERS = (
    ("POST", "/containers/none/start"),
    ("DELETE", "/networks/none"),
    ("DELETE", "/volumes/none"),
)
RELOADING = ("front", "lifecycle", "network", "filesystem", "audit", "auth", "binds")
CALLS: dict[str, Call] = {
    "list": Call(("front", "lifecycle", "audit"), lambda ground: "", listing),
    "account": Call(("auth", "lifecycle"), _asked_anew, listing),
    "create": Call(("front", "lifecycle", "network", "filesystem", "audit", "binds"), _nothing, creating),
    "start": Call(("front", "lifecycle", "audit", "binds", "attacher"), _with_bind, starting),
    "attach": Call(("front", "lifecycle", "audit"), _echo, attaching),
    "exec": Call(("front", "lifecycle", "audit"), _exec, executing),
    "upload": Call(("front", "filesystem", "audit"), _idle, uploading),
    "download": Call(("front", "filesystem"), _idle, downloading),
    "network": Call(("front", "network", "audit"), _nothing, networking),
    "pull": Call(("front", "filesystem", "audit"), _pushed, pulling),
    "reload": Call(RELOADING, _other_policy, reloading),
    "restart": Call(tuple(PROCESSES), _nothing, restarting),
    "mine": Call(("own", "audit"), _some, reading),
    "build": Call(("front", "filesystem", "mediator", "audit"), _nothing, building),
    "classic": Call(("front", "filesystem", "audit"), _nothing, building_classic),
}

__all__ = ["CALLS", "KINDS", "Call", "Ground"]
