"""docker compose through sockproxy: a project of two services from up to down, in both versions that are tested."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.support import engines
from tests.support.proxy import Proxy, eventually
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

PROJECT = """
name: {name}
services:
  web:
    image: busybox
    command: httpd -f -v -p 8000 -h /project
    ports: ["{port}:8000"]
    volumes: [".:/project:ro", "data:/data"]
    environment: {{GREETING: "{greeting}"}}
    healthcheck: {{test: wget -q -O /dev/null http://127.0.0.1:8000/page, interval: 1s, retries: 20}}
    stop_signal: SIGKILL
  app:
    image: busybox
    command: sh -c 'wget -q -O - http://web:8000/page; sleep 1000'
    depends_on: {{web: {{condition: service_healthy}}}}
    stop_signal: SIGKILL
networks:
  default: {{labels: {{kind: test}}}}
volumes:
  data:
"""


class Project:
    """A compose project in a user's home."""

    def __init__(self, proxy: Proxy, user: User, version: str) -> None:
        self.proxy, self.user, self.name = proxy, user, f"project{version}"
        self.port = 18000 + int(version)
        self.folder = user.home / self.name
        self.folder.mkdir(exist_ok=True)
        (self.folder / "page").write_text("a page\n")
        self.write("hello")
        self.config = user.home / f".docker{version}"
        if not self.config.exists():
            (self.config / "cli-plugins").mkdir(parents=True)
            for plugin in engines.client(version).plugins.iterdir():
                (self.config / "cli-plugins" / plugin.name).symlink_to(plugin)
            os.chown(self.config, user.uid, user.gid)
        self.environment = {"DOCKER_CONFIG": str(self.config)}

    def write(self, greeting: str) -> None:
        """Write the project's file."""
        text = PROJECT.format(name=self.name, port=self.port, greeting=greeting)
        (self.folder / "compose.yaml").write_text(text)

    @property
    def options(self) -> dict[str, object]:
        """The settings of a command."""
        return {"cwd": self.folder, "env": {**self.proxy.environment(self.user), **self.environment}}

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run compose; give its output."""
        done = self.proxy.docker(self.user, "compose", *arguments, timeout=100, **self.options)
        assert not (check and done.returncode), done.stderr
        return done.stdout if check else done.stdout + done.stderr

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start compose in the foreground, with SIGINT as a shell leaves it."""
        argv = ["env", "--default-signal=INT", "docker", "compose", *arguments]
        return self.proxy.start(self.user, argv, **self.options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _until(process: subprocess.Popen[bytes], mark: bytes) -> bytes:
    """Read a process' output up to a mark; the kernel ends it when that takes too long."""
    assert process.stdout
    seen = b""
    while mark not in seen:
        piece = os.read(process.stdout.fileno(), 65536)
        assert piece, seen
        seen += piece
    return seen


def test_a_project(proxy: Proxy, users: Users) -> None:
    project = Project(proxy, users.alice, "26" if proxy.engine.version == "26" else "28")
    try:
        project.run("up", "-d")
        assert set(project.run("ps", "--services").split()) == {"web", "app"}
        assert "(healthy)" in project.run("ps", "web")
        page = proxy.engine.exec(["curl", "-fsm", "10", f"http://127.0.0.1:{project.port}/page"], capture_output=True)
        assert page.stdout == "a page\n"
        eventually(lambda: "a page" in project.run("logs", "app"), "app's output")
        assert project.run("exec", "-T", "app", "echo", "x") == "x\n"
        assert project.run("exec", "-T", "web", "sh", "-c", "echo kept >/data/file; echo $GREETING") == "hello\n"
        assert (
            project.run("run", "--rm", "-T", "--no-deps", "app", "wget", "-qO-", "http://web:8000/page") == "a page\n"
        )
        with project.start("logs", "-f", "--no-color", "app") as follower:
            _until(follower, b"a page")
            follower.send_signal(signal.SIGINT)
            follower.communicate(timeout=20)
        project.run("restart", "-t", "0", "app")
        before = project.run("ps", "-q", "web")
        project.run("up", "-d")
        assert project.run("ps", "-q", "web") == before
        project.write("changed")
        project.run("up", "-d")
        assert project.run("ps", "-q", "web") != before
        assert project.run("exec", "-T", "web", "sh", "-c", "cat /data/file; echo $GREETING") == "kept\nchanged\n"
    finally:
        project.run("down", "-v", "-t", "0")
    left = [
        proxy.engine.docker(*what, "-q", "--filter", f"label=com.docker.compose.project={project.name}").stdout
        for what in (["ps", "-a"], ["network", "ls"], ["volume", "ls"])
    ]
    assert left == ["", "", ""]


@pytest.mark.parametrize("version", engines.CLIENTS)
def test_up_in_the_foreground(proxy28: Proxy, users: Users, version: str) -> None:
    """It attaches to all services and watches events; Ctrl-C stops them."""
    project = Project(proxy28, users.alice, version)
    try:
        with project.start("up", "--no-color") as up:
            _until(up, b"a page")
            up.send_signal(signal.SIGINT)
            rest, _ = up.communicate(timeout=60)
        assert b"panic" not in rest
        assert project.run("ps", "-q") == ""
        assert set(project.run("ps", "-a", "--services").split()) == {"web", "app"}
    finally:
        project.run("down", "-v", "-t", "0")


@pytest.mark.parametrize("version", engines.CLIENTS)
def test_what_the_role_refuses_is_told(proxy28: Proxy, users: Users, version: str) -> None:
    project = Project(proxy28, users.alice, version)
    file = project.folder / "compose.yaml"
    refused = ["privileged: true", "network_mode: host", "volumes: ['/etc:/x']", "ports: ['80:80']", "pid: host"]
    for line in refused:
        file.write_text(f"services:\n  x:\n    image: busybox\n    {line}\n")
        said = project.run("up", "-d", check=False)
        assert "sockproxy: " in said, (line, said)
    project.run("down", "-v", "-t", "0")


@pytest.mark.parametrize("version", engines.CLIENTS)
def test_build(proxy28: Proxy, users: Users, version: str) -> None:
    """By BuildKit, and the classic way."""
    project = Project(proxy28, users.alice, version)
    (project.folder / "compose.yaml").write_text(f"services:\n  x:\n    build: .\n    image: {project.name}\n")
    (project.folder / "Dockerfile").write_text("FROM busybox\nRUN echo built >/made\nCMD cat /made\n")
    project.run("build")
    assert proxy28.docker(users.alice, "run", "--rm", project.name).stdout == "built\n"
    project.environment["DOCKER_BUILDKIT"] = "0"
    said = project.run("build", check=False)
    assert proxy28.docker(users.alice, "run", "--rm", project.name).stdout == "built\n", said
    proxy28.engine.docker("rmi", project.name)
