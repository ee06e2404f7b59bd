"""Find the daemon's objects and their owners.

Invariant: an owner is read from the object that an ID names, never from a name: names can be given to something else
between two requests, IDs can't. So what `find` returned may be remembered under the ID, and the ID is what is sent on.
"""

from __future__ import annotations

import json
import os
import re

from sockproxy_helpers.api.operations import quote
from sockproxy_helpers.errors import Malformed, NotFound, Unavailable
from .daemon import Daemon
from .marks import OWNER as OWNER  # with the other labels
from .marks import given_of, mark_of

PORTS, EXPOSED = "io.sockproxy.ports", "io.sockproxy.exposed"  # labels of containers: how many, running or not
BRIDGE = "io.sockproxy.bridge"  # a label of each user's own bridge: the user's name
SHARED_NETWORKS = ("bridge", "host", "none")  # what the daemon makes by itself; who may use the host's is a rule
# Objects, of half a KiB each: the only bound of that memory, since nobody tells of most that are removed. The first
# found is forgotten first; to find an object again is one question to the daemon.
REMEMBERED = 2_000
LETTERS = 255  # of what an answer tells for the record
ID = re.compile(r"[0-9a-f]{64}")
SHORT_ID = re.compile(r"[0-9a-f]{12}")  # as lists show it
_UID = re.compile(r"0|[1-9][0-9]{0,9}")

# kind: where the daemon tells about one, and where its ID and labels are in the answer
_PATHS = {
    "container": "/containers/{}/json",
    "exec": "/exec/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}
_LISTS = {"container": "/containers/json?all=1&filters=", "network": "/networks?filters="}
# what a record says besides, and where the answer has it: of a container its image, of an exec its container
_MORE: dict[str, dict[str, tuple[str, ...]]] = {
    "container": {"image": ("Config", "Image"), "image_id": ("Image",)},
    "exec": {"container": ("ContainerID",)},
}
_IDS = {"container": "Id", "exec": "ID", "network": "Id", "volume": "Name"}


class Ambiguous(Unavailable):
    """Report that the daemon did not say what a reference means: more than one object, most often."""


class Object:
    """Hold what is known of an object.

    Attributes:
        owner: uid; None when no label tells.
        given: the uids of others whose things a container was given.
        shared: all may use it.
        more: what a record says of it besides, by tables of the kind: _MORE, and an image's digest.
        tty: a container has a terminal.
    """

    __slots__ = ("given", "id", "kind", "more", "name", "owner", "shared", "tty")

    def __init__(
        self, kind: str, identity: str, name: str, owner: int | None, shared: bool, more: dict[str, str] | None = None
    ) -> None:
        self.kind, self.id, self.name, self.owner, self.shared = kind, identity, name, owner, shared
        self.more, self.tty, self.given = more or {}, False, frozenset[int]()

    def record(self) -> dict[str, object]:
        """Form what a record says of it."""
        return {"kind": self.kind, "id": self.id, "name": self.name, "owner": self.owner, **self.more}


class Objects:
    """Look objects up, for all channels of a helper."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Object] = {}
        self._missing: dict[str, str] = {}

    async def find(self, daemon: Daemon, kind: str, reference: str) -> Object:
        """Find the object that the daemon means by a reference.

        Args:
            kind: container, exec, network or volume.
            reference: an ID, a name, or the beginning of an ID; of the grammar NAME.

        Raises:
            NotFound: there is none; the daemon's words.
            Ambiguous: there may be several.
            Unavailable: the daemon can't tell.
        """
        known = self._known.get((kind, reference))
        if known:
            return known
        found = await self._ask(daemon, kind, reference)
        owner, given = owner_of(found), frozenset[int]()
        if kind == "container":
            given = given_of(found)
            owner = owner if mark_of(found, owner) else None  # the label is its image's: a step of a build
        if kind == "exec":
            try:
                container = await self.find(daemon, "container", str(found.get("ContainerID")))
                owner, given = container.owner, container.given
            except NotFound as error:  # removed meanwhile
                raise await self.missing(daemon, kind, reference) from error
        identity = found.get(_IDS[kind])
        if not isinstance(identity, str):
            raise Unavailable("the Docker daemon told of an object without an ID")
        name = str(found.get("Name", "")).removeprefix("/")
        shared = kind == "network" and name in SHARED_NETWORKS and owner is None
        item = Object(kind, identity, name, owner, shared, _more(kind, found))
        item.tty, item.given = member(found, "Config", "Tty") is True, given
        if kind != "volume" and ID.fullmatch(identity):  # volumes have names only: one can come to mean another
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[kind, identity] = item
        return item

    async def find_own(self, daemon: Daemon, kind: str, reference: str, uid: int) -> Object | None:
        """Find what a name or the beginning of an ID means among one user's objects alone.

        Raises:
            Malformed: several; without naming them.
        """
        if kind not in _LISTS:
            return None
        filters = json.dumps({"label": [f"{OWNER}={uid}"]})
        status, items = parse(*await daemon.request("GET", _LISTS[kind] + quote(filters)))
        if status != 200 or not isinstance(items, list):
            raise Unavailable("the Docker daemon lists nothing")
        own = [item for item in items if isinstance(item, dict)]
        named = [item for item in own if item.get("Name") == reference or f"/{reference}" in (item.get("Names") or [])]
        found = named or [item for item in own if str(item.get("Id")).startswith(reference)]
        if len(found) > 1:
            raise Malformed(f"{reference} is ambiguous: several of your {kind}s are called so, or their IDs begin so")
        # Asked again by its ID: a list does not tell all that shows the owner.
        item = await self.find(daemon, kind, str(found[0].get("Id"))) if found else None
        return item if item and item.owner == uid else None

    async def _ask(self, daemon: Daemon, kind: str, reference: str) -> dict[str, object]:
        status, answer = parse(*await daemon.request("GET", _PATHS[kind].format(quote(reference))))
        if not isinstance(answer, dict):
            raise Unavailable("the Docker daemon answered no JSON object")
        if status == 200:
            return answer
        message = str(answer.get("message"))
        raise NotFound(message) if status == 404 else Ambiguous(f"the Docker daemon: {message}")

    async def missing(self, daemon: Daemon, kind: str, reference: str) -> NotFound:
        """Form the daemon's own answer for what does not exist, for what the caller may not see.

        The words are learnt from a name that nothing has, so that they are this engine's to the letter.
        """
        if kind not in self._missing:
            nothing = os.urandom(32).hex()
            try:
                await self._ask(daemon, kind, nothing)
            except NotFound as error:
                self._missing[kind] = str(error).replace("{", "{{").replace("}", "}}").replace(nothing, "{}")
        return NotFound(self._missing.get(kind, "not found").format(reference))


def parse(status: int, body: bytes) -> tuple[int, object]:
    """Read the daemon's answer to a question of our own.

    Raises:
        Unavailable: it is no JSON.
    """
    try:
        return status, json.loads(body)
    except ValueError as error:
        raise Unavailable("the Docker daemon answered malformed JSON") from error


def member(found: object, *keys: str) -> object:
    """Give what is below some keys of an answer; None where it has them not."""
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _more(kind: str, found: dict[str, object]) -> dict[str, str]:
    told = {name: member(found, *keys) for name, keys in _MORE.get(kind, {}).items()}
    return {name: value[:LETTERS] for name, value in told.items() if isinstance(value, str) and value}


def owner_of(found: dict[str, object]) -> int | None:
    """Read the owner's uid from what the daemon tells of an object; None when no label tells."""
    uid = labels_of(found).get(OWNER)
    return int(uid) if isinstance(uid, str) and _UID.fullmatch(uid) else None


def labels_of(found: dict[str, object]) -> dict[str, object]:
    """Read the labels in what the daemon tells of an object."""
    config = found.get("Config")
    labels = config.get("Labels") if isinstance(config, dict) else found.get("Labels")
    return labels if isinstance(labels, dict) else {}
