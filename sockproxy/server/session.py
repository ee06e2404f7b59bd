"""Serve one client's connection, request by request: read, identify, parse, route, decide, hand over, answer."""

from __future__ import annotations

import math
import os
import socket

import trio

from sockproxy.api import payload, route
from sockproxy.audit.client import Recorder
from sockproxy.dispatch.channel import Helpers, Reply
from sockproxy.errors import AuditGone, CallError, Crowded, Denied, HelperGone, LoginFailed, RequestError
from sockproxy.http import answer, body
from sockproxy.http import head as http_head
from sockproxy.http.head import Head
from sockproxy.server import login
from sockproxy.server.client import Client
from sockproxy.server.lending import Lending
from sockproxy.server.login import Vouched
from sockproxy.server.memo import Memo, Request
from sockproxy.server.meter import Meter
from sockproxy.server.traffic import PATIENCE, Seat, Traffic
from sockproxy_helpers.judge.policy import PUBLIC, Policy
from sockproxy_helpers.system import caller, peer
from sockproxy_helpers.system.caller import Caller

BODY_SECONDS = 60.0  # for a body that is read here; uploads have no bound
# What `docker inspect NAME` asks for last: a refusal would hide that there is no object of that name.
UNSEEN = {"PluginInspect": 'plugin "{name}" not found'}
LAST_SECONDS = 0.5  # for a request of who has connected before the end began
WHY = "x-sockproxy-why"  # a header: the reason that a person states
PATH_LIMIT = 1024  # of a refused path in its record


class Services:
    """Hold what all sessions share.

    Attributes:
        policy: replaced as a whole on reload.
        draining: each session takes one more request at the most, and not for long.
        idle: the waits of sessions that have no request under way.
        lent: the connections that helpers serve without the front.
    """

    def __init__(self, policy: Policy, helpers: Helpers, recorder: Recorder) -> None:
        self.policy, self.helpers, self.recorder = policy, helpers, recorder
        self.memo, self.meter, self.traffic = Memo(), Meter(), Traffic()
        self.draining = False
        self.lent: set[Lending] = set()
        self.idle: set[trio.CancelScope] = set()

    def drain(self) -> None:
        """Let each session end after the request that is under way."""
        self.draining = True
        for scope in self.idle:
            scope.deadline = self.last_call()

    def last_call(self) -> float:
        """Tell until when a request may still begin: what a client has sent before it could know is served."""
        return trio.current_time() + LAST_SECONDS if self.draining else math.inf


class Session:
    """Serve one connection.

    Invariant: the client's socket is read by this task alone, and not at all while a helper has it. `_wait` has a
    deadline only while there is no request under way.
    """

    def __init__(self, sock: socket.socket, services: Services, seat: Seat) -> None:
        self._client, self._services = Client(sock, seat.account), services
        self._process, self._wait = peer.of(sock), trio.CancelScope()
        self._seat, self._account = seat, seat.account
        self._request_id = ""
        self._head: Head | None = None
        self._unread = False  # the client may still be sending this request's body
        self._vouched: Vouched | None = None
        self._held = ""  # what was presented once for the whole connection
        self._visit = services.meter.visit()
        self._lending = Lending(seat.account, services.lent)

    async def run(self) -> None:
        """Serve until either side has had enough."""
        try:
            with self._visit:
                self._client.look()
                with self._wait:
                    while await self._request() and (self._lending.turns or not self._services.draining):
                        pass
                await self._client.linger()
        except OSError:
            pass  # the client is gone: nobody is left to tell
        finally:
            self._client.hold(0)

    async def _request(self) -> bool:
        """Serve one request; tell whether the connection can carry another."""
        self._request_id, self._head, self._unread = os.urandom(8).hex(), None, True
        self._visit.asked, self._lending.turns = "", 0
        try:
            untrusted_head = await self._await_head()
            if not untrusted_head:
                return False
            await self._turn()
            request = await self._read(untrusted_head)
            del untrusted_head  # a stream may last for days
            if request is None:
                return await self._tokens()
            if request.operation.scope == "front":
                await self._client.send(answer.options(self._request_id, close=self._unread))
                return self._keep()
            content = await self._body(request)
            return await self._reply(await self._hand_over(request, content))
        except HelperGone as gone:
            if gone.sent:
                return False
            return await self._refuse(gone)
        except Crowded as problem:
            await trio.sleep(PATIENCE)
            return await self._refuse(problem)
        except CallError as problem:
            return await self._refuse(problem)

    async def _turn(self) -> None:
        """Wait for the turn of a request; see `traffic`."""
        if self._seat.crowded:
            raise self._account.refuse_connection()
        wait = self._account.turn(trio.current_time())
        if wait:
            await trio.sleep(wait)

    async def _await_head(self) -> bytes:
        self._client.hold(len(self._client.buffer))
        if self._seat.crowded or self._services.draining:
            self._wait.deadline = min(self._services.last_call(), trio.current_time() + PATIENCE)
        self._services.idle.add(self._wait)
        try:
            untrusted_head = await self._client.head()
        finally:
            self._services.idle.discard(self._wait)
        if self._wait.deadline != math.inf:
            self._wait.deadline = math.inf
        return b"" if self._wait.cancel_called else untrusted_head

    async def _read(self, untrusted_head: bytes) -> Request | None:
        """Parse, route, identify and decide; None for what is asked of sockproxy itself, about tokens."""
        request = self._services.memo.get(untrusted_head) or self._read_anew(untrusted_head)
        if request is None:
            return None
        self._head, self._unread = request.head, request.head.body != "none"
        if request.operation.name not in PUBLIC:  # those are asked by clients that would not understand a refusal
            await self._identify(request.head)
        who = self._visit.who = self._caller()
        self._visit.asked = request.operation.name
        decision = self._services.policy.decide(who, request.operation.name)
        if not decision.allowed and who.trouble != caller.IN_CONTAINER:  # the helpers find out whose container it is
            if decision.role and request.operation.name in UNSEEN:
                raise RequestError(UNSEEN[request.operation.name].format(**request.variables), 404)
            raise Denied(decision.why, decision.at)
        return request

    def _read_anew(self, untrusted_head: bytes) -> Request | None:
        head = self._head = http_head.parse(untrusted_head)
        self._visit.asked = f"{head.method} {head.untrusted_path[:PATH_LIMIT].decode('latin-1')}"
        self._unread = head.body != "none"
        if head.untrusted_path == login.TOKENS:
            return None
        match = route.route(head.method, head.untrusted_path)
        query = body.parse_query(head.untrusted_query)
        request = Request(head, match.operation, match.version, match.variables, query)
        if not login.presented(head):  # secrets are not kept
            self._services.memo.put(untrusted_head, request)
        return request

    async def _body(self, request: Request) -> bytes:
        """Read the body of a request that is inspected as a whole; leave an upload to the helper."""
        head, operation = request.head, request.operation
        reader = payload.reader(head, operation)
        if reader is None:
            return b""
        if head.expect_continue:
            await self._client.send(answer.CONTINUE)
        content = bytearray(reader.feed(bytes(self._client.buffer)))
        with trio.move_on_after(BODY_SECONDS):
            while not reader.done:
                received = await self._client.receive()
                if not received:
                    raise RequestError("the body did not come to its end")
                content += reader.feed(received)
                self._client.hold(len(content))
        if not reader.done:
            raise RequestError("the body did not come to its end", 408)
        self._client.buffer[:] = reader.leftover
        self._unread = False
        return payload.accept(operation, bytes(content), request.query)

    async def _hand_over(self, request: Request, content: bytes) -> Reply:
        """Give the call to its helper, with all that the client has sent for it."""
        head, operation = request.head, request.operation
        upload = None if not self._unread else head.length if head.body == "length" else "chunked"
        early = b""
        if upload is not None or operation.response == "hijack":
            size = upload if isinstance(upload, int) else len(self._client.buffer)
            early = bytes(self._client.buffer[:size])
            del self._client.buffer[:size]
            self._unread = self._unread or bool(early)  # unless the helper gives back what it has not used
        assertion = self._vouched.assertion if self._vouched and operation.name not in PUBLIC else ""
        free = not (self._client.buffer or self._held or self._services.draining)
        turns, reply = self._lending.begin(request, self._visit.who, free), None  # type: int, Reply | None
        with self._services.meter.call(self._visit, operation, list(request.variables.values())) as call:
            try:
                reply = await self._services.helpers.run(
                    operation.scope,
                    request.lent(self._request_id, turns)
                    if turns
                    else request.message(self._request_id, len(content), upload, assertion, content + early),
                    self._client.sock,
                )
            finally:
                self._lending.end(request, call, reply)
        self._request_id = reply.request_id or self._request_id
        return reply

    async def _reply(self, reply: Reply) -> bool:
        """Act on a helper's last word."""
        header = reply.header
        if "answer" in header:
            length = header["answer"]
            assert isinstance(length, int)
            self._client.hold(len(reply.payload))
            await self._client.send(reply.payload[:length])
            self._client.buffer[:0] = reply.payload[length:]
            self._unread = False
            return header["keep"] is True and self._keep()
        if "gone" in header or "begun" in header:
            return False
        return await self._answer(reply.problem())

    async def _refuse(self, problem: CallError) -> bool:
        """Record a refusal of the front's own, then answer; of those for being too many, one a second is recorded."""
        head = self._head
        unsaid = self._account.tells(trio.current_time()) if isinstance(problem, Crowded) else 0
        more = f" ({unsaid} more since the last record)" if unsaid else ""
        record: dict[str, object] = {
            "ev": "deny",
            "rid": self._request_id,
            "who": self._caller().record() | ({"reason": head.forward[WHY]} if head and WHY in head.forward else {}),
            "req": {"method": head.method, "path": head.untrusted_path[:PATH_LIMIT].decode("latin-1")} if head else {},
            "decision": {"verdict": "deny", "why": problem.message + more, "at": getattr(problem, "at", "")}
            | ({"reason": problem.reason} if isinstance(problem, LoginFailed) else {}),
            "via": {"helper": "front"},
        }
        try:
            if unsaid is not None:
                await self._services.recorder.record(record)
        except AuditGone as gone:
            problem = gone
        return await self._answer(problem)

    async def _answer(self, problem: CallError) -> bool:
        self._services.meter.refuse(self._visit, self._caller(), problem, self._request_id)
        head_only = self._head is not None and self._head.method == "HEAD"
        close = self._unread or not self._keep()
        await self._client.send(answer.refuse(problem, self._request_id, close, head_only=head_only))
        return not close

    def _keep(self) -> bool:
        return self._head is not None and self._head.keep_alive and not self._unread

    async def _identify(self, head: Head) -> None:
        """Have the auth process say who presents a credential; it counts for this connection while it is presented."""
        authorization = login.presented(head) or self._held
        if not authorization:
            self._vouched = None
        elif self._vouched is None or not self._vouched.holds(authorization):
            self._vouched = None
            self._vouched = await login.identify(self._services.helpers, authorization, self._client.sock)

    def _caller(self) -> Caller:
        if self._vouched:
            return caller.vouched(self._process, self._vouched.uid, self._vouched.via, self._vouched.assertion)
        return caller.from_process(self._process)

    async def _tokens(self) -> bool:
        """Give or revoke a token, on the record; or let one hold for all requests of this connection."""
        head = self._head
        assert head is not None
        if head.method == "PUT" and not self._unread:
            presented, sock = login.presented(head), self._client.sock
            self._vouched = await login.identify(self._services.helpers, presented, sock)
            self._held = presented
            await self._client.send(answer.options(self._request_id, close=False))
            return self._keep()
        done, text = await login.tokens(self._services.helpers, head, self._client.sock, self._request_id)
        who = self._caller().record()
        await self._services.recorder.record({"ev": "auth", "rid": self._request_id, "who": who, "login": done})
        await self._client.send(text)
        return self._keep()
