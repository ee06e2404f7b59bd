"""See whose the images are that a build is from, before any of it runs.

BuildKit pulls by itself, into a store that all share, and fetches nothing of what that has. So a manifest in a registry
of one's own, or a layout in a folder, need only name the config of another's image by its digest, which the log of a
build tells, and a build has all of that image. What a frontend answers has the whole build in it, each image by the
digest of its manifest, and nothing of it has run yet. It is held back here until BuildKit has told each image's config,
and the root helper whose that is. What a frontend is given is judged before that: it reads its Dockerfile from there.

The classic store has images without such a digest, by their names alone, which BuildKit looks up again when it takes
the image; and it asks the registry when a name is not there any more. So it takes such an image at once, while nobody
can set the name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from sockproxy.buildkit import loads
from sockproxy.buildkit.helper import Helper
from sockproxy.buildkit.methods import FAULTS
from sockproxy.buildkit.request import Request
from sockproxy.buildkit.schema import Message, Schema
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge import registries
from sockproxy_helpers.upstream.objects import OWNER

BRIDGE = "/moby.buildkit.v1.frontend.LLBBridge/"
_QUESTION, _ANSWER = "gateway.ResolveImageConfigRequest", "gateway.ResolveImageConfigResponse"
_RESOLVERS = {"docker-image": 0, "oci-layout": 1}  # BuildKit's frontend/gateway: ResolverType
_SOLVE, _FILE = "gateway.SolveRequest", "gateway.StatFileRequest"
# A method's path, a message, the kind of its answer; of many answers, when it is enough.
Ask = Callable[..., Awaitable[Message]]


def needed(request: Request) -> bool:
    """Tell whether a role's images may come from registries that nobody has chosen."""
    return registries.free(request.context) and not request.context.flag("sees_all")


def images(origins: list[str]) -> list[str]:
    """Choose those of a definition's sources that are images."""
    return [origin for origin in origins if origin.partition("://")[0] in _RESOLVERS]


async def judge(schema: Schema, helper: Helper, request: Request, definitions: list[Message], ask: Ask) -> set[str]:
    """See that none of the images in low-level definitions is somebody else's alone.

    Returns:
        By which vertices they have been looked up.

    Raises:
        Refused: one is.
        Unavailable: the builder does not tell.
    """
    found: set[str] = set()
    for definition in definitions:
        for data in getattr(definition, "def"):
            operation = schema.parse("pb.Op", data)
            scheme, _, name = operation.source.identifier.partition("://")
            if scheme not in _RESOLVERS:
                continue
            if "@" not in name:
                await _take(schema, helper, request, operation, ask, data, definition.metadata)
            elif data not in request.facts.judged:
                await _judge(schema, helper, request, operation, ask)
                request.facts.judged.add(data)
            for spelled in {name, name.partition("@")[0]}:
                found |= loads.vertices(spelled, loads.written(operation.platform))
    return found


def answered(answer: Message) -> list[Message]:
    """List the low-level definitions in a frontend's answer.

    Raises:
        Unavailable: it has a result without one.
    """
    result = answer.result
    if answer.ref or result.refDeprecated or result.refsDeprecated.refs:
        raise Unavailable("what is built can't be told from this kind of result: update the client")
    given = [result.ref, *result.refs.refs.values()]
    given += [one.ref for many in result.attestations.values() for one in many.attestation]
    if any(ref.id and not getattr(getattr(ref, "def"), "def") for ref in given):
        raise Unavailable("the builder does not tell what it is going to build")
    return [getattr(ref, "def") for ref in given]


async def _take(
    schema: Schema, helper: Helper, request: Request, operation: Message, ask: Ask, data: bytes, metadata: Any
) -> None:
    """Judge an image that only its name tells, and have BuildKit take it while it is that."""
    kept = await keep(helper, request, operation.source.identifier.partition("://")[2])
    try:
        await _judge(schema, helper, request, operation, ask)
        await _have(schema, data, metadata, ask)
    except BaseException:
        with trio.CancelScope(shield=True), contextlib.suppress(*FAULTS):
            await let_go(helper, kept)
        raise
    await let_go(helper, kept)


async def keep(helper: Helper, request: Request, name: str) -> str:
    """Have nobody set the name of an image; give what to call this by."""
    rid = request.facts.builds.get(request.build, "")
    return str((await helper.ask({"ask": "keep", "name": name, "rid": rid})).get("kept"))


async def let_go(helper: Helper, kept: str) -> None:
    """Let it be set again.

    Raises:
        Refused: it does not mean what it did.
    """
    await helper.ask({"ask": "kept", "kept": kept})


async def _have(schema: Schema, data: bytes, metadata: Any, ask: Ask) -> None:
    """Have a source looked up and taken: what it is does not change any more in this build."""
    solve, file, name = schema.new(_SOLVE), schema.new(_FILE), f"sha256:{hashlib.sha256(data).hexdigest()}"
    result = schema.new("pb.Op")
    result.inputs.add().digest = name
    getattr(solve.Definition, "def").extend([data, result.SerializeToString(deterministic=True)])
    if name in metadata:  # whether it is asked for anew is part of what it is
        solve.Definition.metadata[name].CopyFrom(metadata[name])
    solve.allowResultReturn = solve.allowResultArrayRef = True
    solved = await ask(BRIDGE + "Solve", solve.SerializeToString(), "gateway.SolveResponse")
    file.Ref, file.Path = solved.result.ref.id, "/"
    await ask(BRIDGE + "StatFile", file.SerializeToString(), "gateway.StatFileResponse")


async def _judge(schema: Schema, helper: Helper, request: Request, operation: Message, ask: Ask) -> None:
    scheme, _, name = operation.source.identifier.partition("://")
    attrs, asked = operation.source.attrs, question(schema, scheme, name)
    asked.ResolveMode = attrs.get("image.resolvemode", "default")
    if operation.HasField("platform"):
        asked.Platform.CopyFrom(operation.platform)
    asked.SessionID, asked.StoreID = attrs.get("oci.session", ""), attrs.get("oci.store", "")
    digest = await look(schema, helper, asked, ask)
    if digest and "@" not in name:  # it is not here, so another may be there when it is fetched
        request.context.path = "SolveRequest"
        raise request.context.refusal(f"has to name {name} by its digest: {name}@{digest}", at="")


def question(schema: Schema, scheme: str, name: str) -> Message:
    """Form the question for an image's config."""
    asked = schema.new(_QUESTION)
    asked.Ref, asked.ResolverType = name, _RESOLVERS[scheme]
    asked.LogName = f"[internal] load metadata for {name}"  # as the frontend says it itself, and loads.py reads it
    return asked


async def look(schema: Schema, helper: Helper, asked: Message, ask: Ask) -> str:
    """See whose an image is; give its digest, "" for one that is here in the classic store.

    Raises:
        Refused: somebody else's alone.
        Unavailable: the builder does not tell.
    """
    found = await ask(BRIDGE + "ResolveImageConfig", asked.SerializeToString(), _ANSWER)
    await helper.ask({"ask": "base", "name": asked.Ref, "config": _told(found.Config)})
    return str(found.Digest)


def _told(untrusted_config: bytes) -> dict[str, Any]:
    """Choose of a config what an image is known again by."""
    try:
        found = json.loads(untrusted_config)
        labels = (found.get("config") or {}).get("Labels") or {}
        layers = (found.get("rootfs") or {}).get("diff_ids") or []
        created = str(found.get("created") or "")
        identity = f"sha256:{hashlib.sha256(untrusted_config).hexdigest()}"
        owner = str(labels.get(OWNER, ""))
        return {"id": identity, "owner": owner, "layers": [str(one) for one in layers], "created": created}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise Unavailable("the builder tells no image's config") from error
