"""Find the IDs with which a container's process runs, as the daemon will: in its image's /etc/passwd and /etc/group.

The Engine tells no file of an image. So a container is made of it, read from, and removed; it is never started.

SECURITY: the two files are whatever the image's maker wrote. What is read here says only which of the container's IDs
is its owner on disk, and that owner may name any of them anyhow (`--user N`). It is bounded, and no link is followed.
"""

from __future__ import annotations

import json
import os
import re

from sockproxy_helpers.api.operations import quote
from sockproxy_helpers.content.tar import Scan
from sockproxy_helpers.errors import Malformed, Unavailable
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import OWNER, parse

READER = "sockproxy-reads-"  # begins the name of a container that is read from
LARGEST = 1 << 20  # of an archive with one of the files
REMEMBERED = 1000
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_ROOT = ("", "0", "root", "0:0", "root:root")
_SPACE = "\t\n\v\f\r \x85\xa0"  # Go's; what else it takes for such has no entry of a user's at its side
_PASSWD, _GROUP = "passwd", "group"


class ImageUsers:
    """Look users up; what an image has does not change, so it is remembered under the image's ID."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], list[int]] = {}

    async def ids(self, daemon: Daemon, image: str, user: str) -> list[int]:
        """Give uid and gid.

        Args:
            image: the name or ID of an image that the caller may use.
            user: whom the request names; "" for the image's own.

        Returns:
            Root's for a user who is not there: the daemon will not start that container.
        """
        if user in _ROOT[1:] or _is_pair(user):
            return numbers(user, "", "")
        status, found = parse(*await daemon.request("GET", f"/images/{quote(image, '/:@')}/json"))
        if status != 200 or not isinstance(found, dict):
            return [0, 0]  # removed meanwhile: there will be no container
        config = found.get("Config")
        user = user or (str(config.get("User") or "") if isinstance(config, dict) else "")
        if user in _ROOT or _is_pair(user):
            return numbers(user, "", "")
        key = str(found.get("Id")), user
        if key not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = numbers(user, *await _read(daemon, key[0], ":" in user))
        return self._known[key]


def _is_pair(user: str) -> bool:
    uid, colon, gid = user.partition(":")
    return bool(colon and _NUMBER.fullmatch(uid) and _NUMBER.fullmatch(gid))


def numbers(user: str, passwd: str, group: str) -> list[int]:
    """Read a USER as the daemon does (moby/sys/user, GetExecUser): a name goes before the same number."""
    name, _, wanted = user.partition(":")
    entry = _entry(name, passwd)
    uid = int(entry[2]) if entry else _number(name)
    gid = int(entry[3]) if entry and len(entry) > 3 and _NUMBER.fullmatch(entry[3]) else 0
    if wanted:
        entry = _entry(wanted, group)
        gid = int(entry[2]) if entry else _number(wanted)
    return [uid, gid]


def _entry(word: str, text: str) -> list[str] | None:
    for line in text.split("\n"):  # as the daemon ends lines, not as Python does
        fields = line.strip(_SPACE).split(":")
        if len(fields) > 2 and _NUMBER.fullmatch(fields[2]) and word in (fields[0], fields[2]):
            return fields
    return None


def _number(word: str) -> int:
    return int(word) if _NUMBER.fullmatch(word) else 0


async def _read(daemon: Daemon, image: str, groups: bool) -> tuple[str, str]:
    """Read the two files of an image; "" for one that is not there, or is no file."""
    wish = {"Image": image, "Cmd": ["-"], "Labels": {OWNER: ""}, "HostConfig": {"NetworkMode": "none"}}
    target = f"/containers/create?name={READER}{os.urandom(16).hex()}"
    status, found = parse(*await daemon.request("POST", target, json.dumps(wish).encode()))
    if status != 201 or not isinstance(found, dict):
        raise Unavailable("the Docker daemon makes no container to look up the image's user in")
    container = quote(str(found.get("Id")))
    try:
        return await _file(daemon, container, _PASSWD), await _file(daemon, container, _GROUP) if groups else ""
    finally:
        await daemon.request("DELETE", f"/containers/{container}?force=1&v=1")


async def _file(daemon: Daemon, container: str, name: str) -> str:
    status, archive = await daemon.request("GET", f"/containers/{container}/archive?path=/etc/{name}", most=LARGEST)
    if status != 200:
        return ""
    scan = Scan((name,))
    try:
        scan.feed(archive)
    except Malformed:
        return ""
    return scan.found[name].content.decode("utf-8", "replace") if name in scan.found else ""
