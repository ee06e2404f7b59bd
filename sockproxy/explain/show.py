"""Write down a finding, for people or as one JSON object. Whatever a user gave is escaped for the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import groupby

from sockproxy.errors import Denied
from sockproxy.explain.judge import Finding, Row
from sockproxy.http.answer import printable
from sockproxy.policy.compile import Compiled
from sockproxy_helpers.api import operations
from sockproxy_helpers.errors import Refused

LONGEST = 60  # letters of a value in the table; the request below it has all of it
SHORT = 24  # of a value in the policy
LABEL = 11
WIDTH = 110
NOT_FOUND = 404
UNBOUND = "none matches: bind the user, or a group of the user's, to a role (`sockproxy check` tells who is bound)"
ACCESS = {
    "own": "the user's own",
    "mine": "the user's own, not what is shared",
    "end": "the user's own, whatever it was given",
    "remove": "the user's own, whatever it was given; not what is shared",
    "use": "own or shared",
    "set": "new, or the user's own",
    "join": "own, or shared where the role says so",
    "new": "nobody else's",
}


def binding(compiled: Compiled, found: Finding) -> str:
    """Name the user or group of the binding that gives the caller a role; "" when none does."""
    bound = found.policy.role_of(found.who)
    names = {f"user {found.who.user}": compiled["users"].get(found.who.user)}
    names |= {f"group {group}": compiled["groups"].get(group) for group in found.who.groups}
    return next((name for name, entry in names.items() if entry and entry == bound), "")


def verdict(found: Finding) -> str:
    """Say in one sentence what would happen; of a refusal, what the client would be told."""
    refusal = found.refusal
    if refusal:
        at = refusal.at if isinstance(refusal, (Denied, Refused)) else ""
        return f"refused: {refusal}" + (f": rule {at}" if at else "")
    assert found.decision
    if not found.decision.role:
        return "allowed: everybody may, also without a role"
    would = f"; mode: warn, else refused: {'; '.join(found.would)}" if found.would else ""
    return f"allowed: role {found.decision.role}, rule {found.decision.at}{would}"


def as_text(found: Finding, bound: str) -> str:
    """Write for people."""
    who, lines = found.who, [verdict(found), ""]
    groups = ", ".join(who.groups) or "none"
    lines.append(
        _labelled("user", f"{who.user or 'no account'} (uid {who.uid}; groups: {groups}; home: {who.home or 'none'})")
    )
    role = found.policy.role_of(who)
    lines.append(_labelled("binding", f"{bound}: role {role[1]} ({role[2]})" if role else UNBOUND))
    lines.append(_labelled("policy", f"{found.policy.source}, compiled sha256 {found.policy.sha256}"))
    lines += _operation(found)
    lines += _table(found)
    lines += _notes(found)
    if found.request:
        lines += ["", f"{found.request.method} {found.request.target}"]
        if found.request.body is not None:
            lines += _json(found.request.body, indent=2).splitlines()
    return "\n".join(map(printable, lines))


def _labelled(label: str, text: str) -> str:
    return f"{label:{LABEL}}{text}"


def _operation(found: Finding) -> Iterator[str]:
    if found.match:
        row = found.match.operation
        yield _labelled("operation", f"{row.name}: {row.method} {row.path}")
        yield _labelled("", f"scope {row.scope}, request {row.request}, response {row.response}")
    elif found.refusal and found.refusal.status == NOT_FOUND:
        yield _labelled("operation", "none of the Engine API up to 1.55, which `docker` asks as METHOD /vVERSION/PATH")
        near = _near(found.asked)
        if near:
            yield _labelled("", f"near it: {', '.join(near)}")
    if found.refusal:
        yield _labelled("answer", f"status {found.refusal.status}")
    elif found.cut:
        yield _labelled("answer", "the daemon's, cut to what the user may know")
    elif found.request is None:
        yield _labelled("answer", "sockproxy's own; the daemon is not asked")


def _near(asked: str) -> list[str]:
    """Find the operations that may have been meant."""
    method, _, target = asked.partition(" ")
    path = re.sub(r"^/v[0-9.]+(?=/)", "", target.partition("?")[0])
    return get_close_matches(f"{method.upper()} {path}", [f"{row.method} {row.path}" for row in operations.load()])


def _table(found: Finding) -> Iterator[str]:
    """Write the fields: those that say something as a table, the others as a list of names."""
    if found.unmodelled:
        yield from (
            "",
            f"query and body pass unchecked: unmodelled={_brief(found.unmodelled[0])} ({found.unmodelled[1]})",
        )
    rows = sorted(shown(found), key=lambda row: (not row.path.startswith("?"), _parent(row)))
    empty = [row for row in rows if row.effect in ("kept", "dropped") and not row.given]
    cells = [(row.path, row.field.kind, _rule(row), _what(row)) for row in rows if row not in empty]
    if cells:
        cells.insert(0, ("field", "kind", "rule", "value"))
        widths = [max(len(printable(line[column])) for line in cells) for column in range(3)]
        yield ""
        for line in cells:
            padded = [printable(cell).ljust(width) for cell, width in zip(line, widths, strict=False)]
            yield "  ".join((*padded, line[3]))
    if empty:
        yield ""
        yield "given, but null, zero or empty:"
        for parent, group in groupby(empty, _parent):
            head = "query: " if parent == "?" else f"{parent}: " if parent else ""
            yield from _wrap("  " + head, [row.name for row in group])


def shown(found: Finding) -> list[Row]:
    """Leave out what says nothing of its own."""
    return [row for row in found.rows if row.effect and not row.is_frame]


def _parent(row: Row) -> str:
    return row.path.removesuffix(row.name).rstrip(".")


def _rule(row: Row) -> str:
    """Name a row's rule, and the policy's that it looked up."""
    looked_up = [f"{name}={_brief(value, SHORT)} ({at})" for name, (value, at) in row.rules.items()]
    return f"{row.field.rule}: {', '.join(looked_up)}" if looked_up else row.field.rule


def _what(row: Row) -> str:
    effect = row.effect
    if effect == "added":
        return f"added by sockproxy: {_brief(row.sent)}"
    if effect == "changed":
        return f"changed: {_brief(row.given)} to {_brief(row.sent)}"
    return f"{effect}: {_brief(row.given)}"


def _notes(found: Finding) -> Iterator[str]:
    """Say what is not judged without a daemon."""
    if found.refusal or not found.request or not found.match:
        return
    operation = found.match.operation
    notes = []
    if named := [f"{row.field} ({row.kind}: {ACCESS[row.access]})" for row in found.references]:
        notes.append(f"names: each is looked up, and its ID sent if it is the user's to use: {', '.join(named)}")
    if operation.name == "ContainerCreate":
        notes.append("volumes: those named or implied are made first, labelled as the user's")
    if operation.request in ("tar", "raw"):
        notes.append("body: it streams to the daemon as it comes")
    if notes:
        yield from ("", "No daemon was asked. Left to the call itself:")
        yield from ("  " + note for note in notes)


def as_json(found: Finding, bound: str) -> str:
    """Write one JSON object."""
    who, match, decision, role = found.who, found.match, found.decision, found.policy.role_of(found.who)
    operation = match.operation if match else None
    refusal = found.refusal
    document = {
        "allowed": refusal is None,
        "verdict": verdict(found),
        "status": refusal.status if refusal else None,
        "at": (getattr(refusal, "at", "") if refusal else decision.at if decision else "") or None,
        "user": {"name": who.user, "uid": who.uid, "groups": who.groups, "home": who.home},
        "binding": {"who": bound, "role": role[1], "at": role[2]} if role else None,
        "policy": {"source": found.policy.source, "sha256": found.policy.sha256},
        "operation": operation
        and {name: getattr(operation, name) for name in ("name", "method", "path", "scope", "request", "response")},
        "fields": [_row(row) for row in shown(found)],
        "unmodelled": found.unmodelled and {"value": found.unmodelled[0], "at": found.unmodelled[1]},
        "references": [{"field": row.field, "kind": row.kind, "access": row.access} for row in found.references],
        "cut": found.cut,
        "request": found.request
        and {"method": found.request.method, "target": found.request.target, "body": found.request.body},
    }
    return _json(document, indent=2)


def _row(row: Row) -> dict[str, object]:
    rules = [{"name": name, "value": value, "at": at} for name, (value, at) in row.rules.items()]
    return {
        "field": row.path,
        "kind": row.field.kind,
        "rule": row.field.rule,
        "policy": rules,
        "effect": row.effect,
        "given": row.given,
        "sent": row.sent,
    }


def _json(value: object, indent: int | None = None) -> str:
    """Write JSON in visible ASCII: the library leaves DEL as it is."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def _brief(value: object, longest: int = LONGEST) -> str:
    text = _json(value)
    return text if len(text) <= longest else text[:longest] + "..."


def _wrap(head: str, words: list[str]) -> Iterator[str]:
    """Break a list of words into lines."""
    line = head
    for index, word in enumerate(words):
        piece = word + ("" if index == len(words) - 1 else ", ")
        if line.strip() and len(line) + len(piece) > WIDTH:
            yield line.rstrip()
            line = " " * len(head)
        line += piece
    yield line
