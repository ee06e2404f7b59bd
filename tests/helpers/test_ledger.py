"""Whose the names of images are, on the disk: nothing that was written is lost, whenever the process ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy_helpers.content import ledger
from sockproxy_helpers.content.ledger import FILE, PULLED, Entry, Ledger, Writer
from sockproxy_helpers.errors import Unavailable

ID, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def entries(reader: Ledger) -> dict[str, tuple[int, str | None, bool]]:
    reader.refresh()
    return {name: (entry.uid, entry.id, entry.shared) for name, entry in reader._entries.items()}


def test_written_and_read(tmp_path: Path) -> None:
    writer, reader = Writer(str(tmp_path)), Ledger(str(tmp_path))
    assert reader.find("a", ID) is None
    writer.put("a", Entry(1, ID, ""))
    writer.put("b", Entry(2, None, ""))
    writer.put("c", Entry(3, ID, PULLED))
    writer.put("c", None)
    for found in (writer, Ledger(str(tmp_path)), Writer(str(tmp_path)), reader):
        assert entries(found) == {"a": (1, ID, ""), "b": (2, None, "")}
    assert writer.unsettled() == ["b"]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_an_owner_of_what_a_name_no_longer_means(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path))
    writer.put("a", Entry(1, ID, ""))
    writer.put("b", Entry(1, None, ""))
    assert writer.find("a", ID)
    assert writer.find("a", OTHER) is None
    assert writer.find("b", OTHER)


@settings(max_examples=25)
@given(st.integers(0, 200), st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2, None])), max_size=6))
def test_a_file_that_ends_anywhere(
    tmp_path_factory: pytest.TempPathFactory, cut: int, said: list[tuple[str, int | None]]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    writer = Writer(str(folder))
    for name, uid in said:
        writer.put(name, Entry(uid, ID, "") if uid else None)
    data = (folder / FILE).read_bytes()
    os.truncate(folder / FILE, max(0, len(data) - cut))
    whole = data[: max(0, len(data) - cut)].count(b"\n")
    expected = dict(said[:whole])
    again = Writer(str(folder))
    again.put("z", Entry(9, ID, ""))
    kept = {name: uid for name, uid in expected.items() if uid} | {"z": 9}
    for found in (again, Ledger(str(folder))):
        assert {name: uid for name, (uid, _, _) in entries(found).items()} == kept


@pytest.mark.parametrize(
    "damaged",
    [
        b"\0\0\0x\n",
        b'{"name": "b"}\n',
        b"\n",
        b"7\n",
        b'{"name": "b", "uid": 1, "id": "x", "shared": []}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_damaged_line_is_told_and_nothing_is_given_away(tmp_path: Path, damaged: bytes) -> None:
    writer, path = Writer(str(tmp_path)), tmp_path / FILE
    writer.put("a", Entry(1, ID, ""))
    reader = Ledger(str(tmp_path))
    reader.refresh()
    whole = path.read_bytes()
    path.write_bytes(whole + damaged + whole)
    for _ in "12":
        for read in reader.refresh, writer.refresh, lambda: Writer(str(tmp_path)):
            with pytest.raises(Unavailable, match=rf"{FILE}:2 is damaged"):
                read()
    assert reader.find("a", ID)
    path.write_bytes(whole)
    assert entries(reader) == entries(Writer(str(tmp_path))) == {"a": (1, ID, "")}


def test_what_is_no_longer_true_does_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "SLACK", 10)
    monkeypatch.setattr(ledger.os, "fsync", lambda fd: None)
    writer, reader = Writer(str(tmp_path)), Ledger(str(tmp_path))
    for number in range(100):
        writer.put("a", Entry(number, ID, ""))
        assert entries(reader) == {"a": (number, ID, "")}
    assert (tmp_path / FILE).read_bytes().count(b"\n") < 20


def test_a_line_that_can_not_be_written_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(str(tmp_path))
    writer.put("a", Entry(1, ID, ""))

    def broken(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.os, "fsync", broken)
        with pytest.raises(OSError, match="No space"):
            writer.put("b", Entry(2, ID, ""))
    writer.put("c", Entry(3, ID, ""))
    assert entries(writer).keys() == entries(Ledger(str(tmp_path))).keys() == {"a", "c"}
