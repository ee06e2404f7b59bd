"""Make the volumes that a container's configuration names or implies, so that each has an owner from its first moment.

The daemon would make them itself, without labels: nobody's.
"""

from __future__ import annotations

import json

from sockproxy_helpers.api.operations import quote
from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.judge import bounds
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.judge.rules import clean
from sockproxy_helpers.judge.walk import is_zero
from sockproxy_helpers.totals import counts
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.image import config_of
from sockproxy_helpers.upstream.objects import OWNER, Object, owner_of, parse

Part = dict[str, object]


async def prepare(daemon: Daemon, ctx: Context, part: Part, image: str, health: object = None) -> None:
    """Make named volumes, and turn anonymous ones into mounts that carry the owner's label.

    Args:
        part: the filesystem part of a ContainerCreate, approved and resolved; changed in place.
        image: whose VOLUMEs the daemon will make, too, and whose HEALTHCHECK it will run.
        health: what the container has of its own of the latter.

    Raises:
        Refused: a volume of that name is somebody else's, or they would be too many; or the image's health check is run
            too often.
        NotFound: there is no such image. The create must end here: by the time that the daemon looks there may be one,
            and it would mount what was not checked.
    """
    config = await config_of(daemon, image)
    bounds.inherited_health(config.get("Healthcheck"), health, ctx)
    implied = set(config.get("Volumes") or {})  # type: ignore[call-overload]
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
    for wish in wishes:
        await _make(daemon, ctx, wish)
    for mount in made:
        _label(mount, ctx)
    host["Binds"] = [":".join(bind) for bind in binds if len(bind) > 1]
    host["Mounts"] = [*mounts, *made]
    part["HostConfig"] = {key: value for key, value in host.items() if not is_zero(value)}


def _clean(paths: set[str]) -> set[str]:
    """Bring paths into one spelling, as the daemon compares them; an image's relative ones can't be mounts."""
    return {"/" + "/".join(clean(path)) for path in paths if path.startswith("/")}


def _label(mount: dict[str, object], ctx: Context) -> Part:
    """Label a mount's volume; return what else it is to be made with."""
    options = mount.setdefault("VolumeOptions", {})
    assert isinstance(options, dict)
    options["Labels"] = {**(options.get("Labels") or {}), OWNER: str(ctx.caller.uid)}
    driver = options.get("DriverConfig") or {}
    return {"Labels": options["Labels"], "Driver": driver.get("Name", ""), "DriverOpts": driver.get("Options") or {}}


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
    if not ctx.sees(item.owner):
        raise Refused("", f"the volume name {name} is taken: choose another")
    ctx.found.append(item)


async def _destinations(daemon: Daemon, container: str) -> set[str]:
    """List where a container has its mounts."""
    status, answer = await daemon.request("GET", f"/containers/{quote(container)}/json")
    mounts = _parse(answer).get("Mounts") if status == 200 else None
    return {str(mount.get("Destination")) for mount in mounts} if isinstance(mounts, list) else set()


def _parse(answer: bytes) -> dict[str, object]:
    _, value = parse(0, answer)
    return value if isinstance(value, dict) else {}
