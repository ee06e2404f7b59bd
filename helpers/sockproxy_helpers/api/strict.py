"""Parse JSON so that no reader after us can see anything else in it.

SECURITY: Go's reader merges duplicate keys and ignores what follows the first value, Python's takes NaN, UTF-16 and
half surrogates. All of that is refused here. Keys that differ only in case are the model's to judge: in a map of
labels they are two keys, in a struct they are one.
"""

from __future__ import annotations

import json
import re

from sockproxy_helpers.errors import Malformed

LARGEST = 3 << 19  # bytes: a swarm config of the largest, 1000 KB in base64; a create with 1000 mounts has 0.2 MB
MOST = 50_000  # values, about: each costs microseconds, in which nobody else is served
DEEPEST = 32
EXPRESSIONS = 1024  # letters of regular expressions
CHEAP = f"regular expressions of up to {EXPRESSIONS} letters, without {{N}}"
_COUNT = re.compile(r"\{[0-9]")
INT64 = range(-(1 << 63), 1 << 63)


def parse(untrusted: bytes) -> object:
    """Parse one JSON value.

    Raises:
        Malformed: not exactly one value in UTF-8, a key twice, a number out of range, NUL or half a surrogate pair in a
            string, too large or too deep.
    """
    if len(untrusted) > LARGEST:
        raise Malformed(f"JSON of more than {LARGEST} bytes")
    if sum(map(untrusted.count, (b",", b"[", b"{"))) > MOST:  # each value but the first follows one of them
        raise Malformed(f"JSON of more than {MOST} values")
    try:
        value = json.loads(
            untrusted.decode(), object_pairs_hook=_unique, parse_int=_int, parse_float=_float, parse_constant=_constant
        )
    except UnicodeDecodeError as error:
        raise Malformed("the JSON is not UTF-8") from error
    except RecursionError as error:
        raise Malformed(f"JSON deeper than {DEEPEST}") from error
    except ValueError as error:
        raise Malformed(f"not JSON: {error}") from error
    _check(value, DEEPEST)
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Malformed(f"the key {show(key)} twice in one JSON object")
            seen.add(key)
    return value


def _int(text: str) -> int:
    number = int(text) if len(text) <= 20 else None
    if number is None or number not in INT64:
        raise Malformed(f"the number {text[:24]} is out of range")
    return number


def _float(text: str) -> float:
    number = float(text) if len(text) <= 64 else float("inf")
    if abs(number) == float("inf"):
        raise Malformed(f"the number {text[:24]} is out of range")
    return number


def _constant(text: str) -> object:
    raise Malformed(f"{text} is not JSON")


def _check(value: object, depth: int) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, (dict, list)):
        if depth == 0:
            raise Malformed(f"JSON deeper than {DEEPEST}")
        if isinstance(value, dict):
            for key, item in value.items():
                _check_text(key)
                _check(item, depth - 1)
        else:
            for item in value:
                _check(item, depth - 1)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise Malformed("NUL in a JSON string")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Malformed("half a surrogate pair in a JSON string") from error


def unfolded(value: object) -> None:
    """Make sure that no key could be taken for another or for an ASCII one: for JSON that no model describes.

    Raises:
        Malformed: two keys that differ only in case, or a key that is not ASCII.
    """
    if isinstance(value, list):
        for item in value:
            unfolded(item)
    elif isinstance(value, dict):
        if not all(key.isascii() for key in value) or len({key.lower() for key in value}) != len(value):
            raise Malformed("keys that differ only in case or are not ASCII, in a JSON object without a model")
        for item in value.values():
            unfolded(item)


def is_cheap(expressions: list[str]) -> bool:
    """Tell whether regular expressions cost the daemon little, which compiles each anew for each object of everybody's.

    Of each letter it makes some 100 bytes; a count multiplies that.
    """
    return sum(map(len, expressions)) <= EXPRESSIONS and not any(_COUNT.search(text) for text in expressions)


def show(text: str) -> str:
    """Quote a client's word for a message: short, in ASCII, without control characters."""
    return json.dumps(text if len(text) <= 80 else text[:80] + "...")
