"""The tamper matrix: what was done to the record, and the word that `verify` has for it."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sockproxy.audit import chain, segments
from sockproxy.audit.chain import START, Entry
from sockproxy.audit.log import NAME, Log, encode
from sockproxy.audit.seal import Sealer
from sockproxy.review.commands import verify as verify_command
from sockproxy.review.verify import Anchors, Verifier, read_anchors, verify

Lines = list[bytes]
COUNT, SEAL = 950, 100


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lines, Anchors]:
    """A record of 950 lines with a seal every 100, and what syslog heard of it."""
    folder = tmp_path_factory.mktemp("log")
    log, sealer, heads = Log(str(folder)), Sealer(str(folder), "/nonexistent"), {}
    keys = {json.loads(sealer.announcement().record)["key"]}
    log.append([sealer.announcement()])
    while log.seq < COUNT:
        if log.seq % SEAL == SEAL - 1:
            log.append([sealer.seal()])
            heads[log.seq] = log.head
            sealer.forget(log.seq, log.head)
        else:
            log.append([Entry(encode({"v": 1, "ev": "intent", "n": log.seq}), 0, 1)])
    log.close()
    return (folder / NAME).read_bytes().splitlines(keepends=True), Anchors(heads, frozenset(keys))


def check(folder: Path, lines: Lines, anchors: Anchors | None = None) -> Verifier:
    (folder / NAME).write_bytes(b"".join(lines))
    return verify(str(folder), anchors)


def recompute(lines: Lines, begin: int, renumber: bool = False) -> Lines:
    """Do what somebody does who knows the format: all hashes anew."""
    made, head = lines[:begin], json.loads(lines[begin - 1])["h"].encode() if begin else START
    for number, line in enumerate(lines[begin:], begin + 1):
        body = line[: -chain.TAIL - 1]
        if renumber:
            body = b'{"seq":%d,' % number + body.partition(b",")[2]
        head = chain.digest(head, body)
        made.append(body + b',"h":"' + head + b'"}\n')
    return made


def edited(lines: Lines) -> Lines:
    return [*lines[:333], lines[333].replace(b"intent", b"inTent"), *lines[334:]]


def removed(count: int) -> Callable[[Lines], Lines]:
    return lambda lines: lines[:333] + lines[333 + count :]


def swapped(lines: Lines) -> Lines:
    return [*lines[:333], lines[334], lines[333], *lines[335:]]


MATRIX: dict[str, tuple[Callable[[Lines], Lines], list[str], list[str], int]] = {
    # what was done: (how, the words without anchors, the words with them, the line that is named)
    "nothing": (lambda lines: lines, [], [], 0),
    "edit": (edited, ["EDITED"], ["EDITED"], 334),
    "edit the number": (
        lambda lines: [*lines[:333], lines[333].replace(b'"seq":334', b'"seq":335'), *lines[334:]],
        ["REMOVED", "DUPLICATED"], ["REMOVED", "DUPLICATED"], 334,
    ),
    "delete 1": (removed(1), ["REMOVED"], ["REMOVED"], 334),
    "delete 10": (removed(10), ["REMOVED"], ["REMOVED"], 334),
    "delete a seal": (lambda lines: lines[:299] + lines[300:], ["REMOVED", "FORGED"], ["REMOVED", "FORGED"], 300),
    "swap": (swapped, ["REORDERED"], ["REORDERED"], 335),
    "duplicate": (lambda lines: [*lines[:334], lines[333], *lines[334:]], ["DUPLICATED"], ["DUPLICATED"], 335),
    "edit and recompute": (lambda lines: recompute(edited(lines), 333), ["FORGED"] * 6, ["FORGED"] * 12, 400),
    "delete and recompute": (
        lambda lines: recompute(removed(1)(lines), 333, renumber=True), ["FORGED"] * 6, ["FORGED"] * 12, 399
    ),
    "delete, recompute, keep numbers": (
        lambda lines: recompute(removed(1)(lines), 333),
        ["REMOVED"] + ["FORGED"] * 6, ["REMOVED"] + ["FORGED"] * 12, 334,
    ),
    "insert and recompute": (
        lambda lines: recompute([*lines[:333], lines[333], *lines[333:]], 333, renumber=True),
        ["FORGED"] * 6, ["FORGED"] * 12, 401,
    ),
    "edit the unsealed end and recompute": (
        lambda lines: recompute([*lines[:940], lines[940].replace(b"intent", b"inTent"), *lines[941:]], 940), [], [], 0
    ),
    "cut at a seal": (lambda lines: lines[:600], [], ["TRUNCATED"], 600),
    "cut between seals": (lambda lines: lines[:650], [], ["TRUNCATED"], 650),
    "cut the unsealed end": (lambda lines: lines[:920], [], [], 0),
    "cut within a line": (lambda lines: [*lines[:919], lines[919][:100]], ["TORN"], ["TORN"], 920),
    "cut the beginning": (lambda lines: lines[400:], ["REMOVED"], ["REMOVED"], 0),
    "rubbish": (lambda lines: [*lines[:333], b"x\n", *lines[333:]], ["EDITED"], ["EDITED"], 335),
    "empty line": (lambda lines: [*lines[:333], b"\n", *lines[333:]], ["EDITED"], ["EDITED"], 335),
    "a line without its newline": (
        lambda lines: [*lines[:333], lines[333][:-1], *lines[334:]], ["EDITED", "REMOVED"], ["EDITED", "REMOVED"], 334
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MATRIX)
def test_tampering_has_its_word(tmp_path: Path, written: tuple[Lines, Anchors], name: str) -> None:
    lines, anchors = written
    how, words, anchored, place = MATRIX[name]
    found = check(tmp_path, how(lines))
    assert sorted(finding.word for finding in found.findings) == sorted(words)
    if words and place:
        assert min(int(finding.place.rpartition(":")[2]) for finding in found.findings) == place
    found = check(tmp_path, how(lines), anchors)
    assert sorted(finding.word for finding in found.findings) == sorted(anchored)


@pytest.mark.parametrize("before", ["", "Nov 25 21:00:00 host sockproxy-audit[7]: "])
def test_anchors_are_read_as_the_journal_prints_them(before: str) -> None:
    one, two, h = "1" * 64, "2" * 64, "a" * 64
    text = f"{before}key={one}\n{before}seal seq=7 h={h} key={one} next={two}\n{before}there is room again\n"
    assert read_anchors(text) == Anchors({7: h.encode()}, frozenset((one, two)))
    assert read_anchors(f"{before}key={one}") == Anchors({}, frozenset((one,)))
    assert read_anchors(f"Nov 25 host somebody[7]: key={one}") == Anchors({}, frozenset())


def test_one_removed_or_ten(tmp_path: Path, written: tuple[Lines, Anchors]) -> None:
    (finding,) = check(tmp_path, removed(1)(written[0])).findings
    assert finding.text == "record 334 is missing before record 335 (1 record)"
    (finding,) = check(tmp_path, removed(10)(written[0])).findings
    assert finding.text == "record 334 to 343 are missing before record 344 (10 records)"


def test_a_rewritten_record_with_a_key_of_its_own(tmp_path: Path, written: tuple[Lines, Anchors]) -> None:
    """Somebody writes all anew, seals and all: sound in itself, and not what the anchors tell."""
    log, sealer = Log(str(tmp_path)), Sealer(str(tmp_path), "/nonexistent")
    log.append([sealer.announcement()])
    while log.seq < COUNT:
        if log.seq % SEAL == SEAL - 1:
            log.append([sealer.seal()])
            sealer.forget(log.seq, log.head)
        else:
            log.append([Entry(encode({"v": 1, "ev": "intent"}), 0, 1)])
    log.close()
    assert verify(str(tmp_path)).findings == []
    words = {finding.word for finding in verify(str(tmp_path), written[1]).findings}
    assert words == {"FORGED"}


def test_an_end_without_seals_is_too_long(tmp_path: Path, written: tuple[Lines, Anchors]) -> None:
    """Somebody rewrites the end and leaves the seals out, which he can't make."""
    plain = [line for line in written[0][600:] if b'"ev":"seal"' not in line]
    many = list(itertools.islice(itertools.cycle(plain), 11_000))
    found = check(tmp_path, recompute(written[0][:600] + many, 600, renumber=True))
    assert [finding.word for finding in found.findings] == ["UNSEALED"]
    late = plain[0].replace(json.loads(plain[0])["ts"].encode(), b"2099-01-01T00:00:00.000000Z")
    found = check(tmp_path, recompute([*written[0][:600], late], 600, renumber=True))
    assert [finding.word for finding in found.findings] == ["UNSEALED"]


def test_every_line_matters(tmp_path: Path, written: tuple[Lines, Anchors]) -> None:
    """One bit of any line that a seal covers is enough."""
    lines = written[0]
    for index in range(0, 900, 13):
        line = bytearray(lines[index])
        line[len(line) // 2] ^= 1
        found = check(tmp_path, [*lines[:index], bytes(line), *lines[index + 1 :]])
        assert found.findings, index
        assert found.findings[0].place.endswith((f":{index + 1}", f":{index + 2}"))


def test_pruned_files_are_accounted_for(tmp_path: Path) -> None:
    log, sealer = Log(str(tmp_path), segment=2000), Sealer(str(tmp_path), "/nonexistent")
    log.append([sealer.announcement()])
    while len(segments.closed(str(tmp_path))) < 4:
        log.append([Entry(encode({"v": 1, "ev": "x"}), 0, 1)])
        if log.due():
            log.append([sealer.seal()])
            sealer.forget(log.seq, log.head)
            log.rotate()
    name = segments.closed(str(tmp_path))[0]
    last = json.loads((tmp_path / name).read_bytes().splitlines()[-1])
    (tmp_path / name).unlink()
    (finding,) = verify(str(tmp_path)).findings
    assert (finding.word, finding.place) == ("REMOVED", "the beginning")
    retention = {"v": 1, "ev": "retention", "last": last["seq"], "head": last["h"], "next": last["next"]}
    log.append([Entry(encode(retention), 33, 1)])
    assert [finding.word for finding in verify(str(tmp_path)).findings] == ["REMOVED"]  # only root can say so
    log.append([Entry(encode(retention), 0, 1)])
    found = verify(str(tmp_path))
    assert (found.findings, found.pruned) == ([], last["seq"])
    log.close()


def test_the_command_says_it(
    tmp_path: Path, written: tuple[Lines, Anchors], capsys: pytest.CaptureFixture[str]
) -> None:
    lines, anchors = written
    options = argparse.Namespace(log_dir=str(tmp_path), anchors=None)
    assert verify_command.main(options) == 2  # nothing there
    check(tmp_path, lines)
    assert verify_command.main(options) == 0
    said = capsys.readouterr().out
    for words in ("950", "sealed    up to number 900", "50 records not sealed", "result    sound", "can't prove"):
        assert words in said
    check(tmp_path, edited(lines))
    assert verify_command.main(options) == 1
    assert f"EDITED    {NAME}:334: record 334 does not match its hash" in capsys.readouterr().out
    kept = tmp_path / "anchors"
    rest = f"key={'a' * 64} next={'b' * 64}"
    text = [f"host sockproxy-audit[1]: seal seq={seq} h={head.decode()} {rest}" for seq, head in anchors.heads.items()]
    kept.write_text("\n".join([*text, f"sockproxy-audit[1]: key={min(anchors.keys)}"]))
    check(tmp_path, lines[:650])
    options.anchors = str(kept)
    assert verify_command.main(options) == 1
    assert "TRUNCATED" in capsys.readouterr().out
    options.anchors = str(tmp_path / "none")
    assert verify_command.main(options) == 2
