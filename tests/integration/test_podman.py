"""Podman's Docker-compatible service as the daemon: the docker CLI and docker-py run, exec, read logs and build."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest

from tests.support.containers import API
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy
from tests.support.raw import acting_as, call
from tests.support.users import Users

pytestmark = [
    pytest.mark.daemon,
    pytest.mark.root,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # docker-py leaves upgraded connections to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def _proxy(podman_engine: Engine, users: Users, folder: Path) -> Iterator[Proxy]:
    (folder / "podman").mkdir()
    users.add_plugins(podman_engine.plugins)
    running = Proxy(podman_engine, folder / "podman", default_policy(users))
    yield running
    running.stop()


@pytest.fixture
def podman(_proxy: Proxy) -> Iterator[Proxy]:
    """A sockproxy before podman; containers are removed after each test."""
    yield _proxy
    _proxy.engine.clean()


@pytest.fixture
def client(podman: Proxy, users: Users) -> Iterator[docker.DockerClient]:
    """docker-py as alice."""
    with acting_as(users.alice), closing(docker.DockerClient(podman.docker_host, timeout=60)) as connected:
        yield connected


def test_cli_run(podman: Proxy, users: Users) -> None:
    assert podman.docker(users.alice, "run", "--rm", "busybox", "echo", "hello").stdout == "hello\n"
    assert podman.docker(users.alice, "run", "busybox", "sh", "-c", "exit 3").returncode == 3  # with --rm podman says 0
    piped = podman.docker(users.alice, "run", "--rm", "-i", "busybox", "cat", input="in\n")
    assert piped.stdout == "in\n"
    home = podman.docker(users.alice, "run", "--rm", "-v", f"{users.alice.home}:/h", "busybox", "touch", "/h/made")
    assert home.returncode == 0, home.stderr


def test_cli_exec_and_logs(podman: Proxy, users: Users) -> None:
    script = "echo one; echo two >&2; sleep 1000"
    assert podman.docker(users.alice, "run", "-d", "--name", "long", "busybox", "sh", "-c", script).returncode == 0
    done = podman.docker(users.alice, "exec", "long", "sh", "-c", "echo x; exit 4")
    assert (done.stdout, done.returncode) == ("x\n", 4)
    assert podman.docker(users.alice, "exec", "-i", "long", "cat", input="in\n").stdout == "in\n"
    logs = podman.docker(users.alice, "logs", "long")
    assert (logs.stdout, logs.stderr) == ("one\n", "two\n")
    assert "long" in podman.docker(users.alice, "ps").stdout
    assert podman.docker(users.alice, "rm", "-f", "long").returncode == 0


def test_cli_build(podman: Proxy, users: Users) -> None:
    context = users.alice.home / "podman-context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nCOPY file /file\nRUN echo x >>/file\nCMD cat /file\n")
    (context / "file").write_text("hello\n")
    classic = podman.environment(users.alice) | {"DOCKER_BUILDKIT": "0"}
    built = podman.docker(users.alice, "build", "-t", "podbuilt", str(context), env=classic)
    assert built.returncode == 0, built.stderr
    assert podman.docker(users.alice, "run", "--rm", "podbuilt").stdout == "hello\nx\n"


def test_docker_py(client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    container = client.containers.run("busybox", ["sh", "-c", "echo one; sleep 1000"], detach=True)
    logs = container.logs(stream=True, follow=True)
    assert next(logs) == b"one\n"
    assert container.exec_run(["sh", "-c", "echo a; exit 4"]) == (4, b"a\n")
    assert container.exec_run(["sh", "-c", "echo a; echo b >&2"], demux=True).output == (b"a\n", b"b\n")
    container.kill()
    assert list(logs) == []
    container.remove()
    file = io.BytesIO(b"FROM busybox\nRUN echo x >/made\nCMD cat /made\n")
    image, _ = client.images.build(fileobj=file, rm=True, tag="podpy")
    assert client.containers.run("podpy", remove=True) == b"x\n"
    assert image.tags


def test_what_the_role_refuses(podman: Proxy, users: Users) -> None:
    assert "viewer" in podman.docker(users.carol, "run", "--rm", "busybox", "true").stderr
    assert "sockproxy: " in podman.docker(users.alice, "run", "--rm", "--privileged", "busybox", "true").stderr
    for target in ("/v4.3.1/libpod/info", "/libpod/_ping", f"{API}/libpod/info", "/v4.3.1/libpod/containers/json"):
        assert call(podman.listen, "GET", target).status == 404
