"""The checks of `sockproxy doctor`: each row finds what it is for, on a small machine in a folder, and else nothing."""

from __future__ import annotations

import argparse
import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sockproxy import paths
from sockproxy.doctor import command, kernel
from sockproxy.doctor.command import Result, examine
from sockproxy.doctor.machine import Machine, Unknown
from sockproxy.doctor.reach import openers
from sockproxy.doctor.table import CHECKS
from sockproxy.supervise.table import Settings

DOCKER, LISTEN = "/run/docker.sock", "/run/sockproxy/docker.sock"
GOOD_INFO = {"SecurityOptions": ["name=seccomp,profile=builtin"], "MemoryLimit": True, "PidsLimit": True}
BOUND = "version: 1\nbindings: [{user: root, role: admin}]\n"


class Small(Machine):
    """A healthy machine in a folder; a test changes what it wants to be found.

    Attributes:
        owners: uids by path, else root.
        groups: members by gid.
    """

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        config = folder / "policy.yaml"
        config.write_text(BOUND)
        super().__init__(Settings(str(config), DOCKER, LISTEN, "/run/sockproxy", "/state", "/log"), str(folder))
        self.folder = folder
        self.owners: dict[str, int] = {}
        self.groups: dict[int, set[str]] = {0: set(), 7: {"alice", "bob"}}
        self.answers: dict[str, Any] = {
            "/version": {"Version": "28.5.2", "ApiVersion": "1.51"},
            "/info": GOOD_INFO,
            "/containers/json": [{"Names": ["/web"], "Mounts": [{"Source": "/srv/www"}]}],
        }
        net = {
            "Id": "1" * 64,
            "Name": "own",
            "IPAM": {"Config": [{"Subnet": "172.20.0.0/16"}, {"Subnet": "fd00::/64"}]},
        }
        none = {"Id": "2" * 64, "Name": "none", "IPAM": {"Config": None}, "Options": None}
        self.answers["/networks"] = [net, none]
        self.system_calls: dict[int, tuple[int, int]] = {}
        self.maps: dict[str, str] = {}
        self.tries = False
        self.synchronised, self.free, self.descriptors, self.pidfds = True, 1 << 40, 1 << 19, True
        for name in ("proc", "etc/docker", "log"):
            (folder / name).mkdir(parents=True)
        self._kept: list[socket.socket] = []
        self.socket(DOCKER, 0o600)
        self.socket(LISTEN, 0o666)
        for file in Path(paths.config_dir(), "pam.d").iterdir():
            self.write(f"/etc/pam.d/{file.name}", file.read_text())
        self.write("/etc/pam.d/common-account", "account required pam_unix.so\n-account required pam_not_here.so\n")
        self.write("/usr/lib/x86_64-linux-gnu/libpam.so.0", "")
        for name in ("faillock", "unix", "nologin", "access", "time"):
            self.write(f"/usr/lib/x86_64-linux-gnu/security/pam_{name}.so", "")

    def socket(self, path: str, mode: int) -> None:
        place = self.folder / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as sock:
            here = os.getcwd()
            os.chdir(place.parent)  # pytest's folders have long names
            try:
                sock.bind(place.name)
            finally:
                os.chdir(here)
        place.chmod(mode)

    def write(self, path: str, text: str) -> None:
        place = self.folder / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def dockerd(self, *options: str, tcp: str = "", unix: str = "") -> None:
        """Have a daemon run, with the socket 77 open."""
        self.write("/proc/12/comm", "dockerd\n")
        self.write("/proc/12/cmdline", "\0".join(("/usr/bin/dockerd", *options, "")))
        self.write("/proc/12/net/tcp", "head\n" + tcp)
        self.write("/proc/12/net/unix", "head\n" + unix)
        (self.folder / "proc/12/fd").mkdir(exist_ok=True)
        (self.folder / "proc/12/fd/3").symlink_to("socket:[77]")

    def status(self, path: str) -> os.stat_result | None:
        real = super().status(path)
        if real is None or not path.startswith(("/run", "/var/lib", "/proc", "/etc/pam.d")):
            return real
        uid, gid = self.owners.get(path, 0), self.owners.get(f"group {path}", 0)
        return os.stat_result((*real[:4], uid, gid, *real[6:10]))

    def members(self, gid: int) -> set[str]:
        return self.groups[gid]

    def members_of(self, group: str) -> set[str]:
        return set()

    def groups_of(self, user: str) -> set[str]:
        return set()

    def user(self, uid: int) -> str:
        return {1000: "alice"}.get(uid, f"uid {uid}")

    def ask(self, path: str, target: str) -> Any:
        answer = self.answers[target]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def system_call(self, number: int, *arguments: int | None) -> tuple[int, int]:
        return self.system_calls.get(number, (7, 0))

    def mappable(self, path: str) -> str:
        return self.maps.get(path, "all" if self.tries else "")

    def peer_option(self, number: int) -> bool:
        return self.pidfds

    def clock_is_synchronised(self) -> bool:
        return self.synchronised

    def open_files_limit(self) -> int:
        return self.descriptors

    def space(self, path: str) -> os.statvfs_result:
        return os.statvfs_result((4096, 4096, 1 << 40, 1 << 40, self.free >> 12, 9, 9, self.free >> 12, 0, 255))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    monkeypatch.setattr("sockproxy.doctor.host._above", lambda path: [path])
    monkeypatch.setattr("sockproxy.doctor.host._below", lambda path: [])
    small = Small(tmp_path)
    real = small.status
    monkeypatch.setattr(small, "status", lambda path: code_of_root(real(path), path, small))
    return small


def code_of_root(status: os.stat_result | None, path: str, small: Small) -> os.stat_result | None:
    """Let this checkout be root's, whoever runs the tests."""
    if status is None and os.path.exists(path):
        return os.stat_result((0o100644, 0, 0, 0, small.owners.get(path, 0), 0, 0, 0, 0, 0))
    return status


def run(name: str, machine: Machine) -> Result:
    return examine(next(check for check in CHECKS if check.name == name), machine)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_healthy_machine_has_no_finding(check: Any, machine: Small) -> None:
    result = examine(check, machine)
    assert (result.findings, result.unknown) == ([], "")


def _tcp_listener(machine: Small) -> None:
    machine.dockerd(tcp=" 0: 0100007F:0947 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1 0\n")


def _unix_listener(machine: Small) -> None:
    machine.dockerd(unix="0: 00000002 00000000 00010000 0001 01 77 /run/extra.sock\n")
    machine.socket("/run/extra.sock", 0o666)


def _containerd(machine: Small) -> None:
    machine.socket("/run/containerd/containerd.sock", 0o660)
    machine.owners["group /run/containerd/containerd.sock"] = 7


def _docker_group(machine: Small) -> None:
    (machine.folder / DOCKER[1:]).chmod(0o660)
    machine.owners[f"group {DOCKER}"] = 7


def _policy(text: str) -> Callable[[Small], None]:
    return lambda machine: machine.write("/policy.yaml", text)


def _overlay(machine: Small) -> None:
    _policy("version: 1\nbindings: [{user: root, role: r}]\nroles: {r: {binds: [{path: /srv, mode: ro}]}}\n")(machine)
    machine.write("/proc/self/mountinfo", "1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /srv rw - overlay x rw\n")


def _tried(word: str) -> Callable[[Small], None]:
    """Have a folder on ext4, with something mounted below it, say this to a map."""

    def change(machine: Small) -> None:
        _overlay(machine)
        machine.write("/proc/self/mountinfo", "1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /srv/old rw - nfs4 x rw\n")
        machine.maps = {"/srv": word}

    return change


def _front(machine: Small) -> None:
    machine.write("/proc/30/cmdline", "python3\0-I\0-m\0sockproxy.app\0")
    machine.write("/proc/30/comm", "python3")
    machine.write("/proc/30/limits", "Max open files            1024                 4096                 files\n")


def _pam(name: str, old: str, new: str) -> Callable[[Small], None]:
    """Change a PAM file, or remove it."""

    def change(machine: Small) -> None:
        place = machine.folder / "etc/pam.d" / name
        if not old:
            place.unlink()
            return
        assert old in place.read_text()
        place.write_text(place.read_text().replace(old, new))

    return change


def _no_account_line(machine: Small) -> None:
    machine.write("/etc/pam.d/sockproxy-account", "# nothing\n")


def _set(**changes: Any) -> Callable[[Small], None]:
    def change(machine: Small) -> None:
        for name, value in changes.items():
            setattr(machine, name, value)

    return change


def _answer(target: str, answer: object) -> Callable[[Small], None]:
    return lambda machine: machine.answers.update({target: answer})


def _host_of(resolv: str, *routes: str) -> Callable[[Small], None]:
    own = f"br-{'1' * 12}\t000014AC\t0\t1\t0\t0\t0\t0000FFFF", "eth0\t00000000\t010011AC\t3\t0\t0\t0\t00000000"

    def change(machine: Small) -> None:
        machine.write("/etc/resolv.conf", f"# names\nnameserver odd\nnameserver\nnameserver 192.0.2.53\n{resolv}\n")
        machine.write("/proc/net/route", "\n".join(["Iface\tDestination", *own, *routes, ""]))

    return change


def _no(number: int) -> Callable[[Small], None]:
    return lambda machine: machine.system_calls.update({number: (-1, errno.ENOSYS)})


CASES: list[tuple[str, Callable[[Small], None], str]] = [
    ("daemon", _answer("/version", ConnectionRefusedError("refused")), "no Docker daemon answers"),
    ("daemon", _answer("/version", {"ApiVersion": "1.23"}), "from 1.24 on"),
    ("daemon", _answer("/version", {"ApiVersion": "new"}), "no Docker daemon answers"),
    ("daemon-socket", _docker_group, "alice, bob can open /run/docker.sock"),
    ("daemon-socket", lambda machine: (machine.folder / DOCKER[1:]).chmod(0o666), "everybody on this machine"),
    ("daemon-socket", lambda machine: machine.owners.update({DOCKER: 1000}), "alice can open"),
    ("tcp", _tcp_listener, "listens on TCP port 2375"),
    ("tcp", lambda machine: machine.dockerd("-H", "tcp://0.0.0.0:2375"), "told to listen on tcp://0.0.0.0:2375"),
    ("tcp", lambda machine: machine.dockerd("--host=tcp://[::]:1"), "told to listen on --host=tcp://[::]:1"),
    ("tcp", lambda machine: machine.write("/etc/docker/daemon.json", '{"hosts": ["tcp://:1"]}'), "told to listen"),
    ("other-sockets", _containerd, "alice, bob can open /run/containerd/containerd.sock of containerd"),
    ("other-sockets", _unix_listener, "everybody on this machine can open /run/extra.sock of the daemon"),
    ("containers", _answer("/containers/json", [{"Names": ["/p"], "Mounts": [{"Source": DOCKER}]}]), "container 'p'"),
    ("containers", _answer("/containers/json", [{"Names": ["/p"], "Mounts": [{"Source": "/"}]}]), "has / of the host"),
    ("containers", _answer("/containers/json", [{"Names": ["/p"], "Mounts": [{"Source": "/run"}]}]), "has /run of"),
    ("networks", _host_of("nameserver 172.20.0.53"), "'own' (172.20.0.0/16) has the host's name server 172.20.0.53/32"),
    ("networks", _host_of("nameserver fd00::5%eth0"), "'own' (fd00::/64) has the host's name server fd00::5/128"),
    (
        "networks",
        _host_of("", "tun0\t001414AC\t0\t1\t0\t0\t0\t00FFFFFF"),
        "a part of 172.20.20.0/24, to which the host",
    ),
    ("serving", lambda machine: (machine.folder / LISTEN[1:]).unlink(), "there is no socket"),
    ("serving", _answer("/version", ConnectionRefusedError("refused")), "does not answer"),
    ("serving", _answer("/version", ValueError("GET /version: HTTP/1.1 502 Bad")), "does not answer well"),
    (
        "code",
        lambda machine: machine.owners.update({paths.helpers_dir(): 1000}),
        "alice",
    ),
    ("accounts", _set(groups_of=lambda user: {"docker"}), "the user sockproxy is in the group docker"),
    (
        "uids",
        lambda machine: machine.write("/state/auth/uids", "1000 ann\n1001 bob\n7 gone\n"),
        "uid 1000 was ann's and is alice's now",
    ),
    ("pam", lambda machine: (machine.folder / "usr/lib/x86_64-linux-gnu/libpam.so.0").unlink(), "no libpam.so.0"),
    ("pam", _pam("sockproxy", "", ""), "there is no /etc/pam.d/sockproxy;"),
    ("pam", _pam("common-account", "", ""), "there is no /etc/pam.d/common-account;"),
    ("pam", _no_account_line, "has no account line, so PAM would go by /etc/pam.d/other"),
    (
        "pam",
        _pam("sockproxy", "account  required   pam_time", "acount required pam_time"),
        "8: PAM does not understand",
    ),
    ("pam", _pam("sockproxy-account", "@include common-account", "account include sockproxy-account"), "by itself"),
    ("pam", _pam("sockproxy", "pam_access.so", "pam_ldap.so"), "names pam_ldap.so, which is not there"),
    ("pam", _pam("sockproxy", "pam_unix.so nodelay", "pam_faillock.so preauth"), "anybody can keep a person"),
    ("pam", _pam("sockproxy-account", "pam_time.so", "pam_faillock.so"), "forgets the wrong passwords"),
    ("pam", lambda machine: (machine.folder / "etc/pam.d/sockproxy").chmod(0o666), "others than root can change"),
    ("policy", _policy("version: 2\n"), "can't be used"),
    ("policy", _policy("version: 1\nbindings: [{user: daemon, role: admin}]\n"), "can become root"),
    ("landlock", lambda machine: machine.system_calls.update({444: (-1, errno.ENOSYS)}), "has no Landlock"),
    ("landlock", lambda machine: machine.system_calls.update({444: (-1, errno.EPERM)}), "Landlock is refused here"),
    ("mounts", _no(kernel.OPENAT2), "no openat2(2)"),
    ("mounts", _no(kernel.OPEN_TREE), "no open_tree(2)"),
    ("mounts", _no(kernel.MOUNT_SETATTR), "no mount_setattr(2)"),
    ("mounts", lambda machine: machine.write("/proc/sys/user/max_user_namespaces", "0\n"), "switched off"),
    ("file-systems", _overlay, "/srv is on /srv (overlay)"),
    ("file-systems", _tried("none"), "/srv is on / (ext4), whose mounts take no id map"),
    (
        "file-systems",
        _tried("top"),
        "/srv can be bound in parts only: something mounted below takes no id map: /srv/old",
    ),
    ("pidfd", _set(pidfds=False), "no SO_PEERPIDFD"),
    ("confinement", _answer("/info", {"SecurityOptions": None}), "without a seccomp filter"),
    ("confinement", _answer("/info", {"SecurityOptions": ["name=seccomp,profile=unconfined"]}), "without a seccomp"),
    ("confinement", _answer("/info", {**GOOD_INFO, "MemoryLimit": False}), "can't bound memory"),
    ("audit-disk", _set(free=1 << 20), "1 MiB are free"),
    ("clock", _set(synchronised=False), "no time service"),
    ("limits", _set(descriptors=1024), "may have 1024 descriptors"),
    ("limits", _front, "may have 4096 descriptors"),
]


@pytest.mark.parametrize(("name", "change", "text"), CASES, ids=[f"{name}-{text[:20]}" for name, _, text in CASES])
def test_a_check_finds_what_it_is_for(name: str, change: Callable[[Small], None], text: str, machine: Small) -> None:
    change(machine)
    findings = run(name, machine).findings
    assert any(text in finding.text for finding in findings), findings
    assert all(finding.remedy for finding in findings)


@pytest.mark.parametrize(
    ("word", "facts"),
    [("all", ["/srv on / (ext4)"]), ("", ["/srv on / (ext4), by its kind: root can try"]), ("missing", [])],
)
def test_each_place_is_told(word: str, facts: list[str], machine: Small) -> None:
    _tried(word)(machine)
    result = run("file-systems", machine)
    assert (result.facts, result.findings) == (facts, [])


def test_every_row_is_tested() -> None:
    assert {name for name, _, _ in CASES} == {check.name for check in CHECKS}


def test_where_pam_is_left_out_that_is_said(machine: Small) -> None:
    machine.write("/policy.yaml", BOUND + "auth: {accounts: none}\n")
    assert "leaves PAM out" in run("pam", machine).facts[0]


def test_the_container_that_sockproxy_runs_in_has_the_socket_by_right(machine: Small) -> None:
    own, other = "0d" * 32, "1e" * 32
    machine.write("/proc/self/cgroup", f"0::/system.slice/docker-{own}.scope\n")
    listed = [{"Id": one, "Names": [f"/{one[:2]}"], "Mounts": [{"Source": "/run"}]} for one in (own, other)]
    machine.answers["/containers/json"] = listed
    result = run("containers", machine)
    assert [finding.text[:18] for finding in result.findings] == ["the container '1e'"]
    assert result.facts == ["but this one, which is sockproxy's own"]


def test_a_networks_own_route_is_no_other(machine: Small) -> None:
    _host_of("")(machine)
    assert run("networks", machine).findings == []


@pytest.mark.parametrize("name", ["tcp", "other-sockets", "containers", "networks"])
def test_what_only_root_can_see_is_unknown_not_fine(name: str, machine: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.dockerd()
    refuse = lambda *_: (_ for _ in ()).throw(Unknown("for root"))  # noqa: E731
    monkeypatch.setattr(machine, "sockets", refuse)
    monkeypatch.setattr(machine, "ask", refuse)
    assert run(name, machine).word == "unknown"


def test_the_swarm_ports_of_the_daemon_are_no_api(machine: Small) -> None:
    machine.dockerd(tcp=" 0: 00000000:0949 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1 0\n")
    assert run("tcp", machine).word == "ok"


def test_a_closed_folder_closes_what_is_in_it(machine: Small) -> None:
    (machine.folder / DOCKER[1:]).chmod(0o666)
    (machine.folder / "run").chmod(0o700)
    assert openers(machine, DOCKER) == set()
    (machine.folder / "run").chmod(0o710)
    machine.owners["group /run"] = 7
    assert openers(machine, DOCKER) == {"alice", "bob"}


def test_an_access_control_list_is_read(machine: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    place = machine.folder / DOCKER[1:]
    place.chmod(0o660)
    named = ((1, 6, 2**32 - 1), (2, 6, 1000), (4, 0, 2**32 - 1), (8, 4, 7), (16, 6, 2**32 - 1), (32, 0, 2**32 - 1))
    entry = b"".join(a.to_bytes(2, "little") + b.to_bytes(2, "little") + c.to_bytes(4, "little") for a, b, c in named)
    try:
        os.setxattr(place, "system.posix_acl_access", (2).to_bytes(4, "little") + entry)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")
    assert openers(machine, DOCKER) == {"alice"}  # the group 7 may only read, which connects nobody


def test_this_machine_can_be_asked(tmp_path: Path) -> None:
    real = Machine(Settings(None, "/none", "/none", "/run/sockproxy", "/state", "/log"))
    assert real.system_call(kernel.OPENAT2, -1, None, 0, 0)[0] == -1
    assert real.peer_option(9999) is False
    assert isinstance(real.clock_is_synchronised(), bool)
    assert real.user(0) == "root"
    assert "root" not in real.members(0)
    assert real.space("/no/such/folder").f_bsize
    with pytest.raises(OSError, match="No such file"):
        real.ask("/none", "/version")


def test_findings_are_told_with_what_to_do_and_by_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("docker_socket", "listen", "runtime_dir", "state_dir", "log_dir", "plugin_dir")
    options = argparse.Namespace(config=None, format="text", **{name: str(tmp_path / name) for name in names})
    assert command.main(options) == 1
    text = capsys.readouterr().out
    assert "no Docker daemon answers" in text
    assert "-> start Docker" in text
    options.format = "json"
    assert command.main(options) == 1
    told = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
    assert told["serving"]["result"] == "FOUND"
    assert told.keys() == {check.name for check in CHECKS}


def test_how_containers_are_confined_is_told(machine: Small) -> None:
    """As dockerd tells it: 20.10 on version 2 of cgroups, and one before that on version 1."""
    machine.answers["/info"] = {
        "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default", "name=cgroupns"],
        "CgroupDriver": "systemd",
        "CgroupVersion": "2",
    }
    (told,) = run("confinement", machine).facts
    assert told == "apparmor, seccomp, cgroupns; cgroups of version 2 by systemd"
    machine.answers["/info"] = {"SecurityOptions": ["name=seccomp,profile=default"], "CgroupDriver": "cgroupfs"}
    (told,) = run("confinement", machine).facts
    assert told == "seccomp; cgroups of version 1 by cgroupfs"
