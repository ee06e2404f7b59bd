"""Kill each process at each step of each kind of call, on a real engine, and see what all sides have of it afterwards.

As root, at the top of the checkout: .venv/bin/python -m tests.faults.killing [--engine 28] [--steps 1000] [CALL...]

A call is made once to learn its steps (`steps`), then again and again with the process killed before each of them.
What is asserted each time: who asked hears the truth or that it was cut off, the daemon has what was promised and
nothing that is not on the record, and another user's calls are answered meanwhile. At the end nothing is left over.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tarfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.faults.steps import stepping
from tests.support.containers import API, create, interactive, run
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.raw import Answer, BrokenOff, Connection, call
from tests.support.users import User, Users, remove_folder, shared_folder

FILE = b"mine\n" * 20_000
KINDS = tuple(f"{API}/{target}" for target in ("containers/json", "networks", "images/json"))
SETTLED = 0.4  # seconds without a step: what is done soon (record.SOON) has been done
PATIENCE = 20.0  # seconds of a busy machine


class Ground:
    """Hold a sockproxy, who uses it, and how it was at first."""

    def __init__(self, proxy: Proxy, users: Users) -> None:
        self.proxy, self.users = proxy, users
        self.work = users.alice.home / "killing"
        self.work.mkdir(exist_ok=True)
        (self.work / "file").write_bytes(FILE)
        for path in (self.work, self.work / "file"):
            os.chown(path, users.alice.uid, users.alice.gid)
        self.count = 0

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
            assert answer.status in (400, 404, 500, 502, 503), answer.body
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
            for one in self.proxy.records()
        )

    def at_engine(self, *words: str) -> list[str]:
        """Ask the engine itself."""
        return self.proxy.engine.docker(*words).stdout.split()

    def mounts(self) -> int:
        """Count the mounts below the runtime folder."""
        return Path("/proc/mounts").read_text().count(f" {self.proxy.runtime}")

    def descriptors(self) -> dict[str, int]:
        """Count the descriptors of each process that lasts."""
        found = {}
        for name, pid in self.proxy.processes.items():
            with contextlib.suppress(OSError):
                found[name] = len(os.listdir(f"/proc/{pid}/fd"))
        return found


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


def attaching(ground: Ground, name: str) -> str:
    """Attach: what comes back is the beginning of what was sent."""
    got = b""
    with contextlib.suppress(BrokenOff, ConnectionError), Connection(ground.proxy.listen, ground.users.alice) as stream:
        head = f"POST {API}/containers/{name}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\n"
        stream.send((head + "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n").encode() + FILE)
        answer = stream.head()
        if answer.status != 101:
            assert answer.status in (502, 503)
            return "refused"
        while len(got) < len(FILE) and (more := stream.receive()):
            got += more
        stream.half_close()
    assert FILE.startswith(got)
    ground.at_engine("rm", "-f", name)
    return "done" if got == FILE else "cut"


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


def building(ground: Ground, name: str) -> str:
    """Build with BuildKit: the image is there when that was said, and the caller's."""
    (ground.work / "Dockerfile").write_text(f"FROM busybox\nLABEL of={name}\nRUN echo {name}\n")
    done = ground.proxy.docker(ground.users.alice, "build", "-q", "-t", name, str(ground.work), timeout=60)
    there = ground.at_engine("images", "-q", "--no-trunc", name)
    assert there if done.returncode == 0 else done.stderr
    if there:
        assert ground.recorded("", name)
        owner = '{{index .Config.Labels "io.sockproxy.owner"}}'
        assert ground.at_engine("inspect", "-f", owner, name) == [str(ground.users.alice.uid)]
        ground.at_engine("rmi", "-f", name)
    return "done" if done.returncode == 0 else "refused"


def _nothing(ground: Ground) -> str:
    return ground.name()


def _asked_anew(ground: Ground) -> str:
    ground.proxy.reload()  # forgets whose account was found to be usable
    return ""


CALLS: dict[str, Call] = {
    "list": Call(("front", "lifecycle", "audit"), lambda ground: "", listing),
    "account": Call(("auth", "lifecycle"), _asked_anew, listing),
    "create": Call(("front", "lifecycle", "network", "filesystem", "audit", "binds"), _nothing, creating),
    "start": Call(("front", "lifecycle", "audit", "binds", "attacher"), _with_bind, starting),
    "attach": Call(("front", "lifecycle", "audit"), _echo, attaching),
    "upload": Call(("front", "filesystem", "audit"), _idle, uploading),
    "download": Call(("front", "filesystem"), _idle, downloading),
    "network": Call(("front", "network", "audit"), _nothing, networking),
    "build": Call(("front", "filesystem", "mediator", "audit"), _nothing, building),
}


class Beside(threading.Thread):
    """Be another user who asks all the time, of a helper that is not the one that is killed.

    Not where it is the front or the audit writer: the call's own steps could not be told from those for others.

    Attributes:
        answers, failures: how many there were; a failure says so, or its connection was cut.
        longest: seconds between two answers.
    """

    def __init__(self, ground: Ground, process: str) -> None:
        super().__init__(daemon=True)
        self.answers = self.failures = 0
        self.longest = 0.0
        self.wrong: list[object] = []
        self._ground, self._ending = ground, threading.Event()
        self._target = KINDS[0] if process == "network" else KINDS[1]
        self._connection = Connection(ground.proxy.listen, ground.users.bob)
        if process in ("front", "audit"):
            self._ending.set()
        self.start()

    def run(self) -> None:
        """Ask."""
        last = time.monotonic()
        while not self._ending.wait(0.01):
            try:
                answer = self._connection.call("GET", self._target)
            except (BrokenOff, ConnectionError):
                self.failures += 1
                self._connection.close()
                self._connection = Connection(self._ground.proxy.listen, self._ground.users.bob)
                continue
            if answer.status == 200:
                self.answers += 1
                self.longest, last = max(self.longest, time.monotonic() - last), time.monotonic()
            elif answer.status in (502, 503) and answer.message:
                self.failures += 1
            else:
                self.wrong.append((answer.status, answer.body))

    def end(self) -> None:
        """Stop, and see that nothing was wrong."""
        self._ending.set()
        self.join()
        self._connection.close()
        assert not self.wrong, self.wrong[:3]


@contextlib.contextmanager
def nothing_left(ground: Ground) -> Iterator[None]:
    """See that afterwards no descriptor, mount or record of a bind is left."""
    eventually(ground.serves, "service")
    mounts, said = ground.mounts(), len(ground.proxy.errors())
    yield
    eventually(ground.serves, "service")
    for path in (ground.proxy.folder / "state" / "binds").glob("*/sockproxy-*"):
        os.utime(path, (1, 1))  # what was staged for a container that never came is kept for a while
    eventually(lambda: ground.mounts() <= mounts, "mounts taken away", PATIENCE)
    assert "Traceback" not in ground.proxy.errors()[said:], ground.proxy.errors()[said:][-3000:]


def learn(ground: Ground, kind: Call, process: str) -> list[str]:
    """Make the call once; give the steps of a process."""
    name = kind.prepare(ground)
    with stepping(ground.proxy.processes[process]) as stepper:
        assert kind.make(ground, name) == "done"
        eventually_still(stepper.taken)
    return list(stepper.taken)


def eventually_still(steps: list[str]) -> None:
    """Wait until there are no more steps for a while."""
    count = -1
    while count != len(steps):
        count = len(steps)
        time.sleep(SETTLED)


def kill_at(ground: Ground, kind: Call, process: str, step: int | str) -> tuple[str, float]:
    """Make the call with a process killed before one of its steps, by its number, or behind the first of a name.

    Gives how far it came, and when all was back.
    """
    name = kind.prepare(ground)
    eventually(lambda: process in ground.proxy.processes, f"a {process}")  # that of the step before it may be starting
    pid = ground.proxy.processes[process]
    with stepping(pid, step) as stepper:
        try:
            came = kind.make(ground, name)
        except AssertionError as error:
            raise AssertionError(f"{process} killed after {stepper.taken}: {error}") from error
        begun = time.monotonic()
        if not stepper.killed:
            eventually_still(stepper.taken)
    if not stepper.killed:
        return f"{came}, alive", 0.0
    eventually(ground.serves, f"service after {process}", PATIENCE)
    return came, time.monotonic() - begun


def kill(ground: Ground, kind: Call, process: str, most: int) -> str:
    """Do it at so many steps, or at all; tell what was seen."""
    steps = learn(ground, kind, process)
    chosen = sorted({round(index * (len(steps) - 1) / max(1, most - 1)) for index in range(most)} if steps else ())
    came: dict[str, int] = {}
    longest, beside = 0.0, Beside(ground, process)
    try:
        for step in chosen:
            how, took = kill_at(ground, kind, process, step)
            came[how] = came.get(how, 0) + 1
            longest = max(longest, took)
    finally:
        beside.end()
    said = ", ".join(f"{count} {how}" for how, count in sorted(came.items()))
    said = f"{len(chosen)} of {len(steps)} steps: {said or 'none'}; service back in {longest:.2f} s"
    if beside.answers:
        said += f"; another user: {beside.answers} answers, {beside.failures} failed and said so"
        said += f", {beside.longest:.2f} s between two at most"
    return said


@contextlib.contextmanager
def ground_on(version: str) -> Iterator[Ground]:
    """Have an engine and a sockproxy for the command."""
    with contextlib.ExitStack() as stack:
        folder = shared_folder()
        stack.callback(remove_folder, folder)
        (folder / "homes").mkdir()
        users = Users(folder / "homes")
        stack.callback(users.remove)
        engine = Engine(version, folder / "engine")
        stack.callback(engine.stop)
        (folder / "proxy").mkdir()
        users.add_plugins(engine.plugins)
        proxy = Proxy(engine, folder / "proxy", default_policy(users))
        stack.callback(proxy.stop)
        yield Ground(proxy, users)


def main() -> int:
    """Kill at all steps, and print what was seen; 1 when something was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", default="28")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("calls", nargs="*", default=[])
    options = parser.parse_args()
    failed = False
    with ground_on(options.engine) as ground:
        for name, kind in CALLS.items():
            for process in kind.processes if not options.calls or name in options.calls else ():
                try:
                    with nothing_left(ground):
                        said = kill(ground, kind, process, options.steps)
                except (AssertionError, KeyError, OSError):
                    said, failed = f"FAILED: {traceback.format_exc(limit=-2)}", True
                print(f"| {name} | {process} | {said} |", flush=True)
                ground.proxy.engine.clean()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

__all__ = ["CALLS", "Ground", "User", "kill_at", "nothing_left"]
