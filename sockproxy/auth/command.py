"""Say, as root, that an account may have what is of the account that had its uid before."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from sockproxy.paths import RUNNING
from sockproxy_helpers.channel import wire

FOUND, USAGE_ERROR = 1, 2
PATIENCE = 10.0  # seconds


def main(options: argparse.Namespace) -> int:
    """Tell the auth process; give the exit code.

    Args:
        options: runtime_dir, and user.
    """
    if os.geteuid() != 0:
        print("sockproxy: accept is for root", file=sys.stderr)
        return USAGE_ERROR
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
            channel.settimeout(PATIENCE)
            channel.connect(f"{options.runtime_dir}/auth/auth.sock")
            wire.send(channel, wire.pack({"ask": "accept", "account": options.user}), [])
            reply, _ = wire.unpack(wire.receive(channel)[0])
    except (OSError, wire.WireError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        print(f"sockproxy: the auth process does not answer: {why}. {RUNNING}", file=sys.stderr)
        return FOUND
    if reply.get("code") != 0:
        print(f"sockproxy: {reply.get('why')}", file=sys.stderr)
        return FOUND
    uid, old = reply.get("uid"), reply.get("old")
    was = f"which was {old}'s, and all that is there with it" if old else "which was nobody's before"
    print(f"{options.user} has uid {uid} from now on, {was}")
    return 0
