"""Sum up a time: who did what, what was refused and by which rule, and what was seen for the first time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from sockproxy.review.search import Call, Record, contents, genuine, inner, load, needle

MOST_NEW = 50  # of each kind that are looked for in all that was before
EVENTS = ("start", "stop", "policy", "gap", "key", "retention", "read", "hostile", "unshared")


class Summary:
    """Hold the sums.

    Attributes:
        hours: calls by the hour (UTC, "2026-11-25T08") and verdict ("allowed", "refused", "failed").
        users, operations: calls by name and verdict.
        rules: refusals by the rule that decided; reasons: one sentence for each.
        images: uses by name.
        events: records that are no calls.
        new_users, new_images: which nobody had heard of before.
    """

    def __init__(self) -> None:
        self.hours: dict[str, Counter[str]] = {}
        self.users: dict[str, Counter[str]] = {}
        self.operations: dict[str, Counter[str]] = {}
        self.rules: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self.images: Counter[str] = Counter()
        self.events: list[Record] = []
        self.new_users: list[str] = []
        self.new_images: list[str] = []
        self.total: Counter[str] = Counter()

    def add(self, call: Call) -> None:
        """Count a call."""
        verdict = verdict_of(call)
        self.total[verdict] += 1
        for table, key in ((self.hours, call.time[:13]), (self.users, call.user), (self.operations, call.operation)):
            table.setdefault(key, Counter())[verdict] += 1
        if call.denied:
            rule = str(call.decision.get("at") or "-")
            self.rules[rule] += 1
            self.reasons.setdefault(rule, call.why)
        elif call.image:
            self.images[call.image] += 1


def verdict_of(call: Call) -> str:
    """Say in one word how a call went."""
    if call.denied:
        return "refused"
    if not call.out:
        return "unknown"
    return "failed" if int(call.out.get("status") or 0) >= 400 or call.out.get("error") else "allowed"


def summarize(folder: str, found: Iterator[Call], since: str, until: str) -> Summary:
    """Sum up calls, and what else the record has of that time.

    Raises:
        OSError: the record can't be read.
    """
    summary = Summary()
    for call in found:
        summary.add(call)
    for event in EVENTS:
        mark = needle("ev", event)
        for content in contents(folder, since, until):
            for _, line in content.lines(mark):
                record = load(line)
                if record.get("ev") == event and since <= str(record.get("ts")) <= (until or "~"):
                    summary.events.append(record)
    summary.events.sort(key=lambda record: record.get("seq", 0))
    if since:
        summary.new_users = [name for name in summary.users if not _before(folder, needle("user", name), since)]
        images = [name for name, _ in summary.images.most_common(MOST_NEW)]
        summary.new_images = [name for name in images if not _before(folder, b'"' + inner(name) + b'"', since)]
    return summary


def _before(folder: str, mark: bytes, since: str) -> bool:
    """Tell whether something stands in the record before a time."""
    for content in contents(folder, "", since):
        for _, line in content.lines(mark):
            record = load(line)
            if str(record.get("ts")) < since and genuine(record):
                return True
            break
    return False
