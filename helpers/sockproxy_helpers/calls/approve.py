"""Decide on a call and build what may go to the daemon; for a container's configuration, with the sibling helpers.

Every function here raises Refused, Malformed, NotFound or Unavailable when the call may not go on.
"""

from __future__ import annotations

import json
import socket

from sockproxy_helpers.api import strict
from sockproxy_helpers.builder import session
from sockproxy_helpers.channel.loop import Lock, Loop
from sockproxy_helpers.channel.siblings import Siblings
from sockproxy_helpers.content import access, claims, disk, images, references, tags
from sockproxy_helpers.errors import Malformed, NotFound
from sockproxy_helpers.faults import FAULTS, fault
from sockproxy_helpers.folders.staging import Stager
from sockproxy_helpers.judge import model, warn
from sockproxy_helpers.judge.context import Context, context_of
from sockproxy_helpers.judge.policy import Decision, Policy
from sockproxy_helpers.system.caller import Caller
from sockproxy_helpers.totals import bridge, counts, execs, routes
from sockproxy_helpers.totals.shares import Shares
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import Objects, member
from . import prunes, uploads, volumes
from .approved import Approved
from .call import Call
from .statement import Statement

Query = list[tuple[str, str]]
PARTED = "ContainerCreate"  # its body has fields of all scopes; a build asks for the network part of its containers


class Approval:
    """Approve calls of one scope.

    Attributes:
        ledger: whose the names of images are.
        tags: grants them; None in the helpers that don't.
    """

    def __init__(
        self, scope: str, loop: Loop, environment: dict[str, str], shares: Shares, stager: Stager | None = None
    ) -> None:
        self._scope, self._loop, self._shares, self._stager = scope, loop, shares, stager
        self._siblings = Siblings(loop, environment["SOCKPROXY_RUNTIME"])
        self._objects, self._making = Objects(), Lock(loop)
        self.tags, self.ledger = tags.keep(scope, loop, environment)
        self._prunes = prunes.Prunes(loop, environment["SOCKPROXY_DOCKER_SOCKET"], self.ledger)
        self.turns, self._disk = counts.Turns(loop), disk.Disk(loop, self.ledger)

    async def call(
        self, call: Call, who: Caller, decision: Decision, client: socket.socket, daemon: Daemon, statement: Statement
    ) -> Approved:
        """Check a call, resolve what it names, and build its variables, query and body anew.

        The intent is on the record when this returns, and before anything is made by the way.
        """
        approved = Approved()
        context = context_of(decision, who, call.operation.name)
        statement.objects, context.variables = context.found, call.variables
        body = strict.parse(call.body) if call.body else None
        statement.asked(body)
        try:
            statement.would(decision.why, warn.settle(context, lambda: self._judge(call.query, body, context)))
            if context.operation == PARTED:
                query, body = await self._create(call.query, body, context, client, daemon, statement, approved.kept)
            else:
                if context.operation == "Session":
                    call.session = session.fields(call.headers, who)
                query, body = model.approve(self._scope, context.operation, call.query, body, context)
                resolution = references.Resolution(self._objects, self.ledger, daemon, context)
                query = await resolution.run(call.variables, query, body)
                references.pin(context.operation, call.variables, body)
                await routes.judge(daemon, context, body)
                await counts.one(daemon, context, body)
                await execs.room(daemon, context)
                await self._disk.room(daemon, context)
                if self.tags:
                    await volumes.hold(self.tags, daemon, context, call.variables.get("name"), body, approved)
                    query = await uploads.prepare(self.tags, context, call, query, resolution.naming, approved)
                approved.instead = await self._prunes.of(context, query)
                await statement.intent()
                if context.operation == "ImageBuild":
                    mode = await self._siblings.network_of_steps(dict(query), client, who.assertion)
                    parent = await self._shares.place(daemon, context, dict(query).get("cgroupparent", ""))
                    query = _put(_put(query, "networkmode", mode), "cgroupparent", parent)
            sent = approved.instead.query if approved.instead and context.operation == "ImageDelete" else query
            statement.sends(sent, body)
        except BaseException:
            self.release(approved)
            raise
        approved.query = query
        approved.body = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        return approved

    def _judge(self, query: Query, body: object, context: Context) -> None:
        """Judge all fields of a call, those of other scopes too, without any effect."""
        parts = model.split(body) if context.operation == PARTED else {self._scope: body}
        for scope, own in parts.items():
            model.approve(scope, context.operation, query if scope == self._scope else [], own, context)

    def release(self, *held: Approved) -> None:
        """Let go what counted until the daemon was done with a call."""
        for approved in held:
            for channel in approved.kept:
                self._loop.close(channel)
            if self.tags:
                self.tags.release(approved.claim)

    async def _create(
        self,
        query: Query,
        body: object,
        context: Context,
        client: socket.socket,
        daemon: Daemon,
        statement: Statement,
        kept: list[socket.socket],
    ) -> tuple[Query, object]:
        """Check a container's configuration: its network and filesystem parts are the siblings' to approve."""
        self._judge(query, body, context)  # before anything is asked or made: a refusal leaves nothing behind
        parts = model.split(body)
        query, parts[self._scope] = model.approve(self._scope, context.operation, query, parts[self._scope], context)
        query = await self._resolve(daemon, context, query, parts[self._scope])
        named = {key.lower(): member(parts[self._scope], key) for key in ("Image", "User", "Healthcheck")}
        for image in context.found:
            if image.kind == "image":  # from here on it is its ID that counts
                named |= {"image": image.id, "name": image.name}
        counted = await counts.containers(daemon, context, parts["network"], named.get("image"))
        await self._shares.log(daemon, context, parts[self._scope], named.get("image"))
        given = set(access.given(context))
        await statement.intent()  # the network helper may make a bridge, the filesystem helper volumes
        for sibling in ("network", "filesystem"):  # the latter makes volumes: when nothing else can refuse
            part = {"part": context.operation, "body": parts[sibling], "assertion": context.caller.assertion}
            reply = await self._siblings.ask(sibling, part | named, client, kept)
            parts[sibling] = reply["body"]
            given.update(reply["given"])  # type: ignore[arg-type]
        merged = model.merge(parts)
        if named.get("name") and reply.get("still") is not True:
            merged["Image"] = named["image"]  # the name may come to mean another one before the daemon looks
        host: dict[str, object] = merged.setdefault("HostConfig", {})  # type: ignore[assignment]
        merged["Labels"].update(counted)  # type: ignore[attr-defined]
        access.write(context, merged, given)
        host["CgroupParent"] = await self._shares.place(daemon, context, str(host.get("CgroupParent", "")))
        return query, merged

    async def _resolve(self, daemon: Daemon, context: Context, query: Query, part: object) -> Query:
        """Resolve what a part of a container's configuration names."""
        try:
            return await references.Resolution(self._objects, self.ledger, daemon, context, PARTED).run({}, query, part)
        except NotFound as error:
            if isinstance(error, images.NoImage) or context.operation != PARTED:
                raise
            raise Malformed(str(error)) from error  # 404 means a missing image: the CLI would pull it and try again

    async def part(
        self, header: dict[str, object], who: Caller, policy: Policy, daemon: Daemon, held: list[Approved]
    ) -> dict[str, object]:
        """Answer a sibling that asks for this scope's part of a call. The decision is made again, from the caller.

        What is asked about is part of a container's configuration, also where the call is a build.

        Args:
            held: takes what counts until the sibling closes its channel: names of the image and of volumes.
        """
        still, operation = False, str(header.get("part"))
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
            if self.tags and isinstance(body, dict):
                image, user, name = (str(header.get(key) or "") for key in ("image", "user", "name"))
                await self._disk.room(daemon, context)
                held.append(Approved())
                claim = held[-1].claim = claims.Claim(context)
                async with self.turns.of(who.uid, "VolumeCreate"):
                    kept = self.tags.still, claim
                    await volumes.prepare(daemon, context, body, image, kept, header.get("healthcheck"))
                    if self._stager:
                        await self._stager.prepare(daemon, context, body, image, user)
                still = bool(name) and await self.tags.still.keep(claim, name, image)
        except FAULTS as error:
            return fault(error)
        return {"body": body, "still": still, "given": access.given(context)}


def _put(query: Query, name: str, value: str) -> Query:
    """Give a parameter another value; "" leaves it out."""
    return [*(pair for pair in query if pair[0] != name), *([(name, value)] if value else [])]
