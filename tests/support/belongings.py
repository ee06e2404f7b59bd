"""What two developers have on one engine, and how a third party sees whether anything of it has changed."""

from __future__ import annotations

import io
import json
import re
import tarfile
from typing import Any

from tests.support.proxy import Proxy
from tests.support.raw import Answer, call
from tests.support.users import User

OWNER = "io.sockproxy.owner"
SLEEP = ["sleep", "600"]
_REQUEST = re.compile(r" \(request [0-9a-f]{16}\)")
_OWN_BRIDGE = re.compile(r"sockproxy-[0-9]+")


def tar(**files: str) -> bytes:
    """Pack text files; "Dockerfile" makes it the context of a build."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


class Person:
    """Somebody who speaks HTTP through sockproxy."""

    def __init__(self, proxy: Proxy, user: User) -> None:
        self.proxy, self.user = proxy, user

    @property
    def label(self) -> dict[str, str]:
        """The mark of this person's things."""
        return {OWNER: str(self.user.uid)}

    @property
    def bridge(self) -> str:
        """The name of this person's own bridge, which sockproxy makes with the first container."""
        return f"sockproxy-{self.user.uid}"

    def ask(self, method: str, target: str, body: object = None, **headers: str) -> Answer:
        """Do a request."""
        if isinstance(body, bytes):
            headers = {"Content_Type": "application/x-tar", **headers}
        return call(self.proxy.listen, method, target, body, self.user, **headers)

    def get(self, method: str, target: str, body: object = None) -> Any:
        """Do a request that must succeed; give what its JSON says."""
        answer = self.ask(method, target, body)
        assert answer.status < 300, (method, target, answer.status, answer.body)
        return json.loads(answer.body) if answer.body else None

    def run(self, name: str, **body: Any) -> str:
        """Start a container that sleeps; give its ID."""
        made = self.create(name, **body)
        self.get("POST", f"/containers/{made}/start")
        return made

    def create(self, name: str = "", **body: Any) -> str:
        """Create a container that would sleep; give its ID."""
        target = f"/containers/create?name={name}" if name else "/containers/create"
        return str(self.get("POST", target, {"Image": "busybox", "Cmd": SLEEP, **body})["Id"])

    def exec(self, container: str, *command: str) -> str:
        """Create an exec; give its ID."""
        wish = {"Cmd": list(command) or ["true"], "AttachStdout": True}
        return str(self.get("POST", f"/containers/{container}/exec", wish)["Id"])

    def network(self, name: str) -> str:
        """Create a network; give its ID."""
        return str(self.get("POST", "/networks/create", {"Name": name, "CheckDuplicate": True})["Id"])

    def volume(self, name: str) -> str:
        """Create a volume; give its name."""
        return str(self.get("POST", "/volumes/create", {"Name": name})["Name"])

    def build(self, dockerfile: str, query: str = "") -> Answer:
        """Build an image."""
        return self.ask("POST", f"/build?{query}", tar(Dockerfile=dockerfile))


class Root(Person):
    """Root at the engine itself, past sockproxy."""

    def ask(self, method: str, target: str, body: object = None, **headers: str) -> Answer:
        """Do a request."""
        return call(self.proxy.engine.socket, method, target, body, **headers)

    def names(self, network: str) -> set[str]:
        """List who is on a network."""
        members = self.get("GET", f"/networks/{network}")["Containers"]
        return {str(member["Name"]) for member in members.values()}

    def volumes(self) -> dict[str, Any]:
        """List the labels of all volumes by name, without what the engine adds."""
        found = self.get("GET", "/volumes")["Volumes"] or []
        return {
            str(volume["Name"]): {k: v for k, v in (volume["Labels"] or {}).items() if not k.startswith("com.docker.")}
            for volume in found
        }

    def state(self) -> dict[str, Any]:
        """Tell all that a request could have changed; an own bridge that nobody is on may come by itself."""
        containers = self.get("GET", "/containers/json?all=1")
        networks = {item["Id"]: (item["Name"], sorted(self.names(item["Id"]))) for item in self.get("GET", "/networks")}
        return {
            "containers": {item["Id"]: self._container(item["Id"]) for item in containers},
            "networks": {
                identity: (name, members)
                for identity, (name, members) in networks.items()
                if members or not _OWN_BRIDGE.fullmatch(name)
            },
            "volumes": self.volumes(),
            "images": {item["Id"]: item["RepoTags"] for item in self.get("GET", "/images/json?all=1")},
        }

    def _container(self, identity: str) -> Any:
        found = self.get("GET", f"/containers/{identity}/json")
        host, networks = found["HostConfig"], found["NetworkSettings"]["Networks"]
        state = {key: found["State"][key] for key in ("Status", "StartedAt", "Pid")}
        changes = sorted(change["Path"] for change in self.get("GET", f"/containers/{identity}/changes") or [])
        limits = [host[key] for key in ("RestartPolicy", "Memory", "CpuShares", "CpuQuota", "PidsLimit")]
        return found["Name"], state, limits, sorted(networks), found["RestartCount"], changes

    def clean(self) -> None:
        """Remove what tests leave: containers, networks, volumes, and images but busybox."""
        self.proxy.engine.clean()
        for volume in self.volumes():
            self.ask("DELETE", f"/volumes/{volume}?force=1")
        for image in self.get("GET", "/images/json"):
            if "busybox:latest" not in (image["RepoTags"] or []):
                self.ask("DELETE", f"/images/{image['Id']}?force=1")


def numberless(text: str) -> str:
    """Leave out the request's number."""
    return _REQUEST.sub("", text)


def words(answer: Answer, reference: str) -> tuple[int, str]:
    """Give an answer without what must differ: the reference, and the request's number."""
    return answer.status, numberless(answer.body.decode()).replace(reference, "REFERENCE")
