"""Take over what whoever started this process prepared for it: sockets by name.

The same under systemd and under `sockproxy up`. Standard library only: the audit writer uses it, too.
"""

from __future__ import annotations

import os
import socket

FIRST = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


def sockets() -> dict[str, socket.socket]:
    """Give the sockets that were passed, by name; their order may change from one start to the next.

    Raises:
        SystemExit: what was passed is not meant for this process, or not what sd_listen_fds(3) describes.
    """
    if os.environ.get("LISTEN_PID", str(os.getpid())) != str(os.getpid()):
        raise SystemExit("the passed sockets are not for this process (LISTEN_PID)")
    untrusted_count = os.environ.get("LISTEN_FDS", "0")
    if not (untrusted_count.isascii() and untrusted_count.isdecimal() and len(untrusted_count) < 4):
        raise SystemExit("LISTEN_FDS is not a number")
    count = int(untrusted_count)
    names = os.environ.get("LISTEN_FDNAMES", "").split(":") if count else []
    if len(names) != count or len(set(names)) != count:
        raise SystemExit(f"{count} sockets were passed, but not as many different names (LISTEN_FDNAMES)")
    found = {}
    for fd, name in enumerate(names, FIRST):
        os.set_inheritable(fd, False)
        found[name] = socket.socket(fileno=fd)
    return found
