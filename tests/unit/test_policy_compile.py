"""From the policy file to the one compiled policy, and the built-in roles themselves."""

from __future__ import annotations

import json
import pwd
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from sockproxy import paths
from sockproxy.errors import ConfigError
from sockproxy.policy import compile as compiler
from sockproxy.policy.compile import MOST_ROLES, Compiled, compile_file, compile_text, dump
from sockproxy.policy.schema import RULES
from sockproxy_helpers.api import operations
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system.caller import Caller
from tests.support.judging import ROLES

EXAMPLE = Path(paths.config_dir(), "sockproxy.example.yaml")
GOLDEN = Path(__file__).with_name("policy_example.json")


def compiled(text: str, warnings: list[str] | None = None) -> Compiled:
    return compile_text(f"version: 1\n{text}".encode(), "p.yaml", (warnings if warnings is not None else []).append)


def roles(text: str) -> Compiled:
    return compiled("roles:\n" + text)


BUILT_IN = compile_file(None)


# The file as a whole


def test_no_file_is_the_built_in_policy() -> None:
    assert BUILT_IN["source"] == "built in"
    assert BUILT_IN["users"] == {"root": (1, "admin", "roles.yaml:13")}
    assert BUILT_IN["groups"] == {
        "sockproxy-users": (2, "developer", "roles.yaml:14"),
        "sockproxy-audit": (3, "auditor", "roles.yaml:15"),
    }
    assert list(BUILT_IN["roles"]) == ["viewer", "developer", "ci", "admin", "auditor"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "version: 1\n", "version: '1'\n", "version: 1\nroles: {}\n"])
def test_an_empty_file_is_the_built_in_policy(text: str) -> None:
    assert compile_text(text.encode(), "p.yaml") == {**BUILT_IN, "source": "p.yaml"}


def test_the_example_compiles_to_this() -> None:
    """Golden: after an intended change, write the new text with `dump` and read the difference.

    python -c 'import tests.unit.test_policy_compile as t; t.GOLDEN.write_text(t.example())'
    """
    assert example() == GOLDEN.read_text()


def example() -> str:
    return json.dumps(compile_text(EXAMPLE.read_bytes(), EXAMPLE.name), indent=1, sort_keys=True) + "\n"


def test_the_dump_is_canonical_and_what_the_helpers_load() -> None:
    text = dump(compile_file(str(EXAMPLE)))
    assert text == dump(compile_file(str(EXAMPLE)))
    assert text == (json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) + "\n").encode()
    loaded = Policy(text)
    carol = Caller(7001, 7001, 1, "carol", ["sockproxy-users"], "/home/carol")
    assert loaded.decide(carol, "ContainerList").role == "viewer"
    assert not loaded.decide(carol, "ContainerCreate").allowed


def test_a_name_that_is_not_ascii_survives() -> None:
    policy = Policy(dump(compiled("bindings: [{user: jürgen, role: viewer}]")))
    assert policy.decide(Caller(1, 1, 1, "jürgen", [], "/"), "ContainerList").allowed


# The built-in roles


ALL = {operation.name for operation in operations.load()}
EVERYBODYS = {"SystemOptions", "SystemPing", "SystemPingHead"}


def allowed(role: str) -> set[str]:
    return set(BUILT_IN["roles"][role]["operations"])


def test_admin_may_all() -> None:
    assert allowed("admin") == ALL


def test_viewer_changes_nothing() -> None:
    methods = {operation.name: operation.method for operation in operations.load()}
    assert {methods[name] for name in allowed("viewer") - EVERYBODYS} == {"GET"}
    contents = {
        "ContainerArchive",
        "ContainerExport",
        "ImageGet",
        "ImageGetAll",
        "ContainerAttachWebsocket",
        "ExecInspect",
    }
    assert not contents & allowed("viewer")


def test_developer_may_what_belongs_to_containers_images_volumes_and_networks() -> None:
    tags = ("Container", "Exec", "Image", "Volume", "Network", "System", "Distribution")
    mine = {operation.name for operation in operations.load() if operation.tag in tags}
    assert mine - allowed("developer") == {"ContainerCopy", "VolumeUpdate"}
    assert allowed("developer") - mine == {"BuildPrune", "Grpc", "Session"}
    assert allowed("ci") == allowed("developer")


@pytest.mark.parametrize("role", ["viewer", "developer", "ci"])
def test_only_admin_has_power_over_the_host(role: str) -> None:
    rules = {name: value for name, (value, _) in BUILT_IN["roles"][role]["rules"].items()}
    for name in ("privileged", "devices", "security_options", "driver_options", "cgroup_parent", "fetch", "unmodelled"):
        assert rules[name] is False
    assert rules["no_new_privileges"] is True
    assert rules["host_namespaces"] == []
    assert not {"MKNOD", "SETFCAP", "SYS_ADMIN", "ALL"}.intersection(map(str, rules["capabilities"]))  # type: ignore[arg-type]
    assert None not in rules["limits"].values()  # type: ignore[union-attr]
    assert None not in rules["totals"].values()  # type: ignore[union-attr]
    assert "rtprio" not in rules["ulimits"]  # type: ignore[operator]
    assert rules["ports"]["min"] >= 1024  # type: ignore[index, call-overload, operator]


def test_ci_has_less() -> None:
    developer, ci = (BUILT_IN["roles"][role]["rules"] for role in ("developer", "ci"))
    assert developer["binds"][0] == [{"path": "{home}", "mode": "rw"}]
    assert ci["binds"][0] == []
    assert all(ci["limits"][0][key] < developer["limits"][0][key] for key in ci["limits"][0])  # type: ignore


@pytest.mark.parametrize("role", BUILT_IN["roles"])
def test_every_role_has_every_rule_and_pings(role: str) -> None:
    assert BUILT_IN["roles"][role]["rules"].keys() == RULES.keys()
    assert allowed(role) >= EVERYBODYS


# Roles of the user's


def test_a_role_that_extends_nothing_starts_from_nothing() -> None:
    role = roles("  mine: {allow: [ContainerList]}")["roles"]["mine"]
    assert role["at"] == "p.yaml:3"
    assert set(role["operations"]) == EVERYBODYS | {"ContainerList"}
    assert role["rules"] == {name: (rule.default, "p.yaml:3") for name, rule in RULES.items()}


def test_a_role_replaces_the_built_in_one_of_its_name() -> None:
    policy = roles("  developer: {allow: [ContainerList]}")
    assert set(policy["roles"]["developer"]["operations"]) == EVERYBODYS | {"ContainerList"}
    assert policy["roles"]["ci"] == BUILT_IN["roles"]["ci"]  # built on the built-in developer, not on this one
    assert policy["groups"] == BUILT_IN["groups"]


def test_a_role_extends_the_built_in_one_of_its_name() -> None:
    base = BUILT_IN["roles"]["developer"]
    role = roles("  developer:\n    extends: developer\n    ports: {min: 80}\n    binds: []")["roles"]["developer"]
    assert role["operations"] == base["operations"]
    assert role["rules"] == {
        **base["rules"],
        "ports": ({**base["rules"]["ports"][0], "min": 80}, "p.yaml:5"),
        "binds": ([], "p.yaml:6"),
    }


def test_roles_extend_each_other_in_any_order() -> None:
    policy = roles(
        "  c: {extends: b, deny: [ContainerList]}\n"
        "  b: {extends: developer}\n"
        "  developer: {allow: [ContainerList, ImageList]}\n"
    )
    assert set(policy["roles"]["b"]["operations"]) == EVERYBODYS | {
        "ContainerList",
        "ImageList",
    }  # of this file's developer
    assert set(policy["roles"]["c"]["operations"]) == EVERYBODYS | {"ImageList"}


def test_allow_adds_and_deny_takes_away() -> None:
    text = "  v:\n    extends: viewer\n    allow:\n"
    text += "      - ContainerKill\n      - POST /containers/{id}/stop\n      - GET /info\n"
    role = roles(text + "    deny: [ContainerList, ContainerKill, SwarmInit]")["roles"]["v"]
    expected = (set(BUILT_IN["roles"]["viewer"]["operations"]) | {"ContainerStop"}) - {"ContainerList"}
    assert set(role["operations"]) == expected
    assert role["operations"]["ContainerStop"] == "p.yaml:7"
    assert role["operations"]["SystemInfo"] == "p.yaml:8"  # the nearest line that allows it
    assert role["operations"]["ImageList"].startswith("roles.yaml:")


def test_limits_are_inherited_one_by_one() -> None:
    policy = roles(
        "  a: {extends: ci, limits: {pids: 5}}\n  b: {extends: a, limits: {memory: null}}\n  c: {limits: {cpus: 1}}"
    )
    assert policy["roles"]["b"]["rules"]["limits"][0] == {
        "memory": None,
        "cpus": 2,
        "pids": 5,
        "containers": 20,
        "logs": 50 << 20,
    }
    least = {"memory": 6 << 20, "cpus": 1, "pids": 1, "containers": 0, "logs": 64 << 10}
    assert policy["roles"]["c"]["rules"]["limits"][0] == least


def test_every_operation_can_be_named_both_ways() -> None:
    for operation in operations.load():
        for name in (operation.name, f"{operation.method} {operation.path}"):
            assert operation.name in roles(f'  r: {{allow: ["{name}"]}}')["roles"]["r"]["operations"]


# Bindings


def test_bindings_take_the_place_of_the_built_in_ones() -> None:
    policy = compiled("bindings:\n- {user: carol, role: viewer}\n- {group: staff, role: ci}\n")
    assert policy["users"] == {"carol": (1, "viewer", "p.yaml:3")}
    assert policy["groups"] == {"staff": (2, "ci", "p.yaml:4")}


def test_a_uid_is_the_account_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name=f"account-{uid}"))
    policy = compiled(
        "bindings: [{user: 1000, role: viewer}, {user: '1000', role: viewer}, {group: 1000, role: viewer}]"
    )
    assert sorted(policy["users"]) == ["1000", "account-1000"]  # in quotes it is a name
    assert sorted(policy["groups"]) == ["1000"]


@pytest.mark.parametrize("name", ["a", "DOM\\some one", "x@example.org", "machine$", "_apt", "no"])
def test_names_of_accounts(name: str) -> None:
    assert list(compiled(f"bindings: [{{user: '{name}', role: viewer}}]")["users"]) == [name]


def test_the_first_binding_wins_and_the_second_is_told() -> None:
    warnings: list[str] = []
    policy = compiled("bindings:\n- {user: a, role: viewer}\n- {user: a, role: ci}\n- {group: a, role: ci}\n", warnings)
    assert policy["users"]["a"] == (1, "viewer", "p.yaml:3")
    assert warnings == ["p.yaml:4: user a is bound in p.yaml:3 already; the first match wins"]


def test_ten_thousand_bindings() -> None:
    """Less than two seconds. That a decision does not walk them is shown in tests/helpers/test_policy.py."""
    text = "bindings:\n" + "".join(f"- {{user: u{number}, role: viewer}}\n" for number in range(10_000))
    start = time.process_time()
    policy = Policy(dump(compiled(text)))
    assert time.process_time() - start < 2
    assert policy.role_of(Caller(1, 1, 1, "u9999", [], "/")) == (10_000, "viewer", "p.yaml:10002")


# Mistakes: each message once


WHO = "{user: a, role: viewer}"
CONTAINER = "a map with name, label or image (each once), and owner if it is not root's"
OPERATION = "expected an operation, ContainerList or GET /containers/json, as the Engine API names it"
TOP = "one of version, bindings, roles, audit, auth"
BODY = "one of extends, allow, deny, " + ", ".join(RULES)

MISTAKES = [
    ("version: 1\naudit: {on_full: drop}", "p:2:18: unknown `drop`, expected one of refuse, refuse-all, continue"),
    (
        "version: 1\naudit: {on_ful: refuse}",
        "p:2:9: unknown key `on_ful` (did you mean on_full?), expected one of on_full, commands",
    ),
    ("x", "p:1:1: `x`, expected a map with version, bindings, roles, audit"),
    ("[]", "p:1:1: a list, expected a map with version, bindings, roles, audit"),
    ("roles: {}", "p:1:1: no version, expected version: 1"),
    ("version: 2", "p:1:10: version `2`, expected 1"),
    ("version: 1.0", "p:1:10: version `1.0`, expected 1"),
    ("version: [1]", "p:1:10: version a list, expected 1"),
    ("version: 1\nrole: {}", f"p:2:1: unknown key `role` (did you mean roles?), expected {TOP}"),
    ("version: 1\nversion: 1", "p:2:1: `version` for the second time, expected one key version, as in line 1"),
    ("version: 1\nroles: []", "p:2:8: a list, expected a map of roles"),
    ("version: 1\nroles:", "p:2:7: nothing, expected a map of roles"),
    (
        "version: 1\nroles: {'a b': {}}",
        'p:2:9: "a b" as a role\'s name, expected a letter, then letters, digits, - or _, at most 64',
    ),
    ("version: 1\nroles: {a: x}", "p:2:12: `x`, expected a map with extends, allow, deny or rules"),
    ("version: 1\nroles: {a: {alow: []}}", f"p:2:13: unknown key `alow` (did you mean allow?), expected {BODY}"),
    ("version: 1\nroles: {a: {extends: []}}", "p:2:22: a list, expected the name of a role"),
    (
        "version: 1\nroles: {a: {extends: develper}}",
        f"p:2:22: unknown role `develper` (did you mean developer?), expected {ROLES}",
    ),
    ("version: 1\nroles: {a: {extends: a}}", f"p:2:22: unknown role `a`, expected {ROLES}"),
    (
        "version: 1\nroles:\n  a: {extends: b}\n  b: {extends: c}\n  c: {extends: b}",
        "p:5:16: a circle: a extends b extends c extends b, expected a role that does not lead back here",
    ),
    ("version: 1\nroles: {a: {allow: ContainerList}}", "p:2:20: `ContainerList`, expected a list of operations"),
    ("version: 1\nroles: {a: {allow: [[ContainerList]]}}", f"p:2:21: a list, {OPERATION}"),
    (
        "version: 1\nroles: {a: {allow: [ContainerLst]}}",
        f"p:2:21: unknown operation `ContainerLst` (did you mean ContainerList?), {OPERATION}",
    ),
    (
        "version: 1\nroles: {a: {deny: [GET /containers]}}",
        f"p:2:20: unknown operation `GET /containers` (did you mean GET /containers/json?), {OPERATION}",
    ),
    ("version: 1\nroles: {a: {allow: ['*']}}", f'p:2:21: unknown operation "*", {OPERATION}'),
    ("version: 1\nroles: {a: {privileged: yes}}", "p:2:25: `yes`, expected true or false"),
    ("version: 1\nbindings: {}", "p:2:11: a map, expected a list of bindings"),
    ("version: 1\nbindings:", "p:2:10: nothing, expected a list of bindings"),
    (
        "version: 1\nbindings: [a]",
        "p:2:12: `a`, expected a binding, {user: NAME, role: ROLE} or {group: NAME, role: ROLE}",
    ),
    (
        "version: 1\nbindings: [{usr: a, role: ci}]",
        "p:2:13: unknown key `usr` (did you mean user?), expected one of user, group, container, role",
    ),
    (
        "version: 1\nbindings: [{role: ci}]",
        "p:2:12: a binding without user, group or container, expected one of user, group, container",
    ),
    (
        "version: 1\nbindings: [{user: a, group: b, role: ci}]",
        "p:2:22: user and group in one binding, expected one of them; two bindings for two",
    ),
    (
        "version: 1\nbindings: [{container: {name: x}, user: a, role: ci}]",
        "p:2:13: user and container in one binding, expected one of them; two bindings for two",
    ),
    (
        "version: 1\nbindings: [{container: x, role: ci}]",
        f"p:2:24: `x`, expected {CONTAINER}",
    ),
    (
        "version: 1\nbindings: [{container: {owner: root}, role: ci}]",
        f"p:2:24: a container that is told by nothing, expected {CONTAINER}",
    ),
    (
        "version: 1\nbindings: [{container: {nme: x}, role: ci}]",
        "p:2:25: unknown key `nme` (did you mean name?), expected one of name, label, image, owner",
    ),
    (
        "version: 1\nbindings: [{container: {name: x/y}, role: ci}]",
        "p:2:31: `x/y`, expected a container's name",
    ),
    (
        "version: 1\nbindings: [{container: {label: x}, role: ci}]",
        "p:2:32: `x`, expected a container's label, KEY=VALUE",
    ),
    (
        "version: 1\nbindings: [{container: {image: -x}, role: ci}]",
        "p:2:32: `-x`, expected an image, as it was named when the container was made",
    ),
    ("version: 1\nbindings: [{user: a}]", "p:2:12: a binding without role, expected role: ROLE"),
    ("version: 1\nbindings: [{user: a, role: []}]", "p:2:28: a list, expected the name of a role"),
    (
        "version: 1\nbindings: [{user: a, role: developr}]",
        f"p:2:28: unknown role `developr` (did you mean developer?), expected {ROLES}",
    ),
    ("version: 1\nbindings: [{user: null, role: ci}]", "p:2:19: `null`, expected a user's name or uid"),
    ("version: 1\nbindings: [{user: [a], role: ci}]", "p:2:19: a list, expected a user's name or uid"),
    ("version: 1\nbindings: [{user: 'a:b', role: ci}]", 'p:2:19: "a:b", expected a user\'s name or uid'),
    ("version: 1\nbindings: [{user: ' a', role: ci}]", 'p:2:19: " a", expected a user\'s name or uid'),
    ("version: 1\nbindings: [{group: '', role: ci}]", 'p:2:20: "", expected a group\'s name'),
    ("version: 1\nbindings: [{group: a/b, role: ci}]", "p:2:20: `a/b`, expected a group's name"),
    (
        "version: 1\nbindings: [{user: 3999999999, role: ci}]",
        "p:2:19: no account has uid 3999999999, expected a user's name, or the uid of an account",
    ),
    (
        f"version: 1\nroles: {{{', '.join(f'r{n}: {{}}' for n in range(MOST_ROLES + 1))}}}",
        "p:2:8: 257 roles, expected at most 256",
    ),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_pointed_at(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        compile_text(text.encode(), "p")
    assert str(error.value) == message


def test_one_mistake_refuses_the_whole_file() -> None:
    with pytest.raises(ConfigError):
        compiled(f"bindings: [{WHO}]\nroles: {{good: {{}}, bad: {{privileged: perhaps}}}}")


@pytest.mark.parametrize("name", ["x" * 256, "a\nb", "a\x1b[31m"])
def test_a_path_that_fits_into_no_record(name: str) -> None:
    with pytest.raises(ConfigError, match="expected a printable path of at most 255 characters"):
        compile_text(b"", name)


def test_a_policy_that_the_helpers_would_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "LARGEST", 1000)
    with pytest.raises(ConfigError, match="p: more than fits into the compiled policy, expected at most 1000 bytes"):
        compile_text(b"", "p")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        compile_file(f"{tmp_path}/none.yaml")


def test_settings_of_the_record() -> None:
    assert BUILT_IN["audit"] == {"on_full": "refuse", "commands": "program"}
    policy = compile_text(b"version: 1\naudit: {on_full: refuse-all}", "p")
    assert policy["audit"] == {"on_full": "refuse-all", "commands": "program"}
