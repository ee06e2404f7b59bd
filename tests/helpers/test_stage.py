"""The clone of a bind's source: what is said where the kernel or a file system can't map it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.folders import stage
from sockproxy_helpers.folders.bindledger import Bind
from sockproxy_helpers.system import kernel
from tests.helpers.test_bindledger import FIELDS

EVERYWHERE, BELOW = "its file system does not let", "something that is mounted below it does not let"


@pytest.fixture
def set_attributes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Play a kernel: what it says to an ID map, with and without what is mounted below; takes down what was set."""
    played: dict[str, Any] = {"map": 0, "top": None, "set": []}

    def answer(tree: int, attributes: int, recursive: bool, userns: int = 0) -> None:
        number = played["map"] if recursive or played["top"] is None else played["top"]
        if number and (attributes & kernel.IDMAP or number == errno.ENOSYS):
            raise OSError(number, os.strerror(number))
        played["set"].append(attributes)

    monkeypatch.setattr(kernel, "clone_tree", lambda fd, recursive: fd)
    monkeypatch.setattr(kernel, "set_attributes", answer)
    return played


def clone(unmapped: bool = False, **fields: Any) -> None:
    stage.clone(1, Bind({**FIELDS, **fields}), 2, unmapped)


@pytest.mark.parametrize(
    ("played", "asked", "expected", "rule"),
    [
        ({"map": errno.EINVAL}, {}, f"{EVERYWHERE}.*allowed: ext4, xfs, btrfs, tmpfs; a volume", "unmapped_binds"),
        ({"map": errno.EINVAL, "top": 0}, {}, BELOW, "unmapped_binds"),
        ({"map": errno.EINVAL, "top": 0}, {"recursive": False, "writable": True}, "", ""),
        ({"map": errno.EPERM}, {"writable": False}, EVERYWHERE, "unmapped_binds"),
        ({"map": errno.EINVAL}, {"unmapped": True}, r"allowed: read-only, :ro", "unmapped_binds"),
        ({"map": errno.EINVAL}, {"unmapped": True, "writable": False}, "", ""),
        ({"map": errno.ENOSYS}, {}, r"before Linux 5.12,.*allowed: a volume; docker cp", "unmapped_binds"),
        ({"map": errno.ENOSYS}, {"unmapped": True}, r"before Linux 5.12,.*allowed: read-only, :ro", "unmapped_binds"),
    ],
)
def test_what_can_not_be_mapped_is_refused_in_words(
    set_attributes: dict[str, Any], played: dict[str, Any], asked: dict[str, Any], expected: str, rule: str
) -> None:
    set_attributes.update(played)
    if expected:
        with pytest.raises(Refused, match=expected) as refusal:
            clone(**asked)
        assert refusal.value.rule == rule
    else:
        clone(**asked)
        (attributes,) = set_attributes["set"]
        assert attributes & kernel.NOSUID
        assert attributes & kernel.NODEV
        assert bool(attributes & kernel.RDONLY) is not asked.get("writable", True)


def test_where_nothing_can_be_set_a_bare_clone_is_read_only_once_attached(set_attributes: dict[str, Any]) -> None:
    """By the attacher, which the worker tells so (`restrict`)."""
    set_attributes["map"] = errno.ENOSYS
    clone(unmapped=True, writable=False)
    assert set_attributes["set"] == []


def test_another_fault_is_no_reason_to_leave_the_map_out(set_attributes: dict[str, Any]) -> None:
    set_attributes["map"] = errno.ENOMEM
    with pytest.raises(OSError, match="memory"):
        clone(unmapped=True, writable=False)


def test_a_mapped_clone_has_the_map(set_attributes: dict[str, Any]) -> None:
    clone(writable=False)
    assert set_attributes["set"] == [kernel.IDMAP | kernel.NOSUID | kernel.NODEV | kernel.RDONLY]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home folder; whoever runs the tests walks in it as who they are."""
    monkeypatch.setattr(kernel, "walk_as", lambda *_: None)
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "file").touch()
    os.mkfifo(folder / "pipe")
    (folder / "out").symlink_to("/etc")
    (folder / "link").symlink_to("file")
    (folder / "round").symlink_to("round")
    return folder


def source(home: Path, name: str, **fields: Any) -> int:
    bind = Bind({**FIELDS, "source": f"{home}/{name}", "made": False, **fields})
    parts = str(home).strip("/").split("/")
    return stage.source(bind, stage.Owner("root", 1, 1), [(parts, "rw")], [], [])


@pytest.mark.parametrize(
    ("name", "error", "why"),
    [
        ("none", Malformed, "bind source path does not exist: /.*/home/none"),
        ("pipe", Refused, "/home/pipe is neither a folder nor a file"),
        ("out", Refused, r"/home/out leads to /etc \(allowed: /.*/home rw\)"),
        ("round", Refused, "kim cannot open /.*/home/round: Too many levels of symbolic links"),
        ("file/x", Refused, "kim cannot open /.*/home/file/x: Not a directory"),
    ],
)
def test_sources_that_are_none(home: Path, name: str, error: type[Exception], why: str) -> None:
    os.close(source(home, "link"))
    with pytest.raises(error, match=why):
        source(home, name)


@pytest.mark.parametrize(("may", "writable", "why"), [("", True, "read"), ("r", True, "write to"), ("r", False, "")])
def test_what_an_owner_may_not_open(
    home: Path, monkeypatch: pytest.MonkeyPatch, may: str, writable: bool, why: str
) -> None:
    def answer(fd: int, wanted: int) -> None:
        if wanted == os.W_OK or not may:
            raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(kernel, "may", answer)
    if why:
        with pytest.raises(Refused, match=f"root may not {why} /.*/home/file"):
            source(home, "file", writable=writable)
    else:
        os.close(source(home, "file", writable=writable))
