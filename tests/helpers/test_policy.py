"""What a helper decides from a compiled policy."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import pytest

from sockproxy_helpers.errors import BadPolicy, Refused
from sockproxy_helpers.judge import policy
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system.caller import Caller, Container

RULES: dict[str, Any] = {
    "bind_groups": False,
    "binds": [{"path": "{home}", "mode": "rw"}, {"path": "/srv", "mode": "ro"}],
    "cache_imports": False,
    "capabilities": ["CHOWN"],
    "build_bridge": False,
    "cgroup_parent": False,
    "devices": False,
    "driver_options": False,
    "registries": ["ALL"],
    "frontends": [],
    "fetch": False,
    "default_bridge": False,
    "host_namespaces": [],
    "limits": {"memory": 1 << 30, "cpus": 1.5, "pids": None, "containers": 0, "logs": 1 << 20},
    "traffic": {"connections": 1, "streams": None, "requests": 1},
    "totals": {
        "memory": 1 << 30,
        "cpus": 1.5,
        "pids": None,
        "networks": 0,
        "volumes": 1,
        "ports": None,
        "binds": 0,
        "tags": 0,
        "disk": 0,
    },
    "ulimits": {"core": None, "nofile": 0},
    "share": "group",
    "mode": "enforce",
    "no_new_privileges": True,
    "plain_binds": False,
    "ports": {"min": 1024, "addresses": ["0.0.0.0"]},
    "privileged": False,
    "revoke_streams": True,
    "runtimes": [],
    "security_options": False,
    "sees_all": False,
    "sessions": {"output": 1 << 20},
    "subnets": [],
    "sysctls": [],
    "unmapped_binds": False,
    "unmodelled": False,
    "via": ["peer", "container"],
}


def role(line: int, *operations: str) -> dict[str, Any]:
    return {
        "at": f"p.yaml:{line}",
        "operations": {name: f"p.yaml:{line + 1 + index}" for index, name in enumerate(operations)},
        "rules": {name: [value, f"p.yaml:{line + 9}"] for name, value in RULES.items()},
    }


DOCUMENT: dict[str, Any] = {
    "version": 1,
    "source": "p.yaml",
    "users": {"root": [1, "admin", "p.yaml:1"], "carol": [3, "viewer", "p.yaml:3"]},
    "groups": {"staff": [2, "developer", "p.yaml:2"], "guests": [4, "viewer", "p.yaml:4"]},
    "audit": {"on_full": "refuse", "commands": "program"},
    "auth": {"accounts": "none", "cache": 30, "token_hours": 12},
    "containers": [
        [[5, "viewer", "p.yaml:5"], {"name": "traefik"}],
        [[6, "admin", "p.yaml:6"], {"label": "a=b", "owner": "kim"}],
    ],
    "roles": {
        "viewer": role(10, "ContainerList"),
        "developer": role(20, "ContainerList", "ContainerCreate"),
        "admin": role(30, "ContainerList", "ContainerCreate", "SwarmInit"),
    },
}


def encode(document: object) -> bytes:
    return json.dumps(document).encode()


def person(user: str, *groups: str, uid: int = 7001) -> Caller:
    return Caller(uid, uid, 1, user, list(groups), f"/home/{user}")


@pytest.fixture
def loaded() -> Policy:
    return Policy(encode(DOCUMENT))


def test_the_policy_is_named_by_its_bytes(loaded: Policy) -> None:
    assert loaded.sha256 == hashlib.sha256(encode(DOCUMENT)).hexdigest()
    assert loaded.source == "p.yaml"


def test_allowed_names_the_line_of_the_operation_and_carries_the_rules(loaded: Policy) -> None:
    decision = loaded.decide(person("x", "staff"), "ContainerCreate")
    assert (decision.allowed, decision.role, decision.at, decision.why) == (True, "developer", "p.yaml:22", "")
    assert decision.rules["ports"] == ({"min": 1024, "addresses": ["0.0.0.0"]}, "p.yaml:29")
    assert decision.rules.keys() == policy.RULES.keys()


def test_refused_by_the_role(loaded: Policy) -> None:
    decision = loaded.decide(person("x", "guests"), "ContainerCreate")
    assert (decision.allowed, decision.role, decision.at) == (False, "viewer", "p.yaml:10")
    assert decision.why == "role viewer does not allow ContainerCreate"


@pytest.mark.parametrize("operation", ["", "containercreate", "ContainerCreate ", "at", "NoSuchThing", "__class__"])
def test_an_operation_that_is_not_in_the_list_is_refused(loaded: Policy, operation: str) -> None:
    assert not loaded.decide(person("root"), operation).allowed


@pytest.mark.parametrize(
    ("who", "why"),
    [
        (person("mallory", "users", "games"), "no binding matches user mallory (groups: users, games)"),
        (person("mallory"), "no binding matches user mallory (groups: none)"),
        (person("", uid=4242), "no binding matches uid 4242, which has no account"),
    ],
)
def test_who_matches_nothing_has_nothing(loaded: Policy, who: Caller, why: str) -> None:
    decision = loaded.decide(who, "ContainerList")
    assert (decision.allowed, decision.role, decision.at) == (False, "", "p.yaml")
    assert decision.why == f"{why}: ask the administrator for one, or a bound group (staff, guests)"
    assert decision.rules == {}


@pytest.mark.parametrize(
    ("who", "role_name"),
    [
        (person("carol", "staff"), "developer"),  # the group's line is before hers
        (person("carol", "guests"), "viewer"),
        (person("root", "staff", "guests"), "admin"),
        (
            person("x", "guests", "staff"),
            "developer",
        ),  # the order of the groups does not matter, that of the lines does
        (person("staff"), None),  # a user's name is not a group's
        (person("x", "root"), None),
        (person("", "nothing"), None),
    ],
)
def test_the_first_line_that_matches_wins(loaded: Policy, who: Caller, role_name: str | None) -> None:
    binding = loaded.role_of(who)
    assert (binding and binding[1]) == role_name


class Unwalkable(dict[str, tuple[int, str, str]]):
    """A dict that can only be asked for a key."""

    def _refuse(self, *_: object) -> Any:
        raise AssertionError("walked")

    __iter__ = keys = values = items = __len__ = _refuse


def test_a_decision_looks_up_and_does_not_walk(loaded: Policy) -> None:
    """The cost of a decision does not depend on how many bindings there are."""
    loaded._users, loaded._groups = Unwalkable(loaded._users), Unwalkable(loaded._groups)
    assert loaded.decide(person("carol", "staff", "x"), "ContainerCreate").allowed
    assert not loaded.decide(person("mallory", "y"), "ContainerCreate").allowed


def damaged(*path: Any, value: Any = None, drop: bool = False) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


def rule(name: str, value: Any) -> dict[str, Any]:
    return damaged("roles", "viewer", "rules", name, value=[value, "p.yaml:1"])


def limit(name: str, value: Any) -> dict[str, Any]:
    return damaged("roles", "viewer", "rules", "limits", 0, name, value=value)


DAMAGE = [
    [],
    "x",
    None,
    {},
    *(damaged(key, drop=True) for key in DOCUMENT),
    damaged("more", value=1),
    damaged("version", value=2),
    damaged("version", value=True),
    damaged("version", value="1"),
    damaged("source", value=""),
    damaged("source", value="a\nb"),
    damaged("source", value=1),
    damaged("users", value=[]),
    damaged("containers", value={}),
    damaged("containers", 0, value=[[5, "viewer", "p.yaml:5"]]),
    damaged("containers", 0, 0, value=[5, "nobody", "p.yaml:5"]),
    damaged("containers", 0, 1, value={}),
    damaged("containers", 0, 1, value={"owner": "kim"}),
    damaged("containers", 0, 1, value={"name": ""}),
    damaged("containers", 0, 1, value={"name": "x", "what": "y"}),
    damaged("users", "", value=[1, "viewer", "p:1"]),
    damaged("users", "x", value=[1, "viewer"]),
    damaged("users", "x", value=[1, "viewer", "p:1", 4]),
    damaged("users", "x", value={"a": 1, "b": 2, "c": 3}),
    damaged("users", "x", value=["1", "viewer", "p:1"]),
    damaged("users", "x", value=[True, "viewer", "p:1"]),
    damaged("users", "x", value=[1.0, "viewer", "p:1"]),
    damaged("users", "x", value=[-1, "viewer", "p:1"]),
    damaged("users", "x", value=[1, "nobody", "p:1"]),
    damaged("users", "x", value=[1, ["viewer"], "p:1"]),
    damaged("users", "x", value=[1, "viewer", ""]),
    damaged("users", "x", value=[1, "viewer", "p\x1b"]),
    damaged("groups", value=None),
    damaged("audit", value=None),
    damaged("audit", value={"on_full": "refuse"}),
    damaged("audit", "commands", value="none"),
    damaged("groups", "x", value=[1, "none", "p:1"]),
    damaged("roles", value=[]),
    damaged("roles", "viewer", value=[]),
    damaged("roles", "viewer", "at", drop=True),
    damaged("roles", "viewer", "at", value=3),
    damaged("roles", "viewer", "more", value=3),
    damaged("roles", "viewer", "operations", value=["ContainerList"]),
    damaged("roles", "viewer", "operations", "x", value=None),
    *(damaged("roles", "viewer", "rules", name, drop=True) for name in RULES),
    damaged("roles", "viewer", "rules", "unknown", value=[True, "p:1"]),
    damaged("roles", "viewer", "rules", "privileged", value=False),
    damaged("roles", "viewer", "rules", "privileged", value=[False]),
    damaged("roles", "viewer", "rules", "privileged", value=[False, ""]),
    *(rule(name, value) for name, good in RULES.items() if type(good) is bool for value in (None, 0, 1, "true", [])),
    *(
        rule(name, value)
        for name in ("capabilities", "sysctls", "runtimes", "host_namespaces")
        for value in (None, "ALL", [1], [""], {})
    ),
    *(rule("binds", value) for value in (None, "/", ["/"], [{}], [{"path": "/a"}], [{"path": "a", "mode": "ro"}])),
    rule("binds", [{"path": "/a", "mode": "rx"}]),
    rule("binds", [{"path": 1, "mode": "ro"}]),
    rule("binds", [{"path": "/a", "mode": ["ro"]}]),
    rule("binds", [{"path": "/a", "mode": "ro", "more": 1}]),
    rule("limits", None),
    rule("limits", {"memory": None}),
    *(limit(name, value) for name in ("memory", "pids", "cpus") for value in (0, -1, True, "1")),
    *(limit(name, 1.5) for name in ("memory", "pids", "containers")),
    limit("containers", -1),
    *(rule("ulimits", value) for value in (None, [], {"core": -1}, {"core": "1"}, {"": 1})),
    rule("totals", {"memory": None, "cpus": None, "pids": None}),
    limit("cpus", float("inf")),
    limit("cpus", float("nan")),
    *(
        rule("ports", value)
        for value in (
            None,
            1024,
            {},
            {"min": 0},
            {"min": 65537},
            {"min": True},
            {"min": 1, "max": 2},
            {"min": 1},
            {"min": 1, "addresses": [1]},
        )
    ),
]


@pytest.mark.parametrize("document", DAMAGE, ids=range(len(DAMAGE)))
def test_another_shape_is_refused(document: object) -> None:
    with pytest.raises(BadPolicy):
        Policy(encode(document))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        "é".encode(),
        encode(DOCUMENT) + b"x",
        b"[" * 100_000,
        encode(DOCUMENT).replace(b'"version": 1', b'"version": 1, "version": 1'),
        encode(DOCUMENT).replace(b'"version": 1', b'"version": NaN'),
        b" " * (policy.LARGEST + 1),
    ],
    ids=range(9),
)
def test_other_bytes_are_refused(text: bytes) -> None:
    with pytest.raises(BadPolicy):
        Policy(text)


def test_a_damaged_policy_is_a_refusal() -> None:
    """Who catches too little still denies."""
    assert issubclass(BadPolicy, Refused)


def in_container(
    owner: int | None, name: str = "traefik", user: str = "", labels: dict[str, object] | None = None, trouble: str = ""
) -> Caller:
    who = Caller(owner or 65534, 65534, 1, user, [], "")
    who.via, who.container = "container", Container("1" * 64, name, "traefik:v3", labels or {}, owner, trouble)
    who.trouble = trouble
    return who


def test_a_container_of_roots_has_the_role_of_its_binding(loaded: Policy) -> None:
    for owner in (None, 0):
        assert loaded.role_of(in_container(owner)) == (5, "viewer", "p.yaml:5")
        assert loaded.role_of(in_container(owner, "other")) is None


def test_a_container_called_so_by_somebody_else_has_not(loaded: Policy) -> None:
    assert loaded.role_of(in_container(7001, user="kim")) is None
    assert loaded.role_of(in_container(7001)) is None  # of an account that is gone
    assert loaded.role_of(in_container(None, trouble="unknown")) is None


def test_a_container_told_by_its_label_and_owner(loaded: Policy) -> None:
    assert loaded.role_of(in_container(7001, user="kim", labels={"a": "b"})) == (6, "admin", "p.yaml:6")
    assert loaded.role_of(in_container(7002, user="lee", labels={"a": "b"})) is None
    assert loaded.role_of(in_container(7001, user="kim", labels={"a": "c"})) is None
    assert loaded.role_of(in_container(None, "x", labels={"a": "b"})) is None


def test_a_role_is_held_only_by_who_is_known_in_its_ways() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["roles"]["viewer"]["rules"]["via"] = [["peer"], "p.yaml:19"]
    policy = Policy(encode(document))
    carol = in_container(7001, "hers", user="carol")
    decision = policy.decide(carol, "ContainerList")
    assert (decision.allowed, decision.at) == (False, "p.yaml:19")
    assert decision.why == "role viewer may not be held by who is known by container (allowed: peer)"
    assert policy.decide(carol, "SystemPing").allowed is False  # carol's role of this test has no ping
    assert policy.decide(in_container(None), "ContainerList").allowed  # a binding of containers says so itself


def test_who_is_in_trouble_is_told_why(loaded: Policy) -> None:
    who = in_container(None, "x", trouble="the process that connected is gone")
    assert loaded.decide(who, "ContainerList").why == "the process that connected is gone"
    assert loaded.decide(who, "SystemPing").allowed
