"""Each row of the table of rules: what it takes, what it refuses, what it says to people."""

from __future__ import annotations

import pytest

from sockproxy.errors import ConfigError
from sockproxy.policy.document import Mapping, parse
from sockproxy.policy.schema import RULES
from sockproxy.policy.values import CAPABILITIES, LONGEST, ULIMITS, Value
from sockproxy_helpers.judge import policy

FLAGS = [name for name, rule in RULES.items() if isinstance(rule.default, bool)]
LISTS = ["registries", "subnets", "binds", "capabilities", "frontends", "host_namespaces", "runtimes", "sysctls", "via"]
WORDS = ["mode", "share"]
MAPS = ["limits", "ports", "sessions", "totals", "traffic", "ulimits"]


def value(rule: str, text: str) -> Value:
    top = parse(f"{rule}: {text}".encode(), "f")
    assert isinstance(top, Mapping)
    return RULES[rule].parse(top.entries[rule][1])


def test_every_row_is_tried() -> None:
    assert sorted(FLAGS + LISTS + MAPS + WORDS) == sorted(RULES)


def test_the_helpers_know_the_same_rules() -> None:
    assert policy.RULES.keys() == RULES.keys()


@pytest.mark.parametrize("rule", RULES)
def test_the_default_is_the_strictest_and_has_the_shape_that_the_helpers_expect(rule: str) -> None:
    default = RULES[rule].default
    assert policy.RULES[rule](default)
    assert rule in ("mode", "share", "ulimits") or default == (
        {
            "limits": {"memory": 6 << 20, "cpus": 0.01, "pids": 1, "containers": 0, "logs": 64 << 10},
            "totals": {
                "memory": 6 << 20,
                "cpus": 0.01,
                "pids": 1,
                "networks": 0,
                "volumes": 0,
                "ports": 0,
                "binds": 0,
                "tags": 0,
                "disk": 0,
            },
            "traffic": {"connections": 32, "streams": 16, "requests": 20},
            "ports": {"min": 65536, "addresses": []},
            "sessions": {"output": 0},
        }.get(rule)
        or (["peer"] if rule == "via" else [] if rule in LISTS else rule in ("no_new_privileges", "revoke_streams"))
    )


GOOD = [
    *((rule, word, word == "true") for rule in FLAGS for word in ("true", "false")),
    ("binds", "[]", []),
    ("binds", '[{path: "{home}", mode: rw}]', [{"path": "{home}", "mode": "rw"}]),
    (
        "binds",
        "[{mode: ro, path: /}, {path: /srv/a b, mode: rw}]",
        [{"mode": "ro", "path": "/"}, {"path": "/srv/a b", "mode": "rw"}],
    ),
    ("registries", "[ALL]", ["ALL"]),
    ("registries", "['docker.io/library/*', 'r.example:5000/a/b:1']", ["docker.io/library/*", "r.example:5000/a/b:1"]),
    ("registries", "[localhost/*, 'localhost:5000/x']", ["localhost/*", "localhost:5000/x"]),
    ("subnets", "[172.16.0.0/12, 'fd00::/8', ALL]", ["172.16.0.0/12", "fd00::/8", "ALL"]),
    ("frontends", "['docker.io/docker/dockerfile:1*']", ["docker.io/docker/dockerfile:1*"]),
    ("capabilities", "[ALL]", ["ALL"]),
    ("capabilities", "[NET_RAW, CHOWN]", ["NET_RAW", "CHOWN"]),
    ("host_namespaces", "[network, pid, ipc, uts, cgroup, user]", ["network", "pid", "ipc", "uts", "cgroup", "user"]),
    ("runtimes", "[runc, io.containerd.runc.v2]", ["runc", "io.containerd.runc.v2"]),
    ("sysctls", "[net.ipv4., kernel.shm_rmid_forced]", ["net.ipv4.", "kernel.shm_rmid_forced"]),
    ("limits", "{}", {}),
    (
        "limits",
        "{memory: 8g, cpus: 2.5, pids: 10, containers: 0}",
        {"memory": 8 << 30, "cpus": 2.5, "pids": 10, "containers": 0},
    ),
    (
        "limits",
        "{memory: null, cpus: ~, pids: null, containers: null}",
        dict.fromkeys(("memory", "cpus", "pids", "containers")),
    ),
    ("limits", "{memory: 6291456}", {"memory": 6 << 20}),
    ("limits", "{memory: 6144k}", {"memory": 6 << 20}),
    ("limits", "{memory: 512M}", {"memory": 512 << 20}),
    ("limits", "{memory: 1tb}", {"memory": 1 << 40}),
    ("limits", "{cpus: 3}", {"cpus": 3}),
    ("limits", "{pids: 010}", {"pids": 10}),  # not YAML's octal 8
    ("limits", "{logs: 100m}", {"logs": 100 << 20}),
    ("totals", "{networks: 0, ports: null}", {"networks": 0, "ports": None}),
    ("ulimits", "{nofile: 0, core: null}", {"nofile": 0, "core": None}),
    ("ports", "{min: 1}", {"min": 1}),
    ("via", "[token, peer]", ["token", "peer"]),
    ("ports", '{addresses: [0.0.0.0, "::1", ALL]}', {"addresses": ["0.0.0.0", "::1", "ALL"]}),
    ("ports", "{min: 65536}", {"min": 65536}),
    ("sessions", "{output: 16m}", {"output": 16 << 20}),
]


@pytest.mark.parametrize(("rule", "text", "expected"), GOOD)
def test_values(rule: str, text: str, expected: Value) -> None:
    assert value(rule, text) == expected
    assert policy.RULES[rule](RULES[rule].combine(RULES[rule].default, value(rule, text)))


FLAG = "true or false"
PATH = '"{home}", or an absolute path without "." or ".." and without a slash at its end'
SIZE = "a size such as 512m or 8g, at least 6m"
CAPABILITY = f"one of {', '.join(CAPABILITIES)}, ALL"
NAMESPACE = "one of network, pid, ipc, uts, cgroup, user"
LIMIT = "one of memory, cpus, pids, containers, logs"
BAD = [
    *(
        (rule, text, f"{what}, expected {FLAG}")
        for rule in FLAGS
        for text, what in (
            ("yes", "`yes`"),
            ("1", "`1`"),
            ("True", "`True`"),
            ("'true'", '"true"'),
            ("", "nothing"),
            ("[true]", "a list"),
        )
    ),
    ("binds", "/srv", '`/srv`, expected a list of {path: "{home}" or absolute, mode: ro or rw}'),
    ("binds", "[/srv]", "`/srv`, expected a map with path, mode"),
    ("binds", "[{path: /srv}]", "no mode, expected a map with path, mode"),
    ("binds", "[{mode: ro}]", "no path, expected a map with path, mode"),
    ("binds", "[{path: /srv, mode: ro, typo: 1}]", "unknown key `typo`, expected one of path, mode"),
    ("binds", "[{path: /srv, moed: ro}]", "unknown key `moed` (did you mean mode?), expected one of path, mode"),
    ("binds", "[{path: /srv, mode: RW}]", "unknown `RW`, expected one of ro, rw"),
    ("binds", "[{path: /srv, mode: [ro]}]", "a list, expected one of ro, rw"),
    ("binds", "[{path: null, mode: ro}]", '`null`, expected "{home}" or an absolute path'),
    ("binds", "[{path: {home}, mode: ro}]", 'a map, expected "{home}" or an absolute path'),
    *(
        ("binds", f"[{{path: '{path}', mode: ro}}]", f'"{path}", expected {PATH}')
        for path in ("srv", "~/x", "/srv/", "//", "/a//b", "/a/../b", "/..", "/.", "{home}/x", "$HOME")
    ),
    ("binds", "[" + "x, " * (LONGEST + 1) + "]", f"{LONGEST + 1} items, expected at most {LONGEST}"),
    ("capabilities", "CHOWN", "`CHOWN`, expected a list of capabilities, without CAP_"),
    ("capabilities", "[[CHOWN]]", "a list, expected capabilities, without CAP_"),
    ("capabilities", "[CAP_CHOWN]", f"unknown `CAP_CHOWN` (did you mean CHOWN?), expected {CAPABILITY}"),
    ("capabilities", "[CHOWN, CHOWN]", "`CHOWN` for the second time, expected each once, as in line 1"),
    ("capabilities", "[ALL, CHOWN]", "ALL among others, expected ALL alone, or names"),
    ("host_namespaces", "[net]", "unknown `net` (did you mean network?), expected " + NAMESPACE),
    ("host_namespaces", "true", "`true`, expected a list of namespaces"),
    ("runtimes", "[a/b]", "`a/b`, expected names of runtimes, or ALL"),
    ("runtimes", "['']", '"", expected names of runtimes, or ALL'),
    ("sysctls", "[net..x]", "`net..x`, expected sysctls, or prefixes ending in a dot"),
    ("sysctls", "[.]", "`.`, expected sysctls, or prefixes ending in a dot"),
    ("limits", "8g", "`8g`, expected a map with memory, cpus, pids, containers, logs"),
    ("limits", "{memroy: 8g}", "unknown key `memroy` (did you mean memory?), expected " + LIMIT),
    *(
        ("limits", f"{{memory: {text}}}", f"{what}, expected {SIZE}")
        for text, what in (
            ("8 g", "`8 g`"),
            ("8x", "`8x`"),
            ("-1", "`-1`"),
            ("0", "`0`"),
            ("5m", "`5m`"),
            ("1.5g", "`1.5g`"),
            ("", "nothing"),
            ("8gib", "`8gib`"),
            ("9999999t", "`9999999t`"),
            ("unlimited", "`unlimited`"),
            ("[8g]", "a list"),
            ("'null'", '"null"'),
        )
    ),
    *(
        ("limits", f"{{cpus: {text}}}", f"`{text}`, expected a number from 0.01 to 65536")
        for text in ("0", "0.001", "-1", "1e3", ".5", "1.2345", "two", "99999", "inf", "nan")
    ),
    *(
        ("limits", f"{{pids: {text}}}", f"`{text}`, expected a whole number from 1 to 4194304")
        for text in ("0", "-1", "1.5", "4194305", "1_0", "0x10", "\u0663")
    ),
    ("limits", "{containers: 1000001}", "`1000001`, expected a whole number from 0 to 1000000"),
    ("ports", "1024", "`1024`, expected a map with min, addresses"),
    ("ports", "{max: 1}", "unknown key `max`, expected one of min, addresses"),
    ("ports", "{min: 0}", "`0`, expected a whole number from 1 to 65536"),
    *(
        ("ports", f"{{addresses: ['{text}']}}", f'"{text}", expected an address as it is usually written, or ALL')
        for text in ("127.1", "0:0::1", "1.2.3.4.5", "127.0.0.01")
    ),
    *(
        ("subnets", f"['{text}']", f'"{text}", expected a range as it is usually written, or ALL')
        for text in ("172.16.0.1/12", "172.16.0.0/33", "172.016.0.0/12", "fd00:0::/8")
    ),
    ("subnets", "[172.16.0.0]", "`172.16.0.0`, expected ranges (172.28.0.0/16), or ALL"),
    ("ports", "{addresses: [localhost]}", "`localhost`, expected addresses of the host, or ALL"),
    *(
        (
            rule,
            f"['{text}']",
            f'"{text}", expected images with their registry ("docker.io/library/*", '
            '"registry.example.com/team/app"), or ALL',
        )
        for rule in ("registries", "frontends")
        for text in ("busybox", "library/busybox", "docker*", "registry.example*/x", "*/x", "docker.io", "docker.io/")
    ),
    ("ulimits", "{rtprior: 1}", f"unknown key `rtprior` (did you mean rtprio?), expected one of {', '.join(ULIMITS)}"),
    ("ulimits", "{nofile: -1}", "`-1`, expected a whole number from 0 to 9223372036854775807"),
    ("sessions", "{output: null}", "`null`, expected a size such as 512m or 8g, at least 0k"),
    ("totals", "{disk: much}", "`much`, expected a size such as 512m or 8g, at least 0k"),
    ("sessions", "{input: 1m}", "unknown key `input`, expected one of output"),
    ("share", "web", "unknown `web`, expected one of none, group"),
    ("limits", "{logs: 1k}", "`1k`, expected a size such as 512m or 8g, at least 64k"),
    ("ports", "{min: null}", "`null`, expected a whole number from 1 to 65536"),
]


@pytest.mark.parametrize(("rule", "text", "message"), BAD)
def test_mistakes(rule: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        value(rule, text)
    assert str(error.value).split(": ", 1)[1] == message


def test_a_map_is_combined_key_by_key_and_a_list_as_a_whole() -> None:
    assert RULES["limits"].combine({"memory": 1, "cpus": 2}, {"memory": None}) == {"memory": None, "cpus": 2}
    assert RULES["capabilities"].combine(["CHOWN"], []) == []
    assert RULES["fetch"].combine(True, False) is False


@pytest.mark.parametrize(
    ("rule", "setting", "sentence"),
    [
        (
            "ports",
            {"min": 1024, "addresses": ["::"]},
            "may publish host ports from 1024 upwards on these addresses: ::",
        ),
        (
            "ports",
            {"min": 65536, "addresses": []},
            "may publish host ports from 65536 (none) upwards on these addresses: none",
        ),
        ("sessions", {"output": 1 << 20}, "may use exec and attach with the first 1m of what each one prints recorded"),
        ("ulimits", {"core": None, "nofile": 7}, "may set these ulimits: core (any), nofile (7)"),
        ("ulimits", {}, "may set these ulimits: none"),
        (
            "share",
            "group",
            "may see and use containers, volumes and networks of others who have the role by the same: group",
        ),
        ("privileged", False, "may not run privileged containers and execs"),
        ("privileged", True, "may run privileged containers and execs"),
        (
            "no_new_privileges",
            True,
            "may not run containers whose processes gain privileges (su, sudo, setuid programs)",
        ),
        ("binds", [{"path": "/srv", "mode": "ro"}], "may bind these places on the host: /srv (ro)"),
        ("capabilities", [], "may have these capabilities in a container: none"),
        (
            "limits",
            {"memory": 1536 << 20, "cpus": None, "pids": 7, "containers": 50, "logs": 1 << 20},
            "may use up to 1536m memory, unlimited cpus, 7 pids and 1m of logs a container, and have 50 containers",
        ),
    ],
)
def test_a_value_is_told_in_words(rule: str, setting: Value, sentence: str) -> None:
    assert RULES[rule].describe(setting) == sentence


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_words(rule: str) -> None:
    assert RULES[rule].describe(RULES[rule].default).startswith("may ")
