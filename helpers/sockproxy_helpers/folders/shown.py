"""Show people the binds that they asked for, where the daemon tells of the volumes that stand for them."""

from __future__ import annotations

import json
from collections.abc import Callable

from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.policy import Decision
from .bindledger import BindLedger

Part = dict[str, object]


class Shown:
    """Rewrite answers.

    Args:
        environment: SOCKPROXY_BINDS, SOCKPROXY_PLUGIN.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._ledger, self._plugin = BindLedger(environment["SOCKPROXY_BINDS"]), environment["SOCKPROXY_PLUGIN"]

    def of(self, decision: Decision, operation: str) -> Callable[[bytes], bytes] | None:
        """Give what rewrites an operation's answer; None where nothing must be.

        Who sees all sees a list as it is: it may be too long to be read here as a whole.
        """
        everybodys = decision.rules.get("sees_all", (False, ""))[0] is True
        if operation != "ContainerInspect" and (operation != "ContainerList" or everybodys):
            return None
        return self._rewrite if any(True for _ in self._ledger.names()) else None

    def _rewrite(self, body: bytes) -> bytes:
        if f'"Driver":"{self._plugin}"'.encode() not in body:
            return body
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise Unavailable("the Docker daemon answered malformed JSON") from error
        for container in answer if isinstance(answer, list) else [answer]:
            container["Mounts"] = [self._mount(mount) for mount in container.get("Mounts") or []]
            host = container.get("HostConfig")
            if isinstance(host, dict) and host.get("Mounts"):
                self._asked(host)
        return json.dumps(answer, separators=(",", ":")).encode() + b"\n"

    def _mount(self, mount: Part) -> Part:
        """Show a mount as the daemon shows a bind."""
        try:
            bind = self._ledger.read(str(mount.get("Name"))) if mount.get("Driver") == self._plugin else None
        except KeyError:
            bind = None
        if bind is None:
            return mount
        mode = bind.asked.split(":")[2] if isinstance(bind.asked, str) and bind.asked.count(":") == 2 else ""
        shown = {"Type": "bind", "Source": bind.source, "Destination": mount.get("Destination"), "Mode": mode}
        return {**shown, "RW": bind.writable, "Propagation": _propagation(bind.asked, mode)}

    def _asked(self, host: Part) -> None:
        """Put what was asked for where it stood in the request."""
        binds, mounts = list(host.get("Binds") or []), []  # type: ignore[call-overload]
        for mount in host["Mounts"]:  # type: ignore[attr-defined]
            try:
                bind = self._ledger.read(str(mount.get("Source")))
            except KeyError:
                mounts.append(mount)
            else:
                (binds if bind.form == "Binds" else mounts).append(bind.asked)
        host["Binds"] = binds or None
        host["Mounts"] = mounts
        if not mounts:
            del host["Mounts"]


def _propagation(asked: object, mode: str) -> str:
    """Tell a bind's propagation: of those that a bind may have, all but one word mean the daemon's default."""
    options = asked.get("BindOptions") if isinstance(asked, dict) else None
    named = options.get("Propagation") if isinstance(options, dict) else None
    return "private" if named == "private" or "private" in mode.split(",") else "rprivate"
