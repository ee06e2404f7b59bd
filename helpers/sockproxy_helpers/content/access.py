"""Tell what a caller may do with an object; of a container also by whose things it was given.

A container may be given what is of who shares with its owner. Who shares is asked again whenever it is used; what runs
then is stopped by `mates`. So nothing may be added to what its mark says (see `marks`).
"""

from __future__ import annotations

from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.marks import GIVEN, mark
from sockproxy_helpers.upstream.objects import Object


def sees(ctx: Context, item: Object, access: str) -> bool:
    """Tell whether the caller may know of an object, and do with it what `access` stands for."""
    if item.shared and (access == "use" or (access == "join" and item.name == "bridge" and ctx.flag("default_bridge"))):
        return True
    return ctx.sees(item.owner) or (access == "remove" and ctx.caller.uid in item.given)


def judge(ctx: Context, item: Object, access: str) -> Object:
    """Give back an object that the caller sees and may use so.

    Raises:
        Refused: it is the owner's to change, or a container has what is of somebody who shares with the caller no more.
    """
    if access in ("mine", "remove") and ctx.sees(item.owner) and not ctx.owns(item.owner):
        why = f"may use the {item.kind} {item.name}, not remove or change it (its owner, uid {item.owner}, may)"
        raise ctx.refusal(why, "share")
    strangers = [uid for uid in sorted(item.given) if not ctx.sees(uid)]
    if strangers and access not in ("end", "remove"):
        has = f"may not use the container {item.name or item.more.get('container')}, which was given what is uid"
        rest = "who shares nothing with you now (allowed: inspect, stop and remove it, and make another)"
        raise ctx.refusal(f"{has} {strangers[0]}'s, {rest}", "share")
    return item


def given(ctx: Context) -> list[int]:
    """List the uids of others whose things a container is being given, of what was found for it."""
    return [] if ctx.flag("sees_all") else sorted(others(ctx.found, ctx.caller.uid))


def others(found: list[Object], uid: int) -> set[int]:
    """Tell whose things objects are, and have, besides one person's."""
    owners = {owner for item in found if item.kind != "image" for owner in (item.owner, *item.given)}
    return {owner for owner in owners if owner not in (None, uid)}


def write(ctx: Context, config: dict[str, object], whose: set[int]) -> None:
    """Write on a container's configuration, merged and approved, whose things it is given."""
    if whose:
        config["HostConfig"]["ContainerIDFile"] = mark(ctx.caller.uid, sorted(whose))  # type: ignore[index]
        config["Labels"][GIVEN] = ",".join(map(str, sorted(whose)))  # type: ignore[index]


def judge_connection(ctx: Context) -> None:
    """Let a container be connected to networks of those alone whose things it was given when it was made.

    Raises:
        Refused: it would have what its mark does not tell.
    """
    network, *containers = ctx.found
    for item in containers:
        if not (ctx.flag("sees_all") or network.shared or network.owner in (item.owner, *item.given)):
            why = f"may not connect the container {item.name} to the network {network.name} of uid {network.owner}"
            raise ctx.refusal(f"{why} (allowed: give it that when it is made: docker run --network)", "share")
