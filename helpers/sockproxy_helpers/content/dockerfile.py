"""Find the images that a Dockerfile names, as the classic builder reads it (buildkit's dockerfile/parser).

SECURITY: pure; faces a client's text. Where builders read differently (escape characters, here-documents, odd white
space, flags with quotes) it is refused. What is read with `$` in it is written without, so that how variables are
replaced here decides what is built, and nothing is left to the daemon.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed
from . import variables

LONGEST = 60_000  # bytes of a line; the builder's scanner takes 64 KiB
# Characters, and stages: half a second of reading, in which nobody else is served. Docker's own largest has 20,000.
LARGEST, MOST_STAGES = 128 << 10, 200
_ODD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ESCAPE = re.compile(r"#\s*escape\s*=\s*(\S*)", re.IGNORECASE)
_CONTINUED = re.compile(r"\\[ \t]*\Z")
_HERE = re.compile(r"[0-9]*<<-?[^<\s]")
_WORD = re.compile(r"[^ \t]+")
_FLAG = re.compile(r"--[a-z][a-z-]*(?:=[^\"'\\]*)?")
Word = tuple[str, int, int]  # and where it begins and ends; -1 when it goes on in another line
_WITH_FILES = ("run", "copy", "add")


class Reference:
    """Hold a name of an image in a Dockerfile.

    Attributes:
        text: with its variables replaced.
        first, last: where it stands.
        base: a stage begins with it.
        end: of its instruction.
        platform: the flag of a stage; "" for none.
        stages: the names of stages that could be meant at that place, and how many stages come before.
    """

    __slots__ = ("base", "end", "first", "last", "platform", "stages", "text")

    def __init__(self, text: str, first: int, last: int, stages: tuple[str, ...], platform: str, base: bool) -> None:
        self.text, self.first, self.last, self.stages = text, first, last, stages
        self.platform, self.base, self.end = platform, base, last

    def is_stage(self) -> bool:
        """Tell whether it means a stage of the same file, or nothing at all."""
        if self.base and self.text == "scratch":
            return True
        number = self.text.isdecimal() and self.text.isascii() and int(self.text) < len(self.stages)
        return self.text.lower() in self.stages or (number and not self.base)


class Line:
    """Hold one instruction, continued lines joined, and where each of its characters stands."""

    __slots__ = ("places", "text")

    def __init__(self) -> None:
        self.text, self.places = "", []  # type: tuple[str, list[int]]

    def words(self) -> list[Word]:
        """Split at white space; the last number is behind the word."""
        found = []
        for match in _WORD.finditer(self.text):
            first, last = self.places[match.start()], self.places[match.end() - 1] + 1
            found.append((match[0], first, last if last - first == len(match[0]) else -1))
        return found


def lines(text: str) -> Iterator[Line]:
    """Give the instructions.

    Raises:
        Malformed: builders would read it differently.
    """
    line, place, continued = Line(), 0, False
    for physical in text.split("\n"):
        start, place = place, place + len(physical) + 1
        physical = physical.removesuffix("\r")
        if start == 0 and physical.startswith("\ufeff"):
            start, physical = 1, physical[1:]
        bare = physical.lstrip(" \t")
        if _ODD.search(physical) or bare[:1].isspace() or len(physical.encode("utf-8", "replace")) > LONGEST:
            raise Malformed(f"Dockerfile: {show(bare)}: a control character, odd white space, or too long")
        escape = _ESCAPE.match(bare)
        if escape and escape[1] != "\\":
            raise Malformed("Dockerfile: the escape directive is not taken (allowed: \\, as without it)")
        if bare.startswith("#") or (continued and not bare) or (not continued and not bare):
            continue
        joined = _CONTINUED.search(physical)
        if joined and physical[: joined.start()].endswith("\\"):
            raise Malformed("Dockerfile: a line that ends with two backslashes is read in two ways")
        kept = physical[: joined.start()] if joined else physical
        skipped = 0 if continued else len(kept) - len(kept.lstrip(" \t"))
        line.text += kept[skipped:]
        line.places += range(start + skipped, start + len(kept))
        continued = joined is not None
        if not continued:
            yield line
            line = Line()
    if line.text:
        yield line


def references(text: str, arguments: dict[str, str], target: str = "") -> list[Reference]:
    """Find what a Dockerfile names, up to the stage that is asked for.

    Args:
        arguments: build arguments, by name.

    Raises:
        Malformed: builders would read it differently, or a variable is of a form that is not taken.
    """
    if len(text) > LARGEST:
        raise Malformed(f"Dockerfile: of more than {LARGEST} characters")
    found: list[Reference] = []
    stages: list[str] = []
    known: dict[str, str] = {}
    for line in lines(text):
        words = line.words()
        command = words[0][0].lower() if words else ""
        if command == "onbuild":
            words = words[1:]
            command = words[0][0].lower() if words else ""
            if command in ("from", "onbuild"):
                raise Malformed(f"Dockerfile: {command.upper()} can be no trigger")
        if command in _WITH_FILES and any(_HERE.match(word) for word, _, _ in words[1:]):
            raise Malformed("Dockerfile: here-documents need BuildKit")
        if command == "arg" and not stages:
            known.update(variables.declared(line.text.split(None, 1)[-1], arguments, known))
        elif command in ("from", "copy", "add"):
            flags, rest = _flags(words[1:])
            before = tuple(stages)
            if command == "from":
                if target and stages and (target.lower() == stages[-1] or target == str(len(stages) - 1)):
                    break
                found += [_base(flags, rest, before, known)]
                found[-1].end = line.places[-1] + 1
                if len(stages) >= MOST_STAGES:
                    raise Malformed(f"Dockerfile: of more than {MOST_STAGES} stages")
                stages.append(rest[2][0].lower() if len(rest) > 2 else "")
            elif flags.get("from", ("",))[0]:
                word, first, last = flags["from"]
                found.append(Reference(word, first, last, before, "", False))
    return found


def _base(
    flags: dict[str, Word],
    rest: list[Word],
    stages: tuple[str, ...],
    known: dict[str, str],
) -> Reference:
    if len(rest) not in (1, 3) or (len(rest) == 3 and rest[1][0].lower() != "as"):
        raise Malformed("Dockerfile: FROM is followed by an image, or by IMAGE AS NAME")
    word, first, last = rest[0]
    if last < 0:
        raise Malformed("Dockerfile: a name of an image goes on in the next line")
    return Reference(variables.replace(word, known), first, last, stages, flags.get("platform", ("", 0, 0))[0], True)


def _flags(
    words: list[Word],
) -> tuple[dict[str, Word], list[Word]]:
    """Take flags off, each as its value and where that stands."""
    flags: dict[str, Word] = {}
    for index, (word, _, last) in enumerate(words):
        if not word.startswith("--"):
            return flags, words[index:]
        if not _FLAG.fullmatch(word) or last < 0:
            raise Malformed(
                f"Dockerfile: the flag {show(word)} is not plain (allowed: --name=value, without quotes or \\)"
            )
        key, _, value = word[2:].partition("=")
        if key in flags:
            raise Malformed(f"Dockerfile: the flag --{key} twice")
        flags[key] = (value, last - len(value), last)
    return flags, []
