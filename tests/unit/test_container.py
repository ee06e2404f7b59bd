"""The container's recipe gives `sockproxy up` what the process table needs, and no more; `tests.container` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sockproxy import paths
from sockproxy.cli import _PATHS
from sockproxy.supervise.table import Settings, table

FOLDER = Path(paths.config_dir(), "container")
OF_UP = {"CHOWN", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETPCAP", "SETUID"}


@pytest.fixture
def service() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["sockproxy"]  # noqa: TID251
    return found


def test_it_has_the_capabilities_of_the_table_and_of_up(service: dict[str, Any]) -> None:
    rows = table(Settings(None, **_PATHS))
    assert service["cap_drop"] == ["ALL"]
    assert set(service["cap_add"]) == OF_UP | {name.upper() for row in rows for name in row.capabilities}
    assert "privileged" not in service
    assert "no-new-privileges" in service["security_opt"]
    assert service["read_only"]


def test_it_is_where_the_kernel_tells_who_calls(service: dict[str, Any]) -> None:
    assert [service[name] for name in ("pid", "userns_mode", "cgroup")] == ["host"] * 3


def test_it_sees_the_hosts_paths_as_the_host_does(service: dict[str, Any]) -> None:
    mounts = {one["target"]: one for one in service["volumes"]}
    assert {path for path, one in mounts.items() if one["source"] != path} == {"/host/etc"}
    assert mounts["/host/etc"]["read_only"]
    assert mounts["/run"]["bind"] == {"propagation": "rshared"}  # what is attached there, the daemon sees
    for path in _PATHS.values():
        assert any(path.replace("/var/run/", "/run/").startswith(place) for place in mounts)


def test_the_files_that_it_goes_by_are_the_hosts() -> None:
    recipe = (FOLDER / "Dockerfile").read_text()
    linked = recipe.partition("for file in ")[2].partition(";")[0].replace("\\", "").split()
    assert {"passwd", "group", "shadow", "subuid", "subgid", "sockproxy"} <= set(linked)
