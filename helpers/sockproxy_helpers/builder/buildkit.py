"""Hand a BuildKit connection to the mediator, and answer what it asks: whose names, whose images, and the record.

SECURITY: the mediator reads what clients send, so it is held to be hostile too: it gets two descriptors and facts about
this one caller, and its questions can do no more than refuse a build or have one recorded as this caller's.
"""

from __future__ import annotations

import os
import socket

from sockproxy_helpers.api import names
from sockproxy_helpers.audit.record import Recorder
from sockproxy_helpers.channel import wire
from sockproxy_helpers.channel.loop import IN, Loop
from sockproxy_helpers.content import pushes, withheld
from sockproxy_helpers.content.claims import Claim, Wish
from sockproxy_helpers.content.ledger import Ledger
from sockproxy_helpers.content.tags import Tags
from sockproxy_helpers.errors import Malformed, Unavailable
from sockproxy_helpers.faults import FAULTS, fault
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.judge.engine import bound
from sockproxy_helpers.judge.policy import Decision, Policy
from sockproxy_helpers.judge.rules import own_cgroup
from sockproxy_helpers.stream.tunnel import Gone
from sockproxy_helpers.system.caller import Caller
from sockproxy_helpers.totals.shares import Shares
from sockproxy_helpers.upstream.daemon import Daemon
from .facts import facts
from .kept import Kept
from .told import MOST, plain, text

CONNECTIONS = 64  # of one user at once; a build has two or three, and each is a process
CANCELLING = 10.0  # seconds until a build that was cut off sets no more names: BuildKit does not tell
_open: dict[int, int] = {}  # connections of each user


class Mediated:
    """Carry one connection."""

    def __init__(
        self, loop: Loop, runtime: str, recorder: Recorder, ledger: Ledger, tags: Tags | None, shares: Shares,
        who: Caller, decision: Decision, policy: Policy, record: dict[str, object],
    ) -> None:  # fmt: skip
        """Prepare; `record` is of the call that opened the connection."""
        self._loop, self._runtime, self._recorder = loop, runtime, recorder
        self._who, self._decision, self._policy, self._record = who, decision, policy, record
        self._context = Context(decision.rules, who, "ImageBuild", decision.role)  # which it is a way to
        self._ledger, self._tags, self._shares = ledger, tags, shares
        self._open: dict[str, Claim | None] = {}  # what is under way, with the names that it may set
        self._pushing: dict[str, list[str]] = {}  # of who needs no claim, the names that it may push
        self._kept = Kept(tags, self._context) if tags else None

    async def run(self, front: int, client: socket.socket, daemon: Daemon, head: bytes, early: bytes) -> None:
        """Hand both sockets over, and answer until the mediator is done.

        Args:
            front: descriptor of the front's channel; its end cancels.
            head: the answer to the client's upgrade; early: what the client has sent behind it.

        Raises:
            Unavailable: there is no mediator.
            Gone: the front cancelled.
        """
        sock, uid = daemon.sock, self._who.uid
        assert sock is not None
        if _open.get(uid, 0) >= CONNECTIONS:
            raise Unavailable(f"{CONNECTIONS} connections to BuildKit are open already", 503)
        _open[uid] = _open.get(uid, 0) + 1
        channel, asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK), daemon.another()
        try:
            try:
                channel.connect(f"{self._runtime}/build/build.sock")
                cgroup = await self._shares.name(asking, self._context, path=True)
                told = facts(self._who, self._decision, self._policy) | {"rid": self._record["rid"], "cgroup": cgroup}
                told |= {"head": len(head), "early": len(early)}
                message = wire.pack(told, head + early + bytes(daemon.received))
                wire.send(channel, message, [client.fileno(), sock.fileno()])
                daemon.close()  # the mediator has it now
            except OSError as error:
                raise Unavailable("the build mediator is not there", 503) from error
            await self._answer(channel, front, asking)
        finally:
            if left := _open.pop(uid) - 1:
                _open[uid] = left
            asking.close()
            self._loop.close(channel)

    async def _answer(self, channel: socket.socket, front: int, daemon: Daemon) -> None:
        try:
            while True:
                events = await self._loop.wait({channel.fileno(): IN, front: IN})
                if front in events:
                    raise Gone("the front cancelled")
                try:
                    untrusted_message, fds = wire.receive(channel)
                except BlockingIOError:
                    continue
                for fd in fds:
                    os.close(fd)
                if not untrusted_message:
                    return
                question, _ = wire.unpack(untrusted_message)
                wire.send(channel, wire.pack(await self._reply(question, daemon)), [])
        except (OSError, wire.WireError):
            return  # it is gone, or is not what it was: the connection ends
        finally:
            for rid in list(self._open):
                self._end(rid, {"error": "cut off"}, CANCELLING)
            if self._kept:
                self._kept.drop()

    async def _reply(self, question: dict[str, object], daemon: Daemon) -> dict[str, object]:
        try:
            ask = question.get("ask")
            if ask in ("solve", "frontend"):
                await self._share(daemon)
            if ask == "solve":
                return await self._solve(question, daemon)
            if ask == "base":
                await withheld.base(self._ledger, daemon, self._context, question)
            elif ask == "keep" and self._kept:
                claim = self._open.get(str(question.get("rid")))
                return {"kept": await self._kept.begin(str(question.get("name")), claim)}
            elif ask == "kept" and self._kept:
                await self._kept.end(str(question.get("kept")))
            elif ask == "frontend":
                return {"rid": await self._intend("BuildKitFrontend", plain(question.get("build")), [])}
            elif ask == "outcome":
                out = {"grpc_status": text(question.get("status")), "image": text(question.get("image"))}
                await self._over(str(question.get("rid")), out)
            elif ask == "refused":
                await self._deny(question)
            else:
                raise Malformed("no such question")
        except FAULTS as error:
            return fault(error)
        return {}

    async def _solve(self, question: dict[str, object], daemon: Daemon) -> dict[str, object]:
        """Approve a build's names, record it, and tell which images are not the caller's to build from."""
        tags = question.get("tags")
        if not isinstance(tags, list) or len(tags) > MOST or not all(isinstance(tag, str) for tag in tags):
            raise Malformed(f"not at most {MOST} names of images")
        await bound(daemon, self._context)
        foreign = await withheld.foreign(self._ledger, daemon, self._context)
        claim = None
        if self._tags and not self._context.flag("sees_all"):
            claim = await self._tags.claim(self._context, Wish([names.settable(str(tag)) for tag in tags]))
            claim.pushes = question.get("pushes") is True
        rid = await self._intend("BuildKitSolve", plain(question.get("build")), tags, claim)
        if not claim and question.get("pushes") is True:
            self._pushing[rid] = [names.settable(str(tag)) for tag in tags]
        return {"rid": rid, "foreign": foreign}

    async def _share(self, daemon: Daemon) -> None:
        """See that the cgroup is there under which a build's steps are to run."""
        if own := own_cgroup(None, self._context):
            await self._shares.place(daemon, self._context, own)

    async def _intend(self, operation: str, build: object, tags: list[object], claim: Claim | None = None) -> str:
        """Record what is about to be built; give the record's id."""
        rid = os.urandom(8).hex()
        req = {"method": "POST", "path": "/grpc", "op": operation, "query": {}}
        what = {"in": self._record["rid"], "tags": tags, "asked": build}
        more = {"ev": "intent", "sync": True, "rid": rid, "req": req, "build": what}
        await self._recorder.intent({**self._record, **more})
        self._open[rid] = claim
        return rid

    async def _over(self, rid: str, out: dict[str, str]) -> None:
        """Settle a build's names before the client knows that it is done."""
        claim, pushed = self._open.get(rid), self._pushing.pop(rid, [])
        if pushed and self._tags and out["grpc_status"] == "0":
            await pushes.built(self._tags, self._who.uid, pushed)
        if claim and self._tags:
            claim.pushes = claim.pushes and out["grpc_status"] == "0"
            await self._tags.conclude(claim, claim.names)
            claim.had = None
        self._end(rid, {**out})
        if claim:
            withheld.refuse(claim)

    def _end(self, rid: str, out: dict[str, object], delay: float = 0) -> None:
        if rid in self._open:
            claim = self._open.pop(rid)
            if claim:
                claim.pushes = False  # if it was not concluded, nobody knows
            if self._tags:
                self._tags.release(claim, delay=delay)
            self._recorder.outcome({"ev": "outcome", "rid": rid, "via": self._record["via"], "out": out})

    async def _deny(self, question: dict[str, object]) -> None:
        decision = self._record["decision"]
        assert isinstance(decision, dict)
        at = text(question.get("at")) or decision["at"]
        verdict = {**decision, "verdict": "deny", "why": text(question.get("why")), "at": at}
        req = {"method": "POST", "path": text(question.get("path")), "op": "Grpc", "query": {}}
        await self._recorder.intent({**self._record, "ev": "deny", "req": req, "decision": verdict})
