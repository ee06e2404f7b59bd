"""Find out whose container a caller's process runs in.

SECURITY: a path of cgroups that names a container proves nothing by itself: who was given a part of the tree can make
one that is called the same. So the daemon is asked which process the container runs, and that process's cgroups are
read: a peer is in the container if it is below the very same folder in each hierarchy that names it. The daemon is
asked once more afterwards, so that the process read was the container's. What the process in there calls itself, and
its uid (0, or any user's: nobody checks who a container's processes are) are of no account: the one who asks is the
container's owner, by label and mark. A container that is root's, or was made past sockproxy, never stands for root: it
is nobody, and has the role only that a binding of containers gives it.
"""

from __future__ import annotations

from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.system import caller
from sockproxy_helpers.system.caller import Caller, Container
from sockproxy_helpers.system.cgroups import base
from sockproxy_helpers.system.peer import Peer, read_cgroups
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.marks import mark_of
from sockproxy_helpers.upstream.objects import labels_of, owner_of, parse

MOST = 4  # containers in containers that are asked about
UNKNOWN = "the process that connected runs in a container that is none of this Docker daemon's"
INHERITED = "the process that connected runs in a container whose owner label is its image's"
UNASKED = "the process that connected runs in a container, and the Docker daemon does not tell whose it is"


async def identify(who: Caller, daemon: Daemon) -> Caller:
    """Complete what the kernel tells of a caller by what the daemon tells of the container that it runs in, if any.

    Args:
        who: as `caller.from_socket` gives it.
    """
    process = who.process
    if who.via != "container" or process is None:
        return who
    if not isinstance(process.container, Container):
        try:
            process.container = await _find(process, daemon)
        except Unavailable:
            who.trouble = UNASKED
            return who
    return caller.of_container(process, process.container)


async def _find(process: Peer, daemon: Daemon) -> Container:
    """Find the outermost container that the process really is in: what runs inside that one is its owner's doing."""
    for identity in process.containers[:MOST]:
        found = await _inspect(daemon, identity)
        first = _first_process(found)
        if not first or not _shares(process, read_cgroups(first[0]), identity):
            continue
        if _first_process(await _inspect(daemon, identity)) == first:
            return _describe(identity, found)
    return Container("", "", "", {}, None, UNKNOWN)


async def _inspect(daemon: Daemon, identity: str) -> dict[str, object]:
    status, answer = parse(*await daemon.request("GET", f"/containers/{identity}/json"))
    if status == 404:
        return {}
    if status != 200 or not isinstance(answer, dict) or answer.get("Id") != identity:
        raise Unavailable("the Docker daemon does not describe a container")
    return answer


def _first_process(found: dict[str, object]) -> tuple[int, str] | None:
    """Give the process id of a running container's first process, and when it was started."""
    state = found.get("State")
    if not isinstance(state, dict) or state.get("Running") is not True:
        return None
    pid, started = state.get("Pid"), state.get("StartedAt")
    return (pid, str(started)) if type(pid) is int and pid > 0 else None


def _shares(process: Peer, paths: dict[str, str], identity: str) -> bool:
    """Tell whether a process is below the folders that a container's first process is in."""
    folders = {name: folder for name, path in paths.items() if (folder := base(path, identity))}
    return bool(folders) and all(
        base(process.cgroups.get(name, ""), identity) == folder for name, folder in folders.items()
    )


def _describe(identity: str, found: dict[str, object]) -> Container:
    config = found.get("Config")
    image = str(config.get("Image")) if isinstance(config, dict) else ""
    owner = owner_of(found)
    inherited = owner is not None and not mark_of(found, owner)
    labels = labels_of(found)
    name = str(found.get("Name", "")).removeprefix("/")
    return Container(identity, name, image, labels, owner, INHERITED if inherited else "")
