"""What a container's process may be and use: each rule allows what it should, and says what it would allow."""

from __future__ import annotations

import re

import pytest

from sockproxy_helpers.errors import Malformed, Refused
from tests.support.judging import ADMIN, DEVELOPER, OWNED, create, judge

DROPPED = ["MKNOD", "SETFCAP"]


@pytest.fixture(autouse=True)
def _many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)


def test_defaults_of_the_role() -> None:
    expected = {
        "ContainerIDFile": "io.sockproxy.owner=1000",
        "CapDrop": DROPPED,
        "SecurityOpt": ["no-new-privileges"],
        "Memory": 8 << 30,
        "NanoCpus": 4 * 10**9,
        "PidsLimit": 2048,
        "CgroupParent": "/sockproxy/1000",
        "LogConfig": {"Config": {"max-file": "2", "max-size": str(50 << 20)}},
    }
    assert create() == expected
    for body in (None, {"HostConfig": None}):
        assert judge("ContainerCreate", body)[1] == {"Labels": OWNED, "HostConfig": expected}
    assert judge("ContainerCreate", None, rules=ADMIN)[1] == {
        "Labels": OWNED,
        "HostConfig": {"ContainerIDFile": "io.sockproxy.owner=1000"},
    }


def test_refusal_names_field_role_rule_and_what_is_allowed() -> None:
    with pytest.raises(Refused) as refusal:
        create({"Privileged": True})
    error = refusal.value
    assert error.field == "HostConfig.Privileged"
    assert error.why == "role developer may not run privileged containers or execs (allowed: leave it out)"
    assert error.rule == "privileged"
    assert re.fullmatch(r"roles\.yaml:\d+", error.at)


REFUSED = [
    ({"Privileged": True}, "privileged"),
    ({"CapAdd": ["SYS_ADMIN"]}, "capabilities"),
    ({"CapAdd": ["cap_sys_admin"]}, "capabilities"),
    ({"CapAdd": "ALL"}, "capabilities"),
    ({"CapAdd": ["all"]}, "capabilities"),
    ({"CapAdd": ["MKNOD"]}, "capabilities"),
    ({"PidMode": "host"}, "host_namespaces"),
    ({"IpcMode": "host"}, "host_namespaces"),
    ({"UTSMode": "host"}, "host_namespaces"),
    ({"CgroupnsMode": "host"}, "host_namespaces"),
    ({"UsernsMode": "host"}, "host_namespaces"),
    ({"Devices": [{"PathOnHost": "/dev/sda"}]}, "devices"),
    ({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["a"]}]}, "devices"),
    ({"DeviceCgroupRules": ["c 1:3 mr"]}, "devices"),
    ({"BlkioDeviceReadBps": [{"Path": "/etc/shadow", "Rate": 1}]}, "devices"),
    ({"SecurityOpt": ["seccomp=unconfined"]}, "security_options"),
    ({"SecurityOpt": ["seccomp:unconfined"]}, "security_options"),
    ({"SecurityOpt": ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']}, "security_options"),
    ({"SecurityOpt": ["apparmor=unconfined"]}, "security_options"),
    ({"SecurityOpt": ["label=disable"]}, "security_options"),
    ({"SecurityOpt": ["disable"]}, "security_options"),
    ({"SecurityOpt": ["systempaths=unconfined"]}, "security_options"),
    ({"SecurityOpt": ["writable-cgroups=true"]}, "security_options"),
    ({"SecurityOpt": ["no-new-privileges=false"]}, "no_new_privileges"),
    ({"SecurityOpt": ["no-new-privileges", "no-new-privileges:0"]}, "no_new_privileges"),
    ({"MaskedPaths": []}, "security_options"),
    ({"ReadonlyPaths": []}, "security_options"),
    ({"ReadonlyPaths": ["/proc/sys"]}, "security_options"),
    ({"Annotations": {"run.oci.keep": "1"}}, "security_options"),
    ({"Runtime": "kata"}, "runtimes"),
    ({"Runtime": "/usr/bin/evil"}, "runtimes"),
    ({"CgroupParent": "/system.slice"}, "cgroup_parent"),
    ({"Sysctls": {"kernel.core_pattern": "a"}}, "sysctls"),
    ({"Sysctls": {"net.ipv4.ip_unprivileged_port_start.x": "0"}}, "sysctls"),
    ({"LogConfig": {"Type": "syslog"}}, "driver_options"),
    ({"Isolation": "hyperv"}, "driver_options"),
    ({"OomScoreAdj": -1}, "privileged"),
    ({"OomKillDisable": True}, "limits"),
    ({"CpuRealtimeRuntime": 1}, "privileged"),
    ({"Memory": (8 << 30) + 1}, "limits"),
    ({"Memory": -1}, "limits"),
    ({"MemorySwap": -1}, "limits"),
    ({"MemorySwap": (16 << 30) + 1}, "limits"),
    ({"NanoCpus": 4 * 10**9 + 1}, "limits"),
    ({"CpuQuota": 400_001}, "limits"),
    ({"CpuQuota": -1}, "limits"),
    ({"CpuQuota": 5000, "CpuPeriod": 1000}, "limits"),
    ({"PidsLimit": 2049}, "limits"),
    ({"PidsLimit": -1}, "limits"),
    ({"ShmSize": (8 << 30) + 1}, "limits"),
]


@pytest.mark.parametrize(("host", "rule"), REFUSED)
def test_refused(host: dict[str, object], rule: str) -> None:
    with pytest.raises(Refused, match=r"\(allowed: |off") as refusal:
        create(host)
    assert refusal.value.rule == rule
    assert refusal.value.field.startswith("HostConfig.")
    assert refusal.value.at.startswith("roles.yaml:")


@pytest.mark.parametrize("host", [host for host, _ in REFUSED])
def test_admin_may(host: dict[str, object]) -> None:
    create(host, ADMIN)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"CapAdd": ["cap_chown", "Kill"]}, {"CapAdd": ["CHOWN", "KILL"]}),
        ({"CapDrop": ["ALL"], "CapAdd": "CHOWN"}, {"CapDrop": ["ALL"], "CapAdd": ["CHOWN"]}),
        ({"CapDrop": ["mknod", "CAP_KILL"]}, {"CapDrop": ["MKNOD", "KILL", "SETFCAP"]}),
        ({"SecurityOpt": ["no-new-privileges:true"]}, {"SecurityOpt": ["no-new-privileges"]}),
        ({"SecurityOpt": ["seccomp=builtin"]}, {"SecurityOpt": ["no-new-privileges", "seccomp=builtin"]}),
        ({"SecurityOpt": []}, {"SecurityOpt": ["no-new-privileges"]}),
        ({"Memory": 1 << 20, "MemorySwap": 2 << 20}, {"Memory": 1 << 20, "MemorySwap": 2 << 20}),
        ({"NanoCpus": 5}, {"NanoCpus": 5}),
        ({"CpuQuota": 1000}, {"CpuQuota": 1000, "NanoCpus": None}),
        ({"CpuPeriod": 1000}, {"CpuPeriod": 1000, "CpuQuota": 4000, "NanoCpus": None}),
        ({"PidsLimit": 7}, {"PidsLimit": 7}),
        ({"IpcMode": "private", "CgroupnsMode": "private"}, {"IpcMode": "private", "CgroupnsMode": "private"}),
        ({"Runtime": "runc"}, {"Runtime": "runc"}),
        (
            {"LogConfig": {"Type": "local", "Config": {"max-size": "1m"}}},
            {"LogConfig": {"Type": "local", "Config": {"max-size": "1m", "max-file": "1", "compress": "false"}}},
        ),
        ({"MaskedPaths": None, "ReadonlyPaths": None}, {"MaskedPaths": None, "ReadonlyPaths": None}),
        ({"OomScoreAdj": 500, "OomKillDisable": False}, {"OomScoreAdj": 500, "OomKillDisable": False}),
        ({"ContainerIDFile": "/tmp/x"}, {"ContainerIDFile": "io.sockproxy.owner=1000"}),
        (
            {"Sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"}},
            {"Sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"}},
        ),
        ({"Cgroup": "", "Capabilities": None, "DiskQuota": 0}, {"Cgroup": None, "DiskQuota": None}),
    ],
)
def test_allowed(given: dict[str, object], sent: dict[str, object]) -> None:
    host = create(given)
    assert {key: host.get(key) for key in sent} == sent


def test_cpus_beyond_the_machine_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert "NanoCpus" not in create()  # the daemon refuses more than there are
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert "NanoCpus" not in create()


def test_no_new_privileges_is_the_users_own_where_not_forced() -> None:
    rules = DEVELOPER | {"no_new_privileges": False}
    assert "SecurityOpt" not in create(rules=rules)
    assert create({"SecurityOpt": []}, rules)["SecurityOpt"] == []
    assert create({"SecurityOpt": ["no-new-privileges:1"]}, rules)["SecurityOpt"] == ["no-new-privileges"]
    assert create({"SecurityOpt": ["no-new-privileges:f"]}, rules)["SecurityOpt"] == ["no-new-privileges=false"]


def test_prefix_of_sysctls() -> None:
    rules = DEVELOPER | {"sysctls": ["net.core."]}
    create({"Sysctls": {"net.core.somaxconn": "1"}}, rules)
    with pytest.raises(Refused, match=r"allowed: net\.core\."):
        create({"Sysctls": {"net.corex.a": "1"}}, rules)


@pytest.mark.parametrize(
    "host",
    [
        {"CapAdd": ["a/b"]},
        {"CapAdd": ["\u017fys_admin"]},
        {"CapDrop": [""]},
        {"SecurityOpt": ["no-new-privileges=maybe"]},
        {"Sysctls": {"net/ipv4/ip_forward": "1"}},
        {"Sysctls": {"": "1"}},
    ],
)
def test_malformed(host: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        create(host, ADMIN)


@pytest.mark.parametrize("mode", ["ns:/proc/1/ns/pid", "HOST", "x"])
def test_unknown_modes(mode: str) -> None:
    with pytest.raises(Refused, match="no such pid mode"):
        create({"PidMode": mode}, ADMIN)


@pytest.mark.parametrize("key", ["io.sockproxy.owner", "IO.Sockproxy.Owner", "io.sockproxy"])
def test_our_labels(key: str) -> None:
    bodies: dict[str, dict[str, object]] = {
        "ContainerCreate": {"Labels": {key: "0"}},
        "ImageCommit": {"Labels": {key: "0"}},
        "VolumeCreate": {"Labels": {key: "0"}},
        "NetworkCreate": {"Name": "a", "Labels": {key: "0"}},
    }
    for name, body in bodies.items():
        with pytest.raises(Refused, match="own"):
            judge(name, body, rules=ADMIN)
    with pytest.raises(Refused):
        judge("ImageBuild", query=[("labels", f'{{"{key}":"0"}}')], rules=ADMIN)
    mount = {"Type": "volume", "Target": "/a", "VolumeOptions": {"Labels": {key: "0"}}}
    with pytest.raises(Refused):
        create({"Mounts": [mount]}, ADMIN)


def test_our_labels_come_back_as_inspect_shows_them() -> None:
    given: dict[str, object] = {"io.sockproxy.owner": "1000", "io.sockproxy.ports": "7", "a": "b"}
    given["io.sockproxy.exposed"] = "9"
    for name in ("ContainerCreate", "VolumeCreate"):
        _, built = judge(name, {"Labels": given})
        assert isinstance(built, dict)
        assert built["Labels"] == {"a": "b", "io.sockproxy.owner": "1000"}
    with pytest.raises(Refused, match="own"):
        judge("ContainerCreate", {"Labels": {"io.sockproxy.owner": "01000"}})


def test_the_daemons_own_lists_come_back_as_inspect_shows_them() -> None:
    masked = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi"]
    fixed = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    built = create({"MaskedPaths": [*masked, "/sys/firmware", "/proc/asound"], "ReadonlyPaths": fixed})
    assert built.keys().isdisjoint({"MaskedPaths", "ReadonlyPaths"})
    for field, paths in (("MaskedPaths", masked), ("ReadonlyPaths", fixed[1:])):
        with pytest.raises(Refused, match="protected paths"):
            create({field: paths})


def test_labels_like_ours_are_free() -> None:
    judge("ContainerCreate", {"Labels": {"io.sockproxyx": "", "A": "1", "a": "2"}})


@pytest.mark.parametrize("folder", ["/proc/self/fd/8", "//proc", "/a/../proc/1", "/./proc", "proc/self", "/../proc"])
def test_no_work_in_proc(folder: str) -> None:
    for name in ("ContainerCreate", "ContainerExec", "ImageCommit"):
        with pytest.raises(Refused, match="proc"):
            judge(name, {"WorkingDir": folder})


def test_work_elsewhere() -> None:
    for folder in ("", "/", "/process", "/a/proc", "/proc/.."):
        judge("ContainerExec", {"WorkingDir": folder, "Cmd": "a"})


def test_exec() -> None:
    with pytest.raises(Refused, match="Privileged"):
        judge("ContainerExec", {"Privileged": True})
    _, body = judge("ContainerExec", {"Cmd": ["a"], "Container": "x", "Privileged": False})
    assert body == {"Privileged": False, "Cmd": ["a"]}


def test_names() -> None:
    for name in ("a", "/web", "web-1_x.y", "0123456789ab", "0123456789abcd", "0123456789ab_web"):
        assert judge("ContainerRename", query=[("name", name)])[0] == [("name", name)]
    for name in ("/" + "a" * 64, "f" * 64):
        with pytest.raises(Refused, match="looks like an ID"):
            judge("ContainerRename", query=[("name", name)])
    for name in ("a b", "-a", "a/b", "a\n", "\u00e9"):
        with pytest.raises(Malformed, match="not a name"):
            judge("ContainerCreate", {}, [("name", name)])


@pytest.mark.parametrize(
    "text",
    ["", "aux", "-ef", "axf", "faux", "-eLf", "-eo pid,comm", "-o pid,%cpu,args", "axo pid,args", "-o pid -o args"],
)
def test_ps_args(text: str) -> None:
    assert judge("ContainerTop", query=[("ps_args", text)]) == ([("ps_args", text)], None)


@pytest.mark.parametrize(
    "text",
    [
        *("$(id)", "a;b", "/etc", "x" * 129, "a\nb", "--sort pid", "-p 1", "-C dockerd", "-Z", "k pid"),
        *(
            "-orss=PID -oargs axf",
            "-eo pid=X",
            "-eo pid,rss=PID",
            "f ax -oargs,pid",
            "-o args -o pid",
            "-eo lstart,pid",
        ),
        "-o pid" + ",args" * 33,
    ],
)
def test_ps_args_that_could_show_the_hosts_processes(text: str) -> None:
    with pytest.raises(Refused, match="ps"):
        judge("ContainerTop", query=[("ps_args", text)], rules=ADMIN)


UPDATES: list[dict[str, object]] = [
    {"Memory": 9 << 30},
    {"MemorySwap": -1},
    {"NanoCpus": 5 * 10**9},
    {"PidsLimit": -1},
    {"CpuQuota": -1, "CpuPeriod": 1},
    {"CpuPeriod": 1000},
    {"CpuQuota": 1000},
    {"CpuQuota": 5000, "CpuPeriod": 1000},
    {"Devices": [{}]},
    {"CgroupParent": "a"},
]


@pytest.mark.parametrize("body", UPDATES)
def test_update_lifts_no_limit(body: dict[str, object]) -> None:
    with pytest.raises(Refused):
        judge("ContainerUpdate", body)
    assert judge("ContainerUpdate", body, rules=ADMIN)[1] == body


def test_update_keeps_what_is_not_given() -> None:
    body = {"Memory": 0, "PidsLimit": 0, "NanoCpus": 0, "CpuQuota": 0, "CpuPeriod": 0}
    assert judge("ContainerUpdate", body)[1] == {"CpuPeriod": 0}
    assert judge("ContainerUpdate", {"CpuQuota": 4000, "CpuPeriod": 1000})[1] == {"CpuQuota": 4000, "CpuPeriod": 1000}


def test_period_below_zero() -> None:
    for host in ({"CpuPeriod": -1000}, {"CpuPeriod": -1000, "CpuQuota": 1000}):
        with pytest.raises(Malformed):
            create(host)
