"""Mediate one connection: each call of the client's is decoded, judged and made anew for the daemon, as is its answer.

SECURITY: runs as a user without rights, in a process of its own for this connection. It holds the client's socket, one
connection to the daemon's BuildKit and a channel to the root helper; with all three, a client that took this process
over would have BuildKit, not the Docker API, and no other user's connection.
"""

from __future__ import annotations

import functools
import math
import socket
from collections.abc import Callable
from urllib.parse import unquote

import trio
from google.protobuf.message import DecodeError

from sockproxy.buildkit import methods
from sockproxy.buildkit.following import Following
from sockproxy.buildkit.helper import Helper
from sockproxy.buildkit.http2 import Side
from sockproxy.buildkit.judge import clean, judge
from sockproxy.buildkit.methods import FAULTS, Fault, Method
from sockproxy.buildkit.request import Facts, Request
from sockproxy.buildkit.schema import Message, Schema
from sockproxy.buildkit.stream import Headers, ProtocolError, Reset, Stream
from sockproxy.buildkit.treatments import TREATMENTS, Treatment
from sockproxy.buildkit.words import Again
from sockproxy_helpers.errors import Malformed, NotFound, Refused, Unavailable


class Mediation:
    """Carry the calls of one connection."""

    def __init__(
        self,
        schema: Schema,
        table: dict[str, Method],
        client: socket.socket,
        daemon: socket.socket,
        helper: Helper,
        facts: Facts,
    ) -> None:
        self._schema, self._table, self._helper, self._facts = schema, table, helper, facts
        self._client_socket = trio.socket.from_stdlib_socket(client)
        self._client = Side(self._client_socket, self._opened)
        self._daemon = Side(trio.socket.from_stdlib_socket(daemon))
        self._nursery: trio.Nursery | None = None
        self._following = Following()

    async def run(self, head: bytes, early_client: bytes, early_daemon: bytes) -> None:
        """Mediate until either side ends, or the helper does.

        Args:
            head: what the client gets first: the answer to its upgrade.
            early_client, early_daemon: what each has sent behind that already.
        """
        view = memoryview(head)
        while view:
            view = view[await self._client_socket.send(view) :]
        async with trio.open_nursery() as listening:  # to the helper, as long as there may be something to ask
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                listening.start_soon(self._until_gone, nursery)
                await self._daemon.start()
                await self._client.start()
                for task in (self._client.run, early_client), (self._daemon.run, early_daemon):
                    nursery.start_soon(self._end, *task)
            listening.cancel_scope.cancel()

    async def _until_gone(self, nursery: trio.Nursery) -> None:
        await self._helper.run()
        nursery.cancel_scope.cancel()

    async def _end(self, run: object, early: bytes) -> None:
        try:
            await run(early)  # type: ignore[operator]
        except ProtocolError as error:
            await self._report("", Malformed(str(error)))
        assert self._nursery
        self._nursery.cancel_scope.cancel()

    def _opened(self, stream: Stream) -> None:
        assert self._nursery
        self._nursery.start_soon(self._call, stream)

    async def _call(self, stream: Stream) -> None:
        """Serve one call; whatever becomes of it, it has an end."""
        over = False
        with trio.CancelScope() as scope:
            stream.on_reset = scope.cancel
            path = dict(stream.head or []).get(":path", "")[:200]
            try:
                await self._serve(stream, path)
                over = True
            except Reset:
                pass
            except FAULTS as error:
                over = await self._fail(stream, path, error)
            except (ProtocolError, DecodeError, UnicodeDecodeError) as error:
                over = await self._fail(stream, path, Malformed(str(error)))
        await self._client.close(stream, over=over and stream.ended)

    async def _fail(self, stream: Stream, path: str, error: Fault) -> bool:
        await self._report(path, error)
        try:
            head = [] if stream.answered else methods.ANSWER_HEAD
            await self._client.send_head(stream, head + methods.trailers(error, self._facts.request_id), end=True)
        except Reset:
            return False
        return True

    async def _report(self, path: str, error: Fault) -> None:
        """Have a refusal recorded; it stays one if it can't be."""
        at = error.at if isinstance(error, Refused) else ""
        try:
            await self._helper.ask({"ask": "refused", "path": path, "why": str(error)[:1000], "at": at})
        except (*FAULTS, OSError):
            pass

    async def _serve(self, stream: Stream, path: str) -> None:
        method = self._table.get(path)
        if method is None:
            raise Refused("", f"{path if path.isprintable() else 'this call'} is not served")
        request = Request(self._facts)
        head, build = methods.request_head(method, stream.head or [])
        if build:
            request.build = request.own(build)
            head.append((methods.BUILD_ID, request.build))
        if method.needs != "-" and method.needs not in self._facts.operations:
            raise Refused("", f"role {self._facts.context.role} does not allow {method.needs}", at=self._facts.role_at)
        if method.treat == "ignored":
            await self._message(stream)
            await self._answer_here(stream, method)
            return
        message = self._schema.parse(method.request, await self._message(stream))
        solve = method.treat == "solve"
        named = str(message.Ref) if solve or method.treat == "progress" else build
        if solve:
            self._following.forget(named)
        try:
            judge(self._schema, method.request, message, request)
            treatment = TREATMENTS[method.treat](self._schema, self._helper, request, method)
            await treatment.before(message, functools.partial(self._ask, head))
        except FAULTS:
            if solve:
                self._following.refuse(named)
            raise
        if treatment.local:
            await self._answer_here(stream, method)
            return
        with self._following.follow("" if solve else named) as followed:
            await self._forward(stream, method, head, message.SerializeToString(), treatment)
        if followed.cancelled_caught:
            await self._answer_here(stream, method, None if method.many else NotFound("the build was refused"))

    async def _message(self, stream: Stream) -> bytes:
        """Read a call's one message, to the end of what the client sends."""
        untrusted_message = await stream.message()
        if untrusted_message is None or await stream.message() is not None:
            raise Malformed("a call carries one message")
        return untrusted_message

    async def _answer_here(self, stream: Stream, method: Method, fault: Fault | None = None) -> None:
        """Answer in the daemon's place: with nothing, or an error."""
        await self._begin(stream)
        if not method.many and not fault:
            await self._client.send_message(stream, b"")
        await self._client.send_head(stream, methods.trailers(fault, self._facts.request_id), end=True)

    async def _forward(self, stream: Stream, method: Method, head: Headers, body: bytes, treatment: Treatment) -> None:
        over, seconds, trailers = False, math.inf, None
        try:
            while trailers is None:
                try:
                    with trio.move_on_after(seconds):
                        trailers = await self._carry(stream, method, head, body, treatment)
                    if trailers is None:
                        raise Unavailable("the builder does not say it again")
                except Again as again:
                    body, seconds = again.body, again.seconds
            over = True
            await treatment.after(dict(trailers).get("grpc-status", "2"))
            await self._client.send_head(stream, ([] if stream.answered else methods.ANSWER_HEAD) + trailers, end=True)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(5):
                if not over:
                    await treatment.after("1")  # CANCELLED

    async def _carry(self, stream: Stream, method: Method, head: Headers, body: bytes, treatment: Treatment) -> Headers:
        """Have the daemon answer, and pass that on; give how it ended."""
        call, over, ask = self._daemon.open(), False, functools.partial(self._ask, head)
        try:
            await self._daemon.send_head(call, head)
            await self._daemon.send_message(call, body, end=True)
            if dict(await call.get_head()).get(":status") != "200":
                raise Unavailable("the Docker daemon does not serve BuildKit")
            while (untrusted_answer := await call.message()) is not None:
                answer = self._schema.parse(method.answer, untrusted_answer)
                clean(self._schema, method.answer, answer)
                await treatment.judge(answer, ask)
                kept = treatment.answer(answer)
                if kept is not None:
                    await self._begin(stream)
                    await self._client.send_message(stream, kept.SerializeToString())
            trailers = methods.pass_trailers(call.trailers or call.head or [])
            over = True
            told = dict(trailers)
            if told.get("grpc-status", "2") != "0":
                await treatment.judge_error(unquote(told.get("grpc-message", "")), ask)
            return trailers
        except Reset as error:
            if stream.broken:
                raise
            raise Unavailable("the Docker daemon broke off the call") from error
        finally:
            await self._daemon.close(call, over=over)

    async def _ask(
        self, head: Headers, path: str, body: bytes, kind: str, enough: Callable[[Message], bool] | None = None
    ) -> Message:
        """Call the daemon about the build of a call under way.

        Args:
            enough: of a call with many answers, which is the last one to wait for.

        Raises:
            Unavailable: it has no answer, or says no; its words.
            Reset: it broke off; see `_carry`.
        """
        call, over = self._daemon.open(), False
        try:
            fields = [(":path", path) if name == ":path" else (name, text) for name, text in head]
            await self._daemon.send_head(call, [field for field in fields if field[0] != "grpc-timeout"])
            await self._daemon.send_message(call, body, end=True)
            await call.get_head()
            while (untrusted_answer := await call.message()) is not None:
                answer = self._schema.parse(kind, untrusted_answer)
                if enough is None:
                    over = await call.message() is None
                    if not over:
                        break
                    return answer
                if enough(answer):
                    return answer
            told = dict(methods.pass_trailers(call.trailers or call.head or []))
            raise Unavailable(f"the builder does not tell: {unquote(told.get('grpc-message', 'no reason given'))}")
        finally:
            await self._daemon.close(call, over=over)

    async def _begin(self, stream: Stream) -> None:
        if not stream.answered:
            stream.answered = True
            await self._client.send_head(stream, methods.ANSWER_HEAD)
