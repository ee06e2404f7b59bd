"""Make the volumes that a container's configuration names or implies, so that each has an owner from its first moment.

The daemon would make them itself, without labels: nobody's.
"""

from __future__ import annotations

import json

from .context import Context
from .daemon import Daemon
from .errors import Malformed, Refused, Unavailable
from .objects import OWNER, owner_of
from .operations import REFERENCE, quote
from .walk import is_zero

Part = dict[str, object]


async def prepare(daemon: Daemon, ctx: Context, part: Part, image: str) -> None:
    """Make named volumes, and turn anonymous ones into mounts that carry the owner's label.

    Args:
        part: the filesystem part of a ContainerCreate, approved and resolved; changed in place.
        image: whose VOLUMEs the daemon will make, too.

    Raises:
        Refused: a volume of that name is somebody else's.
    """
    host = part.setdefault("HostConfig", {})
    assert isinstance(host, dict)
    binds, mounts = [str(bind).split(":") for bind in host.get("Binds") or []], host.get("Mounts") or []
    for bind in binds:
        if len(bind) > 1 and not bind[0].startswith("/"):
            await _make(daemon, ctx, bind[0], {})
    for mount in mounts:
        if mount.get("Type") == "volume":
            labels = _label(mount, ctx)
            if mount.get("Source"):
                await _make(daemon, ctx, mount["Source"], labels)
    taken = {bind[min(1, len(bind) - 1)] for bind in binds if len(bind) > 1}
    taken |= {str(mount.get("Target")) for mount in mounts} | set(host.get("Tmpfs") or {})
    for container in host.get("VolumesFrom") or []:
        taken |= await _destinations(daemon, str(container).partition(":")[0])
    wanted = {bind[0] for bind in binds if len(bind) == 1} | set(part.get("Volumes") or {})  # type: ignore[call-overload]
    wanted |= await _image_volumes(daemon, image)
    made = [{"Type": "volume", "Target": target} for target in sorted(wanted - taken)]
    for mount in made:
        _label(mount, ctx)
    host["Binds"] = [":".join(bind) for bind in binds if len(bind) > 1]
    host["Mounts"] = [*mounts, *made]
    part["HostConfig"] = {key: value for key, value in host.items() if not is_zero(value)}


def _label(mount: dict[str, object], ctx: Context) -> dict[str, str]:
    options = mount.setdefault("VolumeOptions", {})
    assert isinstance(options, dict)
    labels: dict[str, str] = {**(options.get("Labels") or {}), OWNER: str(ctx.caller.uid)}
    options["Labels"] = labels
    return labels


async def _make(daemon: Daemon, ctx: Context, name: str, labels: dict[str, str]) -> None:
    """Make a volume, or find the caller's own: the daemon gives back an old one of the same name, labels and all."""
    wish = {"Name": name, "Labels": {**labels, OWNER: str(ctx.caller.uid)}}
    status, answer = await daemon.request("POST", "/volumes/create", json.dumps(wish).encode())
    volume = _parse(answer)
    if status != 201:
        raise Malformed(f"volume {name}: {volume.get('message')}")
    if owner_of(volume) != ctx.caller.uid and not ctx.flag("sees_all"):
        raise Refused("", f"the volume name {name} is taken: choose another")


async def _image_volumes(daemon: Daemon, image: str) -> set[str]:
    """List the VOLUMEs of an image; of one that is not there, the create itself will tell."""
    if not REFERENCE.fullmatch(image):
        return set()
    status, answer = await daemon.request("GET", f"/images/{quote(image, '/:@')}/json")
    config = _parse(answer).get("Config") if status == 200 else None
    return set(config.get("Volumes") or {}) if isinstance(config, dict) else set()


async def _destinations(daemon: Daemon, container: str) -> set[str]:
    """List where a container has its mounts."""
    status, answer = await daemon.request("GET", f"/containers/{quote(container)}/json")
    mounts = _parse(answer).get("Mounts") if status == 200 else None
    return {str(mount.get("Destination")) for mount in mounts} if isinstance(mounts, list) else set()


def _parse(answer: bytes) -> dict[str, object]:
    try:
        value = json.loads(answer)
    except ValueError as error:
        raise Unavailable("the Docker daemon answered malformed JSON") from error
    return value if isinstance(value, dict) else {}
