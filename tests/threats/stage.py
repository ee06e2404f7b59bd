"""Where attacks are tried: what Bob and Alice have on one engine, and what an attack has changed or brought out."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.support.belongings import OWNER, Person, Root
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Answer, BrokenOff, Connection
from tests.support.users import Users

OUTPUT, SECRET, FILE = "b0bs-0utput", "b0bs-s3cret", "b0bs-f1le"  # what nobody but Bob may learn
PORT = 18999  # on the loopback of the engine's host: a service that only the host reaches
SERVICE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404)
        self.end_headers()
    do_HEAD = do_GET
    def log_message(self, form, *words):
        with open(sys.argv[1], "a") as file:
            file.write(self.path + "\\n")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""


# What is there at the beginning: whose, its name says; and the word that stands for its ID.
MAKING = {
    ("networks", "bobs-net"): "NET",
    ("networks", "bobs-unused-net"): "UNUSEDNET",
    ("networks", "alices-net"): "OWNNET",
    ("volumes", "bobs-data"): "DATA",
    ("volumes", "bobs-unused"): "UNUSED",
    ("volumes", "alices-data"): "OWNDATA",
    ("containers", "bobs-db"): "BOB",
    ("containers", "bobs-web"): "WEB",
    ("containers", "bobs-stopped"): "STOPPED",
    ("containers", "alices-app"): "OWN",
}
DELETE = {
    "containers": "/containers/{}?force=1&v=1",
    "networks": "/networks/{}",
    "volumes": "/volumes/{}?force=1",
    "images": "/images/{}?force=1",
}


class Ask(NamedTuple):
    """A request: {BOB} and the like stand for what is on the stage, {MADE} for the ID that the last answer gave.

    Attributes:
        body: JSON to be; text and bytes go as they are.
        kind: the Content-Type; "" for application/json, and application/x-tar with bytes.
    """

    method: str
    target: str
    body: Any = None
    kind: str = ""


class Raw(NamedTuple):
    """Bytes on a connection; the answers are read until the other side ends, or says nothing more."""

    data: str


class Docker(NamedTuple):
    """A docker command."""

    arguments: str


Step = Ask | Raw | Docker


class Attack(NamedTuple):
    """One row.

    Attributes:
        name: unique.
        threat: the class of what a user of the API could do.
        steps: how.
        judge: whether it succeeded, by the daemon's or the host's state, or by what the attacker has learned.
        engine: which it needs.
    """

    name: str
    threat: str
    steps: list[Step]
    judge: Callable[[Stage], object]
    engine: str = "28"


class Stage:
    """An engine with a sockproxy before it, and what two developers have there.

    Attributes:
        answers: what the attacker was answered, bodies and all.
        made: the containers that were not there before, as the daemon inspects them.
    """

    def __init__(self, proxy: Proxy, users: Users) -> None:
        self.proxy, self.users, self.engine = proxy, users, proxy.engine
        self.alice, self.bob = Person(proxy, users.alice), Person(proxy, users.bob)
        self.root = Root(proxy, users.root)
        self.answers: list[bytes] = []
        self._base: Any = None
        folder = self.engine.folder
        self.hits, self._socket_path = folder / "hits", folder / "host.sock"
        self._words = {
            "ALICE": str(users.alice.uid),
            "BOBUID": str(users.bob.uid),
            "SOCKET": str(self._socket_path),
            "PORT": str(PORT),
            "FOLDER": str(folder),
            "HOME": str(users.alice.home),
        }
        self.on_host("ip", "address", "add", "192.168.77.5/24", "dev", "eth0")  # a network of the host's own
        self.hits.touch()
        self._service = self.engine.start([sys.executable, "-c", SERVICE, str(self.hits), str(PORT)])
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._socket_path))
        self._socket_path.chmod(0o600)
        self._listener.listen(64)
        self._listener.setblocking(False)
        probe = ["curl", "-sm", "1", f"http://127.0.0.1:{PORT}/"]
        eventually(lambda: self.engine.exec(probe, capture_output=True).returncode == 0, "the host's own service")

    def close(self) -> None:
        """Leave nothing behind."""
        self._listener.close()
        self.root.clean()

    # Setting the stage

    def set(self) -> None:
        """Make sure that all is as at the beginning."""
        self.answers = []
        self.hits.write_text("")
        while self.socket_hit():
            pass
        (self.users.alice.home / "disk").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (self.engine.folder / "made-by-create").rmdir()
        changed = not self._base
        if changed:
            self.root.clean()
            for kind, name in MAKING:
                self._make(kind, name)
        else:
            changed = not self._undo(self.root.state())
        self._make_images()
        if changed:
            self._base = self.root.state()
        networks = {item["Name"]: item["Id"] for item in self.root.get("GET", "/networks")}
        self._words |= {
            "BOB12": self._words["BOB"][:12],
            "BOB4": self._words["BOB"][:4],
            "EXEC": self._exec("EXEC", self.bob, "BOB", "touch", "/by-exec"),
            "OWNEXEC": self._exec("OWNEXEC", self.alice, "OWN", "true"),
            "BRIDGE": networks["bridge"],
            "BRIDGE12": networks["bridge"][:12],
            "HOSTNET": networks["host"],
            "NOW": str(int(time.time()) + 1),
        }

    def _exec(self, word: str, owner: Person, container: str, *command: str) -> str:
        """Give an exec that was never started: the last one if it still is, since a container has room for few."""
        answer = self.root.ask("GET", f"/exec/{self._words.get(word)}/json")
        found = json.loads(answer.body) if answer.status == 200 else {"Running": True}
        if found["Running"] or found["ExitCode"] is not None or found["ContainerID"] != self._words[container]:
            return owner.exec(self._words[container], *command)
        return self._words[word]

    def _undo(self, now: Any) -> bool:
        """Remove what is new, make again what has changed; tell whether nothing had."""
        for kind, path in DELETE.items():
            for identity in now[kind].keys() - self._base[kind].keys():
                if kind != "images":
                    self.root.ask("DELETE", path.format(identity))
        for identity, tags in now["images"].items():
            new = set(tags or []) - set(self._base["images"].get(identity) or [])
            for reference in [*new, *([identity] if identity not in self._base["images"] else [])]:
                self.root.ask("DELETE", DELETE["images"].format(reference))
        unchanged = now["images"].items() >= self._base["images"].items()
        for kind, name in sorted(MAKING):  # containers first
            identity = self._words[MAKING[kind, name]]
            if self._base[kind][identity] != now[kind].get(identity) and (
                kind == "containers" or identity not in now[kind]
            ):
                unchanged = False
                self.root.ask("DELETE", DELETE[kind].format(identity))
                self._make(kind, name)
        return unchanged

    def _make(self, kind: str, name: str) -> None:
        """Make one of the things that are there from the beginning."""
        owner = self.alice if name.startswith("alices") else self.bob
        if kind == "networks":
            found = owner.network(name)
        elif kind == "volumes":
            found = owner.volume(name)
        elif name == "bobs-db":
            script = f"echo {OUTPUT}; echo {FILE} >/data/file; echo {FILE} >/file; sleep 600"
            config = {"NetworkMode": "bobs-net", "Binds": ["bobs-data:/data"], "IpcMode": "shareable"}
            found = owner.run(name, HostConfig=config, Cmd=["sh", "-c", script], Env=[f"SECRET={SECRET}"])
            eventually(
                lambda: FILE in str(self.root.ask("GET", f"/containers/{found}/archive?path=/file").body), "/file"
            )
        elif name == "bobs-web":  # on the bridge that all share, where sockproxy would not have let it be
            config = {"ContainerIDFile": f"{OWNER}={self.bob.user.uid}"}
            ports = {"80/tcp": {}}
            found = self.root.run(
                name, HostConfig=config, Labels=owner.label, Env=[f"SECRET={SECRET}"], ExposedPorts=ports
            )
        elif name == "bobs-stopped":
            found = owner.create(name, Labels={"a": "b"}, HostConfig={"NetworkMode": "none"})
        else:
            config = {"NetworkMode": "alices-net", "Binds": ["alices-data:/data"]}
            found = owner.run(name, HostConfig=config)
        self._words[MAKING[kind, name]] = found

    def _make_images(self) -> None:
        """Have a name that all share, and an image of Bob's with a secret in its environment and one in a file."""
        self.root.get("POST", "/images/busybox/tag?repo=shared&tag=1")
        if not self.inspect("/images/bobs-image:1/json"):
            self.bob.build(f"FROM busybox\nENV SECRET={SECRET}\nCOPY Dockerfile /{FILE}\n", "t=bobs-image:1")
        self._words |= {"IMAGE": self.inspect("/images/bobs-image:1/json")["Id"]}
        self._words |= {"BASE": self.inspect("/images/busybox/json")["Id"]}

    # Attacking

    def play(self, attack: Attack, attacker: Person) -> None:
        """Do what an attack's row says."""
        for step in attack.steps:
            if isinstance(step, Ask):
                self._ask(attacker, step)
            elif isinstance(step, Raw):
                self._raw(attacker, step)
            else:
                self._docker(attacker, step)

    def _ask(self, attacker: Person, step: Ask) -> None:
        body = step.body
        if isinstance(body, str):
            body = self._fill(body).encode()
        elif body is not None and not isinstance(body, bytes):
            body = json.loads(self._fill(json.dumps(body)))
        kind = step.kind or ("application/json" if isinstance(step.body, str) else "")
        headers = {"Content_Type": kind} if kind else {}
        with contextlib.suppress(BrokenOff, TimeoutError):  # a stream that goes on, or ends in the middle
            self._take(attacker.ask(step.method, self._fill(step.target).replace('"', "%22"), body, **headers))

    def _take(self, answer: Answer) -> None:
        self.answers.append(answer.body)
        with contextlib.suppress(ValueError, AttributeError):
            found = json.loads(answer.body)
            self._words["MADE"] = str(found.get("Id") or found.get("Name") or "none")

    def _raw(self, attacker: Person, step: Raw) -> None:
        bare = attacker is self.root
        with Connection(self.engine.socket if bare else self.proxy.listen, None if bare else attacker.user, 1.5) as one:
            one.send(self._fill(step.data).encode("latin-1"))
            with contextlib.suppress(TimeoutError):
                while data := one.receive():
                    self.answers.append(data)

    def _docker(self, attacker: Person, step: Docker) -> None:
        words = [self._fill(word) for word in step.arguments.split()]
        if attacker is self.root:
            done = self.engine.docker(*words, check=False, timeout=30)
        else:
            done = self.proxy.docker(attacker.user, *words, timeout=30)
        self.answers.append((done.stdout + done.stderr).encode())

    def _fill(self, text: str) -> str:
        for word, value in self._words.items():
            text = text.replace("{" + word + "}", value)
        return text

    # Judging

    def word(self, name: str) -> str:
        """Give what a word stands for."""
        return self._words[name]

    def learned(self, text: str) -> bool:
        """Tell whether the attacker was told something."""
        return any(self._fill(text).encode() in answer for answer in self.answers)

    @property
    def made(self) -> list[Any]:
        """Inspect the containers that are new."""
        found = self.root.get("GET", "/containers/json?all=1")
        new = [item["Id"] for item in found if item["Id"] not in self._base["containers"]]
        return [self.root.get("GET", f"/containers/{identity}/json") for identity in new]

    def inspect(self, path: str) -> Any:
        """Read at the daemon; None for what is not there."""
        answer = self.root.ask("GET", self._fill(path))
        return json.loads(answer.body) if answer.status == 200 else None

    def state(self) -> Any:
        """Read all that the daemon holds, and what it held at the beginning."""
        return self._base, self.root.state()

    def on_host(self, *command: str) -> str:
        """Run a command where the daemon's network is."""
        done: subprocess.CompletedProcess[str] = self.engine.exec(list(command), capture_output=True)
        return done.stdout

    def in_home(self, name: str) -> bool:
        """Tell whether there is something of this name in the attacker's home, on the host."""
        return (self.users.alice.home / name).exists()

    def socket_hit(self) -> bool:
        """Tell whether somebody has connected to root's own socket, which no user may."""
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def service_hit(self, path: str = "") -> bool:
        """Tell whether the host's own service was reached."""
        return any(line.startswith(path) for line in self.hits.read_text().splitlines())
