"""Look for networks of the daemon's that take the host's own traffic.

None is made with a name server of the host's in it, or with an address that the host has a route of its own to (see
`totals/routes.py` of the helpers). The host may get either later: by DHCP, or with a VPN.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator

from sockproxy.doctor.machine import Finding, Machine, Unknown
from sockproxy.doctor.machine import words as wording

Range = ipaddress.IPv4Network | ipaddress.IPv6Network
_BRIDGE = "com.docker.network.bridge.name"
_NAME_SERVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")  # the latter is what systemd's stub asks
_REMEDY = "remove it and make it anew, where it gets another range; or give the host's network another one"


def taken(machine: Machine) -> Iterator[Finding]:
    """Find networks that have a name server of the host's, or a part of a network that it has a route to."""
    try:
        listed = machine.ask(machine.settings.docker_socket, "/networks")
    except (OSError, ValueError) as error:
        raise Unknown(f"the daemon does not tell its networks: {wording(error)}") from None
    bridges = {str((network.get("Options") or {}).get(_BRIDGE) or f"br-{network['Id'][:12]}") for network in listed}
    others = [(f"the host's name server {server}", server) for server in _name_servers(machine)]
    others += [(f"a part of {route}, to which the host has a route", route) for route in _routes(machine, bridges)]
    for network in listed:
        for config in (network.get("IPAM") or {}).get("Config") or ():
            wanted = ipaddress.ip_network(config["Subnet"], strict=False)
            for what, other in others:
                if wanted.version == other.version and wanted.overlaps(other):
                    yield Finding(f"the network {network['Name']!r} ({wanted}) has {what}", _REMEDY)


def _name_servers(machine: Machine) -> list[Range]:
    found: set[Range] = set()
    for path in _NAME_SERVERS:
        for line in machine.read(path).splitlines():
            words = line.split()
            with contextlib.suppress(ValueError):  # an odd line names none
                if words[:1] == ["nameserver"] and len(words) > 1:
                    found.add(ipaddress.ip_network(words[1].partition("%")[0]))
    return sorted(found, key=str)


def _routes(machine: Machine, bridges: set[str]) -> list[Range]:
    """Read the host's routes (proc(5), /proc/net/route) but the default one, and those of these bridges."""
    rows = [line.split() for line in machine.read("/proc/net/route").splitlines()[1:]]
    pairs = [(row[1], row[7]) for row in rows if row[0] not in bridges and row[7] != "00000000"]
    return [ipaddress.ip_network(f"{_address(to)}/{_address(mask)}", strict=False) for to, mask in pairs]


def _address(text: str) -> str:
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(text)))
