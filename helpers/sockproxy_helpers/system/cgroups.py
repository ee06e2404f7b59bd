"""Read what paths of cgroups say about containers: which they name, and where the folder of one is."""

from __future__ import annotations

import re

# docker-ID.scope, ID, cri-containerd-ID.scope, libpod-ID.scope: what runc and crun are told to make.
ID = 64  # letters
_CONTAINER = re.compile(r"(?:[a-z]{1,16}-){0,3}([0-9a-f]{64})(?:\.scope)?")


def parse(lines: list[str]) -> dict[str, str]:
    """Read the lines of /proc/PID/cgroup (cgroups(7)) as a path by hierarchy."""
    parts = [line.split(":", 2) for line in lines]
    return {hierarchy: path for _, hierarchy, path in parts}


def containers(paths: dict[str, str]) -> list[str]:
    """Find the IDs of containers in paths of cgroups."""
    words = [_CONTAINER.fullmatch(word) for path in paths.values() if len(path) >= ID for word in path.split("/")]
    return list(dict.fromkeys(word[1] for word in words if word))


def base(path: str, identity: str) -> str:
    """Give the folder of a container in a path of cgroups, "" when it is not in there."""
    words = path.split("/")
    for count, word in enumerate(words, 1):
        found = _CONTAINER.fullmatch(word)
        if found and found[1] == identity:
            return "/".join(words[:count])
    return ""
