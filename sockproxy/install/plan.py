"""Plan an installation, and its undoing: lists of steps.

With a take-over, sockproxy listens where all clients look by themselves, and the daemon's socket moves into a folder
that only root can enter; systemd does both, by a drop-in to docker.socket.

Whoever is killed half-way is repaired by doing it again, or by undoing it: it is written down before it is done, and
until all is also what files may have had before, and whether Docker is still to be restarted.
"""

from __future__ import annotations

import json
import os
from typing import Any

from sockproxy import paths
from sockproxy.install.machine import InstallError, Machine, Remove, RemoveFolder, Run, Step, Write, digest
from sockproxy.paths import MANIFEST
from sockproxy.supervise import units
from sockproxy.supervise.table import Settings, folders

DAEMON_PATHS = ("/run/docker.sock", "/var/run/docker.sock")  # where clients look
MOVED = "/run/sockproxy-docker/docker.sock"  # where the daemon listens after a take-over: config/docker.socket.conf
DROP_IN = "/etc/systemd/system/docker.socket.d/sockproxy.conf"
PROFILE = "/etc/profile.d/sockproxy.sh"
DOCKER_UNITS = ("docker.service", "docker.socket")

_PROFILE = """\
# Written by `sockproxy install`: people's Docker clients go through sockproxy. Root may go to the daemon itself.
if [ -z "${DOCKER_HOST:-}" ] && [ "$(id -u)" -ne 0 ]; then
    export DOCKER_HOST=unix://LISTEN
fi
"""


def taken_over(settings: Settings) -> Settings:
    """Give the settings of a take-over."""
    return settings._replace(docker_socket=MOVED, listen=DAEMON_PATHS[0])


def install(machine: Machine, settings: Settings) -> list[Step]:
    """Plan an installation, also over an earlier one.

    Raises:
        InstallError: something is in the way.
    """
    takeover = settings.docker_socket == MOVED
    if takeover:
        _can_take_over(machine)
    old = machine.manifest()
    files = _files(settings, takeover) | _pam(machine, old.get("files", {}))
    for path in files.keys() - old.get("files", {}).keys():
        if machine.read(path) not in (None, files[path]):
            raise InstallError(f"{path} is in the way: it is not of an earlier `sockproxy install`")
    steps: list[Step] = []
    same = old.get("settings") == settings._asdict()
    restart = takeover and (not same or bool(old.get("restart")))
    if old and not same:
        steps += uninstall(machine)
    elif old:
        steps += [Remove(path, known) for path, known in _digests(old).items() if path not in files]
    else:
        steps.append(Run(("systemctl", "stop", units.MAIN), must=False))  # of a package, with other paths
    made = {folder for path in files for folder in machine.missing_folders(path)} | set(old.get("folders", ()))
    made |= {folder.path for folder in folders(settings) if below(folder.path, settings.runtime_dir)}
    record = {
        "files": {path: digest(text) for path, text in files.items()},
        "folders": sorted(made, reverse=True),
        "settings": settings._asdict(),
    }
    steps.append(_begun(record, _digests(old) if same else {}, restart))
    steps += [Write(path, text) for path, text in files.items()]
    steps += [
        Run(("systemd-sysusers", "/etc/sysusers.d/sockproxy.conf")),
        Run(("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/sockproxy.conf")),
        Run(("systemctl", "daemon-reload")),
    ]
    if restart:
        steps += _restart_docker()
    enabled = [name for name, text in units.units(settings).items() if "[Install]" in text]
    steps.append(Run(("systemctl", "enable", *enabled)))
    steps.append(Run(("systemctl", "restart" if same else "start", units.MAIN)))
    steps.append(Write(MANIFEST, _text(record)))
    return steps


def uninstall(machine: Machine) -> list[Step]:
    """Plan to undo what is written down of an installation.

    Raises:
        InstallError: nothing is.
    """
    old = machine.manifest()
    if not old:
        raise InstallError(f"there is no {MANIFEST}: nothing was installed by `sockproxy install`")
    names = [os.path.basename(path) for path in old["files"] if path.startswith("/etc/systemd/system/sockproxy")]
    takeover = DROP_IN in old["files"]
    begun = _begun(old, _digests(old), takeover)._replace(must=False)  # also where the disk is full
    steps: list[Step] = [begun, Run(("systemctl", "disable", "--now", *sorted(names, reverse=True)), must=False)]
    if takeover:
        steps.append(Run(("systemctl", "stop", *DOCKER_UNITS), must=False))
    steps += [Remove(path, known) for path, known in _digests(old).items()]
    steps.append(Run(("systemctl", "daemon-reload")))
    if takeover:
        steps.append(Run(("systemctl", "start", *reversed(DOCKER_UNITS)), must=False))
        steps.append(RemoveFolder(os.path.dirname(MOVED)))
    steps += [RemoveFolder(path) for path in old["folders"]]
    steps.append(Remove(MANIFEST, (digest(begun.text), digest(machine.read(MANIFEST) or ""))))
    return steps


def _text(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1) + "\n"


def _begun(record: dict[str, Any], before: dict[str, tuple[str, ...]], restart: bool) -> Write:
    """Form the step that comes first: what fails half-way can be undone.

    Args:
        before: digests of what files may have until they are written.
        restart: of Docker, which is to come.
    """
    return Write(MANIFEST, _text({**record, "before": before, "restart": restart}))


def _digests(old: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Give the digests of what each file may have: of an installation that was killed, what it had before, too."""
    before = old.get("before", {})
    return {path: tuple({sha256, *before.get(path, ())}) for path, sha256 in old.get("files", {}).items()}


def below(path: str, folder: str) -> bool:
    """Tell whether a path is a folder, or below it."""
    return path == folder or path.startswith(f"{folder}/")


def _files(settings: Settings, takeover: bool) -> dict[str, str]:
    files = {f"/etc/{name}": text for name, text in units.files(settings).items()}
    if takeover:
        with open(os.path.join(paths.config_dir(), "docker.socket.conf"), encoding="utf-8") as file:
            files[DROP_IN] = file.read()
    else:
        files[PROFILE] = _PROFILE.replace("LISTEN", settings.listen)
    return files


def _pam(machine: Machine, old: dict[str, str]) -> dict[str, str]:
    """Give the files of our PAM services, but those that are there and not of an earlier installation."""
    folder = os.path.join(paths.config_dir(), "pam.d")
    found = {}
    for name in sorted(os.listdir(folder)):
        path = f"/etc/pam.d/{name}"
        if path in old or machine.read(path) is None:
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                found[path] = file.read()
    return found


def _restart_docker() -> list[Step]:
    # A socket unit can't move while the service holds its socket.
    return [Run(("systemctl", "stop", *DOCKER_UNITS)), Run(("systemctl", "start", *reversed(DOCKER_UNITS)))]


def _can_take_over(machine: Machine) -> None:
    """See that systemd hands the daemon its socket, and the daemon opens no other.

    Raises:
        InstallError: it is not so.
    """
    # Not `cat`: that fails where a drop-in has just been removed, as by an `uninstall` that was killed.
    if machine.output("systemctl", "show", "-p", "LoadState", "--value", "docker.socket").strip() != "loaded":
        raise InstallError("there is no unit docker.socket: without it, move the daemon's socket by its option -H")
    started = machine.output("systemctl", "show", "-p", "ExecStart", "--value", "docker.service")
    if "fd://" not in started:
        raise InstallError("docker.service is not started with -H fd://, so its socket is not systemd's to move")
    try:
        options = json.loads(machine.read("/etc/docker/daemon.json") or "{}")
    except ValueError as error:
        raise InstallError(f"/etc/docker/daemon.json: {error}") from error
    if isinstance(options, dict) and options.get("hosts"):
        raise InstallError('/etc/docker/daemon.json has "hosts": remove it, so that the socket is systemd\'s alone')
