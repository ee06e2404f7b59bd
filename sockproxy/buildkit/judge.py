"""Judge a request message by its table: every field by its rule, what has no row not at all.

SECURITY: runs without rights, on what clients send. The message that is judged is the one that is sent on, encoded
anew; a field that the table does not have is never in it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from sockproxy.buildkit import llb, results, rules  # noqa: F401 (their rules)
from sockproxy.buildkit.attributes import RULES
from sockproxy.buildkit.request import Request
from sockproxy.buildkit.schema import Field, Message, Schema


def judge(schema: Schema, kind: str, message: Message, request: Request) -> None:
    """Judge a message, and change in place what the rules change.

    Raises:
        Refused: a field that is unknown, or not allowed to the caller's role.
        Malformed: a value that means nothing.
        google.protobuf.message.DecodeError: bytes inside that should be a message are none.
    """

    def inner(kind: str, untrusted_data: bytes, path: str) -> Message:
        found = schema.parse(kind, untrusted_data)
        _message(schema, kind, found, request, path)
        return found

    request.inner = inner
    _message(schema, kind, message, request, kind.partition(".")[2])


def _message(schema: Schema, kind: str, message: Message, request: Request, path: str) -> None:
    """Judge the fields of a message. By the table no kind holds itself, so this ends."""
    request.context.path = path
    unknown = [field.field_number for field in UnknownFieldSet(message)]  # type: ignore[attr-defined]
    if unknown:
        raise request.context.refusal(f"field number {unknown[0]} is not known to this version", at="")
    for field in schema.fields[kind]:
        present = (
            bool(getattr(message, field.name))
            if field.shape != "one" or not field.message
            else message.HasField(field.name)
        )
        if present or field.always:
            _field(schema, message, field, request, f"{path}.{field.name}")


def _field(schema: Schema, message: Message, field: Field, request: Request, path: str) -> None:
    request.context.path, request.message = path, message
    if field.rule == "never":
        raise request.context.refusal("is not served (allowed: leave it out)")
    if field.rule in ("dropped", "unsent"):
        message.ClearField(field.name)
    elif field.rule != "free":
        _put(message, field, RULES[field.rule](_get(message, field), request))
    elif field.message:
        value = getattr(message, field.name)
        if field.shape == "one":
            _message(schema, field.message, value, request, path)
        else:
            items = value.items() if field.shape == "map" else enumerate(value)
            for key, item in items:
                _message(schema, field.message, item, request, f"{path}[{key}]")


def _get(message: Message, field: Field) -> Any:
    value = getattr(message, field.name)
    return dict(value) if field.shape == "map" else list(value) if field.shape == "many" else value


def _put(message: Message, field: Field, value: Any) -> None:
    if field.shape == "one":
        setattr(message, field.name, value)
        return
    message.ClearField(field.name)
    if field.shape == "map":
        getattr(message, field.name).update(value)
    else:
        getattr(message, field.name).extend(value)


def clean(schema: Schema, kind: str, message: Message) -> None:
    """Leave out of an answer what has no row, and what the table drops."""
    message.DiscardUnknownFields()
    _clean(schema, kind, message)


def _clean(schema: Schema, kind: str, message: Message) -> None:
    for field in schema.fields[kind]:
        if field.rule == "dropped":
            message.ClearField(field.name)
        elif field.message and field.shape == "many":
            for item in getattr(message, field.name):
                _clean(schema, field.message, item)
        elif field.message and field.shape == "map":
            for item in getattr(message, field.name).values():
                _clean(schema, field.message, item)
        elif field.message and message.HasField(field.name):
            _clean(schema, field.message, getattr(message, field.name))
