"""Walk a value along its fields, checking kinds and asking rules, and build it anew."""

from __future__ import annotations

import re

from sockproxy_helpers.api.fields import Field
from sockproxy_helpers.api.strict import INT64, show
from sockproxy_helpers.errors import Malformed, Refused
from .context import Context

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ZERO: dict[str, object] = {"string": "", "bool": False, "int": 0}


class Walk:
    """Build values for one call."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def fields(self, fields: dict[str, Field], value: object, prefix: str) -> dict[str, object]:
        """Build an object of which all fields are known, in the table's order.

        Args:
            prefix: the path of the object with a dot at its end; "" at the top.
        """
        given = expect_object(value, prefix)
        for key, item in given.items():
            if key not in fields:
                refuse_unknown(key, item, list(fields), prefix)
        built: dict[str, object] = {}
        for name, field in fields.items():
            if field.always or name in given:
                if self._ctx.trace is not None:
                    self._ctx.trace(prefix, name, field, given, built)
                item = self._field(field, given.get(name), prefix + name, built)
                if item is not None:
                    built[name] = item
        return built

    def _field(self, field: Field, value: object, path: str, built: dict[str, object]) -> object:
        """Build one field's value and let its rule judge it.

        Returns:
            What to send; None for nothing. Null is absent, as Go reads it.
        """
        absent = value is None
        if not absent:
            value = self._kind(field, field.kind, value, path)
        elif field.kind == "object" and field.always:
            value = self.fields(field.children, {}, path + ".") or None
        if field.rule == "never":
            if not is_zero(value):
                raise Refused(path, "is not for users of a shared daemon: leave it out")
            return None
        if field.judge is not None and (field.always or not absent):
            self._ctx.path, self._ctx.built = path, built
            value = field.judge(value, self._ctx)
        return None if absent and is_zero(value) else value

    def _kind(self, field: Field, kind: str, value: object, path: str) -> object:
        if kind[:1] == "(":  # `parameters` has parsed it
            kind = kind[1:-1]
        if kind == "object":
            return self.fields(field.children, value, path + ".")
        if kind == "strings":
            value = [value] if isinstance(value, str) else value
            kind = "[string]"
        if kind[:1] == "[":
            if not isinstance(value, list):
                raise wrong(path, "a list", value)
            return [self._kind(field, kind[1:-1], item, f"{path}[{index}]") for index, item in enumerate(value)]
        if len(kind) > 2 and kind[0] == "{":
            return self._map(field, kind[1:-1], value, path)
        return _leaf(kind, value, path)

    def _map(self, field: Field, kind: str, value: object, path: str) -> object:
        built = {}
        for key, item in expect_object(value, path).items():
            if _CONTROL.search(key):
                raise Malformed(f"{path}: control characters in the key {show(key)}")
            if item is None and kind != "string?":  # Go makes it the zero value
                item = _ZERO.get(kind, [] if kind[:1] == "[" else {})
            built[key] = self._kind(field, kind, item, f"{path}.{_name(key)}")
        return built


def _leaf(kind: str, value: object, path: str) -> object:
    if kind in ("string", "string?"):
        if isinstance(value, str) or (value is None and kind == "string?"):
            return value
        raise wrong(path, "a string", value)
    if kind == "bool":
        if value is True or value is False:
            return value
        raise wrong(path, "true or false", value)
    if kind == "int":
        if type(value) is int and value in INT64:
            return value
        raise wrong(path, "a whole number", value)
    if kind == "{}":
        if value == {}:
            return {}
        raise wrong(path, "an empty object", value)
    return value  # any, and what `parameters` has decoded


def is_zero(value: object) -> bool:
    """Tell whether the daemon would take a value as not given."""
    return not value or (isinstance(value, dict) and all(map(is_zero, value.values())))


def expect_object(value: object, path: str) -> dict[str, object]:
    """Take an object.

    Raises:
        Malformed: it is something else.
    """
    if not isinstance(value, dict):
        raise wrong(path.rstrip(".?") or "the body", "an object", value)
    return value


def wrong(path: str, expected: str, value: object) -> Malformed:
    """Form the complaint about a value of the wrong kind, without the value: it may be a secret."""
    found = {"NoneType": "null", "dict": "an object", "str": "a string", "list": "a list"}
    kind = type(value).__name__
    return Malformed(f"{path}: expected {expected}, got {found.get(kind, kind)}")


def refuse_unknown(key: str, value: object, known: list[str], prefix: str) -> None:
    """Refuse a field without a row; one in other letters is told its spelling. Null says nothing, and is left out.

    docker-py 7 names the network in the wrong place: `"NetworkingConfig": {"net": null}`.
    """
    folded = key.casefold()
    for name in known:
        if name.casefold() == folded:
            raise Refused(prefix + _name(key), f"spelled {name}")
    if value is not None:
        raise Refused(prefix + _name(key), "unknown: the Engine API up to 1.55 has no such field here")


def _name(key: str) -> str:
    return key if key.isascii() and key.isprintable() and len(key) <= 80 else show(key)
