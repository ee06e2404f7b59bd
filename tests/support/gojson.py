"""Read JSON as the daemon does: Go's encoding/json into structs, in the little that our tables need.

Written from the package's documentation and what engines 20 to 28 were seen to do, see tests/threats/test_gojson.py:
keys match without case, also by Unicode folding; an object given twice is merged, a list given twice is decoded into
the old one, element by element; null clears lists, maps and pointers, and leaves other values as they were.
"""

from __future__ import annotations

import json
import re
from typing import Any

from sockproxy_helpers.api.fields import Field

POINTERS = {"PidsLimit", "MemorySwappiness", "OomKillDisable", "Init", "StopTimeout", "EnableIPv4", "EnableIPv6"}
POINTED = {"HostConfig", "NetworkingConfig", "Healthcheck", "IPAM", "EndpointConfig", "IPAMConfig", "ConfigFrom"}
POINTED |= {"BindOptions", "VolumeOptions", "ImageOptions", "TmpfsOptions", "DriverConfig"}
_BLANK = " \t\r\n"
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_INT = re.compile(r"-?[0-9]+")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class GoError(Exception):
    """Report what json.Unmarshal answers with an error."""


class Number(str):
    """A number as it is written."""


class Pairs(list[tuple[str, Any]]):
    """An object with its keys in order, repeats kept."""


def fold(key: str) -> str:
    """Fold a key as Go does: the simple case folding, of which only two beyond ASCII meet a letter of ours."""
    return "".join(
        {"\u017f": "S", "\u212a": "K"}.get(letter, letter.upper() if letter.isascii() else letter) for letter in key
    )


def scan(text: str, *, trailing: bool = False) -> Any:
    """Parse one value, keeping what readers may differ on.

    Args:
        trailing: allow what follows it, as engine 20 does.
    """
    value, at = _value(text, _skip(text, 0))
    if not trailing and _skip(text, at) != len(text):
        raise GoError("something behind the end")
    return value


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _value(text: str, at: int) -> tuple[Any, int]:
    for word, value in (("null", None), ("true", True), ("false", False)):
        if text.startswith(word, at):
            return value, at + len(word)
    start = text[at : at + 1]
    if start == '"':
        return _string(text, at + 1)
    if start == "{":
        return _items(text, at + 1, "}")
    if start == "[":
        return _items(text, at + 1, "]")
    match = _NUMBER.match(text, at)
    if not match:
        raise GoError(f"no value at {at}")
    return Number(match[0]), match.end()


def _items(text: str, at: int, end: str) -> tuple[Any, int]:
    found: list[Any] = Pairs() if end == "}" else []
    at = _skip(text, at)
    if text.startswith(end, at):
        return found, at + 1
    while True:
        if end == "}":
            if not text.startswith('"', at):
                raise GoError(f"no key at {at}")
            key, at = _string(text, at + 1)
            at = _skip(text, at)
            if not text.startswith(":", at):
                raise GoError(f"no colon at {at}")
            item, at = _value(text, _skip(text, at + 1))
            found.append((key, item))
        else:
            item, at = _value(text, at)
            found.append(item)
        at = _skip(text, at)
        if text.startswith(end, at):
            return found, at + 1
        if not text.startswith(",", at):
            raise GoError(f"no comma at {at}")
        at = _skip(text, at + 1)


def _string(text: str, at: int) -> tuple[str, int]:
    found = ""
    while at < len(text) and text[at] != '"':
        letter = text[at]
        if letter < " ":
            raise GoError("a control character in a string")
        if letter != "\\":
            found, at = found + letter, at + 1
        elif text[at + 1 : at + 2] == "u":
            code, at = _escape(text, at)
            found += code
        elif text[at + 1 : at + 2] in _ESCAPES and text[at + 1 : at + 2]:
            found, at = found + _ESCAPES[text[at + 1]], at + 2
        else:
            raise GoError("a bad escape")
    if at >= len(text):
        raise GoError("a string without an end")
    return found, at + 1


def _escape(text: str, at: int) -> tuple[str, int]:
    digits = text[at + 2 : at + 6]
    if not re.fullmatch("[0-9a-fA-F]{4}", digits):
        raise GoError("a bad escape")
    code = int(digits, 16)
    if 0xD800 <= code < 0xDC00:
        low = re.fullmatch(r"\\u(d[c-fC-F][0-9a-fA-F]{2})", text[at + 6 : at + 12], re.IGNORECASE)
        if low:
            return chr(0x10000 + ((code - 0xD800) << 10) + (int(low[1], 16) - 0xDC00)), at + 12
    return ("\ufffd" if 0xD800 <= code < 0xE000 else chr(code)), at + 6


def read(fields: dict[str, Field], data: bytes, *, trailing: bool = False) -> dict[str, Any]:
    """Decode a body into the struct that a table describes; fields that nothing was said of are absent.

    Raises:
        GoError: the daemon answers 400 (500 before engine 23).
    """
    found: dict[str, Any] = {}
    scanned = scan(data.decode(errors="replace"), trailing=trailing)
    if scanned is not None:
        _struct(fields, scanned, found)
    return found


def _struct(fields: dict[str, Field], value: Any, into: dict[str, Any]) -> None:
    if not isinstance(value, Pairs):
        raise GoError("not an object")
    folded = {fold(name): name for name in fields}
    for key, item in value:
        name = key if key in fields else folded.get(fold(key))
        if name is not None:
            _field(fields[name], name, fields[name].kind, item, into, name)


def _field(field: Field, name: str, kind: str, value: Any, place: Any, key: Any) -> None:
    """Decode a value into a place that may hold an older one."""
    if value is None:
        if kind[:1] in ("[", "{") or kind in ("strings", "any") or name in POINTERS or _is_pointer(kind, name):
            _clear(place, key)
        return
    old = place[key] if isinstance(place, list) else place.get(key)
    if kind == "object":
        into = old if isinstance(old, dict) else {}
        _struct(field.children, value, into)
        place[key] = into
    elif kind == "strings":
        items = [value] if isinstance(value, str) else value
        if (
            not isinstance(items, list)
            or isinstance(items, Pairs)
            or not all(item is None or isinstance(item, str) for item in items)
        ):
            raise GoError("neither a string nor a list of them")
        place[key] = ["" if item is None else item for item in items]
    elif kind[:1] == "[":
        place[key] = _list(field, name, kind[1:-1], value, old)
    elif kind[:1] == "{" and kind != "{}":
        place[key] = _map(field, name, kind[1:-1], value, old)
    else:
        place[key] = _leaf(kind, value)


def _is_pointer(kind: str, name: str) -> bool:
    """Tell whether the daemon has a pointer where the tables say object: null forgets what was there."""
    return kind == "object" and name in POINTED


def _clear(place: Any, key: Any) -> None:
    if isinstance(place, list):
        place[key] = None
    else:
        place.pop(key, None)


def _list(field: Field, name: str, kind: str, value: Any, old: Any) -> list[Any]:
    if not isinstance(value, list) or isinstance(value, Pairs):
        raise GoError("not a list")
    found: list[Any] = (old if isinstance(old, list) else [])[: len(value)]
    found += [zero(kind) for _ in value[len(found) :]]
    for index, item in enumerate(value):
        _field(field, name, kind, item, found, index)
    return found


def _map(field: Field, name: str, kind: str, value: Any, old: Any) -> dict[str, Any]:
    if not isinstance(value, Pairs):
        raise GoError("not an object")
    found: dict[str, Any] = dict(old) if isinstance(old, dict) else {}
    for key, item in value:
        found[key] = zero(kind)  # an element of a map is always decoded anew
        if item is not None:
            _field(field, "", kind, item, found, key)
        elif kind == "string?":
            found[key] = None
    return found


def zero(kind: str) -> Any:
    """Give the zero value of a kind."""
    if kind[:1] == "[":
        return []
    return {"string": "", "bool": False, "int": 0}.get(kind, {})


def _leaf(kind: str, value: Any) -> Any:
    if kind in ("string", "string?") and isinstance(value, str) and not isinstance(value, Number):
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "int" and isinstance(value, Number) and _INT.fullmatch(value) and -(1 << 63) <= int(value) < 1 << 63:
        return int(value)
    if kind == "{}" and isinstance(value, Pairs):
        return {}
    if kind == "any":
        return json.loads(json.dumps(plain(value)))
    raise GoError(f"not of the kind {kind or 'object'}")


def plain(value: Any) -> Any:
    """Turn what was scanned into plain values; the last of a key's values wins."""
    if isinstance(value, Pairs):
        return {key: plain(item) for key, item in value}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return float(value) if isinstance(value, Number) else value


def meaning(value: Any) -> Any:
    """Leave out what means nothing to the daemon in an object. A list without elements is something, as is a zero."""
    if isinstance(value, dict):
        found = {key: meaning(item) for key, item in value.items()}
        return {key: item for key, item in found.items() if item is not None and item != {} and item != ""}
    return [meaning(item) for item in value] if isinstance(value, list) else value
