"""Ask the front what it does, and print it."""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import time
from typing import Any

from sockproxy.http.answer import printable
from sockproxy.paths import RUNNING
from sockproxy.supervise.table import STATUS, status_socket

FOUND, USAGE_ERROR = 1, 2
PATIENCE = 10.0  # seconds
_ID = re.compile(r"[0-9a-f]{64}")
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def main(options: argparse.Namespace) -> int:
    """Show how sockproxy does; give the exit code.

    Args:
        options: runtime_dir, and format ("text" or "json").
    """
    path = status_socket(options.runtime_dir)
    try:
        told, health = _get(path, "/status"), _get(path, "/health")
    except PermissionError:
        print(f"sockproxy: {path} is open to root and the group {STATUS}", file=sys.stderr)
        return USAGE_ERROR
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        print(f"sockproxy: nobody answers at {path}: {why}. {RUNNING}", file=sys.stderr)
        return FOUND
    if options.format == "json":
        print(json.dumps({**told, **health}, indent=2))
    else:
        print("\n".join(map(printable, text(told, health))))
    return 0 if health["healthy"] else FOUND


def _get(path: str, target: str) -> Any:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(path)
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: sockproxy\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def text(told: Any, health: Any) -> list[str]:
    """Form the lines of the screen."""
    now, policy = told["now"], told["policy"]
    streams = sum(bool(one.get("call") and one["call"]["stream"]) for one in told["connections"])
    loaded = _span(now - policy["loaded"])
    lines = [
        f"sockproxy {told['version']}, running for {_span(now - told['began'])}: "
        + ("healthy" if health["healthy"] else f"NOT HEALTHY: {health['why']}"),
        f"policy    {policy['source']}, compiled sha256 {policy['sha256'][:16]}…, loaded {loaded} ago",
        f"calls     {told['calls']} so far, {told['rate']:.1f} a second in the last minute; {told['refused']} refused",
        f"now       {len(told['connections'])} connections, {streams} streams",
    ]
    if told["connections"]:
        rows = [_connection(one, now) for one in told["connections"]]
        lines += ["", *_columns([("who", "process", "for", "calls", "under way"), *rows])]
    if told["users"]:
        most = sorted(told["users"].items(), key=lambda user: -user[1]["calls"])[:20]
        rows = [(name, str(counts["calls"]), str(counts["refused"])) for name, counts in most]
        lines += ["", *_columns([("user", "calls", "refused"), *rows])]
    if told["refusals"]:
        lines += ["", "last refusals"]
        for one in told["refusals"][-10:]:
            at = time.strftime("%H:%M:%S", time.localtime(one["time"]))
            lines.append(f"{at}  {one['user']}  {one['asked']}  {one['status']}  {one['why']} (request {one['rid']})")
    return lines


def _connection(one: Any, now: float) -> tuple[str, ...]:
    user = one["user"] if one.get("via", "peer") == "peer" else f"{one['user']} ({one['via']})"
    process = f"{one['comm']}[{one['pid']}]" if one.get("comm") else ""
    if one.get("container"):
        process += f" in {_short(one['container'])}"
    call = one.get("call")
    doing = ""
    if call:
        doing = " ".join((call["operation"], *map(_short, call["about"]))) + f", {_span(now - call['since'])}"
    return user, process, _span(now - one["began"]), str(one["requests"]), doing


def _short(name: str) -> str:
    """Shorten an ID as Docker does."""
    return name[:12] if _ID.fullmatch(name) else name


def _span(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
