"""What the front counts, and how it is told."""

from __future__ import annotations

import json
import re

import pytest

from sockproxy.errors import Denied, RequestError
from sockproxy.policy.compile import compile_text, dump
from sockproxy.server import report
from sockproxy.server.meter import MINUTE, REFUSALS, USERS, Meter, Visit
from sockproxy.status.command import text
from sockproxy_helpers.api import operations
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system.caller import Caller

POLICY = Policy(dump(compile_text(b"version: 1\n", 'a"b\\c.yaml')))
OPERATIONS = {row.name: row for row in operations.load()}
KIM = Caller(7001, 7001, 4, "kim", ["x"], "/home/kim")
SAMPLE = re.compile(
    r'sockproxy_[a-z_]+(\{[a-z0-9]+="(?:[^"\\\n]|\\[\\n"])*"(,[a-z0-9]+="(?:[^"\\\n]|\\[\\n"])*")*\})? [0-9.e+-]+'
)


def sample(meter: Meter, name: str) -> float:
    found = [line for line in report.prometheus(meter, POLICY).splitlines() if line.startswith(f"sockproxy_{name} ")]
    assert len(found) == 1, name
    return float(found[0].rpartition(" ")[2])


def test_calls_streams_and_refusals_are_told_apart() -> None:
    meter = Meter()
    with meter.visit() as visit, meter.visit():
        visit.who = KIM
        with meter.call(visit, OPERATIONS["ContainerInspect"], ["web"]):
            assert (sample(meter, "connections"), sample(meter, "calls_under_way")) == (2, 1)
        with meter.call(visit, OPERATIONS["ContainerLogs"], ["web", "ab" * 32]):
            assert sample(meter, 'streams{operation="ContainerLogs"}') == 1
            told = report.status(meter, POLICY, "1")
            assert [one["user"] for one in told["connections"]] == ["kim", "?"]  # type: ignore[attr-defined]
            screen = "\n".join(text(json.loads(json.dumps(told)), {"healthy": True}))
            assert "ContainerLogs web abababababab, 0 s" in screen
            assert "2 connections, 1 streams" in screen
        visit.asked = "ContainerCreate"
        meter.refuse(visit, KIM, Denied("no", "a.yaml:7"), "f00d")
        meter.refuse(visit, KIM, RequestError("no such container", 404), "f00e")
    assert (sample(meter, "connections"), sample(meter, "connections_total")) == (0, 2)
    assert sample(meter, 'calls_total{operation="ContainerInspect"}') == 1
    assert sample(meter, 'refusals_total{status="403"}') == 1
    assert sample(meter, 'call_seconds_count{scope="lifecycle"}') == 1  # the stream's time says nothing
    assert meter.users == {"kim": [2, 2]}
    assert [(one["asked"], one["why"]) for one in meter.refusals] == [("ContainerCreate", "no: rule a.yaml:7")]
    assert meter.rate() == pytest.approx(2, abs=0.1)  # within the first second


def test_it_is_the_format_of_prometheus() -> None:
    meter = Meter()
    with meter.visit() as visit, meter.call(visit, OPERATIONS["ContainerInspect"], []):
        pass
    known: set[str] = set()
    for line in report.prometheus(meter, POLICY).splitlines():
        if line.startswith("# TYPE "):
            known.add(line.split()[2])
        elif not line.startswith("# HELP "):
            assert SAMPLE.fullmatch(line), line
            assert re.sub(r"(_bucket|_sum|_count)?[ {].*", "", line) in known | {line.partition(" ")[0]}
    buckets = re.findall(r'_bucket\{scope="lifecycle",le="([^"]+)"\} (\d+)', report.prometheus(meter, POLICY))
    assert buckets[-1] == ("+Inf", "1")
    assert [int(count) for _, count in buckets] == sorted(int(count) for _, count in buckets)


def test_what_is_kept_is_bounded() -> None:
    meter = Meter()
    for number in range(USERS + 5):
        meter.refuse(Visit(meter), Caller(number, 1, 1, f"u{number}", [], ""), Denied("y" * 5000), "")
    assert (len(meter.users), len(meter.refusals), len(str(meter.refusals[-1]["why"]))) == (USERS, REFUSALS, 500)
    assert meter.refused[403] == USERS + 5


def test_the_rate_is_that_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter()
    clock = [1000.0]
    monkeypatch.setattr("sockproxy.server.meter.time.monotonic", lambda: clock[0])
    meter.began -= 1000
    with meter.visit() as visit:
        for _ in range(MINUTE):
            with meter.call(visit, OPERATIONS["ContainerInspect"], []):
                clock[0] += 1
        assert meter.rate() == 1.0
        clock[0] += MINUTE / 2
        assert meter.rate() == pytest.approx(0.5, abs=0.02)
        clock[0] += MINUTE * 9
        assert meter.rate() == 0
