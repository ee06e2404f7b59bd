"""The moment that `until` stands for: as Go and the daemon read it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from sockproxy_helpers.api.instant import until
from sockproxy_helpers.errors import Malformed

NOW = 1_700_000_000.75  # 2023-11-14T22:13:20.75Z
DAY = 1_699_920_000  # 2023-11-14T00:00:00Z


@pytest.fixture(params=["UTC0", "XYZ-5:30"])
def offset(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A time zone of the host's; how many seconds it is ahead of UTC."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield 0 if request.param == "UTC0" else 19_800
    monkeypatch.undo()
    assert os.environ.get("TZ") != "XYZ-5:30"
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10s", 1_699_999_990),
        ("1h30m", 1_699_994_600),
        ("1.5h", 1_699_994_600),
        (".5h", 1_699_998_200),
        ("1.h", 1_699_996_400),
        ("750ms", 1_700_000_000),
        ("760ms", 1_699_999_999),
        ("1us", 1_700_000_000),
        ("1\u00b5s1\u03bcs1ns", 1_700_000_000),
        ("-1h", 1_700_003_600),
        ("+1h", 1_699_996_400),
        ("0s", 1_700_000_000),
        ("0", 0),
        ("+5", 5),
        ("1700000000", 1_700_000_000),
        ("1700000000.25", 1_700_000_000.25),
    ],
)
def test_durations_and_unix_times(text: str, moment: float) -> None:
    assert until(text, NOW) == moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2023-11-14Z", DAY),
        ("2023-11-14+02:00", DAY - 7200),
        ("2023-11-14-02:30", DAY + 9000),
        ("2023-11-14T22:13:20Z", 1_700_000_000),
        ("2023-11-14T22:13:20.5Z", 1_700_000_000.5),
        ("2023-11-14T22:13:20+00:00", 1_700_000_000),
        ("2023-11-14T22:13Z", 1_699_999_980),
        ("2023-11-14T22Z", 1_699_999_200),
        ("2023-11-14T22-01:00", 1_700_002_800),
        ("2024-02-29Z", 1_709_164_800),
        ("1970-01-01Z", 0),
        ("1600-03-01Z", -11_670_912_000),
    ],
)
def test_dates_with_a_zone(text: str, moment: float, offset: int) -> None:
    assert until(text, NOW) == moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2023-11-14", DAY),
        ("2023-11-14T22", 1_699_999_200),
        ("2023-11-14T22:13", 1_699_999_980),
        ("2023-11-14T22:13:20", 1_700_000_000),
        ("2023-11-14T22:13:20.125", 1_700_000_000.125),
    ],
)
def test_dates_of_the_hosts_zone(text: str, moment: float, offset: int) -> None:
    assert until(text, NOW) == moment - offset


REFUSED = ["", "h", ".h", "x1h", "1h x", "1d", "2023-02-29", "2023-13-01", "2023-11-14T24", "2023-11-14T22:60"]
REFUSED += [
    "2023-11-14T22:13:60Z",
    "2023-11-14z",
    "2023-11",
    "14.11.2023",
    "-5",
    "1_0",
    "\u0661h",
    "1h\n",
    "1e3",
    "2023-11-14+25:00",
    "2023-11-14+00:60",
]


@pytest.mark.parametrize("text", REFUSED)
def test_no_moments(text: str) -> None:
    with pytest.raises(Malformed):
        until(text, NOW)
