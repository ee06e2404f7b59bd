"""Decide on a call and build what may go to the daemon; for a container's configuration, with the sibling helpers.

Every function here raises Refused, Malformed, NotFound or Unavailable when the call may not go on.
"""

from __future__ import annotations

import json
import os
import socket

from . import bridge, counts, model, references, routes, session, strict, tags, uploads, volumes, warn, wire
from .call import Approved, Call
from .caller import Caller
from .context import Context, context_of
from .counts import Turns
from .daemon import Daemon
from .disk import Disk
from .errors import Malformed, NotFound, Unavailable
from .faults import FAULTS, fault, fault_of
from .images import NoImage
from .loop import IN, Lock, Loop
from .objects import PORTS, Objects
from .policy import Decision, Policy
from .references import Resolution
from .shares import Shares
from .staging import Stager
from .statement import Statement

Query = list[tuple[str, str]]
PARTED = "ContainerCreate"  # its body has fields of all scopes; a build asks for the network part of its containers
ASK_SECONDS = 10.0  # for a sibling's answer


class Approval:
    """Approve calls of one scope.

    Attributes:
        ledger: whose the names of images are.
        tags: grants them; None in the helpers that don't.
    """

    def __init__(
        self, scope: str, loop: Loop, environment: dict[str, str], shares: Shares, stager: Stager | None = None
    ) -> None:
        self._scope, self._loop, self._runtime, self._shares = scope, loop, environment["SOCKPROXY_RUNTIME"], shares
        self._objects = Objects()
        self.turns, self._disk = Turns(loop), Disk(loop)
        self._making = Lock(loop)
        self._stager = stager
        self.tags, self.ledger = tags.keep(scope, loop, environment)

    async def call(
        self, call: Call, who: Caller, decision: Decision, client: socket.socket, daemon: Daemon, statement: Statement
    ) -> Approved:
        """Check a call, resolve what it names, and build its variables, query and body anew.

        The intent is on the record when this returns, and before anything is made by the way.
        """
        approved = Approved()
        context = context_of(decision, who, call.operation.name)
        statement.objects = context.found
        body = strict.parse(call.body) if call.body else None
        statement.asked(body)
        try:
            statement.would(decision.why, warn.settle(context, lambda: self._judge(call.query, body, context)))
            if context.operation == PARTED:
                query, body = await self._create(call.query, body, context, client, daemon, statement)
            else:
                if context.operation == "Session":
                    call.session = session.fields(call.headers, who)
                query, body = model.approve(self._scope, context.operation, call.query, body, context)
                resolution = Resolution(self._objects, self.ledger, daemon, context)
                query = await resolution.run(call.variables, query, body)
                references.pin(context.operation, call.variables, body)
                if context.operation == "NetworkCreate":
                    await routes.judge(daemon, context, body)
                await counts.one(daemon, context, body)
                await self._disk.room(daemon, context)
                if self.tags:
                    query = await uploads.prepare(self.tags, context, call, query, resolution.naming.wish, approved)
                await statement.intent()
                if context.operation == "ImageBuild":
                    query = await self._build_network(query, client, who.assertion)
                    parent = await self._shares.place(daemon, context, dict(query).get("cgroupparent", ""))
                    query = _put(query, "cgroupparent", parent)
            statement.sends(query, body)
        except BaseException:
            if self.tags:
                self.tags.release(approved.claim)
            raise
        approved.query = query
        approved.body = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        return approved

    def _judge(self, query: Query, body: object, context: Context) -> None:
        """Judge all fields of a call, those of other scopes too, without any effect."""
        parts = model.split(body) if context.operation == PARTED else {self._scope: body}
        for scope, own in parts.items():
            model.approve(scope, context.operation, query if scope == self._scope else [], own, context)

    async def _create(
        self, query: Query, body: object, context: Context, client: socket.socket, daemon: Daemon, statement: Statement
    ) -> tuple[Query, object]:
        """Check a container's configuration: its network and filesystem parts are the siblings' to approve."""
        self._judge(query, body, context)  # before anything is asked or made: a refusal leaves nothing behind
        parts = model.split(body)
        query, parts[self._scope] = model.approve(self._scope, context.operation, query, parts[self._scope], context)
        query = await self._resolve(daemon, context, query, parts[self._scope])
        own = parts[self._scope]
        named = {key.lower(): own.get(key) for key in ("Image", "User")} if isinstance(own, dict) else {}
        ports = await counts.containers(daemon, context, parts["network"], named.get("image"))
        await statement.intent()  # the network helper may make a bridge, the filesystem helper volumes
        for sibling in ("network", "filesystem"):  # the latter makes volumes: when nothing else can refuse
            part = {"part": context.operation, "body": parts[sibling], "assertion": context.caller.assertion}
            parts[sibling] = await self._ask(sibling, part | named, client)
        merged = model.merge(parts)
        host: dict[str, object] = merged.setdefault("HostConfig", {})  # type: ignore[assignment]
        if ports:
            merged["Labels"][PORTS] = str(ports)  # type: ignore[index]
        await self._shares.log(daemon, host)
        host["CgroupParent"] = await self._shares.place(daemon, context, str(host.get("CgroupParent", "")))
        return query, merged

    async def _resolve(self, daemon: Daemon, context: Context, query: Query, part: object) -> Query:
        """Resolve what a part of a container's configuration names."""
        try:
            return await Resolution(self._objects, self.ledger, daemon, context, PARTED).run({}, query, part)
        except NoImage:
            raise
        except NotFound as error:
            if context.operation != PARTED:
                raise
            raise Malformed(str(error)) from error  # 404 means a missing image: the CLI would pull it and try again

    async def _build_network(self, query: Query, client: socket.socket, assertion: str) -> Query:
        """Have the network helper say what network the steps of a build get, as for a container."""
        body: object = {"HostConfig": {"NetworkMode": dict(query).get("networkmode", "")}}
        approved = await self._ask("network", {"part": "ImageBuild", "body": body, "assertion": assertion}, client)
        return _put(query, "networkmode", approved["HostConfig"]["NetworkMode"])  # type: ignore[index]

    async def _ask(self, sibling: str, part: dict[str, object], client: socket.socket) -> object:
        """Have a sibling approve its part, for the client whose socket it gets."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            channel.connect(f"{self._runtime}/helpers/{sibling}.sock")
            wire.send(channel, wire.pack(part), [client.fileno()])
            reply, _ = wire.unpack(await receive(self._loop, channel))
        except (OSError, wire.WireError) as error:
            raise Unavailable(f"the {sibling} helper is not there") from error
        finally:
            self._loop.close(channel)
        if "body" not in reply:
            raise fault_of(reply)
        return reply["body"]

    async def part(self, header: dict[str, object], who: Caller, policy: Policy, daemon: Daemon) -> dict[str, object]:
        """Answer a sibling that asks for this scope's part of a call. The decision is made again, from the caller.

        What is asked about is part of a container's configuration, also where the call is a build.
        """
        operation = str(header.get("part"))
        try:
            if operation not in (PARTED, "ImageBuild"):
                raise Malformed(f"{operation} has no parts")
            context = context_of(policy.decide(who, operation), who, operation)
            warn.settle(context, lambda: model.approve(self._scope, PARTED, [], header.get("body"), context))
            _, body = model.approve(self._scope, PARTED, [], header.get("body"), context)
            await self._resolve(daemon, context, [], body)
            if self._scope == "network" and isinstance(body, dict):
                await bridge.prepare(self._objects, daemon, context, body, self._making)
                references.pin(PARTED, {}, body)
                if operation == PARTED:
                    await bridge.name(self._objects, daemon, body)
            if self._scope == "filesystem" and isinstance(body, dict):
                image, user = (str(header.get(key) or "") for key in ("image", "user"))
                await self._disk.room(daemon, context)
                async with self.turns.of(who.uid, "VolumeCreate"):
                    await volumes.prepare(daemon, context, body, image)
                    if self._stager:
                        await self._stager.prepare(daemon, context, body, image, user)
        except FAULTS as error:
            return fault(error)
        return {"body": body}


async def receive(loop: Loop, channel: socket.socket) -> bytes:
    """Wait for a message that carries no descriptors; a sibling that hangs is as good as gone."""
    if not await loop.wait({channel.fileno(): IN}, ASK_SECONDS):
        raise TimeoutError
    message, fds = wire.receive(channel)
    for fd in fds:
        os.close(fd)
    return message


def _put(query: Query, name: str, value: str) -> Query:
    """Give a parameter another value; "" leaves it out."""
    return [*(pair for pair in query if pair[0] != name), *([(name, value)] if value else [])]
