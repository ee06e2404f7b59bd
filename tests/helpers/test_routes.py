"""A network's ranges are nothing that the host reaches otherwise."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sockproxy_helpers.errors import Refused, Unavailable
from sockproxy_helpers.totals import routes
from tests.helpers.asked import finish
from tests.support.judging import ADMIN, DEVELOPER, context

# A default route, 192.168.77.0/24, a host of 10.1.2.3 and 172.16.0.0/12, as an x86 shows them.
ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t014DA8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t004DA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tun0\t0302010A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
tun0\t000010AC\t00000000\t0001\t0\t0\t0\t0000F0FF\t0\t0\t0
"""
NOWHERE = "0" * 32 + " 00 " + "0" * 32
ROUTES6 = f"""{"fd12" + "0" * 28} 30 {NOWHERE} 00000100 00000001 00000000 00000001 eth0
{"0" * 32} 00 {NOWHERE} 00000400 00000001 00000000 00000003 eth0
"""


class Peer:
    """A daemon: this process."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()

    async def open(self) -> socket.socket:
        return self.ours


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    folder = tmp_path / str(os.getpid()) / "net"
    folder.mkdir(parents=True)
    (folder / "route").write_text(ROUTES)
    (folder / "ipv6_route").write_text(ROUTES6)
    monkeypatch.setattr(routes, "PROC", str(tmp_path))
    (tmp_path / "resolv.conf").write_text("# a comment\nsearch x\nnameserver 10.77.0.53\nnameserver fd77::53%eth0\n")
    (tmp_path / "odd").write_text("nameserver\nnameserver x\n")
    files = [str(tmp_path / name) for name in ("missing", "odd", "resolv.conf")]
    monkeypatch.setattr(routes, "NAME_SERVERS", files)
    found = Peer()
    yield found
    found.ours.close()
    found.theirs.close()


def judge(peer: Peer, *subnets: str, rules: Any = DEVELOPER) -> None:
    body = {"Name": "n", "IPAM": {"Config": [{"Gateway": "10.0.0.1"}, *({"Subnet": text} for text in subnets)]}}
    finish(routes.judge(peer, context(rules, "NetworkCreate"), body))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("subnet", "route"),
    [
        ("192.168.77.0/24", "192.168.77.0/24"),
        ("192.168.77.128/25", "192.168.77.0/24"),
        ("192.168.0.0/16", "192.168.77.0/24"),
        ("10.1.0.0/16", "10.1.2.3/32"),
        ("10.1.2.3/32", "10.1.2.3/32"),
        ("172.20.0.0/24", "172.16.0.0/12"),
        ("fd12::/64", "fd12::/48"),
        ("fd12:0:0:1::/64", "fd12::/48"),
    ],
)
def test_a_range_that_the_host_has_a_route_to(peer: Peer, subnet: str, route: str) -> None:
    with pytest.raises(Refused, match=f"may not take {subnet}: the host has a route to {route}") as refusal:
        judge(peer, "10.9.0.0/24", subnet)
    assert (refusal.value.field, refusal.value.rule) == ("IPAM.Config[2].Subnet", "subnets")
    judge(peer, subnet, rules=ADMIN)


@pytest.mark.parametrize(("subnet", "server"), [("10.77.0.0/16", "10.77.0.53/32"), ("fd77::/64", "fd77::53/128")])
def test_a_range_with_the_hosts_name_server(peer: Peer, subnet: str, server: str) -> None:
    """Which the host may reach by its default gateway: whoever has the address would answer for all names."""
    with pytest.raises(Refused, match=f"may not take {subnet}: it has the host's name server {server}"):
        judge(peer, subnet)
    judge(peer, "10.78.0.0/16", "fd78::/64")


def test_other_ranges(peer: Peer) -> None:
    judge(peer, "192.168.78.0/24", "10.1.2.4/32", "10.2.0.0/16", "fd13::/48", "192.168.64.0/21")


def test_without_ranges_nothing_is_read() -> None:
    for body in (None, {}, {"IPAM": {}}, {"IPAM": {"Config": []}}, {"IPAM": {"Config": [{"Gateway": "10.0.0.1"}]}}):
        finish(routes.judge(None, context(DEVELOPER, "NetworkCreate"), body))  # type: ignore[arg-type]


def test_a_host_without_ipv6(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / str(os.getpid()) / "net" / "ipv6_route").unlink()
    judge(peer, "fd12::/64")


def test_routes_that_can_not_be_read(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / str(os.getpid()) / "net" / "route").unlink()
    with pytest.raises(Unavailable, match="routes"):
        judge(peer, "10.9.0.0/24")


def test_this_hosts_own_table_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form above is the kernel's."""
    own = Peer()
    judge(own, "10.254.253.252/32")
    own.ours.close()
    own.theirs.close()
