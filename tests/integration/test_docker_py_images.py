"""docker-py's images through sockproxy: build, commit, save and load, import, pull and push."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import closing

import docker
import pytest

from tests.support.proxy import Proxy
from tests.support.raw import acting_as
from tests.support.users import Users

pytestmark = [
    pytest.mark.daemon,
    pytest.mark.root,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # docker-py leaves connections to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def _connect(proxy: Proxy) -> closing[docker.DockerClient]:
    return closing(docker.DockerClient(proxy.docker_host, version="auto", timeout=60))


@pytest.fixture
def client(proxy: Proxy, users: Users) -> Iterator[docker.DockerClient]:
    """docker-py as alice."""
    with acting_as(users.alice), _connect(proxy) as connected:
        yield connected


def test_build_a_folder(client: docker.DockerClient, users: Users) -> None:
    context = users.alice.home / "py-context"
    context.mkdir(exist_ok=True)
    (context / "file").write_text("hello\n")
    (context / "Dockerfile").write_text(
        "FROM busybox\nARG who\nCOPY file /file\nENV WHO=$who\nCMD cat /file; echo $WHO\n"
    )
    image, log = client.images.build(path=str(context), tag="pybuilt:1", buildargs={"who": "me"}, rm=True)
    assert any("Successfully tagged" in str(line) for line in log)
    assert client.containers.run("pybuilt:1", remove=True) == b"hello\nme\n"
    assert image.tag("pybuilt", "2")
    client.images.remove("pybuilt:1")
    client.images.remove("pybuilt:2")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("pybuilt:1")


def test_build_a_file(client: docker.DockerClient) -> None:
    file = io.BytesIO(b"FROM busybox\nRUN echo x >/made\nCMD cat /made\n")
    image, _ = client.images.build(fileobj=file, rm=True, nocache=True, labels={"a": "b"})
    assert image.labels.pop("io.sockproxy.owner").isdecimal()
    assert image.labels == {"a": "b"}
    assert client.containers.run(image.id, remove=True) == b"x\n"
    client.images.remove(image.id)
    with pytest.raises(docker.errors.BuildError, match="3"):
        client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 3\n"), rm=True)
    with pytest.raises(docker.errors.APIError, match="sockproxy: "):
        client.images.build(path="http://127.0.0.1:1/x.tar")


def test_commit(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", ["touch", "/made"], detach=True)
    container.wait(timeout=30)
    image = container.commit("pycommit", tag="1", message="two\nlines", changes=["CMD ls /made"], author="me")
    assert client.containers.run("pycommit:1", remove=True) == b"/made\n"
    assert image.history()[0]["Comment"] == "two\nlines"
    container.remove()
    client.images.remove("pycommit:1")


def test_save_and_load(client: docker.DockerClient) -> None:
    client.images.get("busybox").tag("pysaved", "1")
    saved = b"".join(client.images.get("pysaved:1").save(named="pysaved:1"))
    client.images.remove("pysaved:1")
    assert [tag for image in client.images.load(saved) for tag in image.tags if "pysaved" in tag] == ["pysaved:1"]
    client.images.remove("pysaved:1")
    assert [tag for image in client.images.load(iter([saved[:100], saved[100:]])) for tag in image.tags]
    client.images.remove("pysaved:1")


def test_import(client: docker.DockerClient) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    client.api.import_image_from_data(file.getvalue(), repository="pyimported", tag="1")
    assert client.images.get("pyimported:1").attrs["Size"] == 0
    client.images.remove("pyimported:1")


def test_pull_and_push(registry: str, proxy: Proxy, users: Users, client: docker.DockerClient) -> None:
    name = f"{registry}/some/py"
    client.images.get("busybox").tag(name, "1")
    who = {"username": "me", "password": "hunter2-of-py"}  # engines before 28 want an X-Registry-Auth
    lines = list(client.images.push(name, tag="1", stream=True, decode=True, auth_config=who))
    assert not [line for line in lines if "error" in line]
    assert any("digest" in str(line) for line in lines)
    client.images.remove(f"{name}:1")
    assert f"{name}:1" in client.images.pull(name, tag="1").tags
    assert client.api.inspect_distribution(f"{name}:1")["Descriptor"]["digest"]
    client.images.remove(f"{name}:1")
    with pytest.raises(docker.errors.APIError):
        client.images.pull(name, tag="none")
    with acting_as(users.root):
        record = (proxy.log / "audit.jsonl").read_text()
    assert "hunter2-of-py" not in record
    assert base64.urlsafe_b64encode(json.dumps(who).encode()).decode() not in record
