"""Bring a request's body to the daemon while its answer may already come, and notice who leaves meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Callable

from sockproxy_helpers.audit.recording import Recording
from sockproxy_helpers.builder.buildkit import Mediated
from sockproxy_helpers.channel import wire
from sockproxy_helpers.channel.loop import ERR, HUP, IN, RDHUP, Loop, Want
from sockproxy_helpers.content.deletion import Instead
from sockproxy_helpers.content.scanned import Judge, Last, Scanned
from sockproxy_helpers.errors import Malformed, Unavailable
from sockproxy_helpers.stream.http import Response, request_head
from sockproxy_helpers.stream.relay import Broken, Chunked, Flow, step, wanted
from sockproxy_helpers.stream.splice import Raw
from sockproxy_helpers.stream.tunnel import Gone, shutdown
from sockproxy_helpers.upstream.daemon import RECEIVE, Daemon
from .call import Call

PROMPT = 0.02  # seconds; what is answered sooner needs no watch on the client, which costs 5 us (measured)


class Transfer:
    """Move one request.

    Invariant: `_upload` is the client's body on its way, None when the request has none or it was in the call.
    """

    __slots__ = (
        "_call", "_channel", "_client", "_daemon", "_half_closed", "_loop", "_prompt", "_upload", "begun", "bytes_in",
        "bytes_out", "cut", "instead", "judge", "keep", "last", "left_over", "lingering", "mediated", "note",
        "recording", "sent", "status", "tail",
    )  # fmt: skip

    def __init__(self, loop: Loop, channel: socket.socket, client: socket.socket, daemon: Daemon, call: Call) -> None:
        self._loop, self._channel, self._client, self._daemon, self._call = loop, channel, client, daemon, call
        self._upload: Flow | None = None
        self._half_closed, self._prompt = False, True
        self.cut: Callable[[bytes], bytes] | None = None
        self.mediated: Mediated | None = None
        self.recording: Recording | None = None
        self.status = self.bytes_in = self.bytes_out = 0
        self.sent = self.keep = False
        self.lingering: socket.socket | None = None
        self.judge: Judge | None = None
        self.instead: Instead | None = None
        self.last: Last | None = None
        self.left_over, self.tail, self.note = b"", b"", ""
        self.begun: Callable[[], None] | None = None

    def _request(self, query: list[tuple[str, str]], body: bytes | None, heads: dict[int, bytes]) -> bytes:
        """Form the request.

        Args:
            heads: by the version of HTTP, as they were formed for this call before.
        """
        call, operation = self._call, self.instead.operation if self.instead else self._call.operation
        query = self.instead.query if self.instead else query
        minor = 0 if self.cut or self.instead else 1 if self.judge or self.last else call.minor
        head = heads.get(minor)
        if head is None:
            fields = call.fields(rewritten=self.judge is not None)
            if body is not None:
                fields += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            elif call.upload is None and operation.method in ("POST", "PUT"):
                fields.append(("Content-Length", "0"))
            target = operation.target(call.version, call.variables, query)
            head = request_head(operation.method, target, minor, fields)
            if not operation.acts:
                heads[minor] = head
        return head + (body or b"")

    def _announce(self) -> None:
        """Tell the front that from here on the client gets bytes that are not the front's."""
        self.sent = True
        wire.send(self._channel, wire.pack({"sent": True}), [])

    def _begin_upload(self) -> None:
        call, daemon = self._call, self._daemon.sock
        if call.upload is None or daemon is None:
            return
        try:
            if call.expect and not call.early:
                self._client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self.judge:
                length = call.upload if isinstance(call.upload, int) else None
                self._upload = Scanned(self._client, daemon, call.early, length, self.judge.scan())
            elif isinstance(call.upload, int):
                self._upload = Raw(self._client, daemon, call.early, call.upload)
            else:
                self._upload = Chunked(self._client, daemon, call.early)
        except Broken as error:
            raise Malformed(f"malformed body: {error}") from error
        except OSError as error:
            raise Gone("the client left") from error

    async def _response(self) -> Response:
        """Read the answer's head, while the upload goes on."""
        while (response := self._daemon.take_head(self._call.operation.method)) is None:
            await self._receive()
        if response.status == 101 and self._call.operation.response != "hijack":
            raise Unavailable("the Docker daemon upgraded a connection unasked")
        if self.begun:
            self.begun()
        return response

    async def _receive(self) -> None:
        sock = self._daemon.sock
        assert sock is not None
        if sock.fileno() not in await self._wait([], {sock.fileno(): IN}):
            return
        try:
            data = sock.recv(RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise Unavailable("the Docker daemon closed the connection")
        self._daemon.received += data

    async def _wait(self, flows: list[Flow], more: Want, seconds: float | None = None) -> Want:
        """Wait for the daemon, step the flows and the upload, and watch for client and front to leave."""
        if self.judge and isinstance(self._upload, Scanned) and self._upload.held:
            self._upload.finish(await self.judge.run(self._upload.scan))
        client, channel = self._client.fileno(), self._channel.fileno()
        upload = [self._upload] if self._upload and not self._upload.done else []
        want = wanted(flows + upload)
        for fd, mask in more.items():
            want[fd] = want.get(fd, 0) | mask
        want[channel] = IN  # its end, or a message that has no place here; as between calls: epoll need not be told
        prompt, self._prompt = self._prompt and not (flows or upload), False
        if not prompt:
            want[client] = want.get(client, 0) | (0 if self._half_closed else RDHUP)
        events = await self._loop.wait(want, PROMPT if prompt else seconds)
        if channel in events:
            raise Gone("the front cancelled")
        if events.get(client, 0) & (HUP | ERR):
            raise Gone("the client left")
        self._step_upload(upload, events)
        if events.get(client, 0) & RDHUP:
            self._half_closed = True
        uploading = self._upload and not self._upload.done
        if self._half_closed and self._daemon.sock and not uploading and self._call.operation.response != "hijack":
            # dockerd takes a half-close for a cancellation and ends the answer: leave that to it. Before a stream it
            # is only the end of stdin, which goes behind what the client has sent.
            shutdown(self._daemon.sock)
        step(flows, events)
        return events

    def _step_upload(self, upload: list[Flow], events: Want) -> None:
        try:
            step(upload, events)
        except Broken as error:
            if error.sock is self._client:
                raise Malformed(f"malformed body: {error}") from error
            upload[0].done = True  # the daemon takes no more: it has answered, or is about to

    def _finish(self, response: Response) -> bool:
        """Settle whether the client's connection can go on; tell whether the answer must say that it can't."""
        upload = self._upload
        self.left_over = upload.left_over if upload else self._call.early
        self.keep = not response.close and (upload is None or upload.complete)
        return not self.keep

    def _release(self, left_over: bool) -> None:
        """Keep the daemon's connection for the next call if it is clean."""
        if left_over or not self.keep or self._half_closed:
            self._daemon.close()
        self._daemon.received.clear()
