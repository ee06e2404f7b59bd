"""Speak HTTP/2 on one socket: to a client as a server, to the daemon as a client.

What the peer may make us hold is bounded: a message by stream.LARGEST, a stream's unread bytes by its window, the
number of streams by STREAMS, a head by h2 itself; what it does not read stays with whoever sends it, since nothing is
acknowledged before somebody wants it.
"""

from __future__ import annotations

from collections.abc import Callable

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio

from sockproxy.buildkit.stream import PREFIX, Headers, ProtocolError, Reset, Stream

STREAMS = 64  # open at once; buildx needs about four
HEAD = 65536  # bytes of a client's head, uncompressed
DAEMONS_HEAD = 1 << 20  # of the daemon's: an error comes in one, with the whole Dockerfile
WINDOW, CONNECTION_WINDOW = 1 << 20, 64 << 20  # bytes: the latter is no less than all streams' together
RECEIVE = 65536


class Side:
    """Be one end of an HTTP/2 connection.

    Args:
        opened: told of each stream that the peer opens (only where the peer is a client).
    """

    def __init__(self, sock: trio.socket.SocketType, opened: Callable[[Stream], None] | None = None) -> None:
        self._client = opened is None
        config = h2.config.H2Configuration(client_side=self._client, header_encoding="utf-8")
        self._h2, self._sock, self._opened = h2.connection.H2Connection(config), sock, opened
        self._streams: dict[int, Stream] = {}
        self._out = bytearray()  # what h2 has given out and the socket has not taken
        self._writing = trio.Lock()
        self._room = trio.Event()  # somewhere a window has grown
        self.bytes_in = self.bytes_out = 0

    async def start(self) -> None:
        """Say hello."""
        codes = h2.settings.SettingCodes
        head = DAEMONS_HEAD if self._client else HEAD
        values = {codes.INITIAL_WINDOW_SIZE: WINDOW, codes.MAX_HEADER_LIST_SIZE: head}
        values |= {codes.ENABLE_PUSH: 0} if self._client else {codes.MAX_CONCURRENT_STREAMS: STREAMS}
        self._h2.local_settings = h2.settings.Settings(client=self._client, initial_values=values)
        self._h2.decoder.max_header_list_size = head  # else it would hold for settings that are changed later only
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - 65535)
        await self._flush()

    async def run(self, early: bytes) -> None:
        """Read until the peer closes.

        Raises:
            ProtocolError: it breaks the protocol.
        """
        data = early
        try:
            while True:
                if data:
                    self.bytes_in += len(data)
                    for event in self._h2.receive_data(data):
                        self._take(event)
                    await self._flush()
                data = await self._sock.recv(RECEIVE)
                if not data:
                    break
        except (h2.exceptions.ProtocolError, UnicodeDecodeError) as error:  # h2 lets the latter be: a header of no text
            with trio.move_on_after(1):
                await self._flush()  # the GOAWAY that says why
            raise ProtocolError(str(error) or type(error).__name__) from error
        except (Reset, OSError):
            pass  # it is gone
        finally:
            for stream in list(self._streams.values()):
                stream.reset()

    def _take(self, event: h2.events.Event) -> None:
        number = getattr(event, "stream_id", None)
        stream = self._streams.get(number or 0)
        if isinstance(event, h2.events.RequestReceived):
            assert number is not None
            stream = self._streams[number] = Stream(self.acknowledge, number)
            stream.head = _text(event.headers)
            assert self._opened is not None
            self._opened(stream)
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            self._grown()
        elif stream is None:
            if isinstance(event, h2.events.DataReceived) and number is not None:  # of a stream that was broken off
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, number)
        elif isinstance(event, h2.events.ResponseReceived):
            stream.head = _text(event.headers)
            stream.change()
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = _text(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            padding = (event.flow_controlled_length or 0) - len(event.data or b"")
            if padding:
                self._h2.acknowledge_received_data(padding, stream.number)
            stream.feed(event.data or b"")
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
            stream.change()
        elif isinstance(event, h2.events.StreamReset):
            stream.reset()

    def open(self) -> Stream:
        """Begin a stream of ours."""
        number = self._h2.get_next_available_stream_id()
        stream = self._streams[number] = Stream(self.acknowledge, number)
        return stream

    async def send_head(self, stream: Stream, headers: Headers, *, end: bool = False) -> None:
        """Send a head, or trailers.

        Raises:
            Reset: the stream is over.
        """
        self._do(lambda: self._h2.send_headers(stream.number, headers, end_stream=end))
        await self._flush()

    async def send_message(self, stream: Stream, message: bytes, *, end: bool = False) -> None:
        """Send a message, as fast as the peer takes it.

        Raises:
            Reset: the stream is over.
        """
        view = memoryview(PREFIX.pack(0, len(message)) + message)
        while view:
            if stream.broken:
                raise Reset
            size = min(self._window(stream.number), self._h2.max_outbound_frame_size, len(view))
            if size <= 0:
                room = self._room
                await room.wait()
                continue
            part, view = bytes(view[:size]), view[size:]
            self._do(lambda part=part, last=not view: self._h2.send_data(stream.number, part, end_stream=end and last))  # type: ignore[misc]
            await self._flush()

    def _window(self, number: int) -> int:
        try:
            return self._h2.local_flow_control_window(number)
        except h2.exceptions.ProtocolError as error:
            raise Reset from error

    async def acknowledge(self, number: int, length: int) -> None:
        """Let the peer send so many bytes more."""
        try:
            if length:
                self._h2.acknowledge_received_data(length, number)
        except h2.exceptions.ProtocolError:
            pass  # the stream is closed; the connection's window has got it
        try:
            await self._flush()
        except Reset:
            pass  # who reads will notice

    async def close(self, stream: Stream, *, over: bool) -> None:
        """Forget a stream, and break it off where it is not over. What it held no longer fills the connection."""
        self._streams.pop(stream.number, None)
        if not over:
            try:
                self._h2.reset_stream(stream.number, h2.errors.ErrorCodes.CANCEL)
            except h2.exceptions.ProtocolError:
                pass  # by its peer, already
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            await self.acknowledge(stream.number, stream.discard())

    def _grown(self) -> None:
        self._room.set()
        self._room = trio.Event()

    def _do(self, action: Callable[[], object]) -> None:
        try:
            action()
        except h2.exceptions.ProtocolError as error:
            raise Reset from error

    async def _flush(self) -> None:
        """Send all that h2 has to say. A task that is cancelled meanwhile leaves the rest to the next one's turn."""
        async with self._writing:
            while data := bytes(self._out) or self._h2.data_to_send(1 << 18):
                self._out[:] = data
                try:
                    sent = await self._sock.send(data)
                except (OSError, trio.ClosedResourceError) as error:
                    raise Reset from error
                del self._out[:sent]
                self.bytes_out += sent


def _text(headers: object) -> Headers:
    return [(str(name), str(value)) for name, value in headers]  # type: ignore[attr-defined]
