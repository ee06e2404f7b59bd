"""Who has more on the disk than the role allows gets nothing more, until something is removed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pytest

from tests.integration.test_loads import member, pack
from tests.support.belongings import OWNER
from tests.support.cli import MEBIBYTE, assert_done
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.raw import call
from tests.support.users import User, Users

pytestmark = pytest.mark.daemon

POLICY = "roles:\n  developer:\n    extends: developer\n    totals: {disk: 8m}\n"


def forged(owner: User, size: int) -> bytes:
    """Form an archive of an image that says whose it is."""
    layer = pack([member("file", bytes(size))])
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {OWNER: str(owner.uid)}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["bobs:1"], "Layers": ["layer.tar"]}]).encode()
    return pack([member("c.json", config), member("layer.tar", layer), member("manifest.json", manifest)])


@pytest.mark.parametrize("engine", ["20", "28"], indirect=True)
def test_disk(engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> None:
    for name in engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split():
        if name not in ("busybox:latest", "<none>:<none>"):  # what other tests have left counts, too
            engine.docker("rmi", "-f", name, check=False)
    engine.docker("image", "prune", "-f")
    proxy = start_proxy(engine, policy=default_policy(users) + POLICY)
    run, alice, bob = proxy.docker, users.alice, users.bob
    for size in (9 * MEBIBYTE, 1):  # the first one loses its name to the second, and is still there
        answer = call(proxy.listen, "POST", "/images/load", forged(alice, size), bob)
        assert b"Loaded image: bobs:1" in answer.body
    assert engine.docker("images", "-q", "--filter", f"label={OWNER}={alice.uid}").stdout.count("\n") == 2
    fill = ["busybox", "dd", "if=/dev/urandom", "bs=1M", "count=6"]
    assert_done(run(alice, "run", "--name", "box", *fill, "of=/file"))
    assert_done(run(alice, "run", "--rm", "-v", "data:/data", *fill, "of=/data/file"))  # 12 MiB, by a report of before
    why = "role developer may use 8m of the disk, and you use 12m; the largest are "
    eventually(lambda: why in run(alice, "volume", "create").stderr, "the next report", 60)
    refused = run(alice, "create", "busybox").stderr
    assert why in refused
    assert "volume data (6m)" in refused
    assert "container box (6m)" in refused
    (alice.home / "Dockerfile").write_text("FROM busybox\n")
    classic = proxy.environment(alice) | {"DOCKER_BUILDKIT": "0"}
    assert why in proxy.run(alice, ["docker", "build", "."], env=classic).stderr
    for command in (["commit", "box"], ["cp", str(alice.home / "Dockerfile"), "box:/"], ["pull", "busybox"]):
        assert why in run(alice, *command).stderr
    refused = run(bob, "create", "busybox").stderr  # who brought it pays, and may remove it, whatever its label says
    assert "may use 8m of the disk, and you use 9m; the largest are image " in refused
    assert_done(run(bob, "rmi", refused.partition("largest are image ")[2].split()[0]))
    eventually(lambda: run(bob, "run", "--rm", "busybox").returncode == 0, "the next report", 30)
    assert_done(run(alice, "start", "-a", "box"))
    assert_done(run(alice, "rm", "box"))
    eventually(lambda: run(alice, "volume", "create").returncode == 0, "the next report, by who was refused", 30)
    assert json.loads(engine.docker("volume", "inspect", "data").stdout)
    engine.docker("rmi", "bobs:1")
    engine.docker("volume", "prune", "-af", check=False)
    engine.docker("volume", "prune", "-f", check=False)
