"""docker build, commit, tag, rmi, pull, push and login through sockproxy."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.cli import MEBIBYTE, Running, assert_done, handlers, write_random
from tests.support.engines import Engine
from tests.support.proxy import Proxy, eventually
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

CLASSIC = {"DOCKER_BUILDKIT": "0"}
DOCKERFILE = """FROM busybox
ARG WHO
LABEL a=b
COPY big /big
COPY folder /folder
RUN md5sum /big >/sum && echo "for $WHO" >/who
CMD ["cat", "/who", "/folder/file"]
"""


def build(proxy: Proxy, user: User, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run docker build with the classic builder."""
    return proxy.docker(user, "build", *arguments, env=proxy.environment(user) | CLASSIC, **options)


def context(user: User, dockerfile: str, size: int = MEBIBYTE) -> Path:
    """Lay out a folder to build from."""
    folder = user.home / "context"
    (folder / "folder").mkdir(parents=True, exist_ok=True)
    (folder / "folder" / "file").write_text("content\n")
    (folder / "Dockerfile").write_text(dockerfile)
    write_random(folder / "big", size, user)
    return folder


def test_building(proxy: Proxy, users: Users, engine: Engine) -> None:
    folder = context(users.alice, DOCKERFILE, 50 * MEBIBYTE)
    arguments = ["-t", "built:1", "-t", "built:2", "--build-arg", "WHO=me", "--label", "c=d"]
    done = build(proxy, users.alice, *arguments, str(folder))
    assert "Successfully tagged built:2" in assert_done(done)
    assert proxy.docker(users.alice, "run", "--rm", "built:1").stdout == "for me\ncontent\n"
    sums = proxy.docker(users.alice, "run", "--rm", "built:2", "sh", "-c", "cat /sum; md5sum /big").stdout.splitlines()
    assert sums[0] == sums[1]
    labels = json.loads(engine.docker("inspect", "-f", "{{json .Config.Labels}}", "built:1").stdout)
    assert {"a": "b", "c": "d"}.items() <= labels.items()
    assert assert_done(proxy.docker(users.alice, "history", "-q", "built:1")).splitlines()
    assert_done(proxy.docker(users.alice, "rmi", "built:1", "built:2"))


def test_a_dockerfile_on_stdin(proxy: Proxy, users: Users) -> None:
    done = build(proxy, users.alice, "-q", "-t", "small", "-", input="FROM busybox\nCMD echo small\n")
    assert assert_done(done).startswith("sha256:")
    assert proxy.docker(users.alice, "run", "--rm", "small").stdout == "small\n"
    assert_done(proxy.docker(users.alice, "rmi", "small"))


def test_a_build_that_fails(proxy: Proxy, users: Users) -> None:
    done = build(proxy, users.alice, "--no-cache", "-", input="FROM busybox\nRUN echo why; exit 4\n")
    assert "why" in done.stdout
    assert "returned a non-zero code: 4" in done.stderr
    assert done.returncode == 4
    done = build(proxy, users.alice, "-", input="FRM busybox\n")
    assert ("nknown instruction: FRM" in done.stderr, done.returncode) == (True, 1)


def test_an_interrupted_build_ends_at_the_daemon(proxy: Proxy, users: Users, engine: Engine) -> None:
    folder = context(users.alice, "FROM busybox\nRUN echo sleeping; sleep 1000\n")
    environment = proxy.environment(users.alice) | CLASSIC
    with Running(proxy, users.alice, "build", "--no-cache", str(folder), env=environment) as building:
        building.out.until("\nsleeping\n")
        building.process.send_signal(signal.SIGKILL)
    eventually(lambda: not handlers(engine, "postBuild"), "the build ended at the daemon")
    eventually(lambda: not engine.docker("ps", "-q").stdout, "its container ended")


def test_committing(proxy: Proxy, users: Users, engine: Engine) -> None:
    assert_done(proxy.docker(users.alice, "run", "--name", "box", "busybox", "sh", "-c", "echo kept >/kept"))
    options = ["-a", "Alice <a@example.org>", "-m", 'first line\nsecond: "quoted" ü']
    options += ["-c", 'CMD ["cat", "/kept"]', "-c", "ENV A=b\nLABEL c=d", "-c", "EXPOSE 80"]
    done = proxy.docker(users.alice, "commit", *options, "box", "committed:1")
    assert assert_done(done).startswith("sha256:")
    assert proxy.docker(users.alice, "run", "--rm", "committed:1").stdout == "kept\n"
    found = json.loads(engine.docker("inspect", "committed:1").stdout)[0]
    assert found["Author"] == "Alice <a@example.org>"
    assert found["Comment"] == 'first line\nsecond: "quoted" ü'
    assert "A=b" in found["Config"]["Env"]
    assert found["Config"]["Labels"]["c"] == "d"
    assert found["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert_done(proxy.docker(users.alice, "rmi", "committed:1"))


def test_tags(proxy: Proxy, users: Users, engine: Engine) -> None:
    names = ["plain", "with-dash_and.dot:v1.2_3-4", "host.example:5000/deep/er/name:1"]
    for name in names:
        assert_done(proxy.docker(users.alice, "tag", "busybox", name))
        assert engine.docker("inspect", "-f", "{{.Id}}", name).stdout == (
            proxy.docker(users.alice, "inspect", "-f", "{{.Id}}", "busybox:latest").stdout
        )
    removed = assert_done(proxy.docker(users.alice, "rmi", *names))
    assert removed.count("Untagged: ") == 3
    assert engine.docker("images", "-q", "plain").stdout == ""


def test_pushing_and_pulling(proxy: Proxy, users: Users, engine: Engine, registry: str) -> None:
    name = f"{registry}/deep/er/name:v1.0"
    assert_done(proxy.docker(users.alice, "tag", "busybox", name))
    pushed = assert_done(proxy.docker(users.alice, "push", name))
    assert "v1.0: digest: sha256:" in pushed
    digest = pushed.partition("digest: ")[2].split()[0]
    assert_done(proxy.docker(users.alice, "rmi", name))
    assert f"Status: Downloaded newer image for {name}" in assert_done(proxy.docker(users.alice, "pull", name))
    assert_done(proxy.docker(users.alice, "rmi", name))
    by_digest = f"{registry}/deep/er/name@{digest}"
    done = proxy.docker(users.alice, "run", "--rm", by_digest, "echo", "pulled")  # create: 404, pull, create
    assert (done.stdout, done.returncode) == ("pulled\n", 0)
    assert_done(proxy.docker(users.alice, "rmi", by_digest))
    missing = proxy.docker(users.alice, "pull", f"{registry}/no/such")
    assert missing.returncode == 1
    assert missing.stderr == engine.docker("pull", f"{registry}/no/such", check=False).stderr


def test_login_shows_nobody_the_password(proxy: Proxy, users: Users, registry: str) -> None:
    done = proxy.docker(users.alice, "login", "-u", "someone", "--password-stdin", registry, input="hidden-password")
    assert "Login Succeeded" in assert_done(done)
    assert_done(proxy.docker(users.alice, "tag", "busybox", f"{registry}/x"))
    assert_done(proxy.docker(users.alice, "push", f"{registry}/x"))  # with X-Registry-Auth
    assert_done(proxy.docker(users.alice, "logout", registry))
    assert_done(proxy.docker(users.alice, "rmi", f"{registry}/x"))
    log = (proxy.log / "audit.jsonl").read_text()
    assert "hidden-password" not in log
    assert "eyJ1c2VybmFtZSI" not in log  # {"username" in base64, as in X-Registry-Auth
    assert any(record["ev"] == "intent" and "SystemAuth" in str(record) for record in proxy.records())
