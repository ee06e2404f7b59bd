"""Write what was counted: as the text that Prometheus reads, and as an object for `sockproxy status`."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from sockproxy.server.meter import BOUNDS, Meter, Visit, is_stream, name_of
from sockproxy_helpers.judge.policy import Policy

Labels = dict[str, object]
Family = tuple[str, str, str, list[tuple[Labels, float]]]


def prometheus(meter: Meter, policy: Policy) -> str:
    """Write the text exposition format, version 0.0.4."""
    under_way = [visit.operation for visit in meter.visits if visit.operation]
    streams = Counter(operation.name for operation in under_way if is_stream(operation))
    families: list[Family] = [
        ("start_timestamp_seconds", "gauge", "when the front was started", [({}, meter.began)]),
        ("policy_loaded_timestamp_seconds", "gauge", "when it loaded its policy", [({}, meter.loaded)]),
        ("policy_info", "gauge", "the policy in force", [({"sha256": policy.sha256, "source": policy.source}, 1)]),
        ("connections", "gauge", "connections of clients", [({}, len(meter.visits))]),
        ("connections_total", "counter", "connections of clients so far", [({}, meter.connections)]),
        ("calls_under_way", "gauge", "calls that helpers have", [({}, len(under_way))]),
        ("streams", "gauge", "those of them that last as long as they are wanted", _by("operation", streams)),
        ("calls_total", "counter", "calls that helpers have had", _by("operation", meter.served)),
        ("refusals_total", "counter", "errors and refusals of sockproxy's own", _by("status", meter.refused)),
    ]
    lines = list(itertools.chain.from_iterable(_family(*family) for family in families))
    lines += [
        "# HELP sockproxy_call_seconds time of calls that are no streams",
        "# TYPE sockproxy_call_seconds histogram",
    ]
    for scope, (counts, total) in sorted(meter.seconds.items()):
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), itertools.accumulate(counts), strict=True):
            lines.append(_sample("call_seconds_bucket", {"scope": scope, "le": bound}, count))
        lines += [
            _sample("call_seconds_sum", {"scope": scope}, total[0]),
            _sample("call_seconds_count", {"scope": scope}, sum(counts)),
        ]
    return "\n".join((*lines, ""))


def _by(label: str, counts: Counter[str] | Counter[int]) -> list[tuple[Labels, float]]:
    return [({label: key}, count) for key, count in sorted(counts.items())]


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[Labels, float]]) -> Iterator[str]:
    yield f"# HELP sockproxy_{name} {text}"
    yield f"# TYPE sockproxy_{name} {kind}"
    for labels, value in samples:
        yield _sample(name, labels, value)


def _sample(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{label}="{_escaped(str(text))}"' for label, text in labels.items())
    return f"sockproxy_{name}{f'{{{inside}}}' if inside else ''} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def status(meter: Meter, policy: Policy, version: str) -> dict[str, object]:
    """Form what `sockproxy status` shows."""
    return {
        "version": version,
        "now": time.time(),
        "began": meter.began,
        "policy": {"sha256": policy.sha256, "source": policy.source, "loaded": meter.loaded},
        "calls": sum(meter.served.values()),
        "refused": sum(meter.refused.values()),
        "rate": meter.rate(),
        "connections": [_visit(visit) for visit in sorted(meter.visits, key=lambda visit: visit.began)],
        "users": {name: {"calls": calls, "refused": refused} for name, (calls, refused) in meter.users.items()},
        "refusals": list(meter.refusals),
    }


def _visit(visit: Visit) -> dict[str, object]:
    who = visit.who
    process = who.process if who else None
    found: dict[str, object] = {"user": name_of(who), "began": visit.began, "requests": visit.requests}
    if who and process:
        found |= {"via": who.via, "pid": process.pid, "comm": process.comm, "peer_uid": process.uid}
        found["container"] = process.containers[0] if process.containers else ""
    if visit.operation:
        found["call"] = {
            "operation": visit.operation.name,
            "about": visit.about,
            "since": visit.since,
            "stream": is_stream(visit.operation),
        }
    return found
