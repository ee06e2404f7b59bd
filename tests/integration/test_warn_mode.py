"""`mode: warn` on a real daemon: what the role does not allow happens and is told; what leads to the host does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import assert_done, assert_refused
from tests.support.engines import Engine
from tests.support.proxy import Proxy, eventually
from tests.support.users import Users

pytestmark = pytest.mark.daemon

POLICY = """version: 1
bindings:
  - {{user: root, role: admin}}
  - {{group: {developers}, role: tried}}
roles:
  tried:
    extends: developer
    mode: warn
    deny: [ContainerRename]
    limits: {{memory: 64m}}
    ports: {{min: 20000}}
"""


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_let_through_and_told(engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(engine, policy=POLICY.format(developers=users.developers))
    run, alice, bob = proxy.docker, users.alice, users.bob
    assert_done(run(alice, "create", "--name", "small", "--memory", "32m", "busybox"))
    assert_done(run(alice, "create", "--name", "large", "--memory", "128m", "-p", "127.0.0.1:8080:80", "busybox"))
    assert_done(run(alice, "rename", "large", "renamed"))
    shown = json.loads(engine.docker("inspect", "renamed").stdout)[0]
    assert shown["HostConfig"]["Memory"] == 128 << 20
    assert shown["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"] == "8080"
    assert json.loads(engine.docker("inspect", "small").stdout)[0]["HostConfig"]["Memory"] == 32 << 20

    assert_refused(run(alice, "create", "--name", "a", "--privileged", "busybox"))
    assert_refused(run(alice, "create", "--name", "a", "--pid", "host", "--memory", "128m", "busybox"))
    assert_refused(run(alice, "create", "--name", "a", "-v", "/etc:/e", "busybox"))
    assert "No such container" in run(bob, "rename", "renamed", "his").stderr
    assert_refused(run(alice, "swarm", "init"))
    assert "/a" not in engine.docker("ps", "-a", "--format", "{{.Names}}").stdout.split()

    proxy.reload(proxy.config.read_text() + "    share: group\n")
    eventually(lambda: run(bob, "inspect", "renamed").returncode == 0, "the new policy")
    for command in (["rm", "-f", "renamed"], ["rename", "renamed", "his"], ["update", "--cpus", "1", "renamed"]):
        assert "role tried may use the container renamed, not remove or change it" in run(bob, *command).stderr
    assert_refused(run(bob, "create", "--name", "a", "--pid", "container:renamed", "--privileged", "busybox"))
    assert json.loads(engine.docker("inspect", "renamed").stdout)[0]["Id"] == shown["Id"]

    told = {}
    for record in proxy.records():
        decision = record.get("decision")
        if record.get("ev") == "intent" and isinstance(decision, dict) and "would_refuse" in decision:
            told[record["req"]["op"]] = [item["why"] for item in decision["would_refuse"]]  # type: ignore[index]
    assert told.keys() == {"ContainerCreate", "ContainerRename"}
    assert told["ContainerRename"] == ["role tried does not allow ContainerRename"]
    fields = {why.partition(": ")[0] for why in told["ContainerCreate"]}
    assert fields == {"HostConfig.Memory", "HostConfig.PortBindings.80/tcp[0].HostPort"}
    command = [sys.executable, "-m", "sockproxy", "audit", "find", "--would", "--log-dir", str(proxy.log)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 2
    assert "(would refuse: role tried does not allow ContainerRename: rule " in lines[1]
    assert_done(run(alice, "rm", "small", "renamed"))

    enforced = proxy.config.read_text().replace("    mode: warn\n", "")
    code, told_of = sockproxy(proxy, "policy", "diff", "--user", alice.name, str(proxy.config), "", text=enforced)
    assert code == 1
    assert [line.split()[:3] for line in told_of.splitlines() if line.startswith("refused")] == [
        ["refused", alice.name, "ContainerCreate"],
        ["refused", alice.name, "ContainerRename"],
    ]

    # what was done, and would have been refused, is what is learned; under it the same works, and no more
    code, text = sockproxy(proxy, "policy", "learn", "--user", alice.name)
    assert code == 0, text
    code, told_of = sockproxy(proxy, "policy", "diff", "--user", alice.name, str(proxy.config), "", text=text)
    assert code == 0, told_of
    proxy.reload(text)
    assert_done(run(alice, "create", "--name", "large", "--memory", "128m", "-p", "127.0.0.1:8080:80", "busybox"))
    assert_done(run(alice, "rename", "large", "renamed"))
    assert_refused(run(alice, "create", "--name", "b", "-p", "127.0.0.1:8079:80", "busybox"))
    assert_refused(run(alice, "volume", "create", "v"))
    assert_done(run(alice, "rm", "renamed"))


def sockproxy(proxy: Proxy, *arguments: str, text: str = "") -> tuple[int, str]:
    """Run a command on the proxy's record; with `text` as the file that its last argument names."""
    words = list(arguments)
    if text:
        words[-1] = str(proxy.config.with_name("learned.yaml"))
        Path(words[-1]).write_text(text)
    folders = ["--log-dir", str(proxy.log), "--runtime-dir", str(proxy.runtime)]
    done = subprocess.run([sys.executable, "-m", "sockproxy", *words, *folders], capture_output=True, text=True)
    return done.returncode, done.stdout
