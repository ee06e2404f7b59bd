"""Replace variables in a Dockerfile's FROM. What can't be replaced for certain is refused, not passed on."""

from __future__ import annotations

import re

from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed

LONGEST = 4096  # characters of a value: replaced again and again, a few lines could become terabytes
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:[-+])([^${}\"'\\]*))?\})")


def declared(text: str, arguments: dict[str, str], known: dict[str, str]) -> dict[str, str]:
    """Take the arguments that an ARG before the first FROM declares.

    Args:
        arguments: build arguments, by name.
        known: what was declared before.
    """
    known = dict(known)
    for word in _shell_words(text):
        key, equals, default = word.partition("=")
        if not _KEY.fullmatch(key):
            raise Malformed(f"Dockerfile: ARG {show(key)} is not the name of a variable")
        if key in arguments:
            known[key] = arguments[key]
        elif equals:
            known[key] = replace(default, known)
    return known


def _shell_words(text: str) -> list[str]:
    """Split as a shell does, as far as quotes around a whole value go."""
    words, pattern = [], re.compile(r"""[ \t]*([^ \t"'\\=]+)(?:=("[^"\\]*"|'[^'\\$]*'|[^ \t"'\\]*))?(?=[ \t]|\Z)""")
    text, place = text.rstrip(), 0
    while place < len(text):
        match = pattern.match(text, place)
        if not match:
            raise Malformed(
                f'Dockerfile: ARG {show(text)} before FROM is not plain (allowed: NAME, NAME=value, NAME="value")'
            )
        words.append(match[1] if match[2] is None else f"{match[1]}={match[2].strip(chr(34) + chr(39))}")
        place = match.end()
    return words


def replace(word: str, known: dict[str, str]) -> str:
    """Replace variables.

    Raises:
        Malformed: something is left that the builder could replace.
    """

    def value(match: re.Match[str]) -> str:
        found, operator, other = known.get(match[1] or match[2], ""), match[3], match[4]
        if operator == ":-":
            return found or other
        return (other if found else "") if operator == ":+" else found

    if len(word) > LONGEST or re.search(r"[$\"'\\]", _VARIABLE.sub("", word)):
        raise Malformed(
            f"Dockerfile: {show(word)} is not plain (allowed: $NAME, ${{NAME}}, ${{NAME:-default}}, no quotes)"
        )
    replaced = _VARIABLE.sub(value, word)
    if len(replaced) > LONGEST:
        raise Malformed(f"Dockerfile: {show(word)} becomes longer than {LONGEST} characters")
    return replaced
