"""A prune of containers through sockproxy removes what the daemon's own removes, whatever the filters say."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.conftest import People
from tests.support.belongings import Person
from tests.support.proxy import Proxy
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

LABELS: dict[str, dict[str, str]] = {"none": {}, "one": {"x": "1"}, "two": {"x": "2", "y": ""}}
FILTERS: list[dict[str, object]] = [
    {"label": ["x"]},
    {"label": ["x=1"]},
    {"label": {"x": True, "y": False}},
    {"label": ["x", "x=3"]},
    {"label!": ["x"]},
    {"label!": ["x=1", "y"]},
    {"label!": ["x", "y="]},
    {"label!": []},
    {"label": ["x"], "label!": ["y"]},
    {"name": ["none"]},
    {"status": ["exited"]},
    {"until": ["1h", "2h"]},
    {"until": ["soon"]},
    {"until": ["2023-02-30"]},
]
# What may stand for a moment: when it was made, and a second later.
FORMS = [
    "%s",
    "%s.000000000",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%S.0",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%dT%H:%M:%S+00:00",
]


@pytest.fixture
def both(people: People, proxy28: Proxy, users: Users) -> list[Person]:
    return [people.root, people.alice]


@pytest.fixture
def proxy(proxy28: Proxy) -> Proxy:
    return proxy28


def make(who: Person, name: str) -> str:
    return who.create(f"{name}-{type(who).__name__}", Labels={"of": type(who).__name__, **LABELS[name]})


def prune(who: Person, had: dict[str, str], filters: dict[str, Any]) -> tuple[int, object, set[str]]:
    """Prune what is this side's; give the status, the space, and the names of what went: as told, and as it is."""
    labels = filters.get("label", [])
    labels = (
        {**labels, f"of={type(who).__name__}": True}
        if isinstance(labels, dict)
        else [*labels, f"of={type(who).__name__}"]
    )
    answer = who.ask("POST", f"/containers/prune?filters={quote(json.dumps({**filters, 'label': labels}))}")
    left = {item["Id"] for item in who.get("GET", "/containers/json?all=1")}
    gone = {name for name, identity in had.items() if identity not in left}
    if answer.status == 200:
        assert {had[name] for name in gone} == set(answer.json["ContainersDeleted"] or ())  # type: ignore[call-overload]
    return answer.status, answer.json.get("SpaceReclaimed"), gone


def test_labels(both: list[Person]) -> None:
    have: list[dict[str, str]] = [{}, {}]
    for filters in FILTERS:
        for who, had in zip(both, have, strict=True):
            had |= {name: make(who, name) for name in LABELS.keys() - had.keys()}
        daemons, ours = (prune(who, had, filters) for who, had in zip(both, have, strict=True))
        assert ours == daemons, filters
        for had in have:
            for name in ours[2]:
                del had[name]


def test_moments(both: list[Person]) -> None:
    have = [{"none": make(who, "none")} for who in both]
    for form in FORMS:
        for late in (0, 1):
            for who, had in zip(both, have, strict=True):
                found = who.get("GET", f"/containers/json?all=1&filters={quote(json.dumps({'id': [had['none']]}))}")
                zone = time.gmtime if form[-1] in "Z0" and "S.0" not in form else time.localtime
                told = zone(found[0]["Created"] + late)
                text = str(found[0]["Created"] + late) + form[2:] if form[1] == "s" else time.strftime(form, told)
                assert prune(who, had, {"until": [text]}) == (200, 0, {"none"} if late else set()), text
        have = [{"none": make(who, "none")} for who in both]
    for text, gone in {"1h": set(), "-1h": {"none"}, "1.5m": set(), "2000-01-01": set()}.items():
        found = [prune(who, had, {"until": [text]}) for who, had in zip(both, have, strict=True)]
        assert found == [(200, 0, gone)] * 2, text
        have = [had if not gone else {"none": make(who, "none")} for who, had in zip(both, have, strict=True)]


def test_what_runs_stays_and_space_is_told(both: list[Person]) -> None:
    told = []
    for who in both:
        kept = who.run(f"runs-{type(who).__name__}", Labels={"of": type(who).__name__})
        box = who.create(
            "", Labels={"of": type(who).__name__}, Cmd=["dd", "if=/dev/zero", "of=/x", "bs=1000", "count=99"]
        )
        who.get("POST", f"/containers/{box}/start")
        who.get("POST", f"/containers/{box}/wait")
        status, space, gone = prune(who, {"kept": kept, "box": box}, {})
        told.append(space)
        assert (status, gone) == (200, {"box"})
    assert told[0] == told[1] >= 99_000  # type: ignore[operator]
