"""Carry what the rules judge by: who asks, what the role allows, what is noted for the record."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.system.caller import Caller

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_SEEN = 1 << 16
_OWNED = re.compile(r"u[0-9]{1,10}-.+")


class Facts:
    """Hold what the root helper says of one connection.

    Attributes:
        context: the caller, and the role's rules.
        operations: of those that matter here, the ones that the role allows.
        cgroup: under which the steps of builds run; "" for the daemon's own.
        builds: the records of builds under way, by the builds' names at the daemon.
        judged: the images, as a build has them, of which the root helper has said that they may be used.
        replays: BuildKit tells who asks late all from the beginning; None while that is not known.
        seen: hashes of what the daemon said of results; a client may hand that back, and nothing else.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        who = facts["who"]
        caller = Caller(who["uid"], who["gid"], who["pid"], who["user"], who["groups"], "")
        rules = {name: (value, at) for name, (value, at) in facts["rules"].items()}
        self.context = Context(rules, caller, "Grpc", facts["role"])
        self.role_at: str = facts["at"]
        self.operations: list[str] = facts["operations"]
        self.request_id: str = facts["rid"]
        self.cgroup: str = facts["cgroup"]
        self.seen: set[bytes] = set()
        self.builds: dict[str, str] = {}
        self.judged: set[bytes] = set()
        self.replays: bool | None = None

    @property
    def mark(self) -> str:
        """What begins the names of this user's builds and sessions at the daemon: nobody else's can begin so."""
        return f"u{self.context.caller.uid}-"

    def see(self, value: bytes) -> None:
        """Remember a part of a result."""
        if len(self.seen) < _SEEN:
            self.seen.add(hashlib.sha256(value).digest())

    def saw(self, value: bytes) -> bool:
        """Tell whether it is part of a result."""
        return hashlib.sha256(value).digest() in self.seen


class Request:
    """Hold one call under judgement.

    Attributes:
        build: the name at the daemon of the build that the call belongs to; "" for none.
        message: the message around the field.
        inner: parses and judges a message that stands encoded in another: its kind, the bytes and the path to them.
        tags: the names that the result is to have at the daemon.
        origins: what low-level definitions take files from.
        pushes: it goes to a registry.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts, self.context = facts, facts.context
        self.build = ""
        self.message: Any = None
        self.inner: Callable[[str, bytes, str], Any]
        self.tags: list[str] = []
        self.origins: list[str] = []
        self.pushes = False

    @property
    def apart(self) -> str:
        """What keeps users' steps and cache mounts apart: part of the names of the one and the host of the other."""
        return f"sockproxy-{self.context.caller.uid}"

    def own(self, name: str) -> str:
        """Make a name of a build or session the caller's: whatever it is, it can only mean one of the caller's own.

        Raises:
            Malformed: no name.
        """
        if not _NAME.fullmatch(name):
            raise Malformed(f"{self.context.path}: not the name of a build or session")
        if self.context.flag("sees_all") and _OWNED.fullmatch(name):
            return name
        return self.facts.mark + name
