"""What describes images and containers is in everybody's lists, so a person's are described in so many bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from tests.integration.conftest import People
from tests.integration.test_buildkit import dockerfile
from tests.integration.test_loads import member, pack
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

POLICY = "roles:\n  developer:\n    extends: developer\n    totals: {tags: 25}\n"
WHY = "role developer may have images that are described in 102400 bytes together"
LONG = "x" * 55_000
LABELS = f"LABEL a={LONG}\nLABEL b={LONG}\n"


def archive(name: str, *labels: str) -> bytes:
    """Form an archive of an image with labels."""
    layer = pack([member("file", name.encode())])
    digest = hashlib.sha256(layer).hexdigest()
    described = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {str(number): label for number, label in enumerate(labels)}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = json.dumps([{"Config": "c.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    config = member("c.json", json.dumps(described).encode())
    return pack([config, member("layer.tar", layer), member("manifest.json", manifest)])


@pytest.fixture
def bounded(engine28: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> Iterator[People]:
    """People before an engine that has nothing but busybox, by a role with few names."""
    found = People(start_proxy(engine28, policy=default_policy(users) + POLICY), users)
    found.root.clean()
    yield found
    found.root.clean()


def test_lists_of_others(proxy28: Proxy, users: Users) -> None:
    people, large = People(proxy28, users), archive("large:1", "x" * (9 << 20))
    people.root.clean()
    assert b"Loaded image" in people.root.ask("POST", "/images/load", large).body
    assert len(people.alice.ask("GET", "/images/json").body) > 9 << 20  # larger than a message to the front
    people.root.get("DELETE", "/images/large:1")
    assert b"may have images that are described in 4096000 bytes" in people.bob.ask("POST", "/images/load", large).body
    assert len(people.alice.ask("GET", "/images/json").body) < 4096
    assert people.root.ask("GET", "/images/large:1/json").status == 404


def test_exposed_ports(proxy28: Proxy, users: Users) -> None:
    """Lists have them once a container runs: 2 KB of an image is 0.8 MB there."""
    people = People(proxy28, users)
    root, bob = people.root, people.bob
    root.clean()
    root.get("POST", f"/commit?container={root.create('base')}&repo=many&changes=EXPOSE%201-24000", {})
    root.run("bare", Image="many")
    assert len(root.ask("GET", "/containers/json").body) > 800_000
    proxy28.engine.clean()
    more = {f"{port}/udp": {} for port in range(1, 20_001)}
    refused = bob.ask("POST", "/containers/create", {"Image": "many", "ExposedPorts": more})
    why = b"role developer may not expose 44000 ports, the image's included (allowed: 40960 beside your 0 containers)"
    assert why in refused.body, refused.body
    assert root.get("GET", "/containers/json?all=1") == []
    made = bob.run("dozens", ExposedPorts={f"{port}/udp": {} for port in range(1, 41)})
    assert len(bob.get("GET", "/containers/json")[0]["Ports"]) == 40
    labels = bob.get("GET", f"/containers/{made}/json")["Config"]["Labels"]
    assert labels["io.sockproxy.exposed"] == "40"
    bob.create("first", Image="many", Labels=labels)  # as clients renew a container; it does not run, and counts
    refused = bob.ask("POST", "/containers/create", {"Image": "many"})
    assert b"may not expose 24000 ports" in refused.body, refused.body
    assert b"beside your 2 containers" in refused.body, refused.body
    assert len(root.get("GET", "/containers/json?all=1")) == 2


def test_however_they_come(bounded: People, users: Users, engine28: Engine) -> None:
    root, bob, proxy = bounded.root, bounded.bob, bounded.bob.proxy
    before = {image["Id"] for image in root.get("GET", "/images/json?all=1")}
    name = f"{engine28.registry()}/large/pulled:1"
    assert root.build(f"FROM busybox\n{LABELS}", f"t={name}").status == 200
    assert root.ask("POST", f"/images/{name}/push", X_Registry_Auth="e30=").status == 200
    root.get("DELETE", f"/images/{name}")
    changes = "&".join("changes=" + quote(line) for line in LABELS.splitlines())
    bob.create("box")
    tries = {
        "a build": lambda: bob.build(f"FROM busybox\n{LABELS}", "t=large:1").body.decode(),
        "a build without a name": lambda: bob.build(f"FROM busybox\n{LABELS}").body.decode(),
        "BuildKit": lambda: dockerfile(proxy, users.bob, f"FROM busybox\n{LABELS}", "-t", "large:1").stderr,
        "a load": lambda: bob.ask("POST", "/images/load", archive("large:1", LONG, LONG)).body.decode(),
        "an import": lambda: bob.ask("POST", f"/images/create?fromSrc=-&{changes}", pack([])).body.decode(),
        "a commit": lambda: bob.ask("POST", f"/commit?container=box&{changes}", {}).body.decode(),
        "a pull": lambda: bob.ask("POST", f"/images/create?fromImage={name}").body.decode(),
    }
    for what, attempt in tries.items():
        said = attempt()
        assert WHY in said, (what, said[-500:])
        assert "removed again" in said, (what, said[-500:])
        assert {image["Id"] for image in root.get("GET", "/images/json?all=1")} == before, what
    for count in range(3):  # each within the bound
        done = bob.build(f"FROM busybox\nENV a={count}\nLABEL a={'x' * 20_000}\n", f"t=small:{count}").body.decode()
        assert (WHY in done) == (count == 2), done[-500:]
    assert bob.ask("GET", "/images/small:0/json").status == 200
    assert bob.ask("DELETE", "/images/small:0").status == 200
