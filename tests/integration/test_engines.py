"""The engines that the other tests use do what these expect of them, without sockproxy."""

from __future__ import annotations

import pytest

from tests.support.engines import Engine
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]


def test_engine_is_the_version_it_is_called(engine: Engine) -> None:
    found = engine.docker("version", "-f", "{{.Server.Version}}").stdout
    assert found.startswith(f"{engine.version}.")


def test_engine_runs_a_container_with_a_published_port(engine: Engine) -> None:
    engine.docker("run", "-d", "-p", "8123:80", "busybox", "sh", "-c", "echo hello >i; exec httpd -f -h . -p 80")
    try:
        found = engine.exec(
            ["curl", "-s", "--retry", "5", "--retry-connrefused", "http://127.0.0.1:8123/i"], capture_output=True
        )
        assert found.stdout == "hello\n"
    finally:
        engine.clean()
    assert engine.docker("ps", "-aq").stdout == ""


def test_podman_runs_a_container(podman_engine: Engine) -> None:
    assert podman_engine.docker("run", "--rm", "busybox", "echo", "hello").stdout == "hello\n"


def test_registry_takes_and_gives_an_image(engine: Engine, registry: str) -> None:
    image = f"{registry}/test/busybox:1"
    engine.docker("tag", "busybox", image)
    engine.docker("push", image)
    engine.docker("rmi", image)
    assert engine.docker("run", "--rm", image, "echo", "hello").stdout == "hello\n"
    engine.docker("rmi", image)


def test_users_have_their_groups(users: Users) -> None:
    assert users.alice.uid != users.bob.uid
    assert set(users.alice.groups) & set(users.bob.groups)
    assert not set(users.alice.groups) & set(users.carol.groups)
