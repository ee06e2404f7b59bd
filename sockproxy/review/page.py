"""Form the report's page: no script, nothing from elsewhere, and a policy for the browser that holds it to that."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence

from sockproxy.review.search import Call
from sockproxy.review.summary import Summary, verdict_of
from sockproxy.review.text import markup
from sockproxy.review.verify import Verifier

VERDICTS = ("allowed", "refused", "failed", "unknown")
ROWS = 20
_STYLE = """
:root{--allowed:#2c7a7b;--refused:#c05621;--failed:#975a16;--unknown:#718096;--line:#d8dee6;
--soft:#5a6675}
body{font:15px/1.5 system-ui,sans-serif;color:#1a202c;background:#fff;max-width:1080px;margin:2rem auto;
padding:0 1.5rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}p.soft,td.soft{color:var(--soft)}
.tiles{display:flex;gap:1rem;flex-wrap:wrap;margin:1.2rem 0}.tile{border:1px solid var(--line);border-radius:8px;
padding:.7rem 1.1rem;min-width:7rem}.tile b{display:block;font-size:1.5rem}
.allowed{color:var(--allowed)}.refused{color:var(--refused)}.failed{color:var(--failed)}.unknown{color:var(--unknown)}
svg .allowed{fill:var(--allowed)}svg .refused{fill:var(--refused)}svg .failed{fill:var(--failed)}
svg .unknown{fill:var(--unknown)}svg text{font-size:11px;fill:#5a6675}
table{border-collapse:collapse;width:100%;table-layout:auto}th,td{text-align:left;padding:.3rem .7rem .3rem 0;
border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
th{color:var(--soft);font-weight:600;white-space:nowrap}
td.n,th.n{text-align:right;white-space:nowrap}td.t{white-space:nowrap}code{font-size:.92em}
.proof{border-left:4px solid var(--allowed);padding:.4rem 1rem;background:#f3f8f8}
.proof.bad{border-color:var(--refused);background:#fdf3ec}.two{display:grid;grid-template-columns:1fr 1fr;gap:2.5rem}
@media(max-width:760px){.two{grid-template-columns:1fr}}
@media(prefers-color-scheme:dark){body{background:#14181d;color:#e2e8f0}:root{--allowed:#4fb3b0;--refused:#ed8936;
--failed:#d69e2e;--unknown:#a0aec0;--line:#2d3742;--soft:#a0aec0}.proof{background:#1a2426}.proof.bad{background:#2b1f17}
svg text{fill:#a0aec0}}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def form(summary: Summary, listed: list[Call], proof: Verifier, since: str, until: str) -> str:
    """Form the page."""
    period = f"{since[:16]}Z to {until[:16] + 'Z' if until else proof.ended[:19] + 'Z'}"
    policy = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>sockproxy: {markup(period)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>What was done through sockproxy</h1><p class=soft>{markup(period)}, all times UTC</p>",
        _tiles(summary),
        _proof(proof),
        "<h2>Calls by the hour</h2>",
        _timeline(summary.hours),
        "<div class=two><div><h2>By user</h2>",
        _counted("user", summary.users),
        "</div><div><h2>By operation</h2>",
        _counted("operation", summary.operations),
        "</div></div><h2>Rules that refused most</h2>",
        _rows(("refused", "rule", "one of the reasons"), [
            (count, rule, summary.reasons[rule]) for rule, count in summary.rules.most_common(ROWS)
        ]),
        "<div class=two><div><h2>Users never seen before</h2>",
        _rows(("user",), [(name,) for name in summary.new_users[:ROWS]]),
        "</div><div><h2>Images never seen before</h2>",
        _rows(("image",), [(name,) for name in summary.new_images[:ROWS]]),
        f"</div></div><h2>Refused and failed calls{f' (the last {len(listed)})' if listed else ''}</h2>",
        _calls(listed),
        "<h2>Events</h2>",
        _rows(("time", "event", "what"), [
            (str(one.get("ts"))[:19], one.get("ev"), one.get("why") or one.get("what") or one.get("verdict") or "")
            for one in summary.events[-100:]
        ]),
        "</body></html>\n",
    ]  # fmt: skip
    return "".join(parts)


def _tiles(summary: Summary) -> str:
    tiles = [("calls", summary.total.total(), ""), ("users", len(summary.users), "")]
    tiles += [(word, summary.total[word], word) for word in VERDICTS if summary.total[word]]
    boxes = "".join(f'<div class="tile"><b class="{kind}">{count:,}</b>{word}</div>' for word, count, kind in tiles)
    return f'<div class="tiles">{boxes}</div>'


def _proof(proof: Verifier) -> str:
    findings = "".join(
        f"<br><b>{markup(one.word)}</b> {markup(one.place)}: {markup(one.text)}" for one in proof.findings[:ROWS]
    )
    words = "DAMAGED: it is not as it was written" if proof.findings else "sound: every record is as it was written"
    text = f"The record is <b>{words}</b>. {proof.records:,} records up to number {proof.last}, sealed up to"
    text += f" {proof.sealed} by {proof.seals} seals. No anchors from elsewhere were compared: see"
    text += " <code>sockproxy audit verify</code>."
    key = f"<br>First key <code>{markup(proof.key)}</code>" if proof.key else ""
    return f'<div class="proof{" bad" if proof.findings else ""}">{text}{findings}{key}</div>'


def _timeline(hours: dict[str, Counter[str]]) -> str:
    """Draw a bar an hour, its verdicts on top of each other."""
    if not hours:
        return "<p class=soft>none</p>"
    names = sorted(hours)[-168:]
    most = max(hours[name].total() for name in names)
    width, height = 1040, 160
    step = width / max(len(names), 12)
    bars = []
    for index, name in enumerate(names):
        x, y = index * step, float(height)
        for verdict in VERDICTS:
            size = hours[name][verdict] / most * (height - 14)
            if size:
                y -= size
                title = f"<title>{markup(name)}: {hours[name][verdict]} {verdict}</title>"
                box = f'x="{x + 1:.1f}" y="{y:.1f}" width="{max(step - 2, 1):.1f}" height="{size:.1f}"'
                bars.append(f'<rect class="{verdict}" {box}>{title}</rect>')
        if index % max(1, len(names) // 12) == 0:
            bars.append(f'<text x="{x + 1:.1f}" y="{height + 14}">{markup(name[5:10])} {markup(name[11:13])}h</text>')
    bars.append(f'<text x="0" y="10">{most} at most</text>')
    box = f'viewBox="0 0 {width} {height + 20}" width="100%"'
    return f'<svg {box} role="img" aria-label="calls by the hour">{"".join(bars)}</svg>'


def _counted(name: str, table: dict[str, Counter[str]]) -> str:
    rows = sorted(table.items(), key=lambda item: -item[1].total())[:ROWS]
    found = [(key, count.total(), count["refused"] or "", count["failed"] or "") for key, count in rows]
    return _rows((name, "calls", "refused", "failed"), found)


def _rows(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    if not rows:
        return "<p class=soft>none</p>"
    lines = "".join(
        "<tr>" + "".join(f"<td{_kind(value)}>{markup(value)}</td>" for value in row) + "</tr>" for row in rows
    )
    numbers = [isinstance(value, int) for value in rows[0]]
    heads = "".join(
        f"<th{' class=n' if number else ''}>{word}</th>" for word, number in zip(head, numbers, strict=True)
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def _kind(value: object) -> str:
    return " class=n" if isinstance(value, int) else ""


def _calls(listed: list[Call]) -> str:
    if not listed:
        return "<p class=soft>none</p>"
    lines = []
    for call in reversed(listed):
        verdict = verdict_of(call)
        cells = (markup(call.time[:19]), markup(call.user), markup(call.operation), markup(call.about()))
        row = "".join(f"<td{' class=t' if index in (0, 2) else ''}>{text}</td>" for index, text in enumerate(cells))
        why = markup(call.why or call.result)
        lines.append(
            f'<tr>{row}<td class="t {verdict}">{verdict}</td><td>{why} <code>{markup(call.rid)}</code></td></tr>'
        )
    heads = "".join(f"<th>{word}</th>" for word in ("time", "user", "operation", "what", "verdict", "why, request"))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
