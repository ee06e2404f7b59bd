"""What is fuzzed: one function a target, each from any bytes to nothing, or to an AssertionError.

The invariant stands first in each function's docstring. An exception that is not caught there is a finding, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h11
import trio
from google.protobuf.message import DecodeError

from sockproxy.api.route import route
from sockproxy.audit import writer
from sockproxy.audit.chain import RESERVED
from sockproxy.auth import desk
from sockproxy.buildkit.http2 import Side
from sockproxy.buildkit.judge import judge as judge_message
from sockproxy.buildkit.request import Facts, Request
from sockproxy.buildkit.schema import Schema
from sockproxy.buildkit.stream import ProtocolError, Reset, Stream
from sockproxy.errors import ConfigError, RequestError
from sockproxy.http import body as http_body
from sockproxy.http.head import find_end, parse
from sockproxy.policy.compile import compile_text, dump
from sockproxy_helpers.api import strict
from sockproxy_helpers.calls.call import Call
from sockproxy_helpers.channel import wire
from sockproxy_helpers.content import dockerfile
from sockproxy_helpers.content.tar import Scan
from sockproxy_helpers.errors import Malformed, NotFound, Refused
from sockproxy_helpers.folders.plugin import Requests
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.stream.chunks import Chunks
from sockproxy_helpers.stream.http import Response
from tests.buildkit.mediated import facts as mediated_facts
from tests.fuzz import ledgers, lending
from tests.support.judging import OPERATIONS, judge

KIT = Schema()
CORPUS = Path(__file__).resolve().parents[1] / "corpus"
SEEDS = Path(__file__).resolve().parent / "seeds"


def head(data: bytes) -> None:
    """A head that we take is, to h11 alone, the same request; slowly sent it is the same, too."""
    try:
        end = find_end(data)
        if end is None:
            return
        parsed = parse(data[:end])
    except RequestError:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data[:end])
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    path, _, query = request.target.partition(b"?")
    assert (parsed.method.encode(), parsed.untrusted_path, parsed.untrusted_query) == (request.method, path, query)
    assert [(name.encode(), value.encode()) for name, value in parsed.headers] == list(request.headers)
    assert [find_end(data[:size]) for size in range(end)] == [None] * end


def chunks(data: bytes) -> None:
    """Where a chunked body ends does not depend on its pieces, and h11 finds the same end."""

    def feed(pieces: list[bytes]) -> tuple[int, bool] | None:
        scanner, taken = Chunks(), 0
        try:
            for piece in pieces:
                taken += scanner.feed(memoryview(piece))
        except ValueError:
            return None
        return taken, scanner.done

    whole = feed([data])
    assert feed([data[at : at + 1] for at in range(len(data))]) == whole
    if whole is None or not whole[1]:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    while not isinstance(connection.next_event(), h11.EndOfMessage):
        pass
    assert len(data) - len(connection.trailing_data[0]) == whole[0]


def content(data: bytes) -> None:
    """What is read of a chunked body does not depend on its pieces."""

    def feed(pieces: list[bytes]) -> tuple[bytes, bool, bytes] | None:
        reader = http_body.Chunked(4096)
        try:
            return b"".join([reader.feed(piece) for piece in pieces]), reader.done, bytes(reader.leftover)
        except RequestError:
            return None

    assert feed([data]) == feed([data[at : at + 1] for at in range(len(data))])


def target(data: bytes) -> None:
    """A path is one row of the table or none, and its canonical form is that row's; a query is text or refused."""
    method, _, rest = data.partition(b" ")
    path, _, query = rest.partition(b"?")
    try:
        match = route(method.decode("latin-1"), path)
        pairs = http_body.parse_query(query)
    except RequestError:
        return
    assert all(key.isprintable() for key, _ in pairs)
    if match.operation.method != "OPTIONS":
        again = route(match.operation.method, match.operation.target(match.version, match.variables, []).encode())
        assert (again.operation, again.version, again.variables) == match


def message(data: bytes) -> None:
    """A message to a helper is a call of its table, or breaks the framing."""
    try:
        untrusted_header, payload = wire.unpack(data)
        call = Call(untrusted_header, payload, OPERATIONS)
    except wire.WireError:
        return
    assert call.operation.name in OPERATIONS
    call.operation.target(call.version, call.variables, call.query)


def body(data: bytes) -> None:
    """A body that the model takes is sent as JSON that says the same to every reader, and is taken again."""
    name, _, text = data.partition(b"\n")
    operation = OPERATIONS.get(name.decode("latin-1"))
    if operation is None:
        return
    try:
        _, built = judge(operation.name, strict.parse(text))
    except (Refused, Malformed, NotFound):
        return
    sent = json.dumps(built).encode()
    assert strict.parse(sent) == built
    assert b"Privileged" not in sent or b'"Privileged": true' not in sent


def response(data: bytes) -> None:
    """A head of the daemon's is passed on as one head, with one framing."""
    try:
        parsed = Response(data.decode("latin-1"), "GET")
    except ValueError:
        return
    formed = parsed.head("0" * 16, close=False)
    assert formed.count(b"\r\n\r\n") == 1
    assert formed.endswith(b"\r\n\r\n")
    lower = formed.lower()
    assert lower.count(b"\r\ncontent-length:") + lower.count(b"\r\ntransfer-encoding:") <= 1


def plugin(data: bytes) -> None:
    """What the volume plugin is asked does not depend on its pieces, and is an object for a method."""

    def feed(pieces: list[bytes]) -> list[tuple[str, dict[str, object]]]:
        requests, found = Requests(), []
        try:
            for piece in pieces:
                requests.feed(piece)
                while request := requests.next():
                    found.append(request)
        except Malformed:
            found.append(("", {}))
        return found

    found = feed([data])
    assert feed([data[at : at + 1] for at in range(len(data))]) == found
    assert all(method.replace(".", "").isalpha() for method, _ in found if method)


def policy(data: bytes) -> None:
    """A policy file compiles to what the helpers load, or its error points into it."""
    try:
        text = dump(compile_text(data, "p.yaml"))
    except ConfigError as error:
        words = str(error)
    else:
        Policy(text)
        return
    assert words.startswith("p.yaml:")
    assert words.isprintable()


def compiled(data: bytes) -> None:
    """A compiled policy is in its exact shape, or refused."""
    try:
        Policy(data)
    except Refused:
        return


def solve(data: bytes) -> None:
    """A BuildKit solve that passes has no field without a row, names the caller's builds and sessions, and is owned."""
    facts = Facts(mediated_facts())
    try:
        asked = KIT.parse("control.SolveRequest", data)
        judge_message(KIT, "control.SolveRequest", asked, Request(facts))
    except (DecodeError, Refused, Malformed, NotFound):
        return
    sent = KIT.parse("control.SolveRequest", asked.SerializeToString())
    judge_unknown(sent)
    assert all(name == "" or name.startswith("u1000-") for name in (sent.Ref, sent.Session))
    settings = sent.FrontendAttrs
    assert settings["label:io.sockproxy.owner"] == "1000"
    assert settings["build-arg:BUILDKIT_CACHE_MOUNT_NS"] == settings["hostname"] == "sockproxy-1000"
    assert all(text.startswith("u1000-") for key, text in settings.items() if key.startswith("local-sessionid:"))
    assert sent.Frontend in ("", "dockerfile.v0")
    for definition in (sent.Definition, *sent.FrontendInputs.values()):
        judge_definition(definition)
    assert not sent.HasField("SourcePolicy")
    assert not sent.Entitlements
    assert settings["cmdline"] == "sockproxy"
    assert settings.get("force-network-mode") != "host"


def frames(data: bytes) -> None:
    """What a client's HTTP/2 says does not depend on its pieces; what is no HTTP/2 is the client's own fault."""
    whole = trio.run(_read, [data])
    if whole is not None:
        assert trio.run(_read, [data[at : at + 7] for at in range(0, len(data), 7)]) == whole


async def _read(pieces: list[bytes]) -> list[object] | None:
    """Read a connection to its end; give each stream's head and messages, or None where it breaks the protocol."""
    streams: list[Stream] = []
    side = Side(_Pieces(pieces), streams.append)  # type: ignore[arg-type]
    await side.start()
    try:
        await side.run(b"")
    except ProtocolError:
        return None
    found: list[object] = []
    for stream in streams:
        assert stream.broken
        found.append(stream.head)
        try:
            while (one := await stream.message()) is not None:
                found.append(one)
        except (ProtocolError, Reset) as error:
            found.append(type(error))
    return found


class _Pieces:
    """Be a socket that gives what it has, and takes everything."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = iter(pieces)

    async def recv(self, size: int) -> bytes:
        """Give the next piece."""
        await trio.lowlevel.checkpoint()
        return next(self._pieces, b"")

    async def send(self, data: bytes) -> int:
        """Take all."""
        await trio.lowlevel.checkpoint()
        return len(data)


def judge_definition(definition: Any) -> None:
    """Operations build on what stands before them, and steps are the user's own, without rights."""
    known: set[str] = set()
    for data in getattr(definition, "def"):
        operation = KIT.parse("pb.Op", data)
        judge_unknown(operation)
        assert {item.digest for item in operation.inputs} <= known
        known.add("sha256:" + hashlib.sha256(data).hexdigest())
        step = operation.exec
        assert (step.security, step.network in (0, 2), len(step.cdiDevices)) == (0, True, 0)
        assert step.meta.hostname == "sockproxy-1000" or not step.HasField("meta")
        assert not step.meta.cgroupParent
        assert all(one.cacheOpt.ID.startswith("sockproxy-1000/") for one in step.mounts if one.mountType == 3)
        assert operation.source.identifier.partition("://")[0] in ("", "docker-image", "local", "oci-layout", "http")
        assert not operation.HasField("build")
    assert {*definition.metadata, *definition.Source.locations} <= known


def record(data: bytes) -> None:
    """What the audit writer takes is an object that can be written again, and nothing that only the writer may say."""
    try:
        taken = writer.check(data)
    except (ValueError, RecursionError):
        return
    assert not RESERVED & taken.keys()
    assert taken.get("ev") not in writer.OWN
    line = json.dumps(taken, allow_nan=False)
    assert "\n" not in line
    assert json.loads(line) == taken


def credential(data: bytes) -> None:
    """An Authorization header is a token, or a user and a password of a form that PAM may see, or nobody's."""
    found = desk.read(data.decode("latin-1"))
    if found is None or found.token or not found.user:
        return
    assert found.user.isprintable()
    assert "\0" not in found.user + found.password
    assert len(found.password.encode()) < desk.LONGEST


def image_names(data: bytes) -> None:
    """A Dockerfile that is taken names images where it is said to, one behind the other."""
    end = 0
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = dockerfile.references(text, {"A": "a", "B": "$A"})
    except Malformed:
        return
    for one in found:
        assert end <= one.first < one.last <= len(text)
        end = one.last
        assert "$" not in one.text or not one.base


def archive(data: bytes) -> None:
    """What of an archive is passed on does not depend on its pieces, and is a beginning of it."""

    def feed(size: int) -> tuple[bytes, dict[str, bytes], bool] | None:
        scan, passed = Scan(("a", "manifest.json")), b""
        try:
            for at in range(0, len(data), size):
                passed += scan.feed(data[at : at + size])
        except Malformed:
            return None
        return passed, {name: member.content for name, member in scan.found.items()}, scan.ended

    whole = feed(len(data) or 1)
    assert feed(100) == whole
    assert whole is None or data.startswith(whole[0])


def judge_unknown(message: Any) -> None:
    """A message without unknown fields is the same without them."""
    before = message.SerializeToString()
    message.DiscardUnknownFields()
    assert message.SerializeToString() == before


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        head,
        chunks,
        content,
        target,
        message,
        body,
        response,
        plugin,
        policy,
        compiled,
        solve,
        record,
        credential,
        image_names,
        archive,
        frames,
        lending.lending,
        lending.repeated,
        lending.ending,
        ledgers.names,
        ledgers.uids,
        ledgers.tokens,
    )
}


def seeds(name: str) -> list[bytes]:
    """Give the inputs to begin with: the target's files in `seeds`, and for bodies what real clients sent."""
    found = [path.read_bytes() for path in sorted((SEEDS / name).iterdir())]
    if name == "body":
        recorded = [item for path in sorted(CORPUS.glob("*.json")) for item in json.loads(path.read_text())]
        found += [f"{item['operation']}\n{json.dumps(item['body'])}".encode() for item in recorded if item["body"]]
    return found
