"""What an image says of its containers: of an index, what all its platforms say."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from sockproxy_helpers.upstream.image import config_of
from sockproxy_helpers.upstream.pulls import INDEXES
from tests.helpers.asked import finish


class Daemon:
    """A daemon with one image; of an index, what it has by the platform's name, the first one where none is named."""

    def __init__(self, kind: str, **configs: dict[str, Any]) -> None:
        self._kind, self._configs = kind, configs

    async def request(self, method: str, target: str) -> tuple[int, bytes]:
        _, _, asked = unquote(target).partition("?platform=")
        name = json.loads(asked)["architecture"] if asked else next(iter(self._configs))
        listed = [
            {"ID": one, "Kind": "image", "Available": True, "ImageData": {"Platform": {"architecture": one}}}
            for one in self._configs
        ]
        told = {"Id": name, "Config": self._configs[name], "Descriptor": {"mediaType": self._kind}}
        return 200, json.dumps(told | ({"Manifests": listed} if "manifests=1" in target else {})).encode()


AMD = {"Env": ["A=b"], "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5}, "Volumes": {"/a": {}}, "User": "u"}
ARM = {"Env": ["C=d"], "Healthcheck": {"Test": ["CMD", "y"], "Interval": 1}, "ExposedPorts": {"1/tcp": {}}}


def config(daemon: Daemon) -> dict[str, object]:
    return finish(config_of(daemon, "image"))  # type: ignore[arg-type,no-any-return]


def test_an_index_has_what_its_platforms_have() -> None:
    for kind in INDEXES:
        found = config(Daemon(kind, amd=AMD, arm=ARM, other={"Healthcheck": {"Test": ["NONE"]}, "Volumes": None}))
        assert found["Healthcheck"] == {"Test": ["CMD", "x"], "Interval": 1, "StartInterval": 0}
        assert (found["Volumes"], found["ExposedPorts"], found["Labels"]) == ({"/a": {}}, {"1/tcp": {}}, {})
        assert (found["User"], set(found["Env"])) == ("u", {"A=b", "C=d"})  # type: ignore[call-overload]


def test_one_image_is_itself() -> None:
    assert config(Daemon("a manifest", amd=AMD, arm=ARM)) == AMD
    assert config(Daemon(next(iter(INDEXES)), amd=AMD)) == AMD
