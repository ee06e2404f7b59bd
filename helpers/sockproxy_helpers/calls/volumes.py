"""Make the volumes that a container's configuration names or implies, so that each has an owner from its first moment.

The daemon would make them itself, without labels: nobody's.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from sockproxy_helpers.api.operations import quote
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.content.claims import Claim
from sockproxy_helpers.content.still import Still
from sockproxy_helpers.content.tags import Tags
from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.judge import bounds
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.judge.rules import clean
from sockproxy_helpers.judge.walk import is_zero
from sockproxy_helpers.totals import counts
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.image import config_of
from sockproxy_helpers.upstream.objects import OWNER, Object, owner_of, parse
from .approved import Approved

Part = dict[str, object]
Kept = tuple[Still, Claim]


async def prepare(daemon: Daemon, ctx: Context, part: Part, image: str, kept: Kept, health: object = None) -> None:
    """Make named volumes, and turn anonymous ones into mounts that carry the owner's label.

    Args:
        part: the filesystem part of a ContainerCreate, approved and resolved; changed in place.
        image: whose VOLUMEs the daemon will make, too, and whose HEALTHCHECK it will run.
        kept: has names of volumes mean the same until the daemon is done with the container, and for whom.
        health: what the container has of its own of the latter.

    Raises:
        Refused: a volume of that name is somebody else's, or they would be too many; or the image has a volume that
            would be nobody's, or a health check that is run too often.
        NotFound: there is no such image. The create must end here: by the time that the daemon looks there may be one,
            and it would mount what was not checked.
    """
    config = await config_of(daemon, image)
    bounds.inherited_health(config.get("Healthcheck"), health, ctx)
    implied = set(config.get("Volumes") or {})  # type: ignore[call-overload]
    odd = sorted(path for path in implied if not path.startswith("/"))
    if odd and not ctx.flag("sees_all"):  # no mount can take its place: the daemon makes it, and it is nobody's
        raise Refused("", f"the image's volume {show(odd[0])} is no absolute path (allowed: one from /)")
    host = part.setdefault("HostConfig", {})
    assert isinstance(host, dict)
    binds, mounts = [str(bind).split(":") for bind in host.get("Binds") or []], host.get("Mounts") or []
    wishes = [
        {"Name": bind[0], "Driver": host.get("VolumeDriver", "")}
        for bind in binds
        if len(bind) > 1 and not bind[0].startswith("/")
    ]
    own = [mount for mount in mounts if mount.get("Type") == "volume"]
    for mount in own:
        wish = {"Name": mount.get("Source"), **_label(mount, ctx)}
        wishes += [wish] if wish["Name"] else []
    taken = {bind[1] for bind in binds if len(bind) > 1} | {str(mount.get("Target")) for mount in mounts}
    taken |= set(host.get("Tmpfs") or {})
    for container in host.get("VolumesFrom") or []:
        taken |= await _destinations(daemon, str(container).partition(":")[0])
    wanted = {bind[0] for bind in binds if len(bind) == 1} | set(part.get("Volumes") or {}) | implied  # type: ignore[call-overload]
    made: list[Part] = [{"Type": "volume", "Target": target} for target in sorted(_clean(wanted) - _clean(taken))]
    anonymous = len(made) + sum(not mount.get("Source") for mount in own)
    await counts.volumes(daemon, ctx, {str(wish["Name"]) for wish in wishes}, anonymous)
    for name in sorted({str(wish["Name"]) for wish in wishes}):
        await _judge(daemon, name, ctx.sees)  # what is another's is not to be kept from its owner
        await kept[0].keep_volume(kept[1], name)
    for wish in wishes:
        await _make(daemon, ctx, wish)
    for mount in made:
        _label(mount, ctx)
    host["Binds"] = [":".join(bind) for bind in binds if len(bind) > 1]
    host["Mounts"] = [*mounts, *made]
    part["HostConfig"] = {key: value for key, value in host.items() if not is_zero(value)}


def _clean(paths: set[str]) -> set[str]:
    """Bring paths into one spelling, as the daemon compares them."""
    return {"/" + "/".join(clean(path)) for path in paths if path.startswith("/")}


def _label(mount: dict[str, object], ctx: Context) -> Part:
    """Label a mount's volume; return what else it is to be made with."""
    options = mount.setdefault("VolumeOptions", {})
    assert isinstance(options, dict)
    options["Labels"] = {**(options.get("Labels") or {}), OWNER: str(ctx.caller.uid)}
    driver = options.get("DriverConfig") or {}
    return {"Labels": options["Labels"], "Driver": driver.get("Name", ""), "DriverOpts": driver.get("Options") or {}}


async def hold(tags: Tags, daemon: Daemon, ctx: Context, removed: str | None, body: object, approved: Approved) -> None:
    """Have the name of a volume that is made or removed mean the same until the daemon is done with the call.

    Raises:
        Refused: it has come to be somebody else's meanwhile.
    """
    made = body.get("Name") if ctx.operation == "VolumeCreate" and isinstance(body, dict) else None
    name = removed if ctx.operation == "VolumeDelete" else made
    if name:
        approved.claim = Claim(ctx)
        await tags.still.keep_volume(approved.claim, str(name), alone=name == removed)
        await _judge(daemon, str(name), ctx.owns if name == removed else ctx.sees)


async def _judge(daemon: Daemon, name: str, may: Callable[[int | None], bool]) -> None:
    status, answer = await daemon.request("GET", f"/volumes/{quote(name)}")
    if status == 200:
        _see(name, owner_of(_parse(answer)), may)


def _see(name: str, owner: int | None, may: Callable[[int | None], bool]) -> None:
    if not may(owner):
        raise Refused("", f"the volume name {name} is taken: choose another")


async def _make(daemon: Daemon, ctx: Context, wish: Part) -> None:
    """Make a volume, or find the caller's own: the daemon gives back an old one of the same name, labels and all."""
    labels = wish.get("Labels", {})
    assert isinstance(labels, dict)
    wish = {**wish, "Labels": {**labels, OWNER: str(ctx.caller.uid)}}
    status, answer = await daemon.request("POST", "/volumes/create", json.dumps(wish).encode())
    volume = _parse(answer)
    if status != 201:
        raise Malformed(f"volume {wish['Name']}: {volume.get('message')}")
    item = Object("volume", name := str(wish["Name"]), name, owner_of(volume), shared=False)
    _see(name, item.owner, ctx.sees)
    ctx.found.append(item)


async def _destinations(daemon: Daemon, container: str) -> set[str]:
    """List where a container has its mounts."""
    status, answer = await daemon.request("GET", f"/containers/{quote(container)}/json")
    mounts = _parse(answer).get("Mounts") if status == 200 else None
    return {str(mount.get("Destination")) for mount in mounts} if isinstance(mounts, list) else set()


def _parse(answer: bytes) -> dict[str, object]:
    _, value = parse(0, answer)
    return value if isinstance(value, dict) else {}
