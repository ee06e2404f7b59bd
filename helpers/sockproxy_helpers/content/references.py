"""Resolve what a request names, once, and let it reach the caller's own objects only."""

from __future__ import annotations

import json
from collections.abc import Iterator

from sockproxy_helpers.api.operations import NAME, read_table
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed, NotFound, Refused
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import ID, SHORT_ID, Ambiguous, Object, Objects
from . import access as rights
from .ledger import Ledger
from .naming import Naming

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
        naming: does the same for images, and knows which of their names the call would change.
    """

    def __init__(self, objects: Objects, ledger: Ledger, daemon: Daemon, ctx: Context, operation: str = "") -> None:
        self._objects, self._daemon, self._ctx = objects, daemon, ctx
        self._rows = TABLE.get(operation or ctx.operation, [])
        self.found = ctx.found
        self.naming = Naming(ledger, daemon, ctx)

    async def run(self, variables: dict[str, str], query: Query, body: object) -> Query:
        """Put IDs in the place of references: in `variables` and `body` directly.

        Returns:
            The query with IDs.

        Raises:
            NotFound: something does not exist, or is not the caller's to see.
        """
        for row in self._rows:
            if row.kind == "tag":
                query = await self.naming.change(row.form, variables, query)
            elif row.field.startswith("{"):
                name = row.field[1:-1]
                variables[name] = await self._resolve(row, variables[name])
            elif row.form == "filters":
                query = [(key, await self._filters(row, text) if key == "filters" else text) for key, text in query]
            elif row.field.startswith("?"):
                name = row.field[1:]
                query = [(key, await self._resolve(row, text) if key == name else text) for key, text in query]
            else:
                for place, key in list(_slots(body, row.field.replace("[]", ".[]").split("."))):
                    await self._replace(row, place, key)
        if self._ctx.operation == "NetworkConnect":
            rights.judge_connection(self._ctx)
        return query

    async def _filters(self, row: Reference, text: str) -> str:
        filters = json.loads(text)  # as the model has written it
        name = row.field.rpartition(".")[2]
        filters[name] = [await self._resolve(row, item) for item in filters.get(name, [])]
        return json.dumps({key: items for key, items in filters.items() if items}, separators=(",", ":"))

    async def _replace(self, row: Reference, place: dict[object, object], key: object) -> None:
        value = place[key]
        if row.form == "mount" and place.get("Type") != "image":
            return
        if row.form == "keys" and isinstance(value, dict):
            place[key] = {await self._resolve(row, str(name)): item for name, item in value.items()}
        elif isinstance(value, str):
            place[key] = await self._resolve(row, value)

    async def _resolve(self, row: Reference, text: str) -> str:
        """Put the ID in the place of a reference that stands in `text` as the row's form says."""
        if row.kind == "image":
            return await (self.naming.known(text) if row.form == "list" else self.naming.image(row.form, text))
        if row.form in ("mode", "network") and text.startswith("container:"):
            return "container:" + await self._id("container", "own", text.partition(":")[2])
        if not text or row.form == "mode" or (row.form in ("network", "keys") and text in _MODES):
            return text
        if row.form in ("suffix", "link"):
            name, colon, rest = text.removeprefix("/").partition(":")
            if row.form == "link":  # the alias is the name by default; as inspect shows it, it is a path
                colon, rest = ":", rest.rpartition("/")[2] or name
                if not NAME.fullmatch(rest):  # "../x" would register x as a name of the container
                    raise Malformed(f"{show(text)} is not NAME:ALIAS")
            return await self._id(row.kind, row.access, name) + colon + rest
        return await self._id(row.kind, row.access, text.removeprefix("/"))

    async def _id(self, kind: str, access: str, reference: str) -> str:
        if not NAME.fullmatch(reference):
            raise Malformed(f"{show(reference)} is not the name of a {kind}")
        if access == "new":
            return await self._free(kind, reference)
        item = await self._find(kind, access, reference)
        self.found.append(item)
        return item.id

    async def _free(self, kind: str, name: str) -> str:
        try:
            item = await self._objects.find(self._daemon, kind, name)
        except NotFound:
            return name
        except Ambiguous:  # the beginning of several IDs
            if kind == "volume":
                raise
            return name
        if item.name != name and SHORT_ID.fullmatch(name):  # names win over IDs; an ID to come can't be known
            raise Refused("", f"the name {name} looks like an ID, and one begins so: choose another")
        if item.name != name or rights.sees(self._ctx, item, "own"):  # or the beginning of its ID
            return name
        raise Refused("", f"the {kind} name {name} is taken: choose another")

    async def _find(self, kind: str, access: str, reference: str) -> Object:
        """Find what the caller means: among the caller's own, where the daemon would take it for another's."""
        try:
            item = await self._objects.find(self._daemon, kind, reference)
        except (NotFound, Ambiguous) as error:
            if self._ctx.flag("sees_all"):
                raise
            words = error if isinstance(error, NotFound) else None
        else:
            if rights.sees(self._ctx, item, access):
                return rights.judge(self._ctx, item, access)
            if item.shared and access == "join":
                why = f"may not join the network {item.name}, which all share (allowed: networks of your own)"
                raise self._ctx.refusal(why, "default_bridge")
            words = None
        if not ID.fullmatch(reference):
            own = await self._objects.find_own(self._daemon, kind, reference, self._ctx.caller.uid)
            if own:
                return rights.judge(self._ctx, own, access)
        raise words or await self._objects.missing(self._daemon, kind, reference)


def pin(operation: str, variables: dict[str, str], body: object) -> None:
    """Write down at each endpoint which network it is in: the daemon would keep the name and look it up at each start.

    Args:
        variables, body: resolved; `body` is changed in place.
    """
    if not isinstance(body, dict):
        return
    if operation == "NetworkConnect":
        body["EndpointConfig"] = {**(body.get("EndpointConfig") or {}), "NetworkID": variables["id"]}
    elif operation == "ContainerCreate":
        config = body.get("NetworkingConfig") or {}
        endpoints = config.get("EndpointsConfig") or {}
        mode = str((body.get("HostConfig") or {}).get("NetworkMode", ""))
        for network in [*endpoints, mode]:
            if ID.fullmatch(network):
                endpoints[network] = {**endpoints.get(network, {}), "NetworkID": network}
        if endpoints:
            body["NetworkingConfig"] = {**config, "EndpointsConfig": endpoints}


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
