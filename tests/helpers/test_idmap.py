"""Who in a container is whom on disk."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sockproxy_helpers.folders.idmap import HIGHEST, Extent, extents, shifted, subordinate

RANGE = [(100_000, 65_536)]


def on_disk(found: list[Extent], inside: int) -> int | None:
    for disk, first, count in found:
        if first <= inside < first + count:
            return disk + inside - first
    return None


@pytest.mark.parametrize(
    ("main", "ranges", "expected"),
    [
        (0, RANGE, [(7001, 0, 1), (100_001, 1, 65_535)]),
        (1000, RANGE, [(7001, 1000, 1), (100_000, 0, 1000), (101_001, 1001, 64_535)]),
        (70_000, RANGE, [(7001, 70_000, 1), (100_000, 0, 65_536)]),
        (0, [], [(7001, 0, 1)]),
        (0, [(5, 10), (100_000, 10)], [(7001, 0, 1), (6, 1, 9), (100_000, 10, 10)]),
        (0, [(100_000, 1 << 20)], [(7001, 0, 1), (100_001, 1, HIGHEST - 1)]),
        (0, [(7000, 100)], [(7001, 0, 1)]),  # it would contain the caller: a map is one to one
    ],
)
def test_maps(main: int, ranges: list[tuple[int, int]], expected: list[Extent]) -> None:
    assert extents(main, 7001, ranges, []) == expected


def test_one_id_is_the_same_on_disk_whatever_the_containers_user_is() -> None:
    maps = [extents(main, 7001, RANGE, []) for main in (0, 1000)]
    assert {on_disk(found, 33) for found in maps} == {100_033}


def test_where_the_daemon_remaps_users_root_inside_is_another_outside() -> None:
    found = shifted(extents(0, 7001, RANGE, []), 700_000)
    assert [on_disk(found, 700_000 + inside) for inside in (0, 33)] == [7001, 100_033]
    assert on_disk(found, 0) is None


def test_groups_that_are_the_same_at_both_places() -> None:
    found = extents(0, 7001, RANGE, [7500, 33, 7001])
    assert [on_disk(found, gid) for gid in (0, 33, 7500, 34)] == [7001, 33, 7500, 100_034]


@pytest.mark.parametrize("main", [0, 1, 999, 65_535, 65_536])
def test_no_id_twice(main: int) -> None:
    found = extents(main, 7001, RANGE, [7500, 44])
    for side in (0, 1):
        ends = sorted((extent[side], extent[side] + extent[2]) for extent in found)
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(ends))


def test_subordinate_ids_by_name_and_by_number(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("kim:100000:65536\nkimono:1:1\n7001:300000:10\n# kim:5:5\nkim:x:1\nkim:-1:5\n\nkim\n")
    assert subordinate(str(file), "kim", 7001) == [(100_000, 65_536), (300_000, 10)]
    assert subordinate(str(tmp_path / "none"), "kim", 7001) == []
