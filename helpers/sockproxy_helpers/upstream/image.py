"""Read what an image says of its containers."""

from __future__ import annotations

from collections.abc import Iterable

from sockproxy_helpers.api.operations import REFERENCE, quote
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed, NotFound
from .daemon import Daemon
from .objects import member, parse
from .pulls import INDEXES, items_of


async def config_of(daemon: Daemon, image: str) -> dict[str, object]:
    """Give an image's configuration; of an index, for whichever platform a container may be, what all have of it.

    Raises:
        NotFound: there is no such image. A create must end here: by the time that the daemon looks there may be one.
    """
    if not REFERENCE.fullmatch(image):
        raise Malformed(f"Image: {show(image)} is not the name of an image")
    status, found = parse(*await daemon.request("GET", f"/images/{quote(image, '/:@')}/json"))
    if status != 200:
        message = str(member(found, "message"))  # engine 20 puts the name before it once more; a create's does not
        raise NotFound(message[max(0, message.find("No such image")) :])
    items = [found] if member(found, "Descriptor", "mediaType") not in INDEXES else await items_of(daemon, image)
    configs = [config for item in items if isinstance(config := member(item, "Config"), dict)]
    return _all_of(configs) if len(configs) > 1 else {**configs[0]} if configs else {}


def _all_of(configs: list[dict[str, object]]) -> dict[str, object]:
    """Put together what is counted and bounded: maps, the environment, and of health checks the most frequent."""
    whole = dict(configs[0])
    for key in ("Volumes", "ExposedPorts", "Labels"):
        whole[key] = {name: item for config in configs for name, item in _map(config.get(key)).items()}
    whole["Env"] = [item for config in configs if isinstance(env := config.get("Env"), list) for item in env]
    checks = [
        check for config in configs if (check := _map(config.get("Healthcheck"))).get("Test", ["NONE"]) != ["NONE"]
    ]
    if checks:
        often = {key: _least(check.get(key) for check in checks) for key in ("Interval", "StartInterval")}
        whole["Healthcheck"] = {**checks[0], **often}
    return whole


def _least(values: Iterable[object]) -> int:
    return min((value for value in values if isinstance(value, int) and value), default=0)


def _map(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
