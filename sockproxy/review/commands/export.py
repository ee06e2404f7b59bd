"""`sockproxy audit export`: calls for other programs. Everything that comes from users is escaped."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import TextIO

from sockproxy.review import choose
from sockproxy.review.search import Call
from sockproxy.review.text import cell

COLUMNS = (
    "seq", "time", "request", "uid", "user", "verdict", "operation", "method", "path", "objects", "image", "role",
    "rule", "why", "status", "exit", "ms", "bytes_in", "bytes_out", "error", "reason",
)  # fmt: skip
OCSF = "1.6.0"  # the version of the schema (API Activity, class 6003)
_ACTIVITY = {"GET": (2, "Read"), "HEAD": (2, "Read"), "PUT": (3, "Update"), "DELETE": (4, "Delete")}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    choose.add_filters(parser)
    parser.add_argument("--format", choices=("jsonl", "csv", "ocsf"), default="jsonl", help="(%(default)s)")
    parser.add_argument("-o", "--output", metavar="FILE", help="instead of standard output; must not be there yet")


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    if not options.output:
        return write(choose.chosen(options), options.format)
    fd = os.open(options.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # it is as confidential as the record
    with open(fd, "w", encoding="utf-8", newline="") as file:
        return write(choose.chosen(options), options.format, file)


def write(found: Iterator[Call], form: str, file: TextIO | None = None) -> int:
    """Write calls in a form."""
    file = file or sys.stdout
    if form == "csv":
        rows = csv.writer(file, lineterminator="\r\n")
        rows.writerow(COLUMNS)
        for call in found:
            rows.writerow([cell(value) if isinstance(value, str) else value for value in _row(call)])
        return 0
    for call in found:
        record = (
            ocsf(call) if form == "ocsf" else {**call.record, **({"outcome": call.outcome} if call.outcome else {})}
        )
        file.write(json.dumps(record, separators=(",", ":")) + "\n")
    return 0


def _row(call: Call) -> list[object]:
    out = call.out
    objects = " ".join(f"{item.get('kind')}:{item.get('name') or ''}:{item.get('id')}" for item in call.objects)
    return [
        call.record.get("seq"), call.time, call.rid, call.who.get("uid"), call.user, "deny" if call.denied else "allow",
        call.operation, str(call.request.get("method")), str(call.request.get("path")), objects, call.image,
        str(call.decision.get("role") or ""), str(call.decision.get("at") or ""), str(call.decision.get("why") or ""),
        out.get("status"), out.get("exit"), out.get("ms"), out.get("bytes_in"), out.get("bytes_out"),
        str(out.get("error") or ""), str(call.who.get("reason") or ""),
    ]  # fmt: skip


def ocsf(call: Call) -> dict[str, object]:
    """Write a call as an API Activity of the Open Cybersecurity Schema Framework."""
    activity, name = _ACTIVITY.get(str(call.request.get("method")), (1, "Create"))
    failed = call.denied or not 0 < int(call.out.get("status") or 0) < 400
    status = (2, "Failure") if failed else (1, "Success")
    if not call.denied and not call.out:
        status = (0, "Unknown")
    return {
        "metadata": {
            "version": OCSF,
            "product": {"name": "sockproxy", "vendor_name": "sockproxy"},
            "uid": call.rid,
            "sequence": call.record.get("seq"),
        },
        "class_uid": 6003,
        "class_name": "API Activity",
        "category_uid": 6,
        "category_name": "Application Activity",
        "activity_id": activity,
        "activity_name": name,
        "type_uid": 600300 + activity,
        "severity_id": 3 if call.denied else 1,
        "time": int(datetime.fromisoformat(call.time).timestamp() * 1000),
        "status_id": status[0],
        "status": status[1],
        "status_detail": call.why,
        "duration": int(call.out.get("ms") or 0),
        "action_id": 2 if call.denied else 1,
        "action": "Denied" if call.denied else "Allowed",
        "actor": {
            "user": {"name": call.who.get("user"), "uid": str(call.who.get("uid")), "groups": _groups(call)},
            "process": {"pid": call.who.get("pid"), "name": call.who.get("comm")},
        },
        "api": {
            "operation": call.operation,
            "service": {"name": "Docker Engine API"},
            "request": {"uid": call.rid},
            "response": {"code": call.out.get("status"), "error_message": call.out.get("error")},
        },
        "http_request": {"http_method": call.request.get("method"), "url": {"path": call.request.get("path")}},
        "resources": [
            {"type": item.get("kind"), "uid": item.get("id"), "name": item.get("name")} for item in call.objects
        ],
        "src_endpoint": {"type": "unix socket", "uid": str(call.who.get("pid"))},
        "policy": {
            "name": call.decision.get("role"),
            "uid": call.decision.get("policy"),
            "desc": call.decision.get("at"),
        },
        "unmapped": {"seq": call.record.get("seq"), "h": call.record.get("h"), "change": call.outcome.get("change")},
    }


def _groups(call: Call) -> list[dict[str, str]]:
    return [{"name": str(group)} for group in call.who.get("groups") or []]
