"""Private Docker engines for tests, started by `tests/engines/engine`."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tests.support import needs

SCRIPT = Path(__file__).resolve().parents[1] / "engines" / "engine"
VERSIONS = ("20", "26", "28")
# The client, and its compose and buildx: of these engines' packages, so that no test depends on what the host has.
CLIENTS = ("26", "28")

REGISTRY = """version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/registry}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:5000"}}
"""


def _script(*arguments: str | Path, options: str = "") -> str:
    environment = os.environ | ({"ENGINE_OPTS": options} if options else {})
    done = subprocess.run(
        [SCRIPT, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment
    )
    if done.returncode:
        needs.missing(f"{' '.join(str(a) for a in arguments)}: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()


def client(version: str = "28") -> Client:
    """Find the docker CLI of an engine's packages, fetching them when they are not there."""
    return Client(Path(_script("fetch", version).splitlines()[-1]))


class Client:
    """A docker CLI and its plugins."""

    def __init__(self, packages: Path) -> None:
        self.docker = packages / "usr/bin/docker"
        self.plugins = packages / "usr/libexec/docker/cli-plugins"


class Gone:
    """Answer for the volume plugin of a sockproxy that has ended.

    An engine remembers a plugin until it is restarted, and each look-up of a volume waits 30 s for one that does not
    answer: for the tests that use the engine after this one, somebody says that it knows no such call. It has no
    volumes: of a plugin that can't say so the engine lists those that it remembers.
    A process of its own: tests count the descriptors of theirs.
    """

    SERVE = """
import contextlib, socket
listener = socket.socket(fileno=0)
while True:
    sock, _ = listener.accept()
    with sock, contextlib.suppress(OSError):
        sock.settimeout(10)
        lists = b"/VolumeDriver.List" in sock.recv(65536)
        status, body = (b"200 OK", b'{"Volumes":[]}') if lists else (b"404 Not Found", b"")
        head = b"HTTP/1.1 %s\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % (status, len(body))
        sock.sendall(head + body)
"""

    def __init__(self, path: str) -> None:
        self._path = path
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(64)
            self._process = subprocess.Popen([sys.executable, "-I", "-S", "-c", self.SERVE], stdin=listener.fileno())

    def end(self) -> None:
        """Make room for the plugin itself, or end with the engine."""
        self._process.kill()
        self._process.wait()
        os.unlink(self._path)


class Engine:
    """A running engine.

    Attributes:
        gone: who answers for the plugins of sockproxies that have ended, by the plugin's path.
        version: "20", "26", "28" or "podman".
        socket: the path of its API socket, for root.
        folder: where it keeps everything; owned by this test run.
        plugin_dir: where it looks for volume plugins.
    """

    def __init__(self, version: str, folder: Path, options: str = "") -> None:
        """Start it, perhaps with further options of dockerd's."""
        self.version, self.folder, self.plugin_dir = version, folder, folder / "plugins"
        self.cli = client().docker  # before the start: fetching may be what fails
        self.plugins = client().plugins
        self.socket = _script("start", version, folder, options=options)
        _script("busybox", folder)
        self._children: list[subprocess.Popen[bytes]] = []
        self._has_registry = False
        self.gone: dict[str, Gone] = {}

    def docker(self, *arguments: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        """Run the docker CLI on the engine itself, as root, past sockproxy."""
        command = [self.cli, "-H", f"unix://{self.socket}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=check, **options)  # type: ignore[call-overload,no-any-return]

    def exec(self, argv: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command in the engine's network namespace, where its published ports are."""
        return subprocess.run([SCRIPT, "exec", self.folder, *argv], text=True, **options)  # type: ignore[call-overload,no-any-return]

    def start(self, argv: list[str], **options: object) -> subprocess.Popen[bytes]:
        """Start a process in the engine's network namespace; it is ended with the engine."""
        self._children.append(subprocess.Popen([SCRIPT, "exec", self.folder, *argv], **options))  # type: ignore[call-overload]
        return self._children[-1]

    def registry(self) -> str:
        """Run Debian's docker-registry on the engine's loopback, once; return its HOST:PORT."""
        if not shutil.which("docker-registry"):
            needs.missing("no docker-registry on this host (package docker-registry)")
        if not self._has_registry:
            self._has_registry = True
            config = self.folder / "registry.yml"
            config.write_text(REGISTRY.format(folder=self.folder))
            with open(self.folder / "registry.log", "wb") as log:
                self.start(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
            retry = ["--retry", "50", "--retry-delay", "1", "--retry-connrefused"]
            self.exec(["curl", "-fs", *retry, "http://127.0.0.1:5000/v2/"], check=True, capture_output=True)
        return "127.0.0.1:5000"

    def clean(self) -> None:
        """Remove all containers, and the networks and volumes that none uses."""
        ids = self.docker("ps", "-aq").stdout.split()
        if ids:
            self.docker("rm", "-fv", *ids, check=False)
        self.docker("network", "prune", "-f", check=False)

    def stop(self) -> None:
        """Stop the engine; what its namespaces hold ends with it."""
        while self.gone:
            self.gone.popitem()[1].end()
        for child in self._children:
            child.kill()
            child.wait()
        subprocess.run([SCRIPT, "stop", self.folder], capture_output=True)


class Engines:
    """The engines of a test run: each started when it is first asked for, all stopped at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Engine] = {}

    def get(self, version: str) -> Engine:
        """Give a running engine."""
        needs.root()
        if version not in self._running:
            self._running[version] = Engine(version, self._folder / f"e{version}")
        return self._running[version]

    def stop(self) -> None:
        """Stop them all."""
        for engine in self._running.values():
            engine.stop()
