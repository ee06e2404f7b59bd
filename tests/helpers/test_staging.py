"""Binds become mounts of our plugin, each with its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sockproxy_helpers import staging
from sockproxy_helpers.bindledger import Bind, BindLedger
from sockproxy_helpers.context import Context
from sockproxy_helpers.errors import Refused, Unavailable
from sockproxy_helpers.loop import Loop
from tests.helpers.asked import Asked, finish
from tests.support.judging import ADMIN, DEVELOPER, context


class Stager(staging.Stager):
    """A stager whose binds helper allows everything."""

    async def _check(self, bind: Bind, ctx: Context) -> None:
        pass


def environment(folder: Path) -> dict[str, str]:
    found = {"SOCKPROXY_BINDS": str(folder), "SOCKPROXY_BINDS_SOCKET": str(folder / "none")}
    return {**found, "SOCKPROXY_PLUGIN": "plug"}


def prepare(folder: Path, host: dict[str, Any], rules: Any = DEVELOPER, user: str = "") -> dict[str, Any]:
    part: dict[str, Any] = {"HostConfig": host}
    daemon, ctx = Asked(), context(rules, "ContainerCreate")
    daemon.image("busybox")
    finish(Stager(Loop(), environment(folder)).prepare(daemon, ctx, part, "busybox", user))  # type: ignore[arg-type]
    return part["HostConfig"]  # type: ignore[no-any-return]


def test_each_bind_is_a_mount_of_the_plugin(tmp_path: Path) -> None:
    options = {"NonRecursive": True}
    mount = {"Type": "bind", "Source": "/home/kim/b", "Target": "/b", "ReadOnly": True, "BindOptions": options}
    host = prepare(tmp_path, {"Binds": ["/home/kim/a:/a:ro", "named:/n"], "Mounts": [mount]}, user="1000:100")
    assert host["Binds"] == ["named:/n"]
    binds = [BindLedger(str(tmp_path)).read(mount["Source"]) for mount in host["Mounts"]]
    for mount in host["Mounts"]:
        assert mount["Type"] == "volume"
        assert "ReadOnly" not in mount
        assert mount["VolumeOptions"] == {"NoCopy": True, "DriverConfig": {"Name": "plug"}}
    found = [(bind.source, bind.target, bind.writable, bind.recursive, bind.made, bind.form) for bind in binds]
    assert found == [
        ("/home/kim/b", "/b", False, False, False, "Mounts"),
        ("/home/kim/a", "/a", False, True, True, "Binds"),
    ]
    assert {(bind.uid, bind.user, bind.role, *bind.ids) for bind in binds} == {(1000, "kim", "developer", 1000, 100)}


@pytest.mark.parametrize(
    ("user", "ids"),
    [("", [0, 0]), ("0", [0, 0]), ("1000", [1000, 0]), ("1:2", [1, 2]), ("node", [0, 0]), ("01", [0, 0])],
)
def test_the_containers_user_is_the_caller_if_it_is_a_number(tmp_path: Path, user: str, ids: list[int]) -> None:
    host = prepare(tmp_path, {"Binds": ["/home/kim:/h"]}, user=user)
    assert BindLedger(str(tmp_path)).read(host["Mounts"][0]["Source"]).ids == ids


def test_who_binds_plainly_does(tmp_path: Path) -> None:
    assert prepare(tmp_path, {"Binds": ["/etc:/e"]}, ADMIN) == {"Binds": ["/etc:/e"]}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [{"privileged": True}, {"capabilities": ["ALL"]}, {"capabilities": ["MKNOD"]}])
def test_binds_are_not_for_who_could_undo_them(tmp_path: Path, more: dict[str, object]) -> None:
    with pytest.raises(Refused, match="undoes what makes binds safe") as refusal:
        prepare(tmp_path, {"Binds": ["/home/kim:/h"]}, DEVELOPER | more)
    assert refusal.value.rule == "plain_binds"


@pytest.mark.parametrize("host", [{"Binds": ["/home/kim:/h:rshared"]}, {"Binds": ["/home/kim:/h:z"]}])
def test_binds_are_private(tmp_path: Path, host: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="allowed: private"):
        prepare(tmp_path, host)


def test_without_the_binds_helper_there_are_none(tmp_path: Path) -> None:
    part: dict[str, Any] = {"HostConfig": {"Binds": ["/home/kim:/h"]}}
    daemon, ctx, stager = Asked(), context(DEVELOPER, "ContainerCreate"), staging.Stager(Loop(), environment(tmp_path))
    daemon.image("busybox")
    with pytest.raises(Unavailable, match="binds helper is not there"):
        finish(stager.prepare(daemon, ctx, part, "busybox", ""))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
