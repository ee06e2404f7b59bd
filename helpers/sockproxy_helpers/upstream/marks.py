"""Read and write whose a container is, and whose things it was given, where no image can say so.

A label is inherited from the image. So both stand in a field, too, that the daemon keeps and only clients ever wrote a
file of that name for. The label GIVEN only lets the daemon find such containers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

OWNER = "io.sockproxy.owner"  # a label: the uid, in decimal
GIVEN = "io.sockproxy.given"  # a label of containers: whose things they were given besides the owner's
_GIVEN = re.compile(r"[0-9]{1,10}(?:,[0-9]{1,10})*")


def mark(owner: int, given: Iterable[int] = ()) -> str:
    """Form the mark of a container's owner, and of those whose things it was given."""
    others = ",".join(map(str, given))
    return f"{OWNER}={owner}" + (f" {GIVEN}={others}" if others else "")


def mark_of(found: dict[str, object], owner: int | None) -> bool:
    """Tell whether a container has the mark of an owner."""
    return _parts(found)[0] == f"{OWNER}={owner}"


def given_of(found: dict[str, object]) -> frozenset[int]:
    """Tell by the uids whose things a container was given."""
    others = _parts(found)[1].partition(f"{GIVEN}=")[2]
    return frozenset(map(int, others.split(","))) if _GIVEN.fullmatch(others) else frozenset()


def _parts(found: dict[str, object]) -> tuple[str, str]:
    host = found.get("HostConfig")
    owner, _, rest = str(host.get("ContainerIDFile") if isinstance(host, dict) else "").partition(" ")
    return owner, rest
