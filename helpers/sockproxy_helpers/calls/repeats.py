"""Remember calls that come again: clients ask the same again and again, and to judge it is a third of what it costs.

SECURITY: a memo is where decisions get confused. So its key is all that was judged by: each byte of the message but
the request's id, who asks (found anew for each call of the front's) and the policy, with which the memo goes. Kept are
only reads that name nothing, so that neither the daemon nor a ledger was asked, and of people whose role shares with
nobody. What depends on the connection or on the time is done each time: who it is, how many calls are under way, the
record.
"""

from __future__ import annotations

import re

from sockproxy_helpers.api.operations import Operation
from sockproxy_helpers.channel import wire
from sockproxy_helpers.content import references
from sockproxy_helpers.judge import warn
from sockproxy_helpers.judge.policy import Decision
from sockproxy_helpers.system.caller import Caller
from .approved import Approved
from .call import Call
from .statement import Statement

MOST, LARGEST = 256, 2048  # calls; bytes of a message
SECRETS = frozenset({"x-registry-auth", "x-registry-config"})  # kept no longer than their call
# As the front begins each call; of one that is lent, how often and for how many bytes, which are the message's last.
_FORM = re.compile(rb'(\{"rid":"[0-9a-f]{16}",)(?:"lend":\[([0-9]{1,3}),([0-9]{1,4})\],)?')


class Asked:
    """Hold a message of the front's.

    Attributes:
        key: what can be known again; b"" when it is too large, or has another form.
        lend, head: how often the client may say the same again, and what that would be: see `lent.py`.
        header, payload: what is in it; of one that is known only the assertion, since it had none.
    """

    __slots__ = ("_known", "_message", "_repeat", "head", "header", "key", "lend", "payload")

    def __init__(self, untrusted_message: bytes, known: Repeats) -> None:
        self._known, self._repeat = known, None  # type: Repeats, Repeat | None
        self.key, self.head, self.lend = b"", b"", 0
        form = _FORM.match(untrusted_message)
        if form and len(untrusted_message) <= 3 * LARGEST:
            self.key = untrusted_message[form.end() :]
            if form[2]:
                end = max(0, len(self.key) - int(form[3]))
                self.key, self.head = self.key[:end], self.key[end:]
                self.lend, untrusted_message = int(form[2]) if self.head else 0, form[1] + self.key
            self.key = self.key if len(self.key) <= LARGEST else b""
        self._message = untrusted_message
        self.header: dict[str, object] = {}
        self.payload = b""
        if self.key not in known:
            self.header, self.payload = wire.unpack(untrusted_message)

    def call(self, who: Caller, known: Repeats, operations: dict[str, Operation]) -> Call:
        """Give the call, once; nothing is held of it from then on: a stream may last for days.

        Raises:
            WireError: see `Call`.
        """
        message, self._message = self._message, b""
        self._known, self._repeat = known, known.get(self.key, {}).get(_person(who))
        if self._repeat:
            return self._repeat.call.again(message[8:24].decode("ascii"))
        header, payload = (self.header, self.payload) if self.header else wire.unpack(message)
        self.header, self.payload = {}, b""
        return Call(header, payload, operations)

    def repeat(self, known: Repeats) -> Repeat | None:
        """Give what was made of it before, for this caller, by the policy of now: it may have waited for its turn."""
        return self._repeat if self._known is known else None

    def keep(self, known: Repeats, who: Caller, made: Repeat) -> None:
        """Keep what was made of it, if it may be kept."""
        key, self.key = self.key, b""
        if not key or not _may_be_kept(made.call, who, made.decision):
            return
        if sum(map(len, known.values())) >= MOST:
            known.clear()
        known.setdefault(key, {})[_person(who)] = made
        self._known, self._repeat = known, made


class Repeat:
    """Hold what was made of a call; nothing in it is changed."""

    __slots__ = ("_said", "_statement", "approved", "call", "decision")

    def __init__(self, call: Call, decision: Decision, approved: Approved, statement: Statement) -> None:
        self.call, self.decision, self.approved = call, decision, approved
        self._statement, self._said = statement, statement.said

    def statement(self, call: Call, who: Caller) -> Statement:
        """Give what the record is to say of it now."""
        return self._statement.again(self._said, call, who)


Repeats = dict[bytes, dict[object, Repeat]]  # by the message's key, then by the person; of one policy


def _may_be_kept(call: Call, who: Caller, decision: Decision) -> bool:
    operation, rules = call.operation, decision.rules
    reads = operation.method in ("GET", "HEAD") and not operation.acts
    names = call.variables or (call.query and operation.name in references.TABLE)
    plain = who.via == "peer" and not (who.trouble or who.assertion or who.container)
    shares = rules.get("share", ("",))[0] == "group"
    return reads and plain and not (names or shares or warn.on(rules) or call.headers.keys() & SECRETS)


def _person(who: Caller) -> object:
    return who.uid, who.gid, who.user, who.home, who.via, who.trouble, who.assertion, tuple(who.groups)
