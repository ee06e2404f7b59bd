"""See whose the images are that a build is from, before any of it runs.

BuildKit pulls by itself, into a store that all share, and fetches nothing of what that has. So a manifest in a registry
of one's own, or a layout in a folder, need only name the config of another's image by its digest, which the log of a
build tells, and a build has all of that image. What a frontend answers has the whole build in it, each image by the
digest of its manifest, and nothing of it has run yet. It is held back here until BuildKit has told each image's config,
and the root helper whose that is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from sockproxy.buildkit.helper import Helper
from sockproxy.buildkit.request import Request
from sockproxy.buildkit.schema import Message, Schema
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge import registries
from sockproxy_helpers.upstream.objects import OWNER

PATH = "/moby.buildkit.v1.frontend.LLBBridge/ResolveImageConfig"
_QUESTION, _ANSWER = "gateway.ResolveImageConfigRequest", "gateway.ResolveImageConfigResponse"
_RESOLVERS = {"docker-image": 0, "oci-layout": 1}  # BuildKit's frontend/gateway: ResolverType
Ask = Callable[[str, bytes, str], Awaitable[Message]]  # a method's path, a message, the kind of its answer


def needed(request: Request) -> bool:
    """Tell whether a role's images may come from registries that nobody has chosen."""
    return registries.free(request.context) and not request.context.flag("sees_all")


def images(origins: list[str]) -> list[str]:
    """Choose those of a definition's sources that are images."""
    return [origin for origin in origins if origin.partition("://")[0] in _RESOLVERS]


async def judge(schema: Schema, helper: Helper, request: Request, answer: Message, ask: Ask) -> None:
    """See that none of the images in a frontend's answer is somebody else's alone.

    Raises:
        Refused: one is.
        Unavailable: the builder does not tell.
    """
    for operation in _operations(schema, answer):
        key = operation.SerializeToString(deterministic=True)
        if operation.source.identifier.partition("://")[0] in _RESOLVERS and key not in request.facts.judged:
            await _judge(schema, helper, request, operation, ask)
            request.facts.judged.add(key)


def _operations(schema: Schema, answer: Message) -> Iterator[Message]:
    result = answer.result
    if answer.ref or result.refDeprecated or result.refsDeprecated.refs:
        raise Unavailable("what is built can't be told from this kind of result: update the client")
    given = [result.ref, *result.refs.refs.values()]
    given += [one.ref for many in result.attestations.values() for one in many.attestation]
    for ref in given:
        definition = getattr(getattr(ref, "def"), "def")
        if ref.id and not definition:
            raise Unavailable("the builder does not tell what it is going to build")
        for data in definition:
            yield schema.parse("pb.Op", data)


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
