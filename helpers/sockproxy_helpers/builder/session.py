"""Open BuildKit sessions: connections on which the daemon calls the client, for files, secrets and credentials.

SECURITY: a session's name is all that a build needs to have the daemon call its client. So the name that reaches the
daemon begins with the caller's uid, here and in each build (the mediator's Request.own): nobody can name another's.
"""

from __future__ import annotations

import hashlib
import re

from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.system.caller import Caller

PREFIX = "x-docker-expose-session-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_TEXT = re.compile(r"[ -~]{0,256}")
# What the daemon may call; others that a client exposes are left out.
METHODS = frozenset(
    (
        "/containerd.services.content.v1.Content/Abort",
        "/containerd.services.content.v1.Content/Delete",
        "/containerd.services.content.v1.Content/Info",
        "/containerd.services.content.v1.Content/List",
        "/containerd.services.content.v1.Content/ListStatuses",
        "/containerd.services.content.v1.Content/Read",
        "/containerd.services.content.v1.Content/Status",
        "/containerd.services.content.v1.Content/Update",
        "/containerd.services.content.v1.Content/Write",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/moby.buildkit.secrets.v1.Secrets/GetSecret",
        "/moby.filesync.v1.Auth/Credentials",
        "/moby.filesync.v1.Auth/FetchToken",
        "/moby.filesync.v1.Auth/GetTokenAuthority",
        "/moby.filesync.v1.Auth/VerifyTokenAuthority",
        "/moby.filesync.v1.FileSend/DiffCopy",
        "/moby.filesync.v1.FileSync/DiffCopy",
        "/moby.filesync.v1.FileSync/TarStream",
        "/moby.sshforward.v1.SSH/CheckAgent",
        "/moby.sshforward.v1.SSH/ForwardAgent",
        "/moby.upload.v1.Upload/Pull",
    )
)


def owned(who: Caller, name: str) -> str:
    """Make a name of a session or build the caller's.

    Raises:
        Malformed: no name.
    """
    if not _NAME.fullmatch(name):
        raise Malformed("not the name of a BuildKit session")
    return f"u{who.uid}-{name}"


def fields(headers: dict[str, str], who: Caller) -> list[tuple[str, str]]:
    """Form the header fields of a session's opening.

    Raises:
        Malformed: it has no name, or a malformed one.
    """
    name, key = headers.get(PREFIX + "name", ""), headers.get(PREFIX + "sharedkey", "")
    if not _TEXT.fullmatch(name):
        raise Malformed("not the label of a BuildKit session")
    found = [("X-Docker-Expose-Session-Uuid", owned(who, headers.get(PREFIX + "uuid", "")))]
    found.append(("X-Docker-Expose-Session-Name", name))
    # By this key the daemon finds the files that a client has sent before, and asks for the changed ones only: with
    # another's key one would build from the other's files.
    found.append(("X-Docker-Expose-Session-Sharedkey", hashlib.sha256(f"{who.uid} {key}".encode()).hexdigest()))
    methods = headers.get(PREFIX + "grpc-method", "").split(", ")
    return found + [("X-Docker-Expose-Session-Grpc-Method", method) for method in methods if method in METHODS]
