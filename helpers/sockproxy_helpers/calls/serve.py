"""Serve the calls of one scope: verify, decide, model, record, exchange.

SECURITY: runs as root, so that it may open the daemon's socket, and without any capability. Its input comes from the
front, which is taken to be hostile: the client's socket is proved by the kernel, the caller's role is looked up again,
operation, variables, query and body are matched with this helper's own tables, and what goes to the daemon is built
from those. The worst that a hostile front can do is to speak for a user whose connection it holds, within that user's
role, on the record.
"""

from __future__ import annotations

import os
import pwd
import socket
import time

from sockproxy_helpers.api import operations
from sockproxy_helpers.audit.record import Recorder
from sockproxy_helpers.builder.buildkit import Mediated
from sockproxy_helpers.channel import activation, wire
from sockproxy_helpers.channel.loop import IN, Loop
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.faults import FAULTS, Fault, fault
from sockproxy_helpers.folders.shown import Shown
from sockproxy_helpers.folders.staging import Stager
from sockproxy_helpers.judge import policyfile
from sockproxy_helpers.stream.tunnel import Gone
from sockproxy_helpers.system import peer
from sockproxy_helpers.system.caller import Caller
from sockproxy_helpers.totals.cgroupfs import Cgroups
from sockproxy_helpers.totals.shares import Shares
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.who.identity import Identity
from . import approve, cut, lent, repeats, uploads
from .approved import Approved
from .call import Call, adopt
from .exchange import Exchange
from .repeats import Asked, Repeat
from .revoke import Streams
from .sessions import Sessions
from .statement import Statement, salt

FRONT, SENTENCE = "sockproxy", 1000  # the latter: characters of a reason


class Helper:
    """Be the helper of one scope."""

    def __init__(self, scope: str, loop: Loop, environment: dict[str, str], cgroups: Cgroups) -> None:
        """Prepare to serve.

        Args:
            scope: lifecycle, network or filesystem.
            cgroups: below which users have theirs.
            environment: what the process table gives to a helper (sockproxy/supervise/table.py).
        """
        self.scope, self.loop, self._environment = scope, loop, environment
        self._identity, self._streams = Identity(loop, environment), Streams(loop)
        self.recorder = Recorder(loop, f"{environment['SOCKPROXY_RUNTIME']}/audit/audit.sock")
        self._sessions = Sessions(loop, environment["SOCKPROXY_RUNTIME"])
        self.shares = Shares(loop, cgroups)
        self._shown = Shown(environment)
        stager = Stager(loop, environment) if scope == "filesystem" else None
        self._approval = approve.Approval(scope, loop, environment, self.shares, stager)
        self.operations = {row.name: row for row in reversed(operations.load()) if row.scope == scope}
        self._salt = salt(os.path.dirname(environment["SOCKPROXY_POLICY"]))
        self._front_uid = pwd.getpwnam(FRONT).pw_uid
        self.reload()

    def reload(self) -> None:
        """Load the compiled policy; only root may have written it."""
        self.policy = policyfile.load(self._environment["SOCKPROXY_POLICY"])
        self._repeats: repeats.Repeats = {}
        self._identity.accounts.forget()
        self._streams.wake()

    async def listen(self, listener: socket.socket) -> None:
        """Accept channels for ever."""
        if self._approval.tags:
            self.loop.spawn(self._approval.tags.recover())
        self.loop.spawn(self._streams.watch(self._identity, lambda: self.policy))
        await activation.accept(self.loop, listener, self.scope, self._serve)

    async def _serve(self, channel: socket.socket) -> None:
        """Serve one channel until it ends; who breaks the framing, or is not ours, is cut off and recorded."""
        daemon = Daemon(self.loop, self._environment["SOCKPROXY_DOCKER_SOCKET"])
        uid = peer.PEERCRED.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, peer.PEERCRED.size))[1]
        held: list[Approved] = []
        try:
            while await self._message(channel, daemon, uid, held):
                pass
        except wire.WireError as error:
            why = str(error)[:SENTENCE]
            self.recorder.outcome({"ev": "hostile", "via": {"helper": self.scope}, "why": why, "uid": uid})
        except OSError:
            pass  # the front is gone: the daemon's connection goes with it
        finally:
            daemon.close()
            self.loop.close(channel)
            self._approval.release(*held)

    async def _message(self, channel: socket.socket, daemon: Daemon, uid: int, held: list[Approved]) -> bool:
        """Take one message and answer it; tell whether there was one. What may be asked depends on who asks."""
        await self.loop.wait({channel.fileno(): IN})
        try:
            message, fds = wire.receive(channel)
        except BlockingIOError:
            return True
        if not message:
            return False
        client = adopt(fds)
        try:
            asked = Asked(message, self._repeats)
            who = await self._identity.find(client, asked.header.get("assertion", ""), daemon, self.policy)
            if uid == self._front_uid:
                call = asked.call(who, self._repeats, self.operations)
                del message  # of no use any more; a stream may last for days
                async with self._approval.turns.of(who.uid, call.operation.name):
                    if asked.lend:
                        loan = lent.Loan(self.loop, channel, client, asked, lambda: self._repeats)
                        reply, rest = await loan.run(lambda a: self._call(channel, client, daemon, a, who, asked), call)
                    else:
                        reply, rest = await self._call(channel, client, daemon, call, who, asked)
            elif uid == 0:
                reply, rest = await self._approval.part(asked.header, who, self.policy, daemon, held), b""
            else:
                raise wire.WireError("neither the front nor a sibling")
            wire.send(channel, wire.pack(reply, rest), [])
        finally:
            self._streams.end(channel)
            self.loop.close(client)
        return True

    async def _call(
        self, channel: socket.socket, client: socket.socket, daemon: Daemon, call: Call, who: Caller, asked: Asked
    ) -> tuple[dict[str, object], bytes]:
        """Take a call of the front's: decide, record, exchange, record."""
        repeat = asked.repeat(known := self._repeats)
        if repeat:
            decision, approved, statement = repeat.decision, repeat.approved, repeat.statement(call, who)
        else:
            decision = self.policy.decide(who, call.operation.name)
            statement = Statement(self.recorder, self._salt, self.scope, self.policy, call, who, decision)
        try:
            self._streams.begin(channel, who, decision, call.operation.name)
            if not repeat:
                approved = await self._approval.call(call, who, decision, client, daemon, statement)
                self._streams.uses(channel, statement.objects)
                asked.keep(known, who, Repeat(call, decision, approved, statement))
            await statement.intent()
            given = call, who.uid, decision, self.policy, statement.objects, approved.body
            recording = await self._sessions.begin(*given)
        except FAULTS as error:
            return await self._refuse(statement, error), b""
        exchange = Exchange(self.loop, channel, client, daemon, call)
        operation, ledger, tags = call.operation.name, self._approval.ledger, self._approval.tags
        cuts = cut.of(who, decision, operation, ledger, call.query), self._shown.of(decision, operation)
        exchange.cut, exchange.recording = cut.one_after_the_other(*cuts), recording
        exchange.judge, exchange.last, exchange.instead = approved.judge, approved.last, approved.instead
        if operation == "Grpc":
            asks = self._environment["SOCKPROXY_RUNTIME"], self.recorder, ledger, tags, self.shares
            exchange.mediated = Mediated(self.loop, *asks, who, decision, self.policy, statement.said)
        if tags and approved.claim and operation in uploads.SAVING:
            exchange.begun = tags.still.until_looked_up(approved.claim)
        try:
            return await self._exchange(exchange, approved, statement)
        finally:
            if exchange.lingering:
                self._streams.linger(channel, exchange.lingering, approved, self._approval.release)
            else:
                self._streams.end(channel)
                self._approval.release(approved)

    async def _exchange(
        self, exchange: Exchange, approved: Approved, statement: Statement
    ) -> tuple[dict[str, object], bytes]:
        started, why, answer = time.monotonic(), "", b""
        statement.forget()
        try:
            answer = await exchange.run(approved.query, approved.body, approved.heads)
            return {"keep": exchange.keep, "answer": len(answer)}, answer + exchange.left_over
        except FAULTS as error:
            why = str(error)
            return fault(error) | ({"begun": True} if exchange.sent else {}), b""
        except Gone as error:
            why = str(error)
            return {"gone": why}, b""
        finally:
            spent = time.monotonic() - started
            recorded = await self._sessions.end(exchange.recording) if exchange.recording else None
            statement.outcome(exchange, why or exchange.note, answer, spent, recorded)

    async def _refuse(self, statement: Statement, error: Fault) -> dict[str, object]:
        """Record a refusal; it stays one if it can't be recorded."""
        reply = fault(error)
        try:
            await statement.deny(str(error), str(reply["at"]))
        except Unavailable as unrecorded:
            return fault(unrecorded)
        return reply
