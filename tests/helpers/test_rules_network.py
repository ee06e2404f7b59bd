"""What a container and a network may reach."""

from __future__ import annotations

import pytest

from sockproxy_helpers.errors import Malformed, Refused
from tests.support.judging import ADMIN, DEVELOPER, OWNED, create, judge


def network(config: dict[str, object] | None = None, **fields: object) -> dict[str, object]:
    ipam = {"IPAM": {"Config": [config]}} if config else {}
    return {"Name": "n", **ipam, **fields}


@pytest.mark.parametrize("mode", ["", "default", "bridge", "none", "my_net.1"])
def test_networks_by_name(mode: str) -> None:
    assert create({"NetworkMode": mode})["NetworkMode"] == mode


@pytest.mark.parametrize(
    ("mode", "rule"),
    [("host", "host_namespaces"), ("ns:/proc/1/ns/net", ""), ("a b", "")],
)
def test_other_modes(mode: str, rule: str) -> None:
    endpoints = {"NetworkingConfig": {"EndpointsConfig": {mode: {}}}}
    for attempt in (
        lambda: create({"NetworkMode": mode}),
        lambda: judge("ContainerCreate", endpoints),
        lambda: judge("ImageBuild", query=[("networkmode", mode)]),
    ):
        with pytest.raises(Refused) as refusal:
            attempt()
        assert refusal.value.rule == rule
    if rule:
        assert create({"NetworkMode": mode}, ADMIN)["NetworkMode"] == mode


@pytest.mark.parametrize("port", ["", "0", "1024", "8080", "8000-8010", "65535"])
def test_ports(port: str) -> None:
    create({"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]}})


@pytest.mark.parametrize("port", ["1", "80", "1023", "1023-2000", "0-10"])
def test_low_ports(port: str) -> None:
    with pytest.raises(Refused, match=r"HostConfig.PortBindings.80/tcp\[0\].HostPort.*allowed: 1024 and above"):
        create({"PortBindings": {"80/tcp": [{"HostPort": port}]}})
    create({"PortBindings": {"80/tcp": [{"HostPort": port}]}}, ADMIN | {"ports": {"min": 0, "addresses": ["ALL"]}})


@pytest.mark.parametrize("port", ["00080", "-1", "+80", " 80", "8080/tcp", "65536", "8000-70000", "80-", "a", "\u0661"])
def test_odd_ports(port: str) -> None:
    with pytest.raises(Malformed):
        create({"PortBindings": {"80/tcp": [{"HostPort": port}]}}, ADMIN)


@pytest.mark.parametrize("port", ["", "tcp", "80/icmp", "80/TCP", "a"])
def test_odd_container_ports(port: str) -> None:
    with pytest.raises(Malformed):
        judge("ContainerCreate", {"ExposedPorts": {port: {}}})
    with pytest.raises(Malformed):
        create({"PortBindings": {port: []}})


@pytest.mark.parametrize("ports", [{"min": 65536, "addresses": ["0.0.0.0"]}, {"min": None, "addresses": ["ALL"]}])
def test_no_ports_at_all(ports: dict[str, object]) -> None:
    rules = DEVELOPER | {"ports": ports}
    create({"PortBindings": {"80/tcp": [{"HostPort": ""}]}}, rules)
    with pytest.raises(Refused):
        create({"PortBindings": {"80/tcp": [{"HostPort": "65535"}]}}, rules)


@pytest.mark.parametrize("address", ["127.0.0.2", "::", "192.0.2.1", "0", "0.0.0.00", "localhost"])
def test_other_addresses(address: str) -> None:
    with pytest.raises(Refused, match=r"HostIp: .* on .* \(allowed: 0.0.0.0, 127.0.0.1\)") as refusal:
        create({"PortBindings": {"80/tcp": [{"HostIp": address, "HostPort": "8080"}]}})
    assert refusal.value.rule == "ports"
    create({"PortBindings": {"80/tcp": [{"HostIp": address, "HostPort": "8080"}]}}, ADMIN)


def test_no_address_is_all_of_them() -> None:
    loopback = DEVELOPER | {"ports": {"min": 1, "addresses": ["127.0.0.1"]}}
    for host in ({"PortBindings": {"80/tcp": [{}]}}, {"PortBindings": {"80/tcp": [{"HostIp": ""}]}}):
        create(host)
        with pytest.raises(Refused, match=r"on 0\.0\.0\.0 \(allowed: 127\.0\.0\.1\)"):
            create(host, loopback)
    with pytest.raises(Refused, match="PublishAllPorts"):
        create({"PublishAllPorts": True}, loopback)
    create({"PublishAllPorts": True})
    create({"PublishAllPorts": False}, loopback)


def test_endpoint_drivers() -> None:
    for options in (
        {"DriverOpts": {"com.docker.network.endpoint.sysctls": "a"}},
        {"IPAMConfig": {"LinkLocalIPs": ["169.254.1.1"]}},
    ):
        with pytest.raises(Refused, match="drivers"):
            judge("NetworkConnect", {"Container": "a", "EndpointConfig": options})
        with pytest.raises(Refused, match=r"NetworkingConfig\.EndpointsConfig\.n\."):
            judge("ContainerCreate", {"NetworkingConfig": {"EndpointsConfig": {"n": options}}})


@pytest.mark.parametrize(
    "range_", ["172.28.0.0/16", "172.16.238.0/24", "172.31.255.0/24", "192.168.3.1/24", "fd00:1::/48", "fdff::/64", ""]
)
def test_listed_ranges(range_: str) -> None:
    judge("NetworkCreate", network({"Subnet": range_, "IPRange": range_}))


@pytest.mark.parametrize(
    "range_",
    [
        "8.8.8.0/24",
        "169.254.169.0/24",
        "127.0.0.0/16",
        "172.32.0.0/16",
        "172.15.0.0/16",
        "11.0.0.0/16",
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.5.0.0/16",
        "172.16.0.0/15",
        "fc00::/64",
        "192.169.0.0/24",
        "fe80::/64",
        "2001:db8::/64",
        "fd00::/7",
        "::ffff:10.0.0.0/112",
        "fd00::/47",
    ],
)
def test_other_ranges(range_: str) -> None:
    for key in ("Subnet", "IPRange"):
        with pytest.raises(Refused, match=r"allowed: none given, or within 172\.16\.0\.0/12, ") as refusal:
            judge("NetworkCreate", network({key: range_}))
        assert refusal.value.rule == "subnets"
    judge("NetworkCreate", network({"Subnet": range_}), rules=ADMIN)


def test_an_administrators_ranges() -> None:
    rules = {**DEVELOPER, "subnets": ["10.200.0.0/14", "203.0.113.0/24"]}
    for range_ in ("10.201.0.0/16", "10.203.9.0/24", "203.0.113.0/25"):
        judge("NetworkCreate", network({"Subnet": range_}), rules=rules)
    for range_ in ("10.204.0.0/16", "10.200.0.0/14", "10.200.0.0/15", "172.28.0.0/16", "203.0.112.0/23"):
        with pytest.raises(Refused, match=r"within 10\.200\.0\.0/14, 203"):
            judge("NetworkCreate", network({"Subnet": range_}), rules=rules)
    judge("NetworkCreate", network({}), rules={**DEVELOPER, "subnets": []})
    with pytest.raises(Refused, match=r"\(allowed: none given\)$"):
        judge("NetworkCreate", network({"Subnet": "172.28.0.0/16"}), rules={**DEVELOPER, "subnets": []})


@pytest.mark.parametrize(
    "range_",
    ["10.0.0.0", "10.0.0/24", "010.0.0.0/24", "10.0.0.0/33", "fd00::/129", "10.0.0.0/-1", "a/8", "/", "10.0.0.0/16/16"],
)
def test_odd_ranges(range_: str) -> None:
    with pytest.raises(Malformed):
        judge("NetworkCreate", network({"Subnet": range_}), rules=ADMIN)


def test_addresses() -> None:
    judge("NetworkCreate", network({"Gateway": "172.28.0.1", "AuxiliaryAddresses": {"a": "fd00::2", "b": ""}}))
    for config in ({"Gateway": "8.8.8.8"}, {"AuxiliaryAddresses": {"a": "8.8.8.8"}}):
        with pytest.raises(Refused):
            judge("NetworkCreate", network(config))
    with pytest.raises(Malformed):
        judge("NetworkCreate", network({"Gateway": "x"}))


@pytest.mark.parametrize(
    "fields",
    [
        {"Driver": "macvlan"},
        {"Driver": "host"},
        {"Scope": "swarm"},
        {"Ingress": True},
        {"ConfigOnly": True},
        {"ConfigFrom": {"Network": "a"}},
        {"IPAM": {"Driver": "dhcp"}},
        {"IPAM": {"Options": {"a": "b"}}},
        {"Options": {"com.docker.network.bridge.name": "docker0"}},
        {"Options": {"parent": "eth0"}},
    ],
)
def test_drivers(fields: dict[str, object]) -> None:
    with pytest.raises(Refused) as refusal:
        judge("NetworkCreate", network(**fields))
    assert refusal.value.rule == "driver_options"
    judge("NetworkCreate", network(**fields), rules=ADMIN)


def test_plain_networks() -> None:
    body = network(
        Driver="bridge",
        Internal=True,
        Attachable=True,
        EnableIPv6=True,
        Labels={"a": "b"},
        CheckDuplicate=True,
        Scope="local",
        Options={"com.docker.network.bridge.enable_icc": "false", "com.docker.network.driver.mtu": "1400"},
    )
    assert judge("NetworkCreate", body)[1] == {**body, "Labels": {"a": "b", **OWNED}}
    for fields in (
        {"ConfigFrom": None},
        {"ConfigFrom": {"Network": ""}},
        {"Ingress": False},
        {"IPAM": {"Options": {}}},
    ):
        judge("NetworkCreate", network(**fields))
    with pytest.raises(Refused, match="looks like an ID"):
        judge("NetworkCreate", {"Name": "a" * 64})
    for mtu in ("1", "1279", "65536", "-1", "+1500", "\u0661\u0662\u0663\u0664", ""):
        with pytest.raises(Refused, match=r"may not have an MTU of .* \(allowed: 1280 to 65535\)"):
            judge("NetworkCreate", network(Options={"com.docker.network.driver.mtu": mtu}))
    for name in ("ingress", "docker_gwbridge"):
        with pytest.raises(Refused, match="a network of a swarm"):
            judge("NetworkCreate", {"Name": name})
