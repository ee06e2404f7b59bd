"""The clone of a bind's source: what is said where the kernel or a file system can't map it."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from sockproxy_helpers import kernel, stage
from sockproxy_helpers.bindledger import Bind
from sockproxy_helpers.errors import Refused
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
        ({"map": errno.ENOSYS}, {}, r"before Linux 5.12,.*allowed: a volume; docker cp", ""),
        ({"map": errno.ENOSYS}, {"unmapped": True, "writable": False}, "before Linux 5.12", ""),
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


def test_another_fault_is_no_reason_to_leave_the_map_out(set_attributes: dict[str, Any]) -> None:
    set_attributes["map"] = errno.ENOMEM
    with pytest.raises(OSError, match="memory"):
        clone(unmapped=True, writable=False)


def test_a_mapped_clone_has_the_map(set_attributes: dict[str, Any]) -> None:
    clone(writable=False)
    assert set_attributes["set"] == [kernel.IDMAP | kernel.NOSUID | kernel.NODEV | kernel.RDONLY]
