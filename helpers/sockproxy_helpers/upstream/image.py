"""Read what an image says of its containers."""

from __future__ import annotations

from sockproxy_helpers.api.operations import REFERENCE, quote
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed, NotFound
from .daemon import Daemon
from .objects import member, parse


async def config_of(daemon: Daemon, image: str) -> dict[str, object]:
    """Give an image's configuration.

    Raises:
        NotFound: there is no such image. A create must end here: by the time that the daemon looks there may be one.
    """
    if not REFERENCE.fullmatch(image):
        raise Malformed(f"Image: {show(image)} is not the name of an image")
    status, found = parse(*await daemon.request("GET", f"/images/{quote(image, '/:@')}/json"))
    if status != 200:
        message = str(member(found, "message"))  # engine 20 puts the name before it once more; a create's does not
        raise NotFound(message[max(0, message.find("No such image")) :])
    config = member(found, "Config")
    return config if isinstance(config, dict) else {}
