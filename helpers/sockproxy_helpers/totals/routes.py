"""Keep users' networks off the addresses that the host reaches by a route of its own.

The daemon looks at routes only where it chooses a range by itself. One that is asked for may lie within the host's own
network, and takes the host's traffic to it: the longer prefix wins. So do those with one of its name servers, which it
may well reach through its default gateway only.
"""

from __future__ import annotations

import socket
import struct

from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.judge.network import Range, overlap, range_of
from sockproxy_helpers.upstream.daemon import Daemon

PROC = "/proc"
# Who is asked for names (resolv.conf(5)); the latter is what systemd's stub asks. The daemon avoids the same.
NAME_SERVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid


async def judge(daemon: Daemon, ctx: Context, body: object) -> None:
    """Make sure that no range of a NetworkCreate, as the model has built it, is routed elsewhere.

    Raises:
        Refused: the host has a route to a part of it.
    """
    ipam = body.get("IPAM") if isinstance(body, dict) else None
    configs = (ipam.get("Config") if isinstance(ipam, dict) else None) or []
    wanted = {index: str(config["Subnet"]) for index, config in enumerate(configs) if config.get("Subnet")}
    if not wanted or "ALL" in ctx.names("subnets"):
        return
    reasons = [(route, f"the host has a route to {_show(route)}") for route in _read(_peer(await daemon.open()))]
    reasons += [(server, f"it has the host's name server {_show(server)}") for server in _name_servers()]
    for index, text in wanted.items():
        for taken, why in reasons:
            if overlap(range_of(text), taken):
                ctx.path = f"IPAM.Config[{index}].Subnet"
                allowed = "(allowed: none given, or ranges that it has no route to)"
                raise ctx.refusal(f"may not take {text}: {why} {allowed}", "subnets")


def _peer(sock: socket.socket) -> int:
    """Tell who listens at the other end: the daemon may have a network namespace of its own (unix(7), SO_PEERCRED)."""
    pid: int = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[0]
    return pid


def _read(pid: int) -> list[Range]:
    """Read the routes of a process' network namespace but the default ones (proc(5), /proc/net/route).

    Raises:
        Unavailable: it is gone.
    """
    try:
        with open(f"{PROC}/{pid}/net/route", encoding="ascii") as file:
            rows = [line.split() for line in file.readlines()[1:]]
        with open(f"{PROC}/{pid}/net/ipv6_route", encoding="ascii") as file:
            rows6 = [line.split() for line in file]
    except FileNotFoundError as error:  # also a kernel without IPv6: no route can be told from none
        if not error.filename.endswith("ipv6_route"):
            raise Unavailable("the host's routes can't be read") from error
        rows6 = []
    found = []
    for row in rows:
        destination, mask = (socket.ntohl(int(row[column], 16)) for column in (1, 7))
        found.append((socket.AF_INET, destination, mask.bit_count()))
    found += [(socket.AF_INET6, int(row[0], 16), int(row[1], 16)) for row in rows6]
    return [route for route in found if route[2]]


def _name_servers() -> list[Range]:
    """Read which addresses the host asks for names; a file that is not there or is odd names none."""
    found = []
    for path in NAME_SERVERS:
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                rows = [line.split() for line in file]
            servers = [row[1].partition("%")[0] for row in rows if len(row) > 1 and row[0] == "nameserver"]
            found += [range_of(f"{server}/{128 if ':' in server else 32}") for server in servers]
        except (OSError, ValueError):
            continue
    return found


def _show(route: Range) -> str:
    size = 4 if route[0] == socket.AF_INET else 16
    return f"{socket.inet_ntop(route[0], route[1].to_bytes(size, 'big'))}/{route[2]}"
