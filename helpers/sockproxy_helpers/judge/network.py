"""Judge the fields of networks and of a container's way to them."""

from __future__ import annotations

import re
import socket

from sockproxy_helpers.api.fields import Rules
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed
from . import rules
from .context import Context
from .rules import network_mode, only

_PORT = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp|sctp))?")
_HOST_PORT = re.compile(r"(0|[1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?")  # one spelling: "00080" would be 80
_BRIDGE = re.compile(r"sockproxy-[0-9]+")
_PREFIX = re.compile(r"[0-9]{1,3}")
_MTU = "com.docker.network.driver.mtu"
_FREE_OPTIONS = ("com.docker.network.bridge.enable_icc", _MTU)
# What the kernel takes, with IPv6 too. Of others the daemon makes the bridge, and leaves it where it is: without end.
_MTUS = range(1280, 65536)
_SWARMS = ("docker_gwbridge", "ingress")  # networks that a swarm will make, or take for its own where they are

LEAST: dict[int, int] = {
    socket.AF_INET: 16,
    socket.AF_INET6: 48,
}  # prefixes; a wider range would leave nothing of it to others
Range = tuple[int, int, int]  # family, first address, prefix


def endpoints(value: dict[str, object], ctx: Context) -> dict[str, object]:
    """Judge the networks that a container is connected to, as its network mode is judged."""
    for name in value:
        network_mode(name, ctx)
    return value


def exposed_ports(value: dict[str, object], ctx: Context) -> dict[str, object]:
    """Make sure that ports are spelled as the API documents it."""
    for port in value:
        if not _PORT.fullmatch(port):
            raise Malformed(f"{ctx.path}: {show(port)} is not a port (80/tcp, 8000-8010/udp)")
    return value


def host_port(value: str, ctx: Context) -> str:
    """Allow host ports from the role's lowest up; "" and "0" let the daemon choose a high one."""
    match = _HOST_PORT.fullmatch(value)
    if value and (not match or int(match[2] or match[1]) > 65535):
        raise Malformed(f"{ctx.path}: {show(value)} is not a port (8080, 8000-8010)")
    least = ctx.number("ports", "min")
    if match and value != "0" and (least is None or int(match[1]) < least):
        raise ctx.refusal(f"may not publish host port {value} (allowed: {least} and above, or none given)", "ports")
    return value


def host_address(value: str | None, ctx: Context) -> str | None:
    """Allow the addresses of the host that the role names; none given means all of IPv4."""
    allowed = ctx.rule("ports")["addresses"]  # type: ignore[index]
    if (value or "0.0.0.0") not in allowed and "ALL" not in allowed:  # noqa: S104 (it is not bound here)
        words = ", ".join(allowed) or "none"
        raise ctx.refusal(f"may not publish ports on {value or '0.0.0.0'} (allowed: {words})", "ports")  # noqa: S104
    return value


def publish_all(value: bool, ctx: Context) -> bool:
    """Judge the exposed ports as if each was published on no address in particular."""
    if value:
        host_address(None, ctx)
    return value


def network_name(value: str, ctx: Context) -> str:
    """Keep the names of users' own bridges (see `bridge`) for those."""
    if _BRIDGE.fullmatch(value):
        raise ctx.refusal("names like sockproxy-1000 are for the bridges that sockproxy makes (allowed: any other)")
    if value in _SWARMS and not ctx.flag("driver_options"):
        raise ctx.refusal("may not make a network of a swarm (allowed: any other name)", "driver_options")
    return rules.name(value, ctx)


def network_options(value: dict[str, str], ctx: Context) -> dict[str, str]:
    """Allow the bridge driver's harmless options; others could take over the daemon's own bridge."""
    for key in value:
        if key not in _FREE_OPTIONS and not ctx.flag("driver_options"):
            allowed = ", ".join(_FREE_OPTIONS)
            raise ctx.refusal(f"may not set {show(key)} (allowed: {allowed})", "driver_options")
    mtu = value.get(_MTU, "0")
    if (
        mtu != "0"
        and not (re.fullmatch("[1-9][0-9]{3,4}", mtu) and int(mtu) in _MTUS)
        and not ctx.flag("driver_options")
    ):
        allowed = f"(allowed: {_MTUS[0]} to {_MTUS[-1]})"
        raise ctx.refusal(f"may not have an MTU of {show(mtu)} {allowed}", "driver_options")
    return value


def range_of(text: str) -> Range:
    """Read a range, ADDRESS/PREFIX.

    Raises:
        ValueError: neither IPv4 nor IPv6, in the usual spelling.
    """
    address, _, prefix = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        packed = socket.inet_pton(family, address)
    except OSError as error:
        raise ValueError(text) from error
    if not _PREFIX.fullmatch(prefix) or int(prefix) > len(packed) * 8:
        raise ValueError(text)
    return family, int.from_bytes(packed, "big"), int(prefix)


def overlap(one: Range, other: Range) -> bool:
    """Tell whether two ranges have addresses in common: then the one with the longer prefix lies within the other."""
    bits = (32 if one[0] == socket.AF_INET else 128) - min(one[2], other[2])
    return one[0] == other[0] and one[1] >> bits == other[1] >> bits


def _judge_range(text: str, ctx: Context) -> None:
    try:
        wanted = range_of(text)
    except ValueError as error:
        raise Malformed(f"{ctx.path}: {show(text)} is no range of addresses (172.28.0.0/16)") from error
    listed = ctx.names("subnets")
    if "ALL" in listed:
        return
    known = [one for one in map(range_of, listed) if overlap(one, wanted) and one[2] <= wanted[2]]
    if not known or wanted[2] < LEAST[wanted[0]]:
        within = (
            f", or within {', '.join(listed)}, at most a /16, or a /48 of IPv6: the role's subnets" if listed else ""
        )
        raise ctx.refusal(f"may not take {text} for a network (allowed: none given{within})", "subnets")


def subnet(value: str, ctx: Context) -> str:
    """Allow the role's ranges: a network takes the host's own traffic to its addresses, too."""
    if value:
        _judge_range(value, ctx)
    return value


def address(value: str, ctx: Context) -> str:
    """Allow addresses in the role's ranges."""
    if value:
        _judge_range(f"{value}/{128 if ':' in value else 32}", ctx)
    return value


def addresses(value: dict[str, str], ctx: Context) -> dict[str, str]:
    """Allow named addresses in the role's ranges."""
    for item in value.values():
        address(item, ctx)
    return value


RULES: Rules = {
    "address": address,
    "addresses": addresses,
    "driver_options": rules.driver_options,
    "endpoints": endpoints,
    "exposed_ports": exposed_ports,
    "host_address": host_address,
    "host_port": host_port,
    "publish_all": publish_all,
    "ignored": rules.ignored,
    "ipam_driver": only(("", "default"), "driver_options", "choose an address driver"),
    "labels": rules.labels,
    "own_networks": rules.own_networks,
    "owned_labels": rules.owned_labels,
    "network_name": network_name,
    "network_driver": only(("", "bridge"), "driver_options", "choose this network driver"),
    "network_mode": network_mode,
    "network_options": network_options,
    "network_scope": only(("", "local"), "driver_options", "make networks of a swarm"),
    "subnet": subnet,
}
