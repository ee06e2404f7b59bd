"""Find ways to the daemon that do not lead through sockproxy: each makes who has it root, whatever the policy says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from sockproxy.doctor.machine import Finding, Machine, Unknown, is_socket
from sockproxy.doctor.machine import words as wording
from sockproxy.doctor.reach import openers, words

DAEMON_JSON = "/etc/docker/daemon.json"
_LISTENING, _UNIX_LISTENING = "0A", "00010000"  # columns of /proc/net/tcp and /proc/net/unix
_SWARM = {2377, 7946}  # dockerd's own ports as a swarm node: no API

# Sockets of other programs that start containers as root for whoever can open them.
OTHERS = {
    "/run/containerd/containerd.sock": "containerd",
    "/run/docker/containerd/containerd.sock": "containerd",
    "/run/podman/podman.sock": "podman",
    "/run/crio/crio.sock": "CRI-O",
    "/run/buildkit/buildkitd.sock": "BuildKit",
    "/var/lib/incus/unix.socket": "Incus",
    "/var/lib/lxd/unix.socket": "LXD",
    "/var/snap/lxd/common/lxd/unix.socket": "LXD",
}


def daemon_socket(machine: Machine) -> Iterator[Finding]:
    """Tell who can open the daemon's own socket."""
    path = machine.settings.docker_socket
    if not is_socket(machine.status(path)):
        raise Unknown(f"there is no socket {path}")
    names = openers(machine, path)
    if names is None or names:
        yield Finding(
            f"{words(names)} can open {path} past sockproxy, which is to be root",
            "take them out of the socket's group (gpasswd -d USER docker; it counts from their next login), "
            "or run `sockproxy install --takeover`, which leaves the socket to root",
        )


def tcp(machine: Machine) -> Iterator[Finding]:
    """Find TCP ports on which the daemon listens, or is told to."""
    remedy = (
        'take the tcp:// address out of dockerd\'s options (-H, or "hosts" in daemon.json); ssh can carry the socket'
    )
    pids = _daemons(machine)
    told = _configured(machine) | {word for pid in pids for word in machine.read(f"/proc/{pid}/cmdline").split("\0")}
    for word in sorted(word for word in told if word.removeprefix("--host=").removeprefix("-H").startswith("tcp://")):
        yield Finding(f"the daemon is told to listen on {word}: who reaches that port needs no account here", remedy)
    for pid in pids:
        inodes = machine.sockets(pid)
        for table in ("tcp", "tcp6"):
            for line in machine.read(f"/proc/{pid}/net/{table}").splitlines()[1:]:
                fields = line.split()
                port = int(fields[1].rpartition(":")[2], 16)
                if fields[3] == _LISTENING and fields[9] in inodes and port not in _SWARM:
                    yield Finding(f"the daemon (pid {pid}) listens on TCP port {port}", remedy)


def other_sockets(machine: Machine) -> Iterator[Finding]:
    """Find further unix sockets of the daemon, and of programs like it, that somebody can open."""
    ours = {_real(machine, machine.settings.docker_socket), _real(machine, machine.settings.listen)}
    found = dict(OTHERS)
    unseen: Unknown | None = None
    for pid in _daemons(machine):
        try:
            inodes = machine.sockets(pid)
        except Unknown as error:
            unseen = error
            continue
        for line in machine.read(f"/proc/{pid}/net/unix").split("\n")[1:]:
            fields = line.split(maxsplit=7)
            if len(fields) == 8 and fields[3] == _UNIX_LISTENING and fields[6] in inodes and fields[7].startswith("/"):
                found[fields[7]] = "the daemon"
    for path, whose in found.items():
        try:
            if _real(machine, path) in ours or not is_socket(machine.status(path)):
                continue
            names = openers(machine, path)
        except Unknown:  # behind a folder that is closed to this user, and so to others
            continue
        if names is None or names:
            yield Finding(f"{words(names)} can open {path} of {whose}", f"chmod 600 {path}, in what creates it")
    if unseen:
        raise unseen


def containers(machine: Machine) -> Iterator[Finding]:
    """Find containers that were given the daemon's socket, or a folder that it is in."""
    path = machine.settings.docker_socket
    places = {path, os.path.realpath(path)} | {"/var/run/docker.sock", "/run/docker.sock"}
    places -= {machine.settings.listen, os.path.realpath(machine.settings.listen)}
    try:
        listed = machine.ask(path, "/containers/json")
    except (OSError, ValueError) as error:
        raise Unknown(f"the daemon does not tell its containers: {wording(error)}") from None
    around_us = machine.read("/proc/self/cgroup")
    for container in listed:
        if str(container.get("Id")) in around_us:
            yield Finding("but this one, which is sockproxy's own")
            continue
        for mount in container.get("Mounts") or ():
            source = str(mount.get("Source", ""))
            if any(place == source or place.startswith(source.rstrip("/") + "/") for place in places if source):
                name = container["Names"][0].lstrip("/")
                yield Finding(
                    f"the container {name!r} has {source} of the host, and so the daemon's socket",
                    f"give it {machine.settings.listen} in its place, and bind a role to it",
                )


def _daemons(machine: Machine) -> list[int]:
    return sorted(machine.processes(lambda comm, _: comm == "dockerd"))


def _configured(machine: Machine) -> set[str]:
    try:
        hosts = json.loads(machine.read(DAEMON_JSON) or "{}").get("hosts", [])
    except (ValueError, AttributeError, Unknown):
        return set()
    return {str(host) for host in hosts} if isinstance(hosts, list) else set()


def _real(machine: Machine, path: str) -> str:
    return os.path.realpath(machine.path(path))
