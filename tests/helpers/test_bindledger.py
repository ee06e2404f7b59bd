"""Records of binds: whole, unguessable, and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sockproxy_helpers.folders.bindledger import Bind, BindLedger, new_name, owner

FIELDS: dict[str, Any] = {
    "user": "kim", "uid": 1000, "role": "developer", "source": "/home/kim", "target": "/h", "form": "Binds",
    "writable": True, "recursive": True, "made": True, "own_socket": False, "ids": [0, 0], "root": [0, 0],
    "asked": "/home/kim:/h",
}  # fmt: skip


def test_what_is_written_is_read(tmp_path: Path) -> None:
    ledger, name = BindLedger(str(tmp_path)), new_name(1000)
    ledger.write(name, Bind(FIELDS))
    assert ledger.read(name).fields() == FIELDS
    assert [found for found, _ in ledger.names()] == [name]
    assert (ledger.count(1000), ledger.count(1001)) == (1, 0)
    ledger.remove(name)
    ledger.remove(name)
    with pytest.raises(KeyError):
        ledger.read(name)


def test_a_draft_is_left_by_a_kill_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, name, other = BindLedger(str(tmp_path)), new_name(1000), new_name(1001)

    def killed(*_: object) -> None:
        raise SystemExit

    ledger.write(other, Bind({**FIELDS, "uid": 1001}))
    with monkeypatch.context() as patched:
        patched.setattr("os.rename", killed)
        with pytest.raises(SystemExit):
            ledger.write(name, Bind(FIELDS))
    assert len(list(tmp_path.glob("*/*"))) == 2
    assert ledger.count(1000) == 0
    BindLedger(str(tmp_path)).clear()
    assert [path.name for path in tmp_path.glob("*/*")] == [other]


def test_a_record_of_before_daemons_could_remap_users_counts(tmp_path: Path) -> None:
    name, old = new_name(1000), {key: value for key, value in FIELDS.items() if key != "root"}
    (tmp_path / "1000").mkdir()
    (tmp_path / "1000" / name).write_text(json.dumps(old))
    assert BindLedger(str(tmp_path)).read(name).fields() == FIELDS


@pytest.mark.parametrize(
    "name",
    ["", "x", "sockproxy-1000-", "sockproxy-1000-../../policy", f"sockproxy-1000-{'0' * 32}/x", "sockproxy-1000-\n"],
)
def test_other_names_are_nothing(tmp_path: Path, name: str) -> None:
    assert owner(name) is None
    with pytest.raises(KeyError):
        BindLedger(str(tmp_path)).read(name)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", json.dumps(FIELDS)[:-5], json.dumps({**FIELDS, "uid": "0"}), json.dumps({**FIELDS, "x": 1})],
)
def test_a_damaged_record_is_none(tmp_path: Path, text: str) -> None:
    name = new_name(1000)
    (tmp_path / "1000").mkdir()
    (tmp_path / "1000" / name).write_text(text)
    with pytest.raises(KeyError):
        BindLedger(str(tmp_path)).read(name)


def test_names_are_not_alike() -> None:
    assert len({new_name(1000) for _ in range(100)}) == 100
    assert owner(new_name(1000)) == 1000
