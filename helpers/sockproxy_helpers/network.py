"""Judge the fields of networks and of a container's way to them."""

from __future__ import annotations

import re
import socket

from . import rules
from .context import Context
from .errors import Malformed
from .fields import Rules
from .rules import network_mode, only
from .strict import show

_PORT = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp|sctp))?")
_HOST_PORT = re.compile(r"(0|[1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?")  # one spelling: "00080" would be 80
_BRIDGE = re.compile(r"sockproxy-[0-9]+")
_FREE_OPTIONS = ("com.docker.network.bridge.enable_icc", "com.docker.network.driver.mtu")

# RFC 1918 and RFC 4193: what no host should route to elsewhere. (family, first address, bits of it, least prefix)
_PRIVATE = (
    (socket.AF_INET, "10.0.0.0", 8, 16),
    (socket.AF_INET, "172.16.0.0", 12, 16),
    (socket.AF_INET, "192.168.0.0", 16, 16),
    (socket.AF_INET6, "fc00::", 7, 48),
)


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
    return rules.name(value, ctx)


def network_options(value: dict[str, str], ctx: Context) -> dict[str, str]:
    """Allow the bridge driver's harmless options; others could take over the daemon's own bridge."""
    for key in value:
        if key not in _FREE_OPTIONS and not ctx.flag("driver_options"):
            allowed = ", ".join(_FREE_OPTIONS)
            raise ctx.refusal(f"may not set {show(key)} (allowed: {allowed})", "driver_options")
    return value


def _is_private(text: str, prefix: int | None) -> bool:
    """Tell whether an address, or a network of this prefix, lies in a private range and is not too wide.

    Raises:
        ValueError: neither IPv4 nor IPv6, in the usual spelling.
    """
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        packed = socket.inet_pton(family, text)
    except OSError as error:
        raise ValueError(text) from error
    bits = len(packed) * 8
    if prefix is not None and prefix > bits:
        raise ValueError(text)
    return any(
        family == kind
        and int.from_bytes(packed, "big") >> bits - size
        == int.from_bytes(socket.inet_pton(kind, first), "big") >> bits - size
        and (prefix is None or prefix >= least)
        for kind, first, size, least in _PRIVATE
    )


def _judge_range(value: str, prefix: int | None, ctx: Context) -> None:
    try:
        private = _is_private(value, prefix)
    except ValueError as error:
        raise Malformed(f"{ctx.path}: {show(value)} is not an address") from error
    if not private and not ctx.flag("driver_options"):
        ranges = ", ".join(f"{first}/{size}" for _, first, size, _ in _PRIVATE)
        allowed = f"(allowed: within {ranges}; at most a /16, or a /48 of IPv6)"
        raise ctx.refusal(f"may not take these addresses from the host's routes {allowed}", "driver_options")


def subnet(value: str, ctx: Context) -> str:
    """Allow private ranges: any other would re-route the host itself."""
    address, _, prefix = value.partition("/")
    if value and not re.fullmatch(r"[0-9]{1,3}", prefix):
        raise Malformed(f"{ctx.path}: {show(value)} is not a range (10.1.0.0/16)")
    if value:
        _judge_range(address, int(prefix), ctx)
    return value


def address(value: str, ctx: Context) -> str:
    """Allow addresses in private ranges."""
    if value:
        _judge_range(value, None, ctx)
    return value


def addresses(value: dict[str, str], ctx: Context) -> dict[str, str]:
    """Allow named addresses in private ranges."""
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
