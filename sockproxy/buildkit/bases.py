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

from sockproxy.buildkit.helper import Helper
from sockproxy.buildkit.methods import FAULTS
from sockproxy.buildkit.request import Request
from sockproxy.buildkit.schema import Message, Schema
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge import registries
from sockproxy_helpers.upstream.objects import OWNER

_BRIDGE = "/moby.buildkit.v1.frontend.LLBBridge/"
PATH = _BRIDGE + "ResolveImageConfig"
_QUESTION, _ANSWER = "gateway.ResolveImageConfigRequest", "gateway.ResolveImageConfigResponse"
_RESOLVERS = {"docker-image": 0, "oci-layout": 1}  # BuildKit's frontend/gateway: ResolverType
_SOLVE, _FILE = "gateway.SolveRequest", "gateway.StatFileRequest"
Ask = Callable[[str, bytes, str], Awaitable[Message]]  # a method's path, a message, the kind of its answer


def needed(request: Request) -> bool:
    """Tell whether a role's images may come from registries that nobody has chosen."""
    return registries.free(request.context) and not request.context.flag("sees_all")


def images(origins: list[str]) -> list[str]:
    """Choose those of a definition's sources that are images."""
    return [origin for origin in origins if origin.partition("://")[0] in _RESOLVERS]


async def judge(schema: Schema, helper: Helper, request: Request, definitions: list[Message], ask: Ask) -> None:
    """See that none of the images in low-level definitions is somebody else's alone.

    Raises:
        Refused: one is.
        Unavailable: the builder does not tell.
    """
    for definition in definitions:
        for data in getattr(definition, "def"):
            operation = schema.parse("pb.Op", data)
            if operation.source.identifier.partition("://")[0] not in _RESOLVERS or data in request.facts.judged:
                continue
            if "@" in operation.source.identifier:
                await _judge(schema, helper, request, operation, ask)
                request.facts.judged.add(data)
            else:
                await _take(schema, helper, request, operation, ask, data, definition.metadata)


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
    name = operation.source.identifier.partition("://")[2]
    rid = request.facts.builds.get(request.build, "")
    kept = (await helper.ask({"ask": "keep", "name": name, "rid": rid})).get("kept")
    try:
        await _judge(schema, helper, request, operation, ask)
        await _have(schema, data, metadata, ask)
    except BaseException:
        with trio.CancelScope(shield=True), contextlib.suppress(*FAULTS):
            await helper.ask({"ask": "kept", "kept": kept})
        raise
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
    solved = await ask(_BRIDGE + "Solve", solve.SerializeToString(), "gateway.SolveResponse")
    file.Ref, file.Path = solved.result.ref.id, "/"
    await ask(_BRIDGE + "StatFile", file.SerializeToString(), "gateway.StatFileResponse")


async def _judge(schema: Schema, helper: Helper, request: Request, operation: Message, ask: Ask) -> None:
    scheme, _, name = operation.source.identifier.partition("://")
    attrs, question = operation.source.attrs, schema.new(_QUESTION)
    question.Ref, question.ResolverType = name, _RESOLVERS[scheme]
    question.ResolveMode = attrs.get("image.resolvemode", "default")
    question.LogName = f"[internal] load metadata for {name.partition('@')[0]}"  # as the frontend says it itself
    if operation.HasField("platform"):
        question.Platform.CopyFrom(operation.platform)
    question.SessionID, question.StoreID = attrs.get("oci.session", ""), attrs.get("oci.store", "")
    found = await ask(PATH, question.SerializeToString(), _ANSWER)
    if found.Digest and "@" not in name:  # it is not here, so another may be there when it is fetched
        request.context.path = "SolveRequest"
        why = f"has to name {name} by its digest: {name}@{found.Digest}"
        raise request.context.refusal(why, at="")
    await helper.ask({"ask": "base", "name": name, "config": _told(found.Config)})


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
