"""Run `sockproxy login` and `sockproxy logout`."""

from __future__ import annotations

import argparse
import base64
import getpass
import http.client
import json
import os
import pwd
import socket
import sys
import time

from sockproxy.login.config import Config

REFUSED, USAGE_ERROR = 3, 2
PREFIX = "unix://"
SECONDS = 120.0


class _Connection(http.client.HTTPConnection):
    """Speak HTTP on a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("sockproxy", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


def login(options: argparse.Namespace) -> int:
    """Ask for the password, get a token, and put it into docker's config.json."""
    user = options.user or pwd.getpwuid(os.geteuid()).pw_name
    if options.password_stdin:
        secret = sys.stdin.readline().rstrip("\n")
    else:
        secret = getpass.getpass(f"Password of {user}: ")
    word = base64.b64encode(f"{user}:{secret}".encode()).decode()
    status, said = _call(socket_of(options.host), "POST", "", f"Basic {word}")
    if status != 200:
        return _refused(said)
    config = Config()
    config.set(f"Bearer {said['token']}")
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(str(said["until"]))))
    print(f"Logged in as {user} until {until}: the token is in {config.path}")
    return 0


def logout(options: argparse.Namespace) -> int:
    """Revoke the token and take it out of docker's config.json."""
    config = Config()
    authorization = config.authorization()
    if not authorization.startswith("Bearer spx_"):
        print(f"not logged in: no token of sockproxy's in {config.path}", file=sys.stderr)
        return USAGE_ERROR
    status, said = _call(socket_of(options.host), "DELETE", "?all=1" if options.all else "", authorization)
    config.restore()
    if status not in (200, 401):  # 401: it is not good any more
        return _refused(said)
    print(f"Logged out: {said.get('revoked', 0)} tokens revoked")
    return 0


def socket_of(host: str | None) -> str:
    """Find the socket that users talk to."""
    host = host or os.environ.get("DOCKER_HOST") or f"{PREFIX}/run/sockproxy/docker.sock"
    if not host.startswith(PREFIX):
        raise SystemExit(f"{host} is no unix socket: --host unix:///PATH")
    return host.removeprefix(PREFIX)


def _call(path: str, method: str, query: str, authorization: str) -> tuple[int, dict[str, object]]:
    connection = _Connection(path)
    try:
        connection.request(method, f"/_sockproxy/tokens{query}", headers={"Authorization": authorization})
        response = connection.getresponse()
        said = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SystemExit(f"sockproxy does not answer on {path}: {error}") from error
    finally:
        connection.close()
    return response.status, said if isinstance(said, dict) else {}


def _refused(said: dict[str, object]) -> int:
    print(said.get("message", "refused"), file=sys.stderr)
    return REFUSED
