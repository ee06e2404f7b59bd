"""Write records of calls for tests, with what the helpers would leave out of them left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jsonschema

from sockproxy.audit import chain
from sockproxy.audit.log import Entry, Log, encode
from sockproxy_helpers.judge.redact import Redaction
from tests.support.judging import KIM, OPERATIONS


class Recording:
    """Hold a log folder, and Kim's calls in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._log, self._count = folder, Log(str(folder)), 0

    def call(
        self,
        operation: str,
        body: object = None,
        query: dict[str, str] | None = None,
        status: int = 200,
        **more: object,
    ) -> None:
        """Record a call of Kim's that was done.

        Args:
            more: of the record: `who`, `objects`.
        """
        self._count += 1
        row, redaction = OPERATIONS[operation], Redaction(b"salt", "program")
        names = {part[1:-1]: "x1" for part in row.segments if part.startswith("{")}
        request = {
            "method": row.method,
            "path": row.target("v1.45", names, []),
            "op": operation,
            "query": {key: redaction.show(f"?{key}", text) for key, text in (query or {}).items()},
            "body": redaction.show("", body),
        }
        who = {"uid": KIM.uid, "gid": KIM.gid, "user": KIM.user, "groups": ["kim", "devs"], "pid": 7, "via": "peer"}
        rid = f"{self._count:016x}"
        record = {
            "v": 1,
            "ev": "intent",
            "rid": rid,
            "who": who | dict(more.get("who", {})),  # type: ignore[call-overload]
            "req": request,
            "decision": {"verdict": "allow", "role": "developer", "at": "roles.yaml:30", "policy": "a" * 64},
            "via": {"helper": row.scope},
            "objects": more.get("objects", []),
        }
        outcome = {"v": 1, "ev": "outcome", "rid": rid, "via": {"helper": row.scope}, "out": {"status": status}}
        for entry in (record, outcome):
            self._log.append([Entry(encode(entry), 0, 1)])


def documented(records: Sequence[Mapping[str, object]]) -> None:
    """Hold records against the documented form."""
    schema = json.loads((Path(chain.__file__).parent / "schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    kinds = {kind["properties"]["ev"]["const"]: validator.evolve(schema={**kind, "$defs": schema["$defs"]})
             for kind in schema["oneOf"]}  # fmt: skip
    for record in records:
        kinds[str(record["ev"])].validate(record)
