"""Binds become mounts of our plugin, each with its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import Malformed, Refused, Unavailable
from sockproxy_helpers.folders import staging
from sockproxy_helpers.folders.bindledger import Bind, BindLedger
from sockproxy_helpers.judge.context import Context
from tests.helpers.asked import Asked, finish
from tests.support.belongings import tar
from tests.support.judging import ADMIN, DEVELOPER, context


class Stager(staging.Stager):
    """A stager whose binds helper allows everything."""

    async def _check(self, bind: Bind, ctx: Context) -> None:
        pass


def environment(folder: Path) -> dict[str, str]:
    found = {"SOCKPROXY_BINDS": str(folder), "SOCKPROXY_BINDS_SOCKET": str(folder / "none")}
    return {**found, "SOCKPROXY_PLUGIN": "plug"}


def prepare(
    folder: Path, host: dict[str, Any], rules: Any = DEVELOPER, user: str = "", daemon: Asked | None = None
) -> dict[str, Any]:
    part: dict[str, Any] = {"HostConfig": host}
    daemon, ctx = daemon or Asked(), context(rules, "ContainerCreate")
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
    ("user", "ids"), [("", [0, 0]), ("0", [0, 0]), ("1000", [1000, 100]), ("1:2", [1, 2]), ("node", [1000, 100])]
)
def test_the_containers_user_is_the_caller(tmp_path: Path, user: str, ids: list[int]) -> None:
    daemon = Asked()
    daemon.files["/etc/passwd"] = tar(passwd="root:x:0:0::/:\nnode:x:1000:100::/:\n")
    host = prepare(tmp_path, {"Binds": ["/home/kim:/h"]}, user=user, daemon=daemon)
    bind = BindLedger(str(tmp_path)).read(host["Mounts"][0]["Source"])
    assert (bind.ids, bind.root) == (ids, [0, 0])
    assert not any("GET /containers" in asked for asked in daemon.asked) or user in ("1000", "node")


REMAPPED = {"SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"]}


def test_a_daemon_that_remaps_users_says_who_root_is(tmp_path: Path) -> None:
    daemon = Asked()
    daemon.info = {**REMAPPED, "DockerRootDir": "/var/lib/docker/165536.231072"}
    host = prepare(tmp_path, {"Binds": ["/home/kim:/h"]}, daemon=daemon)
    assert BindLedger(str(tmp_path)).read(host["Mounts"][0]["Source"]).root == [165536, 231072]


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({**REMAPPED, "DockerRootDir": "/var/lib/docker"}, "who root in its containers is"),
        (REMAPPED, "who root in its containers is"),
        ({"SecurityOptions": ["name=rootless"]}, "a rootless Docker daemon"),
    ],
)
def test_a_daemon_whose_root_is_not_known_gets_no_folders(tmp_path: Path, info: Any, expected: str) -> None:
    daemon = Asked()
    daemon.info = info
    with pytest.raises((Refused, Unavailable), match=expected):
        prepare(tmp_path, {"Binds": ["/home/kim:/h"]}, daemon=daemon)
    assert list(tmp_path.iterdir()) == []


def test_who_binds_plainly_does(tmp_path: Path) -> None:
    assert prepare(tmp_path, {"Binds": ["/etc:/e"]}, ADMIN) == {"Binds": ["/etc:/e"]}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [{"privileged": True}, {"capabilities": ["ALL"]}, {"capabilities": ["MKNOD"]}])
def test_binds_are_not_for_who_could_undo_them(tmp_path: Path, more: dict[str, object]) -> None:
    with pytest.raises(Refused, match="undoes what makes binds safe") as refusal:
        prepare(tmp_path, {"Binds": ["/home/kim:/h"]}, DEVELOPER | more)
    assert refusal.value.rule == "plain_binds"


SHARED = {"Type": "bind", "Source": "/home/kim", "Target": "/h", "BindOptions": {"Propagation": "rshared"}}


@pytest.mark.parametrize(
    "host", [{"Binds": ["/home/kim:/h:rshared"]}, {"Binds": ["/home/kim:/h:z"]}, {"Mounts": [SHARED]}]
)
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


def test_binds_of_all_containers(tmp_path: Path) -> None:
    rules = DEVELOPER | {"totals": {**DEVELOPER["totals"], "binds": 2}}  # type: ignore[dict-item]
    prepare(tmp_path, {"Binds": ["/home/kim:/a", "/home/kim:/b"]}, rules)
    with pytest.raises(Refused, match="may have 2 binds, and you have 2: remove a container that has some") as refusal:
        prepare(tmp_path, {"Binds": ["/home/kim:/c"]}, rules)
    assert refusal.value.rule == "totals"


@pytest.mark.parametrize(
    ("answer", "error", "rule"),
    [
        ({"error": 403, "message": "HostConfig.Binds: no", "rule": "binds"}, Refused, "binds"),
        ({"error": 403, "message": "no", "rule": "none of ours"}, Refused, "none of ours"),
        ({"error": 400, "message": "no such folder"}, Malformed, ""),
        ({"error": 502, "message": "it hangs"}, Unavailable, ""),
    ],
)
def test_what_the_binds_helper_finds_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], error: type[Exception], rule: str
) -> None:
    async def ask(*_: object, **__: object) -> dict[str, Any]:
        return answer

    monkeypatch.setattr(staging, "ask", ask)
    part: dict[str, Any] = {"HostConfig": {"Binds": ["/home/kim:/h"]}}
    daemon, ctx, stager = Asked(), context(DEVELOPER, "ContainerCreate"), staging.Stager(Loop(), environment(tmp_path))
    daemon.image("busybox")
    with pytest.raises(error, match=answer["message"]) as fault:
        finish(stager.prepare(daemon, ctx, part, "busybox", ""))  # type: ignore[arg-type]
    if isinstance(fault.value, Refused):
        assert (fault.value.rule, bool(fault.value.at)) == (rule, rule in DEVELOPER)
    assert list(tmp_path.iterdir()) == []
