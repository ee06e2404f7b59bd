"""`sockproxy import-tecnativa`: each variable of that proxy, and what of it stays allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sockproxy import cli
from sockproxy.authoring.tecnativa import KEPT_BACK, VARIABLES, policy
from sockproxy.policy.compile import EVERYBODYS, RoleDict, compile_text


def role(**given: str) -> tuple[RoleDict, str]:
    text = policy(given)
    return compile_text(text.encode(), "t.yaml")["roles"]["imported"], text


# What each variable opens by itself, without POST; in `POST` what it adds to CONTAINERS.
READS = {
    "AUTH": set(),
    "BUILD": set(),
    "COMMIT": set(),
    "CONFIGS": set(),
    "CONTAINERS": {
        *("ContainerList", "ContainerInspect", "ContainerLogs", "ContainerStats", "ContainerTop", "ContainerChanges"),
    },
    "DISTRIBUTION": set(),
    "EVENTS": {"SystemEvents"},
    "EXEC": {"ExecInspect"},
    "GRPC": set(),
    "IMAGES": {"ImageList", "ImageInspect", "ImageHistory", "ImageAttestations"},
    "INFO": {"SystemInfo"},
    "NETWORKS": {"NetworkList", "NetworkInspect"},
    "NODES": set(),
    "PING": set(),
    "PLUGINS": set(),
    "SECRETS": set(),
    "SERVICES": set(),
    "SESSION": set(),
    "SWARM": set(),
    "SYSTEM": {"SystemDataUsage"},
    "TASKS": set(),
    "VERSION": {"SystemVersion"},
    "VOLUMES": {"VolumeList", "VolumeInspect"},
    "ALLOW_START": set(),
    "ALLOW_STOP": set(),
    "ALLOW_RESTARTS": set(),
}
WRITES = {
    "AUTH": {"SystemAuth"},
    "ALLOW_START": {"ContainerStart"},
    "ALLOW_STOP": {"ContainerStop"},
    "ALLOW_RESTARTS": {"ContainerStop", "ContainerRestart", "ContainerKill"},
    "COMMIT": {"ImageCommit"},
    "SESSION": {"Session"},
}
OFF = {"EVENTS": "0", "PING": "0", "VERSION": "0"}


def test_every_section_has_an_example() -> None:
    assert READS.keys() == {name for name, row in VARIABLES.items() if row.prefix}


@pytest.mark.parametrize("name", READS)
def test_a_section_to_read(name: str) -> None:
    found, text = role(**{**OFF, name: "1"})
    assert found["operations"].keys() == READS[name] | {*EVERYBODYS}
    assert found["rules"]["sees_all"][0] is True
    if VARIABLES[name].note:
        assert f"# {name}: {VARIABLES[name].note}" in text


@pytest.mark.parametrize("name", WRITES)
def test_a_section_to_write(name: str) -> None:
    found, _ = role(**{**OFF, name: "1", "POST": "1"})
    assert found["operations"].keys() == READS[name] | WRITES[name] | {*EVERYBODYS}


def test_the_defaults() -> None:
    assert role()[0]["operations"].keys() == {"SystemEvents", "SystemVersion", *EVERYBODYS}


def test_what_was_root_is_kept_to_the_callers_own() -> None:
    found, text = role(CONTAINERS="1", POST="1", EXEC="1")
    assert found["operations"].keys() >= {"ContainerCreate", "ContainerExec", "ExecStart", "ContainerDelete"}
    assert found["operations"].keys().isdisjoint({"ImageBuild", "ImageList", "VolumeCreate", *KEPT_BACK})
    assert found["rules"]["sees_all"][0] is False
    assert found["rules"]["privileged"][0] is False
    assert "there that is root of the host" in text
    assert "# kept back: ContainerArchive: files of any container" in text


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "env"
    file.write_text('# of compose\n  - CONTAINERS=1\n  IMAGES: "0"  # not\nLOG_LEVEL=debug\n')
    assert cli.main(["import-tecnativa", "--env-file", str(file), "INFO=1"]) == 0
    out, _ = capsys.readouterr()
    compile_text(out.encode(), "t.yaml")
    assert out.startswith("# From Tecnativa's docker-socket-proxy: INFO=1 CONTAINERS=1 IMAGES=0 LOG_LEVEL=debug\n")
    assert "# LOG_LEVEL: of its log; here all is recorded" in out
    assert "ContainerList" in out
    assert "ImageList" not in out


def test_what_is_unknown_is_said_loudly(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import-tecnativa", "CONTAINRES=1"]) == 1
    out, err = capsys.readouterr()
    assert "# UNKNOWN: CONTAINRES: nothing was done for it" in out
    assert "unknown variable CONTAINRES" in err


@pytest.mark.parametrize("text", ["CONTAINERS", "CONTAINERS=yes", "POST=", "=1"])
def test_what_is_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import-tecnativa", text]) == 2
    assert capsys.readouterr().out == ""
