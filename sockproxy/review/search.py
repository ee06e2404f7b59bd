"""Search the record: look for bytes first, and read as JSON only the lines that have them.

A million records are some 800 MB; to look for bytes in them takes a second, to read them all as JSON eight (measured).
"""

from __future__ import annotations

import contextlib
import json
import mmap
from collections.abc import Iterator
from typing import Any

from sockproxy.audit import segments
from sockproxy.audit.chain import when

Record = dict[str, Any]
NEAR = 1 << 20  # bytes behind an intent within which nearly every outcome is
_INTENT, _DENY, _OUTCOME = b'"ev":"intent"', b'"ev":"deny"', b'"ev":"outcome"'


class Content:
    """Hold the bytes of one file, mapped or unpacked."""

    def __init__(self, name: str, data: bytes | mmap.mmap) -> None:
        self.name, self.data = name, data

    def lines(self, needle: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Find the lines with these bytes, each with its end's place; all lines for b""."""
        data = self.data
        place = start
        while (hit := data.find(needle, place)) >= 0 and hit < len(data):
            begin, end = data.rfind(b"\n", 0, hit) + 1, data.find(b"\n", hit)
            if end < 0:  # it is being written
                return
            yield end, data[begin:end]
            place = end + 1


def contents(folder: str, since: str = "", until: str = "") -> Iterator[Content]:
    """Give the contents of the files of a time, oldest first.

    Args:
        since, until: times as in the record; "" for no bound.

    Raises:
        OSError: the record can't be read.
    """
    held: Content | str = ""  # the name of a compressed one
    for name, file in segments.snapshot(folder):
        read: Content | str = ""
        if name.endswith(".gz"):
            begin, read = when(file.readline()), name
        else:
            begin = ""
            with contextlib.suppress(ValueError):  # an empty file can't be mapped
                read = Content(name, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
                begin = when(read.data[:200])
        if until and begin > until:
            break
        if held and (not since or begin > since):  # a file ends where the next one begins
            yield _unpack(folder, held)
        held = read or held
    if held:
        yield _unpack(folder, held)


def _unpack(folder: str, content: Content | str) -> Content:
    if isinstance(content, str):
        with segments.open_file(folder, content) as file:
            return Content(content, file.read())
    return content


class Call:
    """Hold what the record says of one call: what was to be done or was refused, and what became of it."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.outcome: Record = {}
        self.rid = str(record.get("rid", ""))
        self.time = str(record.get("ts", ""))
        self.who: Record = _map(record.get("who"))
        self.request: Record = _map(record.get("req"))
        self.decision: Record = _map(record.get("decision"))
        self.denied = record.get("ev") == "deny"

    @property
    def user(self) -> str:
        """The user's name, or the uid of who has none."""
        return str(self.who.get("user") or f"uid {self.who.get('uid', '?')}")

    @property
    def operation(self) -> str:
        """The operation's name; of what is none, method and path."""
        return str(self.request.get("op") or f"{self.request.get('method', '?')} {self.request.get('path', '')}")

    @property
    def objects(self) -> list[Record]:
        """What it named, and what it made."""
        found = [*_list(self.record.get("objects")), *_list(self.outcome.get("made"))]
        return [item for item in found if isinstance(item, dict)]

    @property
    def out(self) -> Record:
        """What became of it; empty while nobody knows."""
        return _map(self.outcome.get("out"))

    @property
    def result(self) -> str:
        """Say in a word what became of it."""
        if self.denied:
            return "refused"
        if not self.out:
            return "outcome unknown"
        exit_code = self.out.get("exit")
        return f"{self.out.get('status') or 'no answer'}" + (f" exit {exit_code}" if exit_code is not None else "")

    @property
    def would(self) -> list[str]:
        """What a role in warn mode would have refused."""
        found = [item for item in _list(self.decision.get("would_refuse")) if isinstance(item, dict)]
        return [f"{item.get('why')}: rule {item.get('at') or '-'}" for item in found]

    @property
    def why(self) -> str:
        """The sentence of a refusal, or the daemon's error."""
        return str(self.decision.get("why") or self.out.get("error") or "")

    @property
    def image(self) -> str:
        """The image that it is about, as the client named it."""
        query, body = _map(self.request.get("query")), _map(self.request.get("body"))
        name = body.get("Image") or query.get("fromImage") or query.get("t") or ""
        return f"{name}:{query['tag']}" if query.get("fromImage") and query.get("tag") else str(name)

    def about(self) -> str:
        """Name what it is about, in few words."""
        named = [f"{item.get('name') or str(item.get('id', ''))[:12]}" for item in self.objects]
        name = _map(self.request.get("query")).get("name")
        return " ".join(dict.fromkeys(filter(None, [*named, str(name or ""), self.image])))


def calls(found: Iterator[Content], needles: list[bytes]) -> Iterator[Call]:
    """Find the calls whose first record has all of these bytes, each with its outcome; the rarest should come first.

    Calls come in the order of the record. One whose outcome is far behind its beginning is given when that is found.
    """
    open_calls: dict[bytes, Call] = {}
    needle = needles[0] if needles else b""
    for content in found:
        yield from _finish(content, open_calls)
        for end, line in content.lines(needle):
            if not (_INTENT in line or _DENY in line) or not all(other in line for other in needles):
                continue
            record = load(line)
            if record.get("ev") not in ("intent", "deny") or (record["ev"] == "intent" and not genuine(record)):
                continue
            call = Call(record)
            if not call.denied:
                mark = b'%s,"rid":"%s"' % (_OUTCOME, call.rid.encode())
                hit = content.data.find(mark, end, end + NEAR)
                if hit < 0 and end + NEAR < len(content.data):
                    hit = content.data.find(mark, end + NEAR)
                if hit < 0:
                    open_calls[mark] = call
                    continue
                call.outcome = outcome(load(next(content.lines(mark, hit))[1]))
            yield call
    yield from sorted(open_calls.values(), key=lambda call: call.time)


def _finish(content: Content, open_calls: dict[bytes, Call]) -> Iterator[Call]:
    """Give the calls of earlier files that this one has the outcome of."""
    for mark in list(open_calls):
        for _, line in content.lines(mark):
            call = open_calls.pop(mark)
            call.outcome = outcome(load(line))
            yield call
            break


def records(found: Iterator[Content], needle: bytes) -> Iterator[Record]:
    """Find the records with these bytes."""
    for content in found:
        for _, line in content.lines(needle):
            if record := load(line):
                yield record


def genuine(record: Record) -> bool:
    """Tell whether root's processes sent it: the front could make up what a helper says, under its own uid only."""
    return _map(record.get("peer")).get("uid") == 0


def outcome(record: Record) -> Record:
    """Take an outcome, if it is a helper's."""
    return record if genuine(record) else {}


def load(line: bytes) -> Record:
    """Read a line; empty for what is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def needle(key: str, value: str) -> bytes:
    """Form the bytes of a member, as the writer writes it."""
    return f"{json.dumps(key)}:{json.dumps(value)}".encode()


def inner(value: str) -> bytes:
    """Form the bytes of a text within a text."""
    return json.dumps(value)[1:-1].encode()


def _map(value: object) -> Record:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
