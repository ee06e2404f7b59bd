"""Read query parameters by their rows, and write them again in one spelling."""

from __future__ import annotations

import json
import re

from sockproxy_helpers.api.fields import Field
from sockproxy_helpers.api.strict import CHEAP, INT64, is_cheap, parse, show
from sockproxy_helpers.errors import Malformed
from .walk import Walk, refuse_unknown

_FALSE = ("", "0", "no", "false", "none")  # as the daemon reads it; everything else is true
_COMPILED = ("name", "id")  # filters that the daemon takes for regular expressions: for some objects, in some versions
IDS = 256
_ID = re.compile(r"[0-9a-f]{12,64}")
_INT = re.compile(r"-?[0-9]{1,19}")


def build(fields: dict[str, Field], query: list[tuple[str, str]], walk: Walk) -> list[tuple[str, str]]:
    """Judge the parameters and build them anew, in the table's order.

    Raises:
        Refused: an unknown parameter, or one that the role does not allow.
        Malformed: a value of the wrong kind, or a parameter twice that may not repeat.
    """
    given: dict[str, list[str]] = {}
    for key, text in query:
        if key not in fields:
            refuse_unknown(key, text, list(fields), "?")
        given.setdefault(key, []).append(text)
    decoded = {name: _decode_all(fields[name].kind, texts, "?" + name) for name, texts in given.items()}
    built = walk.fields(fields, decoded, "?")
    return [(name, text) for name, value in built.items() for text in _encode_all(fields[name].kind, value)]


def _decode_all(kind: str, texts: list[str], path: str) -> object:
    if kind.startswith("["):
        return [_decode(kind[1:-1], text, path) for text in texts]
    if len(texts) > 1:
        raise Malformed(f"{path}: given {len(texts)} times")
    return _decode(kind, texts[0], path)


def _decode(kind: str, text: str, path: str) -> object:
    """Turn a parameter's text into what the body would have; None for what the daemon takes as not given."""
    if "\0" in text or not _is_utf8(text):
        raise Malformed(f"{path}: NUL, or not UTF-8")
    if kind == "bool":
        return text.strip().lower() not in _FALSE
    if kind == "string":
        return text
    if text == "":
        return None
    if kind == "int":
        if not _INT.fullmatch(text) or int(text) not in INT64:
            raise Malformed(f"{path}: expected a whole number, got {show(text)}")
        return int(text)
    try:
        value = parse(text.encode())
    except Malformed as error:
        raise Malformed(f"{path}: {error}") from error
    return _filters(value, path) if kind == "filters" else value


def _is_utf8(text: str) -> bool:
    """Tell whether text has no half surrogate pair, which percent-decoding could leave behind."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _filters(value: object, path: str) -> dict[str, list[str]]:
    """Read filters in either spelling: lists, or maps to booleans, of which even false counts as given."""
    if not isinstance(value, dict):
        raise Malformed(f"{path}: expected a JSON object")
    built = {}
    for key, items in value.items():
        if isinstance(items, dict) and all(type(item) is bool for item in items.values()):
            items = list(items)
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise Malformed(f"{path}: {show(key)} is neither a list of strings nor a map to booleans")
        if not (is_cheap(items) or key not in _COMPILED or (len(items) <= IDS and all(map(_ID.fullmatch, items)))):
            raise Malformed(f"{path}: {show(key)} would keep the daemon too long (allowed: {CHEAP}; {IDS} whole IDs)")
        built[key] = items
    return built


def _encode_all(kind: str, value: object) -> list[str]:
    if kind.startswith("["):
        return [_encode(item) for item in value] if isinstance(value, list) else []
    return [_encode(value)]


def _encode(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return (
        value
        if isinstance(value, str)
        else str(value)
        if isinstance(value, int)
        else json.dumps(value, separators=(",", ":"))
    )
