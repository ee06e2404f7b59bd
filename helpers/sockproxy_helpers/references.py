"""Resolve what a request names, once, and let it reach the caller's own objects only."""

from __future__ import annotations

from collections.abc import Iterator

from .context import Context
from .daemon import Daemon
from .errors import Malformed, NotFound, Refused
from .objects import Object, Objects
from .operations import NAME, read_table
from .strict import show

Query = list[tuple[str, str]]
_MODES = ("", "default", "bridge", "host", "none")  # network modes that are no user's network


class Reference:
    """Hold one row of tables/references.txt."""

    __slots__ = ("access", "field", "form", "kind")

    def __init__(self, field: str, kind: str, access: str, form: str) -> None:
        self.field, self.kind, self.access, self.form = field, kind, access, form


def _load() -> dict[str, list[Reference]]:
    table: dict[str, list[Reference]] = {}
    for operation, *row in read_table("references", 5):
        table.setdefault(operation, []).append(Reference(*row))
    return table


TABLE = _load()


class Resolution:
    """Resolve the references of one call.

    Attributes:
        found: the objects that the call names, for the record.
    """

    def __init__(self, objects: Objects, daemon: Daemon, ctx: Context, operation: str = "") -> None:
        self._objects, self._daemon, self._ctx = objects, daemon, ctx
        self._rows = TABLE.get(operation or ctx.operation, [])
        self.found: list[Object] = []

    async def run(self, variables: dict[str, str], query: Query, body: object) -> Query:
        """Put IDs in the place of references: in `variables` and `body` directly.

        Returns:
            The query with IDs.

        Raises:
            NotFound: something does not exist, or is not the caller's to see.
        """
        for row in self._rows:
            if row.field.startswith("{"):
                name = row.field[1:-1]
                variables[name] = await self._resolve(row, variables[name])
            elif row.field.startswith("?"):
                name = row.field[1:]
                query = [(key, await self._resolve(row, text) if key == name else text) for key, text in query]
            else:
                for place, key in list(_slots(body, row.field.replace("[]", ".[]").split("."))):
                    await self._replace(row, place, key)
        return query

    async def _replace(self, row: Reference, place: dict[object, object], key: object) -> None:
        value = place[key]
        if row.form == "keys" and isinstance(value, dict):
            place[key] = {await self._resolve(row, str(name)): item for name, item in value.items()}
        elif isinstance(value, str):
            place[key] = await self._resolve(row, value)

    async def _resolve(self, row: Reference, text: str) -> str:
        """Put the ID in the place of a reference that stands in `text` as the row's form says."""
        head, middle, tail = text, "", ""
        if row.form == "container:" or text.startswith("container:"):
            prefix, colon, tail = text.partition(":")
            return prefix + colon + await self._id("container", row.access, tail) if colon else text
        if row.form in ("network", "keys") and text in _MODES:
            return text
        if row.form == "suffix":
            head, middle, tail = text.partition(":")
        return await self._id(row.kind, row.access, head.removeprefix("/")) + middle + tail

    async def _id(self, kind: str, access: str, reference: str) -> str:
        if not NAME.fullmatch(reference):
            raise Malformed(f"{show(reference)} is not the name of a {kind}")
        try:
            item = await self._objects.find(self._daemon, kind, reference)
        except NotFound:
            if access == "new":
                return reference
            raise
        if access == "new":
            if sees(self._ctx, item, "own"):
                return reference
            raise Refused("Name", f"the {kind} name {reference} is taken: choose another")
        if item.shared and access == "join" and not sees(self._ctx, item, access):
            why = f"may not join the network {item.name}, which all share (allowed: networks of your own)"
            raise self._ctx.refusal(why, "default_bridge")
        if not sees(self._ctx, item, access):
            raise await self._objects.missing(self._daemon, kind, reference)
        self.found.append(item)
        return item.id


def sees(ctx: Context, item: Object, access: str) -> bool:
    """Tell whether the caller may know of an object, and do with it what `access` stands for."""
    if item.shared and (access == "use" or (access == "join" and ctx.flag("default_bridge"))):
        return True
    return item.owner == ctx.caller.uid or ctx.flag("sees_all")


def _slots(value: object, steps: list[str]) -> Iterator[tuple[dict[object, object], object]]:
    """Find the places in a body that a path stands for: each a map or a list, and the key in it."""
    step, rest = steps[0], steps[1:]
    keys: list[object] = []
    if step == "[]" and isinstance(value, list):
        keys = list(range(len(value)))
    elif isinstance(value, dict) and value.get(step) is not None:
        keys = [step]
    for key in keys:
        if rest:
            yield from _slots(value[key], rest)  # type: ignore[index]
        else:
            yield value, key  # type: ignore[misc]
