"""Keep how many execs of a container wait in the daemon: it has each in memory until it ends or the container goes."""

from __future__ import annotations

from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import parse

MOST = 200  # of a container, running or never started: the daemon lists no others


async def room(daemon: Daemon, ctx: Context) -> None:
    """Make sure that a container may have one more exec; those that are being made at the same time are not counted.

    Raises:
        Refused: it has as many as there may be.
        Unavailable: the daemon does not tell.
    """
    if ctx.operation != "ContainerExec" or ctx.flag("privileged"):
        return
    for item in ctx.found:
        status, found = parse(*await daemon.request("GET", f"/containers/{item.id}/json"))
        if status == 404:
            return  # gone meanwhile: the daemon will say so
        if status != 200 or not isinstance(found, dict):
            raise Unavailable("the Docker daemon does not tell which execs there are")
        have = len(found.get("ExecIDs") or [])
        if have >= MOST:
            words = f"{have} of the container {item.name} run or were never started"
            why = f"may not have more execs (allowed: {MOST} of a container; {words}: end them, or restart it)"
            raise ctx.refusal(why, "privileged")
