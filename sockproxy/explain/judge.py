"""Judge a request with the front's and the helpers' own functions, and note what they find on the way.

Nothing is decided here: parsing and routing are the front's, the decision is the shared policy's, fields are judged by
the helpers' model, which tells of each of them. What needs the daemon (names, owners) is left out.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from dataclasses import field as attribute

from sockproxy.api import payload, route
from sockproxy.errors import CallError, Denied
from sockproxy.http import body as http_body
from sockproxy.http import head as http_head
from sockproxy_helpers.api import operations, strict
from sockproxy_helpers.api.fields import Field
from sockproxy_helpers.api.operations import Operation
from sockproxy_helpers.audit import cast
from sockproxy_helpers.calls import cut
from sockproxy_helpers.content import references
from sockproxy_helpers.content.references import Reference
from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.judge import model, warn
from sockproxy_helpers.judge.policy import Decision, Policy, Rule
from sockproxy_helpers.system.caller import Caller

Query = list[tuple[str, str]]


@dataclass(slots=True)
class Row:
    """Hold what became of one field.

    Attributes:
        path: as a person would write it ("HostConfig.Mounts[0].Source", "?name").
        given: as the model read it; None also where it was absent.
        present: the client gave it, if only as null.
        built: the object of which it is, as it would be sent, under `name`.
        rules: what its rule looked up in the policy.
        refused: the judgement ended at this field.
    """

    path: str
    name: str
    field: Field
    given: object
    present: bool
    built: dict[str, object]
    rules: dict[str, Rule] = attribute(default_factory=dict)
    refused: bool = False

    @property
    def sent(self) -> object:
        """What would be sent; None for nothing."""
        return self.built.get(self.name)

    @property
    def effect(self) -> str:
        """What the judgement did with it; "" for what neither the client nor a rule gave."""
        if self.refused:
            return "refused"
        if self.sent is None:
            return "dropped" if self.present else ""
        if self.given is None:
            return "added"
        return "kept" if self.sent in (self.given, _without_nulls(self.given)) else "changed"

    @property
    def is_frame(self) -> bool:
        """Whether it says nothing but what the fields in it say, which have rows of their own."""
        if not self.field.children or self.field.rule != "free":
            return False
        if self.given is None:
            return self.sent is not None
        return bool(self.given) and isinstance(self.given, (dict, list))


@dataclass(slots=True)
class Request:
    """Hold what would be sent to the daemon, but for names, which would be IDs."""

    method: str
    target: str
    body: object


@dataclass(slots=True)
class Finding:
    """Hold what was found, as far as the judgement went.

    Attributes:
        asked: method and target, as given.
        refusal: what ended it; None for a request that is allowed.
        rows: in the order of judgement.
        unmodelled: the rule that lets query and body pass unchecked, where one does.
        request: None when nothing is sent.
        cut: the answer would be cut to what the caller may know.
        would: what a role in warn mode would refuse, and lets through.
    """

    policy: Policy
    who: Caller
    asked: str
    match: route.Match | None = None
    decision: Decision | None = None
    refusal: CallError | Refused | Malformed | None = None
    rows: list[Row] = attribute(default_factory=list)
    unmodelled: Rule | None = None
    request: Request | None = None
    cut: bool = False
    would: list[str] = attribute(default_factory=list)

    @property
    def references(self) -> list[Reference]:
        """The fields of this request that name objects, or may."""
        sent = [_plain(row.path) for row in self.rows if row.sent]
        rows = references.TABLE.get(self.match.operation.name, []) if self.match else []
        return [row for row in rows if row.field.startswith("{") or _plain(row.field) in sent]


def judge(policy: Policy, who: Caller, method: str, target: str, content: bytes) -> Finding:
    """Judge a request as the front does, then as the helpers do.

    Args:
        method, target: visible ASCII.
        content: the body; b"" for none. Of one that is too large its beginning will do, if that is too large as well.
    """
    found = Finding(policy, who, f"{method} {target}")
    try:
        _judge(found, method, target, content)
    except (CallError, Refused, Malformed) as error:
        found.refusal = error
        _mark_refused(found.rows)
    return found


def _judge(found: Finding, method: str, target: str, content: bytes) -> None:
    lines = [f"{method} {target} HTTP/1.1", "Host: docker", "Content-Type: application/json"]
    lines.append(f"Content-Length: {len(content)}")
    head = http_head.parse("\r\n".join(lines).encode() + b"\r\n\r\n")
    found.match = match = route.route(head.method, head.untrusted_path)
    query = http_body.parse_query(head.untrusted_query)
    name = match.operation.name
    found.decision = decision = found.policy.decide(found.who, name)
    if not decision.allowed:
        raise Denied(decision.why, decision.at)
    if match.operation.scope == "front":  # answered there
        return
    reader = payload.reader(head, match.operation)
    content = payload.accept(match.operation, reader.feed(content), query) if reader else b""
    row = next(row for row in operations.load() if row.name == name)  # of several the first, as the helpers do
    given, context = strict.parse(content) if content else None, _Noting(found, decision, name)
    context.variables = match.variables
    found.would = [decision.why] if decision.why else []
    found.would += map(str, warn.settle(context, lambda: _approve(row, query, given, context)))
    found.rows.clear()
    query, body = _approve(row, query, given, context)
    cast.limit(decision.rules, name)
    found.cut = cut.applies(found.who, decision, name)
    found.request = Request(row.method, row.target(match.version, match.variables, query), body)


def _approve(operation: Operation, query: Query, body: object, ctx: model.Context) -> tuple[Query, object]:
    """Have each scope judge its part, as `approve.Approval` in the helpers does."""
    if operation.name != "ContainerCreate":
        return model.approve(operation.scope, operation.name, query, body, ctx)
    parts = model.split(body)
    for sibling in sorted(parts.keys() - {operation.scope}):
        parts[sibling] = model.approve(sibling, operation.name, [], parts[sibling], ctx)[1]
    query, parts[operation.scope] = model.approve(operation.scope, operation.name, query, parts[operation.scope], ctx)
    return query, model.merge(parts)


class _Noting(model.Context):
    """Be a context that writes down the fields that are judged, and which of the policy's rules that takes."""

    __slots__ = ("_found", "_rows")

    def __init__(self, found: Finding, decision: Decision, operation: str) -> None:
        super().__init__(decision.rules, found.who, operation, decision.role)
        self._found = found
        self._rows: dict[str, Row] = {}
        self.trace = self._note

    def _note(self, prefix: str, name: str, row: Field, given: dict[str, object], built: dict[str, object]) -> None:
        path = prefix + name
        self._rows[path] = Row(path, name, row, deepcopy(given.get(name)), name in given, built)
        self._found.rows.append(self._rows[path])

    def rule(self, name: str) -> object:
        value = super().rule(name)
        if self.path in self._rows:
            self._rows[self.path].rules[name] = self.rules[name]
        elif name == "unmodelled":
            self._found.unmodelled = self.rules[name]
        return value

    def number(self, name: str, key: str) -> int | float | None:
        value = super().number(name, key)
        if self.path in self._rows:
            rules = self._rows[self.path].rules
            rules.pop(name, None)
            rules[f"{name}.{key}"] = (value, self.rules[name][1])
        return value


def _mark_refused(rows: list[Row]) -> None:
    """Mark where a judgement ended: the last field that was begun and what is around it, as far as it is not built."""
    for row in rows:
        begun = row is rows[-1] or rows[-1].path.startswith((row.path + ".", row.path + "["))
        row.refused = begun and row.sent is None and row.given is not None


def _without_nulls(value: object) -> object:
    """Leave out what Go reads as absent."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return list(map(_without_nulls, value)) if isinstance(value, list) else value


def _plain(path: str) -> str:
    """Leave the places in lists out of a field's path."""
    return "".join(part.rpartition("]")[2] for part in path.split("["))
