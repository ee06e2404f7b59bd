"""Prove that the record is as it was written, as far as that can be proved; name the first line that is not.

No I/O but reading. What the words mean: EDITED a line's hash is not of its content; REMOVED a number is missing;
REORDERED, DUPLICATED a line stands where it does not belong; FORGED the hashes fit, and a seal or an anchor does not;
TRUNCATED an anchor tells of records behind the end; TORN what a line was to be, without the `gap` that repairs it.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import re
from collections.abc import Iterable
from typing import NamedTuple

from sockproxy.audit import chain, segments
from sockproxy.audit.chain import START, TAIL
from sockproxy.review import recordings
from sockproxy.review.finding import Finding

MOST = 100  # findings; more of them say nothing new
MOST_UNSEALED, LONGEST_UNSEALED = 10_000, 600.0  # records, seconds; the writer seals after 1000, or 60 seconds
_ANCHOR = re.compile(r"\bseal seq=([0-9]{1,18}) h=([0-9a-f]{64}) key=([0-9a-f]{64}) next=([0-9a-f]{64})")
_KEY = re.compile(r"(?:^|sockproxy-audit.*\b)key=([0-9a-f]{64})", re.MULTILINE)  # journalctl -o cat tells no names
_SPECIAL = re.compile(rb'"ev":"(?:seal|key|retention|gap)"')


class Anchors(NamedTuple):
    """Hold what was kept elsewhere: hashes by number, and the keys that were ever announced."""

    heads: dict[int, bytes]
    keys: frozenset[str]


def read_anchors(untrusted_text: str) -> Anchors:
    """Find the anchors in a text, such as what `journalctl -t sockproxy-audit` prints."""
    found = _ANCHOR.findall(untrusted_text)
    keys = {key for one in found for key in one[2:]} | set(_KEY.findall(untrusted_text))
    return Anchors({int(one[0]): one[1].encode() for one in found}, frozenset(keys))


class Verifier:
    """Go through lines, oldest first.

    Attributes:
        findings: in the order of the lines.
        records, seals, repaired: how many there are: lines, seals that hold, torn lines that a `gap` accounts for.
        sealed: number of the last record that a seal vouches for.
        lost: events that the record itself says were not written.
        matched: anchors that hold.
        pruned: the last number that was removed by `prune`.
        key: the first key; whoever could replace it could replace all that it vouches for.
    """

    def __init__(self, anchors: Anchors | None = None) -> None:
        self.findings: list[Finding] = []
        self.records = self.seals = self.repaired = self.sealed = self.matched = self.lost = self.pruned = 0
        self.first = self.last = 0
        self.key, self.began, self.ended = "", "", ""
        self._anchors = anchors or Anchors({}, frozenset())
        self._expected, self._head, self._before = 1, START, START
        self._first_body, self._first_head = b"", b""
        self._next_key = self._first_seal_key = self._sealed_at = ""
        self._missing: dict[int, Finding] = {}
        self._junk: list[bytes] = []
        self._file, self._line = "", 0

    def feed(self, name: str, lines: Iterable[bytes]) -> None:
        """Go through a file's lines, each with its newline."""
        self._file, self._line = name, 0
        sha256, head, expected = hashlib.sha256, self._head, self._expected
        anchors, line = self._anchors.heads, b""
        for line in lines:
            self._line += 1
            body, h = line[: -TAIL - 1], line[-67:-3]
            if (
                sha256(head + body).hexdigest().encode() == h
                and line.startswith(b'{"seq":%d,"ts":"' % expected)
                and line.endswith(b'"}\n')
                and not self._junk
            ):
                self.records += 1
                expected += 1
                before, head = head, h
                if expected - 1 in anchors or _SPECIAL.search(body):
                    self._before, self._head, self._expected = before, head, expected
                    self._special(expected - 1, line)
                    head, expected = self._head, self._expected
                continue
            self._head, self._expected = head, expected
            self._strange(line)
            head, expected = self._head, self._expected
        self._head, self._expected = head, expected
        if time := chain.when(line):
            self.ended = time

    def _strange(self, line: bytes) -> None:
        """Find out what is wrong with a line, and where to go on."""
        found = chain.parse(line.removesuffix(b"\n"))
        if not found:
            self._junk.append(line)
            return
        (seq, h), body = found, line.removesuffix(b"\n")[:-TAIL]
        if self.records == 0 and seq > 1 and not self._junk:  # older files were pruned, or removed
            self._first_body, self._first_head, self.first = body, h, seq
        elif (chain.digest(self._head, body) != h or seq != self._expected) and not self._diagnose(
            seq, chain.digest(self._head, body) == h
        ):
            return
        self.records += 1
        self._before, self._head, self._expected = self._head, h, seq + 1
        self._account_for_junk(line)
        self._special(seq, line)

    def _diagnose(self, seq: int, chained: bool) -> bool:
        """Say what happened to a line; tell whether the chain goes on from it.

        Args:
            chained: its hash is right behind the line before it.
        """
        if seq > self._expected:
            missing = range(self._expected, seq)
            numbers = f"{missing[0]} to {missing[-1]} are" if len(missing) > 1 else f"{missing[0]} is"
            count = f"({len(missing)} records)" if len(missing) > 1 else "(1 record)"
            finding = self._find("REMOVED", f"record {numbers} missing before record {seq} {count}")
            if finding:
                self._missing.update(dict.fromkeys(missing[:MOST], finding))
            return True
        if seq < self._expected:
            if seq in self._missing:
                gone = self._missing.pop(seq)
                if gone in self.findings:
                    self.findings.remove(gone)
                self._find("REORDERED", f"record {seq} stands behind record {self._expected - 1}")
            else:
                self._find("DUPLICATED", f"record {seq} is there already; record {self._expected} belongs here")
            return chained
        self._find("EDITED", f"record {seq} does not match its hash")
        return True

    def _account_for_junk(self, line: bytes) -> None:
        if not self._junk:
            return
        junk, self._junk = b"".join(self._junk).removesuffix(b"\n"), []
        torn = _object(line).get("torn")
        if isinstance(torn, dict) and torn.get("sha256") == hashlib.sha256(junk).hexdigest():
            self.repaired += 1
        else:
            self._find(
                "EDITED", f"{len(junk)} bytes before this line are no record, and no gap record accounts for them"
            )

    def _special(self, seq: int, line: bytes) -> None:
        if seq in self._anchors.heads:
            if self._anchors.heads[seq] == self._head:
                self.matched += 1
            else:
                self._find("FORGED", f"record {seq} is not the one that was anchored")
        record = _object(line)
        event = record.get("ev")
        if event == "seal":
            self._seal(seq, line, record)
        elif event == "key":
            self._new_key(seq, str(record.get("key")))
        elif event == "retention" and isinstance(record.get("peer"), dict) and record["peer"]["uid"] == 0:  # type: ignore[index]
            self._retention(record)
        elif event == "gap" and isinstance(lost := record.get("lost"), dict):
            self.lost += sum(count for count in lost.values() if isinstance(count, int))

    def _seal(self, seq: int, line: bytes, record: dict[str, object]) -> None:
        from sockproxy.audit.seal import valid  # the one thing here that takes a while to import

        key, signature = str(record.get("key")), str(record.get("sig"))
        body = line.removesuffix(b"\n")[:-TAIL]
        signed = self._before + body.removesuffix(b',"sig":"%s"' % signature.encode())
        since = f"records {self.sealed + 1} to {seq - 1} are not to be trusted"
        if self._next_key and key != self._next_key:
            self._find("FORGED", f"the seal {seq} is by a key that the seal before it does not name: {since}")
        elif not valid(key, signature, signed):
            self._find("FORGED", f"the seal {seq} is not of what stands before it: {since}")
        else:
            self._long_unsealed(seq)
            self.key, self._first_seal_key = self.key or key, self._first_seal_key or key
            self.seals += 1
            self.sealed, self._sealed_at = seq, chain.when(line)
        self._next_key = str(record.get("next"))

    def _new_key(self, seq: int, key: str) -> None:
        if self.key and key not in self._anchors.keys:
            text = f"record {seq} begins with a new key: the old one was lost, or somebody wrote anew all that follows"
            self._find("FORGED", f"{text} (to be compared with the anchors)")
        self.key, self._next_key = self.key or key, key

    def _retention(self, record: dict[str, object]) -> None:
        last, head = record.get("last"), record.get("head")
        if isinstance(last, int) and last > self.pruned:
            self.pruned = last
            if self.first == last + 1 and chain.digest(str(head).encode(), self._first_body) == self._first_head:
                self._first_body = b""
                if self._first_seal_key not in ("", record.get("next")):
                    self._find(
                        "FORGED", "the first seal is by another key than the one that was due when files were pruned"
                    )

    def _long_unsealed(self, end: int) -> None:
        if end - self.sealed > MOST_UNSEALED:
            self._find("UNSEALED", f"records {self.sealed + 1} to {end - 1} have no seal, and are too many for that")

    def end(self, alive: bool) -> None:
        """Draw the conclusions.

        Args:
            alive: the writer is at work, so that the last line may be half there.
        """
        self.last = self._expected - 1
        if self._junk and not (alive and len(self._junk) == 1 and not self._junk[0].endswith(b"\n")):
            size = sum(map(len, self._junk))
            self._find("TORN", f"the last {size} bytes are no record: a write that was cut off, or something cut it")
        if self._first_body:
            text = f"records 1 to {self.first - 1} are missing, and no retention record says that they were pruned"
            self.findings.insert(0, Finding("REMOVED", "the beginning", text))
        beyond = [seq for seq in self._anchors.heads if seq > self.last]
        if beyond:
            self._find("TRUNCATED", f"an anchor tells of record {max(beyond)}, and the record ends at {self.last}")
        if self._anchors.keys and self.key and self.key not in self._anchors.keys and not self.first:
            self._find("FORGED", "the first key is not among the anchors")
        self._long_unsealed(self._expected)
        if self._sealed_at and _seconds(self._sealed_at, self.ended) > LONGEST_UNSEALED:
            self._find("UNSEALED", f"the last seal is of {self._sealed_at}, and the record goes on to {self.ended}")

    def _find(self, word: str, text: str) -> Finding | None:
        if len(self.findings) >= MOST:
            return None
        self.findings.append(Finding(word, f"{self._file}:{self._line}", text))
        return self.findings[-1]


def _object(line: bytes) -> dict[str, object]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _seconds(begin: str, end: str) -> float:
    return (datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(begin)).total_seconds()


def verify(folder: str, anchors: Anchors | None = None) -> Verifier:
    """Go through a folder's files.

    Raises:
        OSError: it can't be read.
    """
    verifier = Verifier(anchors)
    alive = segments.alive(folder)
    for name, file in segments.snapshot(folder):
        verifier.feed(name, file)
    verifier.end(alive)
    found = (recordings.trouble(folder, rid, said) for rid, said in recordings.recorded(folder))
    verifier.findings += list(itertools.islice(filter(None, found), MOST - min(MOST, len(verifier.findings))))
    return verifier
