"""A daemon that answers the helpers' own questions from a list of objects, and takes notes of what it was asked."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from sockproxy_helpers.upstream.objects import OWNER

KIM, LEE = 1000, 1001  # KIM is the caller of tests.support.judging
T = TypeVar("T")
WORDS = {
    "containers": "No such container: {}",
    "exec": "No such exec instance: {}",
    "networks": "network {} not found",
    "volumes": "get {}: no such volume",
    "images": "No such image: {}",
}


def identity(number: int) -> str:
    """Form an ID that tells its number, and begins with it."""
    return f"{number:x}".ljust(64, "f")


def finish(part: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing."""
    try:
        part.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


class Asked:
    """Stand in for `daemon.Daemon`.

    Attributes:
        asked: method and path of each question.
        made: the bodies of volumes to create.
    """

    def __init__(self) -> None:
        self._objects: dict[str, list[dict[str, Any]]] = {kind: [] for kind in WORDS}
        self.asked: list[str] = []
        self.made: list[dict[str, Any]] = []
        self.info: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}  # archives, by the path in a container

    def container(self, number: int, name: str, owner: int | None, mark: int | None = None, **more: Any) -> str:
        """Add a container; `mark` is whose its HostConfig says it is, the owner's by default."""
        mark = owner if mark is None else mark
        host = {"ContainerIDFile": "" if mark is None else f"{OWNER}={mark}"}
        config = {"Labels": _labels(owner)}
        item = {"Id": identity(number), "Name": "/" + name, "Names": ["/" + name], "Config": config, **config}
        return self._add("containers", {**item, "HostConfig": host, **more})

    def exec(self, number: int, container: str) -> str:
        """Add an exec of a container."""
        return self._add("exec", {"ID": identity(number), "Id": identity(number), "ContainerID": container})

    def network(self, number: int, name: str, owner: int | None) -> str:
        """Add a network."""
        return self._add("networks", {"Id": identity(number), "Name": name, "Labels": _labels(owner)})

    def volume(self, name: str, owner: int | None, **labels: str) -> str:
        """Add a volume."""
        return self._add("volumes", {"Id": name, "Name": name, "Labels": {**_labels(owner), **labels}})

    def image(self, name: str, *volumes: str, user: str = "", **more: Any) -> str:
        """Add an image with VOLUMEs and a USER."""
        config = {"Volumes": {key: {} for key in volumes}, "User": user, **more}
        return self._add("images", {"Id": name, "Config": config})

    def remove(self, kind: str, identity: str) -> None:
        """Remove an object."""
        self._objects[kind] = [item for item in self._objects[kind] if item["Id"] != identity]

    def _add(self, kind: str, item: dict[str, Any]) -> str:
        self._objects[kind].append(item)
        return str(item["Id"])

    async def request(self, method: str, target: str, body: bytes = b"", most: int | None = None) -> tuple[int, bytes]:
        """Answer as an Engine does."""
        url = urlsplit(target)
        self.asked.append(f"{method} {url.path}")
        if url.path.endswith("/archive"):
            archive = self.files.get(parse_qs(url.query)["path"][0])
            return (404, b"{}") if archive is None else (200, archive)
        status, answer = self._answer(method, url.path, parse_qs(url.query), body)
        return status, json.dumps(answer).encode()

    def _answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, object]:
        kind, _, rest = path[1:].partition("/")
        if path == "/info":
            return 200, self.info
        if path == "/containers/create":
            return 201, {"Id": self.container(len(self._objects["containers"]), "read", None)}
        if method == "DELETE":
            self.remove(kind, rest)
            return 204, None
        if method == "POST":
            wish = json.loads(body)
            self.made.append(wish)
            for item in self._objects["volumes"]:
                if item["Name"] == wish["Name"]:
                    return 201, item
            return 201, {"Name": wish["Name"], "Labels": wish["Labels"]}
        if "filters" in query:
            (label,) = json.loads(query["filters"][0])["label"]
            return 200, [item for item in self._objects[kind] if label in _pairs(item["Labels"])]
        return self._find(kind, unquote(rest.removesuffix("/json")))

    def _find(self, kind: str, reference: str) -> tuple[int, object]:
        items = self._objects[kind]
        full = [item for item in items if item["Id"] == reference]
        named = [item for item in items if str(item.get("Name", "")).removeprefix("/") == reference]
        begun = [item for item in items if item["Id"].startswith(reference) and kind in ("containers", "networks")]
        for found in (full, named, begun):
            if len(found) == 1:
                return 200, found[0]
            if found:
                return 400, {"message": f"Multiple IDs found with provided prefix: {reference}"}
        return 404, {"message": WORDS[kind].format(reference)}


def _labels(owner: int | None) -> dict[str, str]:
    return {} if owner is None else {OWNER: str(owner)}


def _pairs(labels: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in labels.items()]
