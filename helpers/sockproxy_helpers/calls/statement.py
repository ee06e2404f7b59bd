"""Form the records of one call: who asked what of which objects, what was changed in it, and what became of it."""

from __future__ import annotations

import json
import os
import re

from sockproxy_helpers.audit.record import Recorder
from sockproxy_helpers.errors import Refused
from sockproxy_helpers.judge.policy import Decision, Policy
from sockproxy_helpers.judge.redact import Redaction
from sockproxy_helpers.system.caller import Caller
from sockproxy_helpers.upstream.objects import Object
from .call import Call
from .exchange import Exchange

WORDS, LETTERS = 64, 64  # of what a client names and is recorded; what it says beyond that is in no role's interest
SENTENCE, LARGEST = 1000, 16_384  # characters of a reason, which may quote the client; of what was asked
SALT = "salt"  # a file that `sockproxy up` makes
WHY = "x-sockproxy-why"  # a header: the reason that a person states
# What an operation makes, and where its answer has the ID.
MADE = {
    "ContainerCreate": ("container", "Id"),
    "ContainerExec": ("exec", "Id"),
    "ImageCommit": ("image", "Id"),
    "NetworkCreate": ("network", "Id"),
    "VolumeCreate": ("volume", "Name"),
}
EXITS = {"ContainerWait": "StatusCode", "ExecInspect": "ExitCode"}
_BUILT = re.compile(rb'"ID":"(sha256:[0-9a-f]{64})"')


class Statement:
    """Say on the record what one call is.

    Attributes:
        objects: what it names, filled while it is approved.
        said: what each record of it says.
        told: its intent is on the record, so it may act.
    """

    def __init__(
        self, recorder: Recorder, salt: bytes, scope: str, policy: Policy, call: Call, who: Caller, decision: Decision
    ) -> None:
        self._recorder, self._call = recorder, call
        self._redaction = redaction = Redaction(salt, policy.audit["commands"])
        self._via = {"helper": scope}
        self._query, self._body = list(call.query), None  # type: tuple[list[tuple[str, str]], object]
        self._change: list[dict[str, object]] = []
        self.objects: list[Object] = []
        self.told = False
        operation = call.operation
        self._waits = operation.acts or policy.audit["on_full"] == "refuse-all"
        self.said: dict[str, object] = {
            "rid": call.request_id,
            "who": _who(call, who),
            "req": {
                "method": operation.method,
                "path": operation.target(call.version, call.variables, []),
                "op": operation.name,
                "query": {key[:LETTERS]: redaction.show(f"?{key}", text) for key, text in call.query[:WORDS]},
            },
            "decision": {"verdict": "allow", "role": decision.role, "at": decision.at, "policy": policy.sha256},
            "via": self._via,
        }

    def again(self, said: dict[str, object], call: Call, who: Caller) -> Statement:
        """Give the statement of the same call that is made again; nothing that they share is to be changed.

        Args:
            said: what this one said.
        """
        twin = Statement.__new__(Statement)
        twin.__dict__.update(self.__dict__)
        twin._call, twin.objects, twin.told = call, [], False
        twin.said = {**said, "rid": call.request_id, "who": _who(call, who)}
        return twin

    def asked(self, body: object) -> None:
        """Take the body as the client sent it."""
        self._body = body
        req = self.said["req"]
        assert isinstance(req, dict)
        req["body"] = shown = self._redaction.show("", body)
        if body is not None and len(json.dumps(shown)) > LARGEST:
            req["body"] = {"…": "too much to be told"}

    def would(self, why: str, refusals: list[Refused]) -> None:
        """Take what a role in warn mode lets through.

        Args:
            why: it does not allow the operation; "" when it does.
            refusals: by its rules.
        """
        decision = self.said["decision"]
        assert isinstance(decision, dict)
        told = [{"why": why, "at": decision["at"]}] if why else []
        told += [{"why": self._redaction.scrub(str(error))[:SENTENCE], "at": error.at} for error in refusals]
        if told:
            decision["would_refuse"] = told

    def sends(self, query: list[tuple[str, str]], body: object) -> None:
        """Take what is sent to the daemon."""
        if query != self._query:
            asked, sent = dict(self._query), dict(query)
            for key in [*asked, *(key for key in sent if key not in asked)]:
                self._redaction.changes(f"?{key}", asked.get(key), sent.get(key), self._change)
        self._redaction.changes("", self._body or {}, body or {}, self._change)

    async def intent(self) -> None:
        """Record that this is about to be done, once.

        Raises:
            Unavailable: it could not be recorded, so it must not be done.
        """
        if self.told:
            return
        record = {"ev": "intent", **self.said, "objects": self._objects()}
        if self._waits:
            await self._recorder.intent({**record, "sync": self._call.operation.acts})
        else:
            await self._recorder.note(record)
        self.told = True

    async def deny(self, why: str, at: str) -> None:
        """Record a refusal.

        Raises:
            Unavailable: it could not be recorded.
        """
        decision = self.said["decision"]
        assert isinstance(decision, dict)
        verdict = {
            **decision,
            "verdict": "deny",
            "why": self._redaction.scrub(why)[:SENTENCE],
            "at": at or decision["at"],
        }
        said = {**self.said, "objects": self._objects(), "decision": verdict}
        await self._recorder.intent({"ev": "deny", **said})

    def forget(self) -> None:
        """Keep what the outcome needs alone: a stream may last for days."""
        self.said, self.objects, self._query, self._body = {}, [], [], None

    def outcome(
        self, exchange: Exchange, why: str, answer: bytes, spent: float, recording: dict[str, object] | None = None
    ) -> None:
        """Record what became of it, and what there is of a recording."""
        out: dict[str, object] = {"status": exchange.status, "error": why, "ms": round(spent * 1000, 1)}
        out |= {"bytes_in": exchange.bytes_in, "bytes_out": exchange.bytes_out}
        record: dict[str, object] = {"ev": "outcome", "rid": self._call.request_id, "via": self._via, "out": out}
        operation = self._call.operation.name
        said = (
            _object(answer or exchange.tail)
            if exchange.status >= 400 or operation in MADE or operation in EXITS
            else {}
        )
        if exchange.status >= 400 and not why:
            out["error"] = str(said.get("message", ""))
        out["error"] = self._redaction.scrub(str(out["error"]))[:SENTENCE]
        if exchange.status < 300:
            if operation in MADE and isinstance(made := said.get(MADE[operation][1]), str):
                record["made"] = [{"kind": MADE[operation][0], "id": made[: LETTERS * 2]}]
            elif operation == "ImageBuild" and (built := _BUILT.findall(exchange.tail)):
                record["made"] = [{"kind": "image", "id": built[-1].decode()}]
            code = said.get(EXITS.get(operation, ""))
            if type(code) is int and not said.get("Running"):
                out["exit"] = code
        if self._change:
            record["change"] = self._change
        if recording is not None:
            record["recording"] = recording
        self._recorder.outcome(record, soon=not self._waits)

    def _objects(self) -> list[dict[str, object]]:
        return [item.record() for item in self.objects[:WORDS]]


def _who(call: Call, who: Caller) -> dict[str, object]:
    return who.record() | ({"reason": call.headers[WHY]} if WHY in call.headers else {})


def salt(folder: str) -> bytes:
    """Read the salt of the record's hashes; without the file the hashes of two starts are not comparable."""
    try:
        with open(f"{folder}/{SALT}", "rb") as file:
            return file.read(64)
    except FileNotFoundError:
        return os.urandom(32)


def _object(answer: bytes) -> dict[str, object]:
    """Read the JSON object in an answer, whatever frames it."""
    try:
        found = json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
