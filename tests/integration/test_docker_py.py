"""docker-py works through sockproxy as on the engine itself: containers, exec, streams, the rest of the API."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing

import docker
import pytest

from tests.support.proxy import Proxy, eventually
from tests.support.raw import acting_as, output
from tests.support.users import Users

pytestmark = [
    pytest.mark.daemon,
    pytest.mark.root,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # docker-py leaves upgraded connections to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SLEEP = ["sleep", "1000"]


def _connect(proxy: Proxy) -> closing[docker.DockerClient]:
    return closing(docker.DockerClient(proxy.docker_host, version="auto", timeout=60))


@pytest.fixture
def client(proxy: Proxy, users: Users) -> Iterator[docker.DockerClient]:
    """docker-py as alice: the identity counts when it connects, which it does at each call."""
    with acting_as(users.alice), _connect(proxy) as connected:
        yield connected


def test_run(client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    assert client.containers.list(all=True) == []
    stream = client.containers.run("busybox", ["sh", "-c", "echo a; echo b >&2"], stream=True, stderr=True, remove=True)
    assert sorted(stream) == [b"a\n", b"b\n"]
    with pytest.raises(docker.errors.ContainerError) as failure:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    assert (failure.value.exit_status, failure.value.stderr) == (3, b"bad\n")
    with pytest.raises(docker.errors.ImageNotFound):
        client.containers.create("no-such-image")


def test_a_detached_container(client: docker.DockerClient) -> None:
    container = client.containers.run(
        "busybox", ["sh", "-c", "echo one; read x; echo two"], detach=True, stdin_open=True
    )
    logs = container.logs(stream=True, follow=True)
    assert next(logs) == b"one\n"
    assert container.top()["Processes"]
    container.rename("renamed")
    container.update(mem_limit="64m", memswap_limit="64m")
    container.pause()
    container.reload()
    assert (container.name, container.status) == ("renamed", "paused")
    assert container.attrs["HostConfig"]["Memory"] == 64 << 20
    container.unpause()
    container.kill("KILL")
    assert container.wait(timeout=30)["StatusCode"] == 137
    assert list(logs) == []
    container.start()
    container.restart(timeout=0)
    container.stop(timeout=0)
    assert container.logs(tail=1) == b"one\n"
    container.remove()
    with pytest.raises(docker.errors.NotFound):
        container.reload()


def test_exec(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", SLEEP, detach=True)
    assert container.exec_run(["sh", "-c", "echo a; exit 4"]) == (4, b"a\n")
    _, pieces = container.exec_run(["sh", "-c", "echo a; echo b"], stream=True)
    assert b"".join(pieces) == b"a\nb\n"
    assert container.exec_run(["sh", "-c", "echo a; echo b >&2"], demux=True).output == (b"a\n", b"b\n")
    assert container.exec_run(["sh", "-c", "test -t 1 && echo tty"], tty=True).output == b"tty\r\n"
    container.exec_run(["touch", "/made"], detach=True)
    eventually(lambda: container.exec_run(["test", "-e", "/made"]).exit_code == 0, "the detached command")
    assert container.exec_run(["env"], environment={"A": "b"}, workdir="/tmp", user="0").exit_code == 0
    assert container.exec_run(["no-such-command"]).exit_code in (126, 127)


def test_exec_by_its_socket(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", SLEEP, detach=True)
    _, stream = container.exec_run(["cat"], stdin=True, socket=True)
    sock = getattr(stream, "_sock", stream)
    sock.settimeout(20)
    sock.sendall(b"hello\n")
    assert output(stream.read(8 + 6)) == b"hello\n"
    stream.close()
    sock.close()


def test_attach_by_its_socket(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", ["cat"], stdin_open=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    sock = getattr(stream, "_sock", stream)
    sock.settimeout(20)
    container.start()
    for word in (b"one\n", b"two\n"):
        sock.sendall(word)
        assert output(stream.read(8 + len(word))) == word
    stream.close()
    sock.close()


def test_attach_as_a_stream(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", ["sh", "-c", "echo a; sleep 1; echo b"], tty=True)
    pieces = container.attach(stream=True)
    container.start()
    assert b"".join(pieces) == b"a\r\nb\r\n"


def test_stats(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", SLEEP, detach=True)
    assert container.stats(stream=False)["pids_stats"]["current"] == 1
    stream = container.stats(decode=True)
    assert next(stream)["memory_stats"]
    assert next(stream)["memory_stats"]
    stream.close()


def test_events_closed_from_another_thread(client: docker.DockerClient) -> None:
    events = client.events(decode=True, filters={"type": "container"})
    seen: list[str] = []

    def watch() -> None:
        seen.extend(event["Action"] for event in events)

    thread = threading.Thread(target=watch)
    thread.start()
    client.containers.run("busybox", ["true"], remove=True)
    eventually(lambda: "destroy" in seen, "the events")
    events.close()
    thread.join(20)
    assert not thread.is_alive()
    assert [action for action in seen if action in ("create", "start", "die")] == ["create", "start", "die"]


def test_archives(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", ["cat", "/tmp/file"])
    data = bytes(range(256)) * 4096
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    assert container.put_archive("/tmp", file.getvalue())
    assert container.put_archive("/tmp", io.BytesIO(file.getvalue()))  # chunked
    pieces, stat = container.get_archive("/tmp/file")
    assert (stat["name"], stat["size"]) == ("file", len(data))
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        content = archive.extractfile("file")
        assert content
        assert content.read() == data
    assert {"Path": "/tmp/file", "Kind": 1} in container.diff()
    with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as archive:
        assert archive.getmember("tmp/file").size == len(data)
    with pytest.raises(docker.errors.NotFound):
        container.get_archive("/none")


def test_volumes(client: docker.DockerClient) -> None:
    volume = client.volumes.create("pyvolume", labels={"a": "b"})
    assert volume in client.volumes.list(filters={"label": "a=b"})
    mounts = {"pyvolume": {"bind": "/data", "mode": "rw"}}
    client.containers.run("busybox", ["sh", "-c", "echo x >/data/file"], volumes=mounts, remove=True)
    mount = docker.types.Mount("/data", "pyvolume", read_only=True)
    assert client.containers.run("busybox", ["cat", "/data/file"], mounts=[mount], remove=True) == b"x\n"
    client.volumes.get("pyvolume").remove()
    assert client.volumes.list(filters={"name": "pyvolume"}) == []
    client.volumes.prune()


def test_networks(client: docker.DockerClient) -> None:
    network = client.networks.create("pynetwork", driver="bridge", labels={"a": "b"})
    server = client.containers.run("busybox", SLEEP, detach=True, network="pynetwork", name="server")
    other = client.containers.run("busybox", SLEEP, detach=True)
    network.connect(other, aliases=["other"])
    assert server.exec_run(["nslookup", "other"]).exit_code == 0
    network.disconnect(other)
    network.reload()
    assert network.containers == [server]
    server.remove(force=True)
    network.remove()
    assert client.networks.list(names=["pynetwork"]) == []
    client.networks.prune()


def test_the_system(client: docker.DockerClient, proxy: Proxy) -> None:
    assert client.ping()
    assert client.version()["ApiVersion"]
    assert client.info()["Containers"] == 0
    assert "Volumes" in client.df()
    created = client.containers.create("busybox", ["true"], labels={"prune": "me"})
    pruned = client.containers.prune(filters={"label": "prune=me"})
    assert pruned["ContainersDeleted"] == [created.id]


def test_http_headers_of_the_configuration(proxy: Proxy, users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    config = users.alice.home / "py"
    config.mkdir(exist_ok=True)
    (config / "config.json").write_text(json.dumps({"HttpHeaders": {"X-Meta": "a", "X-Other": "b"}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(config))
    with acting_as(users.alice), _connect(proxy) as client:
        assert client.api._general_configs["HttpHeaders"]["X-Meta"] == "a"
        assert client.containers.run("busybox", ["echo", "x"], remove=True) == b"x\n"


def test_what_the_role_refuses(proxy: Proxy, users: Users) -> None:
    with acting_as(users.carol), _connect(proxy) as viewer:
        assert viewer.containers.list() == []
        with pytest.raises(docker.errors.APIError, match="viewer") as refusal:
            viewer.containers.run("busybox", ["true"])
        assert refusal.value.status_code == 403
    with acting_as(users.alice), _connect(proxy) as developer:
        for refused in (
            {"privileged": True},
            {"pid_mode": "host"},
            {"network_mode": "host"},
            {"cap_add": ["SYS_ADMIN"]},
            {"volumes": ["/etc:/host"]},
            {"devices": ["/dev/kmsg"]},
            {"security_opt": ["seccomp=unconfined"]},
        ):
            with pytest.raises(docker.errors.APIError, match="sockproxy: "):
                developer.containers.create("busybox", **refused)
    with _connect(proxy) as admin:
        assert admin.containers.run("busybox", ["cat", "/proc/1/comm"], pid_mode="host", remove=True) != b"cat\n"
