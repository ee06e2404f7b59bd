"""Roles in warn mode: what they let through, what not, and that each rule has been decided on."""

from __future__ import annotations

import pytest

from sockproxy.policy.compile import compile_text, dump
from sockproxy.policy.schema import RULES
from sockproxy_helpers.content.ledger import Ledger
from sockproxy_helpers.content.references import Resolution
from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.judge import model, warn
from sockproxy_helpers.judge.context import context_of
from sockproxy_helpers.judge.policy import Decision, Policy
from sockproxy_helpers.system import caller
from sockproxy_helpers.system.caller import Caller, Container
from sockproxy_helpers.upstream.objects import Objects
from tests.helpers.asked import KIM, LEE, Asked, finish
from tests.support.judging import DEVELOPER, OPERATIONS, context

WARNING = DEVELOPER | {"mode": "warn", "sysctls": [], "ulimits": {}}
# A part of HostConfig that each rule refuses.
LET_THROUGH: dict[str, dict[str, object]] = {
    "limits": {"Memory": 9 << 30},
    "no_new_privileges": {"SecurityOpt": ["no-new-privileges=false"]},
    "sysctls": {"Sysctls": {"net.core.somaxconn": "9"}},
    "ulimits": {"Ulimits": [{"Name": "nofile", "Soft": 9, "Hard": 9}]},
}
STAYS: list[dict[str, object]] = [
    {"Privileged": True},
    {"CapAdd": ["SYS_ADMIN"]},
    {"PidMode": "host"},
    {"Devices": [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda", "CgroupPermissions": "rwm"}]},
    {"SecurityOpt": ["seccomp=unconfined"]},
    {"Runtime": "other"},
    {"CgroupParent": "/x"},
    {"Memory": 17 << 30},
    {"Sysctls": {"kernel.msgmax": "9"}},
    {"Ulimits": [{"Name": "rtprio", "Soft": 9, "Hard": 9}]},
    {"NoSuchField": 1},
]


def settle(scope: str, host: dict[str, object]) -> tuple[list[Refused], object]:
    ctx = context(WARNING, "ContainerCreate")
    part = model.split({"Image": "a", "HostConfig": host})[scope]
    would = warn.settle(ctx, lambda: model.approve(scope, "ContainerCreate", [], part, ctx))
    return would, model.approve(scope, "ContainerCreate", [], part, ctx)[1]


def test_each_rule_is_decided_on_once() -> None:
    assert warn.WIDER.keys() | warn.ENFORCED.keys() == RULES.keys()
    assert warn.WIDER.keys().isdisjoint(warn.ENFORCED)
    assert LET_THROUGH.keys() | {"ports"} == warn.WIDER.keys()


@pytest.mark.parametrize("rule", LET_THROUGH)
def test_what_is_let_through_is_told(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    would, built = settle("lifecycle", LET_THROUGH[rule])
    assert [error.rule for error in would] == [rule]
    assert would[0].at.startswith("roles.yaml:")
    assert isinstance(built, dict)
    [(field, value)] = LET_THROUGH[rule].items()
    assert built["HostConfig"][field] == value


def test_ports() -> None:
    would, _ = settle("network", {"PortBindings": {"80/tcp": [{"HostIp": "192.0.2.1", "HostPort": "1024"}]}})
    assert [error.rule for error in would] == ["ports"]
    with pytest.raises(Refused):
        settle("network", {"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "80"}]}})


@pytest.mark.parametrize("host", STAYS)
def test_what_stays_refused(host: dict[str, object]) -> None:
    with pytest.raises((Refused, Malformed)):
        settle("lifecycle", host)


def test_several_at_once_and_no_bound_of_the_persons() -> None:
    would, built = settle("lifecycle", {**LET_THROUGH["limits"], **LET_THROUGH["sysctls"]})
    assert {error.rule for error in would} == {"limits", "sysctls"}
    assert isinstance(built, dict)
    assert built["HostConfig"]["Memory"] == 9 << 30
    with pytest.raises(Refused, match="up to 17179869184"):
        settle("lifecycle", {**LET_THROUGH["sysctls"], "Memory": 17 << 30})


def test_without_warn_mode_nothing_is_judged_twice() -> None:
    ctx = context(DEVELOPER | {"mode": "enforce"}, "ContainerCreate")
    assert warn.settle(ctx, lambda: pytest.fail("judged")) == []


TRIED = b"""version: 1
bindings:
  - {container: {name: box, owner: kim}, role: tried}
  - {user: kim, role: tried}
  - {group: team, role: shared}
roles:
  tried: {extends: viewer, mode: warn, via: [token]}
  shared: {extends: viewer, mode: warn, share: group}
"""


def test_how_one_is_known_counts_in_warn_mode_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token's role is not to be had without one, whatever the mode; a container's is that container's."""
    loaded = Policy(dump(compile_text(TRIED, "p.yaml")))

    def kim(via: str, container: str = "") -> Decision:
        who = Caller(1000, 1000, 1, "kim", ["kim"], "/home/kim")
        who.via = via
        who.container = Container("a" * 64, container, "busybox", {}, 1000, "") if container else None
        return loaded.decide(who, "ContainerStart")

    assert (kim("token").allowed, kim("token").why) == (True, "role tried does not allow ContainerStart")
    assert (kim("container", "box").allowed, kim("container", "box").why) == (True, kim("token").why)
    for via, container in (("peer", ""), ("password", ""), ("container", "other")):
        assert "may not be held by who is known by" in kim(via, container).why
        assert not kim(via, container).allowed


def test_who_shares_does_not_remove_in_warn_mode_either(monkeypatch: pytest.MonkeyPatch) -> None:
    people = {KIM: ("kim2", ("team",), "/"), LEE: ("lee", ("team",), "/")}
    monkeypatch.setattr(caller, "account", people.__getitem__)
    loaded, daemon = Policy(dump(compile_text(TRIED, "p.yaml"))), Asked()
    theirs = daemon.container(0xA, "theirs", LEE)
    who = Caller(KIM, KIM, 1, "kim2", ["team"], "/")
    for operation, allowed in (("ContainerStart", True), ("ContainerDelete", False), ("ContainerUpdate", False)):
        decision = loaded.decide(who, operation)
        assert decision.why  # let through by the mode
        resolution = Resolution(Objects(), Ledger("/nowhere"), daemon, context_of(decision, who, operation))  # type: ignore[arg-type]
        if allowed:
            finish(resolution.run(variables := {"id": "theirs"}, [], None))
            assert variables == {"id": theirs}
        else:
            with pytest.raises(Refused, match="not remove or change it"):
                finish(resolution.run({"id": "theirs"}, [], {}))


def test_operations_that_nobody_checks_are_none_of_them() -> None:
    for name in warn.OPERATIONS:
        assert OPERATIONS[name].tag not in ("Swarm", "Plugin", "Secret", "Service", "Node", "Task", "Config", "Debug")
        assert OPERATIONS[name].scope == "front" or name in model.TABLES[OPERATIONS[name].scope]
