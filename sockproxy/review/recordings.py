"""Find the recordings of sessions, prove them by the record, and read them so that they can do no harm."""

from __future__ import annotations

import datetime
import fcntl
import glob
import hashlib
import json
import os
import re
from collections.abc import Iterator

from sockproxy.audit.recordings import FOLDER, RID, path_of
from sockproxy.review.choose import stamp
from sockproxy.review.finding import Finding
from sockproxy.review.search import Record, contents, genuine, load
from sockproxy.review.text import plain

_MARK = b',"recording":{'
# What draws on a terminal: colours, moves of the cursor, erasing, scrolling, the other screen; and the characters that
# move. Whatever asks the terminal something, which it would answer as if it was typed, or sets titles, clipboards,
# keys, fonts or files (CSI c n t x, OSC, DCS, APC, PM, SOS, other ESC) is left out.
_DRAWS = re.compile(
    r"\x1b\[[0-9;:]{0,64}[ABCDEFGHIJKLMPSTXZ@`adefmr]|\x1b\[\?(?:1|6|7|12|25|47|1047|1048|1049)[hl]|\x1b[78DEMHc]"
    r"|\x1b\([0B]|[\x07\x08\t\n\r\x0e\x0f]|[^\x00-\x1f\x7f-\x9f]+"
)
_BEGUN = re.compile(r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}|[ -/]{1,8}|[\]PX^_][^\x07\x1b]{0,4096}\x1b?)?")
_OTHER = re.compile(
    r"\x1b[\]PX^_].{0,4096}?(?:\x07|\x1b\\)|\x1b\[[0-?]{0,64}[ -/]*[@-~]?|\x1b[ -/]*[0-~]?|.", re.DOTALL
)


def recorded(folder: str) -> Iterator[tuple[str, Record]]:
    """Give the request and what its outcome says of the recording, of all outcomes that have one.

    Raises:
        OSError: the record can't be read.
    """
    for content in contents(folder):
        for _, line in content.lines(_MARK):
            record = load(line)
            said = record.get("recording")
            if record.get("ev") == "outcome" and genuine(record) and isinstance(said, dict):
                yield str(record.get("rid")), said


def trouble(folder: str, rid: str, said: Record) -> Finding | None:
    """Compare a recording with what the record has of it."""
    place = f"{FOLDER}/{rid}.cast"
    if not said.get("sha256") or not said.get("bytes"):
        return None  # nothing was printed, or nothing was kept, which the outcome says
    try:
        with open(path_of(folder, rid), "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return Finding("REMOVED", place, f"the recording of request {rid} is missing")
    if found != said["sha256"]:
        return Finding("EDITED", place, f"the recording of request {rid} does not match its hash")
    return None


def remove(folder: str, lines: Iterator[bytes]) -> int:
    """Delete the recordings that outcomes among these lines name; tell how many."""
    count = 0
    for line in lines:
        record = load(line) if _MARK in line else {}
        rid = str(record.get("rid")) if genuine(record) else ""
        if RID.fullmatch(rid) and os.path.exists(path := path_of(folder, rid)):
            os.unlink(path)
            count += 1
    return count


def forsaken(folder: str, before: str) -> list[str]:
    """List the recordings that no outcome names, since their helper or the writer died: those last written before.

    One that is being written is not among them, however long nothing has come.

    Raises:
        OSError: the record can't be read.
    """
    found = glob.glob(path_of(folder, "*"))
    named = {path_of(folder, rid) for rid, _ in recorded(folder)} if found else set()
    return [path for path in found if path not in named and _last_written(path) < before and not _locked(path)]


def _last_written(path: str) -> str:
    return stamp(datetime.datetime.fromtimestamp(os.lstat(path).st_mtime, datetime.UTC))


def _locked(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def events(folder: str, rid: str) -> Iterator[tuple[float, str, str]]:
    """Read a recording: seconds since its beginning, kind, and what it is.

    Raises:
        OSError: it can't be read.
    """
    with open(path_of(folder, rid), encoding="ascii", errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:  # it is being written
                continue
            if isinstance(event, list) and len(event) == 3 and isinstance(event[0], (int, float)):
                yield float(event[0]), str(event[1]), str(event[2])


def lines_of(output: Iterator[str]) -> Iterator[str]:
    """Give output as lines in which every character is seen, whatever it would have done to a terminal."""
    rest = ""
    for text in output:
        *lines, rest = (rest + text).split("\n")
        yield from (_seen(line) for line in lines)
    if rest:
        yield _seen(rest)


def _seen(line: str) -> str:
    return "\t".join(map(plain, line.removesuffix("\r").split("\t")))


class Screen:
    """Leave of output what draws, and nothing that the terminal answers, keeps or does elsewhere."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Take output; what may be the beginning of a sequence waits for the rest."""
        text, self._held, drawn, place = self._held + text, "", [], 0
        while place < len(text):
            if (begun := _BEGUN.fullmatch(text, place)) and len(begun[0]) < 4096:
                self._held = text[place:]
                break
            if found := _DRAWS.match(text, place):
                drawn.append(found[0] if found[0] < " " else plain(found[0]))
            else:
                found = _OTHER.match(text, place)
                assert found
            place = found.end()
        return "".join(drawn)


RESET = "\x1b[0m\x1b[?25h\x1b[?1049l\x1b(B\x0f\x1b[r\n"
