"""Run a command all of whose connections to the daemon are the logged-in user's, also those that carry no token.

buildx makes connections of its own, without the headers of docker's config.json. So the command gets a socket of ours,
in a folder of the user's alone; each connection to it is made anew to sockproxy, with the token said first, and then
passed through as it is.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading

from sockproxy.login.command import USAGE_ERROR, socket_of
from sockproxy.login.config import Config

PIECE = 65536
NOT_FOUND = 127
_SAY = "PUT /_sockproxy/tokens HTTP/1.1\r\nHost: sockproxy\r\nAuthorization: {}\r\n\r\n"


def main(options: argparse.Namespace) -> int:
    """Run the command; give its exit code.

    Args:
        options: host, and command: words.
    """
    config, words = Config(), options.command[options.command[:1] == ["--"] :]
    authorization = config.authorization()
    if not words or not authorization.startswith("Bearer spx_"):
        print("no command" if not words else f"not logged in: no token in {config.path}", file=sys.stderr)
        return USAGE_ERROR
    upstream = socket_of(options.host)
    with tempfile.TemporaryDirectory(prefix="sockproxy-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = f"{folder}/docker.sock"
        listener.bind(path)
        listener.listen()
        threading.Thread(target=_accept, args=(listener, upstream, authorization), daemon=True).start()
        try:
            child = subprocess.Popen(words, env={**os.environ, "DOCKER_HOST": f"unix://{path}"})  # noqa: S603 (asked for)
        except OSError as error:
            print(f"{words[0]}: {error.strerror}", file=sys.stderr)
            return NOT_FOUND
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: child.send_signal(number))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command, too
        code = child.wait()
        return 128 - code if code < 0 else code


def _accept(listener: socket.socket, upstream: str, authorization: str) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # the command has ended
            return
        threading.Thread(target=_serve, args=(client, upstream, authorization), daemon=True).start()


def _serve(client: socket.socket, upstream: str, authorization: str) -> None:
    """Pass a connection through, once sockproxy has taken the token; else tell the client what it says."""
    with client, socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(upstream)
            server.sendall(_SAY.format(authorization).encode())
            response = http.client.HTTPResponse(server)
            response.begin()
            said = response.read()
            if response.status != http.client.OK:
                head = f"HTTP/1.1 {response.status} {response.reason}\r\nContent-Type: application/json\r\n"
                client.sendall(f"{head}Connection: close\r\nContent-Length: {len(said)}\r\n\r\n".encode() + said)
                return
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()
        except (OSError, http.client.HTTPException):
            pass  # either side has left


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy until the end, and pass that on, too."""
    try:
        while data := source.recv(PIECE):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for sock in (source, target):  # who waits for either is not to wait for ever
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
