"""Put calls and records into words for a terminal."""

from __future__ import annotations

import json

from sockproxy.review.search import Call, Record
from sockproxy.review.text import plain


def line(call: Call) -> str:
    """Tell a call in one line."""
    words = [
        call.time[:19] + "Z",
        plain(call.user),
        plain(call.operation),
        plain(call.about()) or "-",
        plain(call.result),
    ]
    more = (
        f": {plain(call.why)}" if call.why else f" (would refuse: {plain('; '.join(call.would))})" if call.would else ""
    )
    return f"{words[0]}  {words[1]:<12} {words[2]:<22} {words[3]:<28} {words[4]}{more}  [{plain(call.rid)}]"


def story(call: Call) -> list[str]:
    """Tell all of a call: who, asked, changed, why, outcome."""
    who, request, decision, out = call.who, call.request, call.decision, call.out
    groups = ", ".join(map(str, who.get("groups") or [])) or "none"
    lines = [f"request    {call.rid}, {call.time}", f"who        {call.user} (uid {who.get('uid')}; groups: {groups})"]
    process = [f"pid {who.get('pid')}"]
    if who.get("comm"):
        process.append(f"called {who['comm']}")
    if isinstance(inside := who.get("container"), dict):
        process.append(f"in container {inside.get('name')}")
    lines.append(f"           {', '.join(process)}; known by {who.get('via', 'peer')}")
    if who.get("loginuid") is not None:
        lines.append(f"           logged in as {who.get('login') or 'uid ' + str(who['loginuid'])}")
    if who.get("reason"):
        lines.append(f"reason     {who['reason']} (as stated)")
    lines.append(f"asked      {call.operation}: {request.get('method', '?')} {request.get('path', '?')}")
    for key in ("query", "body"):
        if request.get(key):
            lines += [f"           {key} {name} = {value}" for name, value in flat("", request[key])]
    for item in call.objects:
        owner = f", of uid {item['owner']}" if item.get("owner") is not None else ""
        lines.append(f"object     {item.get('kind')} {item.get('name') or ''} {item.get('id')}{owner}")
        if item.get("image"):
            lines.append(f"           with the image {item['image']} {item.get('image_id')}")
        if item.get("digest"):
            lines.append(f"           in the registry {item['digest']}")
    verdict = "refused" if call.denied else "allowed"
    at = f", rule {decision['at']}" if decision.get("at") else ""
    lines.append(
        f"verdict    {verdict}{': ' + call.why if call.denied else ''} (role {decision.get('role') or 'none'}{at})"
    )
    lines.append(
        f"           by the {call.record.get('via', {}).get('helper', '?')}, policy {decision.get('policy', '?')}"
    )
    lines += [f"           would refuse: {text}" for text in call.would]
    for change in call.outcome.get("change") or []:
        lines.append(f"changed    {change.get('field')}: {_changed(change)}")
    if not call.denied:
        lines.append(f"outcome    {call.result}{': ' + str(out['error']) if out.get('error') else ''}")
        if out:
            count = f"{out.get('bytes_in', 0)} bytes in, {out.get('bytes_out', 0)} bytes out"
            lines.append(f"           {out.get('ms')} ms, {count}; ended {call.outcome.get('ts')}")
    if recording := call.outcome.get("recording"):
        more = f", {recording['left_out']} bytes of output left out" if recording.get("left_out") else ""
        more += f"; not whole: {recording['error']}" if recording.get("error") else ""
        lines.append(f"recording  {recording.get('bytes', 0)} bytes (sockproxy audit play {call.rid}){more}")
    lines.append(f"record     {call.record.get('seq')}" + (f" and {call.outcome['seq']}" if call.outcome else ""))
    return [plain(text) for text in lines]


def _changed(change: Record) -> str:
    if "asked" not in change:
        return f"added {_value(change.get('sent'))}"
    if "sent" not in change:
        return f"left out {_value(change['asked'])}"
    return f"{_value(change['asked'])} became {_value(change['sent'])}"


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def flat(path: str, value: object) -> list[tuple[str, str]]:
    """List the fields of a body that say something."""
    if isinstance(value, dict):
        pairs = []
        for key, item in value.items():
            pairs += flat(f"{path}.{key}" if path else str(key), item)
        return pairs
    said = value not in (None, "", 0, False) and value != []
    return [(path, _value(value))] if said else []


def event(record: Record) -> str:
    """Tell a record that is no call's in one line."""
    hidden = ("seq", "ts", "peer", "v", "ev", "h", "sig", "key", "next", "head", "policy")
    more = " ".join(f"{key}={_value(value)}" for key, value in record.items() if key not in hidden)
    return plain(f"{str(record.get('ts'))[:19]}Z  {record.get('ev')} {more}")
