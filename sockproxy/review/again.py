"""Judge recorded calls again, by another policy, with the code that serves calls.

The record does not have all of a request: secret texts stand there as hashes, long lists are cut, and a call's objects
and the daemon's state are of then. What hangs on such a value is said to be untold, and never guessed.
"""

from __future__ import annotations

import json
import pwd
import re
import urllib.parse
from dataclasses import dataclass

from sockproxy.explain.judge import Finding, judge
from sockproxy.review.search import Call
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system import caller
from sockproxy_helpers.system.caller import Caller, Container

HIDDEN = "secret values were not kept, so hashes stand for them; names and owners of objects are not looked up"
NAMED = "of the container that a caller ran in the record has the name: bindings by label or image are passed over"
_HASH = re.compile(r"(?:[^=]*=)?#[0-9a-f]{12}")
_STEP = re.compile(r"[^.\[\]]+")
_CUT = re.compile(r"… [0-9]+ more")


@dataclass(slots=True)
class Again:
    """Hold what a policy says to a recorded call.

    Attributes:
        finding: about what the record has of it; None where that is not enough.
        untold: what the record does not have and the verdict may hang on, if it is not refused anyhow; "" for nothing.
    """

    finding: Finding | None
    untold: str = ""

    @property
    def refused(self) -> bool:
        """It would be refused, for certain."""
        return bool(self.finding and self.finding.refusal)

    @property
    def verdict(self) -> str:
        """Say it in a sentence."""
        if not self.finding:
            return f"cannot be told: {self.untold}"
        if self.finding.refusal:
            return f"refused: {self.finding.refusal}"
        return f"allowed, as far as the record tells: {self.untold}" if self.untold else "allowed"

    @property
    def at(self) -> str:
        """The line of the policy that decides."""
        decision = self.finding.decision if self.finding else None
        return getattr(self.finding and self.finding.refusal, "at", "") or (decision.at if decision else "")


def as_now(call: Call) -> Caller | None:
    """Form the caller with the groups that the account has today; None without an account."""
    try:
        entry = pwd.getpwnam(str(call.who.get("user")))
    except (KeyError, ValueError):
        return None
    name, groups, home = caller.account(entry.pw_uid)
    return Caller(entry.pw_uid, entry.pw_gid, 0, name, list(groups), home)


def as_then(call: Call) -> Caller:
    """Form the caller as the record has it; the home is today's, or none."""
    who = call.who
    user, groups = str(who.get("user") or ""), [str(name) for name in who.get("groups") or []]
    try:
        home = pwd.getpwnam(user).pw_dir
    except (KeyError, ValueError):
        home = ""
    found = Caller(int(who.get("uid", caller.NOBODY[0])), int(who.get("gid", caller.NOBODY[0])), 0, user, groups, home)
    found.via = str(who.get("via", "peer"))
    if isinstance(inside := who.get("container"), dict):
        owner = found.uid if user else None
        found.container = Container(str(inside.get("id")), str(inside.get("name")), "", {}, owner, "")
    return found


def again(policy: Policy, call: Call, who: Caller) -> Again:
    """Judge a recorded call by a policy."""
    query, body = call.request.get("query") or {}, call.request.get("body")
    if not isinstance(query, dict):
        return Again(None, "its query was not kept")
    hidden = [f"?{key}" for key, value in query.items() if _HASH.fullmatch(str(value))]
    pairs = {str(key): str(value) for key, value in query.items() if f"?{key}" not in hidden}
    target = str(call.request.get("path")) + ("?" + urllib.parse.urlencode(pairs) if pairs else "")
    if not all("!" <= letter <= "~" for letter in target):
        return Again(None, "its path is none")
    kept, cut = _uncut(body)
    if body and not kept:
        return Again(None, "its body was too long to be kept")
    if cut:
        hidden.append("all of its body")
    while True:
        content = json.dumps(kept).encode() if kept else b""
        finding = judge(policy, who, str(call.request.get("method")), target, content)
        last = finding.rows[-1] if finding.rows else None
        if not finding.refusal or not last or not _hides(last.given) or not _leave_out(kept, last.path):
            break
        hidden.append(last.path)
    return Again(finding, f"{', '.join(hidden)} was not kept" if hidden else "")


def _leave_out(body: object, path: str) -> bool:
    """Take a field out of a body; tell whether it was there."""
    *way, name = _STEP.findall(path)
    for step in way:
        body = body[int(step)] if isinstance(body, list) else body.get(step) if isinstance(body, dict) else None
    return isinstance(body, dict) and body.pop(name, None) is not None


def _uncut(value: object) -> tuple[object, bool]:
    """Leave out the marks of what was cut; tell whether that may have said something. Empty fields are cut first."""
    if isinstance(value, dict):
        items = {key: _uncut(item) for key, item in value.items() if key != "…"}
        cut = "…" in value and all(value.values())
        return {key: item for key, (item, _) in items.items()}, cut or any(below for _, below in items.values())
    if isinstance(value, list):
        kept = [_uncut(item) for item in value if not (isinstance(item, str) and _CUT.fullmatch(item))]
        return [item for item, _ in kept], len(kept) < len(value) or any(below for _, below in kept)
    return value, False


def _hides(value: object) -> bool:
    """Tell whether a hash stands for a text in it."""
    if isinstance(value, (dict, list)):
        return any(map(_hides, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and bool(_HASH.fullmatch(value))
