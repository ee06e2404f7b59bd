"""Carry one approved call to the daemon, and its answer back to the client.

A small, complete answer goes to the front in one message and the front writes it. All else (large answers, streams,
upgrades, uploads) passes between the client's own socket and the daemon's here, and the front is told when it is over.
The client's socket belongs to the helper from the call's message until the last one: the front reads nothing meanwhile.
"""

from __future__ import annotations

from sockproxy_helpers.audit.recording import Recorded
from sockproxy_helpers.channel import wire
from sockproxy_helpers.content.concluded import Concluded
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.stream.chunks import Chunks
from sockproxy_helpers.stream.http import Response
from sockproxy_helpers.stream.relay import Broken, Chunked, Flow
from sockproxy_helpers.stream.splice import Raw
from sockproxy_helpers.stream.tunnel import Gone, pump
from .call import Call
from .pieces import CUT_LIMIT, Pieces
from .transfer import Transfer

INLINE = wire.INLINE - 1024  # what is left of a message for the answer


class Exchange(Transfer):
    """Run one call.

    Attributes:
        status: of the answer; 0 while there is none.
        sent: the client may have got bytes of an answer, so that it can't get another.
        cut: makes of a whole body what the caller may know of it.
        instead: goes on with a whole body.
        note: what the record says besides.
        mediated: carries the upgraded stream in place of the tunnel.
        recording: of what the upgraded stream's daemon says.
        keep: the client's connection can carry a further request.
        left_over: bytes of the client's behind this request.
        tail: of a streamed answer in chunks, for the record.
        last: is awaited before the client gets the end of an answer in chunks, and gives what to add there; it is given
            what the answer told of pushes.
        lingering: the daemon's connection, when the call was broken off and the daemon may not be done with it.
    """

    async def run(
        self, query: list[tuple[str, str]], body: bytes | None, heads: dict[int, bytes] | None = None
    ) -> bytes:
        """Send the request, relay the answer.

        Args:
            query, body: as the model built them.
            heads: see `_request`; None for a call that is made once.

        Returns:
            The whole answer for the front to write; empty when it went to the client's socket.

        Raises:
            Unavailable: the daemon is gone; if `sent`, in the middle of its answer.
            Malformed: the client's upload is.
            Gone: the client is gone.
        """
        await self._daemon.send(self._request(query, body, {} if heads is None else heads))
        del query, body, heads  # a stream may last for days
        try:
            self._begin_upload()
            response = await self._response()
            self.status = response.status
            if response.status == 101 or (response.status == 200 and _raw(response, self._call)):
                head = response.head(self._call.request_id, False)
                del response
                return await self._tunnel(head)
            return await self._answer(response)
        except BaseException:
            if not self.mediated:
                self.lingering = self.lingering or self._daemon.give_up()
            self._daemon.close()
            raise
        finally:
            if self._upload:
                self.bytes_in = self._upload.count
                self._upload.close()

    async def _answer(self, response: Response) -> bytes:
        """Pass an ordinary answer."""
        if self.cut or self.instead:
            return await self._cut_answer(response)
        early, chunks = self._daemon.received, Chunks() if response.chunked else None
        if response.length is not None and response.length <= INLINE:
            while len(early) < response.length:
                await self._receive()
            end, whole = response.length, True
        else:
            end = _feed(chunks, early) if chunks else len(early)
            whole = chunks is not None and chunks.done and end <= INLINE and not self.last
        if not whole:
            return await self._stream(response, bytes(early[:end]), chunks)
        if self.last:
            await self.last(b"")
        answer = response.head(self._call.request_id, self._finish(response)) + early[:end]
        self._release(left_over=len(early) > end)
        self.bytes_out = len(answer)
        return answer

    async def _cut_answer(self, response: Response) -> bytes:
        """Read an answer to its end, and pass what is left or comes of it; an error is passed as it is.

        It was asked for with HTTP/1.0, so that it has no chunks; to the client it is an answer like any other.
        """
        received, shorter = self._daemon.received, 0
        pieces = Pieces(self.cut if self.cut and not self.instead and response.status == 200 else bytes)
        try:
            while pieces.size(received) <= CUT_LIMIT:
                if response.length is not None and shorter + len(received) >= response.length:
                    break
                await self._receive()
                shorter += 0 if self.instead else pieces.take(received)
        except Unavailable:
            if response.length is not None:
                raise
        if pieces.size(received) > CUT_LIMIT:
            raise Unavailable("the Docker daemon's answer is too large to be cut to what is yours")
        body = bytes(received)
        self._daemon.close()
        if self.instead and response.status == 200:
            body, self.note = await self.instead.run(body, lambda seconds: self._wait([], {}, seconds))
        else:
            body = pieces.end(body)
        response.set_length(len(body))
        if len(body) > INLINE:
            return await self._stream(response, body, None)
        answer = response.head(self._call.request_id, self._finish(response)) + body
        self.bytes_out = len(answer)
        return answer

    async def _stream(self, response: Response, early: bytes, chunks: Chunks | None) -> bytes:
        daemon = self._daemon.sock or self._client  # all of it is here already, see `_cut_answer`
        prefix = response.head(self._call.request_id, response.close)
        flow: Flow
        if chunks and self.last:
            flow = Concluded(daemon, self._client, prefix + early, chunks)
        elif chunks:
            flow = Chunked(daemon, self._client, prefix + early, chunks)
        else:
            flow = Raw(daemon, self._client, early, response.length, prefix)
        self._announce()
        try:
            while not flow.done:
                if self.last and isinstance(flow, Concluded) and flow.held:
                    flow.finish(await self.last(flow.told))
                await self._wait([flow], {})
        except Broken as error:
            if error.sock is daemon:
                raise Unavailable(f"the Docker daemon answered malformed HTTP: {error}") from error
            raise Gone("the client left") from error
        finally:
            self.bytes_out = flow.count
            self.tail = flow.tail
            flow.close()
        if not flow.complete:
            raise Unavailable("the Docker daemon broke off its answer")
        self._finish(response)
        self._release(left_over=bool(flow.left_over))
        return b""

    async def _tunnel(self, head: bytes) -> bytes:
        """Pass bytes both ways until both have ended, half-closes included."""
        daemon, client = self._daemon.sock, self._client
        assert daemon is not None
        if self.mediated:
            self._announce()
            await self.mediated.run(self._channel.fileno(), client, self._daemon, head, self._call.early)
            return b""
        up = Raw(client, daemon, self._call.early, None)
        self._call.forget()
        begun = bytes(self._daemon.received)
        down: Flow = Raw(daemon, client, begun, None, head)
        if self.recording:
            down = Recorded(daemon, client, begun, head, self.recording)
        self._announce()
        try:
            await pump(self._loop, self._channel.fileno(), up, down)
        finally:
            self.bytes_in, self.bytes_out = up.count, down.count
            up.close()
            down.close()
            self.lingering = None if down.done else self._daemon.give_up()
            self._daemon.close()
        return b""


def _raw(response: Response, call: Call) -> bool:
    """Tell whether a 200 of a hijack operation is the raw stream: attach and exec without an upgrade."""
    return call.operation.response == "hijack" and response.length is None and not response.chunked


def _feed(chunks: Chunks, data: bytearray) -> int:
    try:
        return chunks.feed(memoryview(bytes(data)))
    except ValueError as error:
        raise Unavailable(f"the Docker daemon answered malformed HTTP: {error}") from error
