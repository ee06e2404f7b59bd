"""Know the places on the host that a role may bind: their text. What a path leads to is the kernel's to say."""

from __future__ import annotations

# The daemon's own socket, as people name it: a bind of it is a bind of the users' (see `stage.own_socket`).
DAEMON_SOCKETS = ("/var/run/docker.sock", "/run/docker.sock")
Place = tuple[list[str], str]  # the parts of a path, and "rw" or "ro"


def places(binds: object, home: str) -> list[Place]:
    """List a role's places. A home at / or nowhere is nobody's own.

    Args:
        binds: the rule's value.
        home: the caller's.
    """
    found = []
    for bind in binds if isinstance(binds, list) else []:
        path, mode = str(bind["path"]), str(bind["mode"])
        if path == "{home}":
            path = home
            if not path.startswith("/") or not path.strip("/") or ".." in path.split("/"):
                continue
        found.append((split(path), mode))
    return found


def allowed(source: list[str], writable: bool, among: list[Place]) -> list[Place]:
    """List the places at or below which a source is."""
    return [(path, mode) for path, mode in among if source[: len(path)] == path and (mode == "rw" or not writable)]


def split(path: str) -> list[str]:
    """Split a path that is in its shortest form."""
    return [part for part in path.split("/") if part not in ("", ".")]


def join(parts: list[str]) -> str:
    """Write an absolute path."""
    return "/" + "/".join(parts)
