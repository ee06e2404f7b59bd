"""Know BuildKit's messages: tables/messages.txt as protobuf classes, with the rule of each field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TABLES = __file__.rpartition("/")[0] + "/tables"
Message = Any  # its attributes are the table's

_SCALARS = {
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "uint32": descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
}
_MAP = re.compile(r"\{(\w+):([\w.]+)\}")


class Field(NamedTuple):
    """Hold one row.

    Attributes:
        shape: one | many | map.
        message: the kind of its values where they are messages, else "".
        always: the rule is asked where the field is absent, too.
    """

    number: int
    name: str
    shape: str
    message: str
    rule: str
    always: bool


def rows(name: str) -> Iterator[list[str]]:
    """Read a table: white space between the columns, `#` starts a comment line."""
    with open(f"{TABLES}/{name}.txt", encoding="ascii") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                yield line.split()


class Schema:
    """Hold all messages.

    Attributes:
        fields: of each message, in the order of the table.
    """

    def __init__(self) -> None:
        """Read the table.

        Raises:
            TypeError: it names a kind that is neither a scalar nor a message of its own.
        """
        self.fields: dict[str, list[Field]] = {}
        file = descriptor_pb2.FileDescriptorProto(name="messages.txt", package="m", syntax="proto3")
        kinds: dict[str, descriptor_pb2.DescriptorProto] = {}
        for message, number, *row in rows("messages"):
            if message not in kinds:
                kinds[message] = file.message_type.add(name=_flat(message))
                self.fields[message] = []
            if number != "-":
                self.fields[message].append(_add(kinds[message], int(number), *row))
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self._classes = {
            message: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"m.{_flat(message)}"))
            for message in kinds
        }

    def parse(self, message: str, untrusted_data: bytes) -> Message:
        """Decode a message.

        Raises:
            google.protobuf.message.DecodeError: it is none.
        """
        return self._classes[message].FromString(untrusted_data)

    def new(self, message: str) -> Message:
        """Make an empty message."""
        return self._classes[message]()


def _flat(message: str) -> str:
    return message.replace(".", "_")


def _add(parent: descriptor_pb2.DescriptorProto, number: int, name: str, kind: str, rule: str) -> Field:
    always, rule = rule.startswith("+"), rule.removeprefix("+")
    entry = _MAP.fullmatch(kind)
    if entry:
        nested = parent.nested_type.add(name=_entry(name))
        nested.options.map_entry = True
        _put(nested, 1, "key", entry[1], False)
        inner = _put(nested, 2, "value", entry[2], False)
        field = parent.field.add(name=name, number=number)
        field.label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
        field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".m.{parent.name}.{nested.name}"
        return Field(number, name, "map", inner, rule, always)
    many = kind.startswith("[")
    if kind.startswith("?"):
        _put(parent, number, name, kind[1:], False)
        parent.field[-1].proto3_optional, parent.field[-1].oneof_index = True, len(parent.oneof_decl)
        parent.oneof_decl.add(name=f"_{name}")
        return Field(number, name, "one", "", rule, always)
    return Field(
        number, name, "many" if many else "one", _put(parent, number, name, kind.strip("[]"), many), rule, always
    )


def _entry(name: str) -> str:
    """Name a map's entry as protoc does, which the library checks."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_")) + "Entry"


def _put(parent: descriptor_pb2.DescriptorProto, number: int, name: str, kind: str, many: bool) -> str:
    """Add a field; give its message, "" for a scalar."""
    field = parent.field.add(name=name, number=number)
    one, more = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL, descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    field.label = more if many else one
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
        return ""
    field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    field.type_name = f".m.{_flat(kind)}"
    return kind
