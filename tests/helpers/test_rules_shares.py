"""What bounds ulimits, logs and tmpfs of one container."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.judge import logs
from sockproxy_helpers.judge.logs import judge_chosen, unless_bounded
from sockproxy_helpers.upstream.objects import OWNER
from tests.support.judging import ADMIN, DEVELOPER, context, create, judge

LIMIT = 100 << 20


@pytest.mark.parametrize(
    ("ulimit", "allowed"),
    [
        ({"Name": "nofile", "Soft": 10, "Hard": 1024}, True),
        ({"Name": "NOFILE", "Soft": 10, "Hard": 1024}, True),
        ({"Name": "core", "Soft": -1, "Hard": -1}, True),
        ({"Name": "nofile", "Soft": 10, "Hard": 1025}, False),
        ({"Name": "nofile", "Soft": -1, "Hard": -1}, False),
        ({"Name": "rtprio", "Soft": 1, "Hard": 1}, False),
        ({"Name": "RTPRIO", "Soft": 1, "Hard": 1}, False),
        ({"Name": "", "Soft": 1, "Hard": 1}, False),
    ],
)
def test_ulimits(ulimit: dict[str, object], allowed: bool) -> None:
    """A realtime process is outside of any share of the CPUs."""
    other = {"Name": "nofile", "Soft": 1, "Hard": 1}
    attempts = (
        lambda: create({"Ulimits": [other, ulimit]}),
        lambda: judge("ContainerUpdate", {"Ulimits": [other, ulimit]}),
    )
    for attempt in attempts:
        if allowed:
            attempt()
        else:
            with pytest.raises(Refused, match=r"Ulimits\[1\]") as refusal:
                attempt()
            assert refusal.value.rule == "ulimits"


def test_ulimits_of_a_build() -> None:
    judge("ImageBuild", query=[("ulimits", '[{"Name":"nofile","Soft":1,"Hard":2}]')])
    with pytest.raises(Refused, match=r"may not set the ulimit"):
        judge("ImageBuild", query=[("ulimits", '[{"Name":"rtprio","Soft":1,"Hard":2}]')])


def options(given: dict[str, str], driver: str = "json-file", rules: dict[str, object] = DEVELOPER) -> object:
    sent = create({"LogConfig": {"Type": driver, "Config": given}}, rules)["LogConfig"]
    return sent.get("Config")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {"max-file": "2", "max-size": str(LIMIT // 2)}),
        ({"max-file": "4"}, {"max-file": "4", "max-size": str(LIMIT // 4)}),
        ({"max-size": "100m"}, {"max-file": "1", "max-size": "100m"}),
        ({"max-size": "10MiB", "max-file": "10"}, {"max-size": "10MiB", "max-file": "10"}),
        ({"tag": "x", "max-size": "1k"}, {"tag": "x", "max-file": "1", "max-size": "1k"}),
        ({"max-size": ""}, {"max-file": "2", "max-size": str(LIMIT // 2)}),
    ],
)
@pytest.mark.parametrize("driver", ["", "json-file", "local"])
def test_logs_rotate(driver: str, given: dict[str, str], sent: dict[str, str]) -> None:
    unpacked = {"compress": "false"} if driver == "local" and sent["max-file"] == "1" else {}
    assert options(given, driver) == {**sent, **unpacked}


@pytest.mark.parametrize(
    "given",
    [
        {"max-size": "101m"},
        {"max-size": "51m", "max-file": "2"},
        {"max-size": "1t"},
        {"max-file": "9999", "max-size": "1m"},
    ],
)
def test_logs_above_the_limit(given: dict[str, str]) -> None:
    with pytest.raises(Refused, match=r"allowed: together up to 104857600 bytes") as refusal:
        options(given)
    assert refusal.value.rule == "limits"
    assert options(given, rules=ADMIN) == given


def test_what_waits_in_the_daemon() -> None:
    waiting = {"mode": "non-blocking", "max-buffer-size": "8m"}
    assert options(waiting).items() >= waiting.items()  # type: ignore[attr-defined]
    for driver in ("", "json-file", "local"):
        with pytest.raises(Refused, match=r"may not have a log's buffer of 20g \(allowed: up to 8m\)"):
            options({"max-buffer-size": "20g"}, driver)
    assert options({"max-buffer-size": "20g"}, rules=ADMIN) == {"max-buffer-size": "20g"}


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        ("tag", "{{.Name}}/{{ .ImageID }} x", '{{pad "x" 90000000000 0}}'),
        ("tag", "a } b", "{{{.Name}}"),
        ("tag", "x" * 128, "x" * 129),
        ("tag", "", "{{.Name}}{{/* {{.ID}} */}}"),
        ("labels-regex", "^a(b|c)+{x}", "x{1000}"),
        ("env-regex", "x" * 1024, "x" * 1025),
    ],
)
def test_what_the_daemon_would_read_for_long(option: str, good: str, bad: str) -> None:
    assert options({option: good}).items() >= {option: good}.items()  # type: ignore[attr-defined]
    with pytest.raises(Refused, match=f"may not set this {option}") as refusal:
        options({option: bad})
    assert refusal.value.rule == "driver_options"
    assert options({option: bad}, rules=ADMIN) == {option: bad}


@pytest.mark.parametrize(
    ("chosen", "size"),
    [
        ({}, 0),
        ({"env": ""}, 0),
        ({"env": "A"}, 4001),
        ({"env": "A,D", "labels": "l"}, 4001 + 2001),
        ({"env": "B,C"}, 1 + 1 + 3001),
        ({"labels": "l,m"}, 2001 + 3001),
        ({"env-regex": "^C"}, 4001 + 1 + 3001),
        ({"labels-regex": "^n"}, 2001 + 3001 + len(OWNER) + 4),
    ],
)
def test_what_is_written_with_each_line(chosen: dict[str, str], size: int) -> None:
    """Of the image's, too, unless the container's own takes its place; what a pattern matches is all."""
    image = {"Env": ["B=" + "x" * 9000, "C=" + "x" * 3000], "Labels": {"l": "x" * 9000, "m": "x" * 3000}}
    body = {"Image": "busybox", "Env": ["A=" + "x" * 4000, "B"], "Labels": {"l": "x" * 2000}}
    for rules in (DEVELOPER, ADMIN):
        part = judge("ContainerCreate", {**body, "HostConfig": {"LogConfig": {"Config": chosen}}}, rules=rules)[1]
        ctx = context(rules, "ContainerCreate")
        if size <= 4096 or rules is ADMIN:
            judge_chosen(part, image, ctx)
        else:
            with pytest.raises(Refused, match=f"may not have {size} bytes of environment and labels") as refusal:
                judge_chosen(part, image, ctx)
            assert refusal.value.rule == "driver_options"
        assert bool(logs.chosen(part)) == bool(chosen)
    judge_chosen(part, {"Env": None, "Labels": None}, ctx)


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("NetworkCreate", lambda text: {"Labels": {"k": text}}),
        ("NetworkCreate", lambda text: {"IPAM": {"Config": [{"AuxiliaryAddresses": {text: "172.30.1.1"}}]}}),
        ("NetworkConnect", lambda text: {"EndpointConfig": {"Aliases": [text]}}),
        ("VolumeCreate", lambda text: {"Labels": {"k": text}}),
    ],
)
def test_what_everybodys_lists_have(operation: str, body: Callable[[str], object]) -> None:
    """A list is read as a whole before others' things are cut out of it: ten of a megabyte would end it for all."""
    judge(operation, body("x" * 16_000))
    for rules in (DEVELOPER, ADMIN):
        with pytest.raises(Refused, match=r"too long \(allowed: 16384 bytes"):
            judge(operation, body("x" * 17_000), rules=rules)


@pytest.mark.parametrize(
    "given", [{"max-size": "-1"}, {"max-size": "0"}, {"max-size": "1.5m"}, {"max-file": "0"}, {"max-file": "-1"}]
)
def test_odd_log_options(given: dict[str, str]) -> None:
    with pytest.raises(Malformed):
        options(given)


@pytest.mark.parametrize("key", ["syslog-address", "MAX-SIZE", "path", "gelf-address"])
def test_other_log_options(key: str) -> None:
    for driver in ("", "json-file", "none"):
        with pytest.raises(Refused, match="allowed: max-size, max-file"):
            options({key: "unix:///var/run/docker.sock"}, driver)


def test_a_default_driver_without_files() -> None:
    host = create({"LogConfig": {"Type": "", "Config": {"tag": "x"}}})
    unless_bounded(host, "json-file")
    assert host["LogConfig"]["Config"].keys() == {"tag", "max-size", "max-file"}  # type: ignore[index]
    unless_bounded(host, "journald")
    assert host["LogConfig"] == {"Type": "", "Config": {"tag": "x"}}


@pytest.mark.parametrize(
    "text", ["", "rw,noexec,nosuid,size=64k,mode=1777", "size=8g,uid=1,nr_inodes=0", "exec,nodev,ro"]
)
def test_tmpfs(text: str) -> None:
    assert create({"Tmpfs": {"/t": text}})["Tmpfs"] == {"/t": text}


@pytest.mark.parametrize(
    "text", ["size=9g", "size=50%", "size=8589934593", "shared", "bind", "size=", "mpol=x", "a,b", "rw,"]
)
def test_other_tmpfs(text: str) -> None:
    with pytest.raises(Refused, match=r"HostConfig\.Tmpfs"):
        create({"Tmpfs": {"/t": text}})


def test_tmpfs_mounts() -> None:
    def mount(size: int) -> dict[str, object]:
        return {"Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": size}}]}

    create(mount(8 << 30))
    with pytest.raises(Refused, match=r"TmpfsOptions.SizeBytes: .* a tmpfs of 8589934593"):
        create(mount((8 << 30) + 1))


def test_what_the_daemon_keeps_of_an_exec() -> None:
    judge("ContainerExec", {"Cmd": ["a"], "Env": ["a=" + "x" * 130_000]})
    with pytest.raises(Refused, match=r"too long \(allowed: 131072 bytes"):
        judge("ContainerExec", {"Cmd": ["a"], "Env": ["a=" + "x" * 131_072]})


def test_what_keeps_the_daemon_from_its_end() -> None:
    for seconds in (0, 10, 600):
        assert judge("ContainerCreate", {"StopTimeout": seconds})[1]["StopTimeout"] == seconds  # type: ignore[index]
    for seconds in (-1, 601):
        with pytest.raises(Refused, match=rf"stop timeout of {seconds} \(allowed: 0 to 600 seconds\)"):
            judge("ContainerCreate", {"StopTimeout": seconds})
        judge("ContainerCreate", {"StopTimeout": seconds}, rules=ADMIN)


@pytest.mark.parametrize("key", ["Interval", "StartInterval"])
def test_probes_without_end(key: str) -> None:
    for often in (0, 10**9):
        judge("ContainerCreate", {"Healthcheck": {key: often}})
    for often in (1_000_000, 10**9 - 1, -1):
        with pytest.raises(Refused, match=rf"a health check every {often} ns \(allowed: 1s or more\)"):
            judge("ContainerCreate", {"Healthcheck": {key: often}})
        judge("ContainerCreate", {"Healthcheck": {key: often}}, rules=ADMIN)
