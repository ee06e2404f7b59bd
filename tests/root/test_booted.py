"""What an administrator gets, on a Debian that was booted with systemd: the package, a take-over, and back.

The tests go in order, on one machine. What a test needs to have been done before is done by a fixture, so that each can
be run alone; the last leaves a machine without sockproxy.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import needs
from tests.support.booted import Booted
from tests.support.proxy import eventually

pytestmark = [pytest.mark.daemon, pytest.mark.root]

DEB = Path(__file__).resolve().parents[2] / "systemd" / "deb"
PLAIN, DAEMON = "unix:///run/sockproxy/docker.sock", "/run/sockproxy-docker/docker.sock"
# Connects anew for each request, until it is told to stop; prints how many were answered, and what went wrong.
LOAD = """
import os, socket
done, errors = 0, []
while True:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        try:
            sock.connect("/run/docker.sock")
            sock.sendall(b"GET /_ping HTTP/1.1\\r\\nHost: d\\r\\nConnection: close\\r\\n\\r\\n")
            answer = b"".join(iter(lambda: sock.recv(4096), b""))
        except OSError as error:
            errors.append(repr(error))
            answer = b"HTTP/1.1 200"
        if not answer.startswith(b"HTTP/1.1 200"):
            errors.append(repr(answer[:80]))
    done += 1
    if os.path.exists("/tmp/enough"):
        break
print(done, *errors)
"""
# A later Docker, with BuildKit as its builder, in a folder of its own: what it keeps is not for the one before.
LATER = """[Service]
Environment=PATH=/opt/engine/usr/sbin:/opt/engine/usr/bin:/usr/sbin:/usr/bin
ExecStart=
ExecStart=/opt/engine/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock \\
    --data-root /var/lib/docker/later
"""
BUILDX = "/opt/engine/usr/libexec/docker/cli-plugins/docker-buildx"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs.root()
    done = subprocess.run(
        [DEB, tmp_path_factory.mktemp("deb")], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def machine(package: Path) -> Iterator[Booted]:
    booted = Booted(Path(tempfile.mkdtemp(prefix="spt-booted-", dir="/var/tmp")))
    try:
        booted.copy(package, "/root/sockproxy.deb")
        booted.write("/tmp/load.py", LOAD)
        booted.must("mkdir", "-p", "/etc/docker")
        booted.write("/etc/docker/daemon.json", '{"exec-opts": ["native.cgroupdriver=systemd"]}')
        booted.must("systemctl", "restart", "docker")
        booted.import_busybox("/run/docker.sock")
        uid = 10_000 + 4 * (os.getpid() % 10_000)  # cgroups of version 1 are the host's, and other test runs', too
        for name, groups in (("alice", "sockproxy-users"), ("bob", "sockproxy-users"), ("mallory", "docker")):
            uid += 1
            booted.must("sh", "-c", f"groupadd -f {groups}; useradd -m -u {uid} -G {groups} {name}")
        yield booted
    finally:
        booted.stop()


def docker(machine: Booted, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return machine.run("docker", *arguments, user=user)


def etc(machine: Booted) -> str:
    """Describe all that an installation may touch, but accounts and their backups."""
    return machine.must(
        "sh", "-c", "find /etc /run/systemd/system -not -name '*-' -type f | sort | xargs ls -ld --time-style=+"
    )


def states(machine: Booted) -> list[str]:
    return machine.run("systemctl", "is-active", "docker.socket", "docker.service", "sockproxy.service").stdout.split()


@pytest.fixture(scope="module")
def beside(machine: Booted) -> None:
    """Install the package, and leave it at that."""
    machine.must("dpkg", "-i", "/root/sockproxy.deb")


@pytest.fixture(scope="module")
def installed(machine: Booted, beside: None) -> None:
    """Put sockproxy at the daemon's place; the image is the daemon's own."""
    machine.write("/root/etc-before", etc(machine))
    machine.must("sockproxy", "install", "--takeover", "--yes")
    machine.import_busybox(DAEMON)


@pytest.fixture(scope="module")
def boxes(machine: Booted, installed: None) -> None:
    """Start a container of alice's and one of bob's, which stay."""
    for user in ("alice", "bob"):
        made = docker(machine, user, "run", "-d", "--name", f"{user}s", "busybox", "sleep", "1000")
        assert made.returncode == 0, made.stderr


@pytest.mark.usefixtures("beside")
def test_the_package_serves_beside_the_daemon(machine: Booted) -> None:
    assert states(machine) == ["active"] * 3
    assert machine.must("docker", "-H", PLAIN, "run", "--rm", "busybox", "echo", "hello", user="alice") == "hello\n"
    refused = docker(machine, "alice", "-H", PLAIN, "run", "--rm", "--privileged", "busybox")
    assert "role developer may not run privileged containers" in refused.stderr
    assert "no binding matches" in docker(machine, "mallory", "-H", PLAIN, "ps").stderr
    assert "not confined" not in machine.must("journalctl", "-o", "cat", "--unit", "sockproxy-*")
    told = machine.run("sockproxy", "doctor").stdout
    assert "mallory can open /var/run/docker.sock past sockproxy" in told
    for name in ("daemon", "serving", "code", "landlock", "accounts", "pam"):
        assert f"ok      {name} " in told, told


@pytest.mark.usefixtures("beside")
def test_a_dry_run_and_no_answer_change_nothing(machine: Booted) -> None:
    before = etc(machine)
    assert "docker.socket.d" in machine.must("sockproxy", "install", "--takeover", "--dry-run")
    assert machine.run("sockproxy", "install", "--takeover").returncode == 2
    assert etc(machine) == before


@pytest.mark.usefixtures("installed")
def test_a_take_over_needs_no_setting_of_anybody(machine: Booted) -> None:
    assert states(machine) == ["active"] * 3
    done = docker(machine, "alice", "run", "--rm", "busybox", "echo", "hello")
    assert done.stdout == "hello\n", done.stderr
    assert docker(machine, "root", "ps").returncode == 0
    for user in ("alice", "mallory"):
        assert "permission denied" in docker(machine, user, "-H", f"unix://{DAEMON}", "ps").stderr
    assert "no binding matches" in docker(machine, "mallory", "ps").stderr
    told = machine.run("sockproxy", "doctor").stdout
    assert "ok      daemon-socket" in told, told


@pytest.mark.usefixtures("boxes")
def test_two_users_have_each_their_own(machine: Booted) -> None:
    assert docker(machine, "alice", "ps", "--format", "{{.Names}}").stdout == "alices\n"
    assert "No such container" in docker(machine, "bob", "rm", "-f", "alices").stderr
    assert set(docker(machine, "root", "ps", "--format", "{{.Names}}").stdout.split()) == {"alices", "bobs"}
    record = machine.must("sh", "-c", "cat /var/log/sockproxy/audit*.jsonl")
    assert '"ev":"start"' in record
    assert '"op":"ContainerCreate"' in record


def totals(machine: Booted, user: str) -> tuple[str, ...]:
    """Read what bounds all of a user's containers together, as the kernel has it: memory, cpu and processes."""
    uid = machine.must("id", "-u", user).strip()
    files = ("memory.limit_in_bytes memory.max", "cpu.cfs_quota_us cpu.max", "pids.max")
    slices = f"sockproxy.slice/sockproxy-{uid}.slice"
    find = f"for place in /sys/fs/cgroup/*/{slices} /sys/fs/cgroup/{slices}; do"
    return tuple(
        machine.run(
            "sh", "-c", f"{find} for file in {names}; do cat $place/$file; done; done 2>/dev/null"
        ).stdout.strip()
        for names in files
    )


@pytest.mark.usefixtures("boxes")
def test_totals_are_those_of_a_slice(machine: Booted) -> None:
    """The daemon leaves cgroups to systemd here, as it does by default with version 2 of them."""
    usual = (str(16 << 30), "800000", "16384")
    assert totals(machine, "alice") == totals(machine, "bob") == usual
    uid = machine.must("id", "-u", "alice").strip()
    pid = machine.must("docker", "inspect", "-f", "{{.State.Pid}}", "alices").strip()
    assert f":pids:/sockproxy.slice/sockproxy-{uid}.slice/docker-" in machine.must("cat", f"/proc/{pid}/cgroup")
    machine.must("systemctl", "daemon-reload")  # systemd writes what it knows of
    assert totals(machine, "alice") == usual
    less = "{extends: developer, totals: {memory: 1g, cpus: 0.5, pids: 50}}"
    machine.write("/etc/sockproxy/sockproxy.yaml", f"version: 1\nroles: {{developer: {less}}}\n")
    machine.must("systemctl", "reload", "sockproxy")
    eventually(lambda: totals(machine, "alice") == (str(1 << 30), "50000", "50"), "the new totals")
    machine.must("rm", "/etc/sockproxy/sockproxy.yaml")
    machine.must("systemctl", "reload", "sockproxy")
    eventually(lambda: totals(machine, "alice") == usual, "the old totals")
    other = f"sockproxy-{int(uid) + 1}.slice"
    refused = docker(machine, "alice", "run", "--rm", "--cgroup-parent", other, "busybox", "true")
    assert "may not choose the parent cgroup" in refused.stderr


@pytest.mark.usefixtures("installed")
def test_a_bind_is_the_callers_own(machine: Booted) -> None:
    made = docker(
        machine, "alice", "run", "--rm", "-v", "/home/alice/new:/new", "busybox", "sh", "-c", "echo x >/new/file"
    )
    assert made.returncode == 0, made.stderr
    assert (
        machine.must("stat", "-c", "%U", "/home/alice/new/file") == "alice\n"
    )  # root in the container is alice outside


@pytest.mark.usefixtures("boxes")
def test_reload_takes_a_right_policy_and_leaves_the_old_for_a_wrong_one(machine: Booted) -> None:
    machine.write("/etc/sockproxy/sockproxy.yaml", "version: 1\nbindings: [{user: nobody-here, role: none}]\n")
    assert machine.run("systemctl", "reload", "sockproxy").returncode != 0
    assert "expected" in machine.must("journalctl", "-u", "sockproxy", "-n", "20", "-o", "cat")
    assert docker(machine, "alice", "ps", "-q").stdout
    machine.write("/etc/sockproxy/sockproxy.yaml", "version: 1\nbindings: [{group: sockproxy-users, role: viewer}]\n")
    machine.must("systemctl", "reload", "sockproxy")
    eventually(lambda: "viewer" in docker(machine, "alice", "run", "--rm", "busybox", "true").stderr, "the new policy")
    machine.must("rm", "/etc/sockproxy/sockproxy.yaml")
    machine.must("systemctl", "reload", "sockproxy")
    eventually(lambda: docker(machine, "alice", "run", "--rm", "busybox", "true").returncode == 0, "the old policy")


@pytest.mark.usefixtures("installed")
def test_each_process_says_that_it_lives(machine: Booted) -> None:
    """Long after it said that it was ready."""
    units = machine.must("sh", "-c", "cd /etc/systemd/system; ls -d sockproxy-*.service | grep -v prepare").split()
    show = ["systemctl", "show", "--value", "-p", "WatchdogTimestampMonotonic", "-p", "ExecMainStartTimestampMonotonic"]

    def lives(unit: str) -> bool:
        started, said = sorted(map(int, machine.must(*show, unit).split()))
        return said - started > 5_000_000  # it is to say so each 10 s

    for unit in units:
        eventually(lambda unit=unit: lives(unit), f"{unit} says so", 40)  # type: ignore[misc]


@pytest.mark.usefixtures("boxes")
def test_how_it_does_is_told(machine: Booted) -> None:
    told = machine.must("sockproxy", "status")
    assert ": healthy" in told
    assert "alice" in told
    assert machine.run("sockproxy", "status", user="alice").returncode == 2
    machine.must("gpasswd", "-a", "alice", "sockproxy-status")
    assert ": healthy" in machine.must("sockproxy", "status", user="alice")
    machine.must("gpasswd", "-d", "alice", "sockproxy-status")  # what is installed is compared at the end


@pytest.mark.usefixtures("boxes")
def test_what_crashes_or_hangs_comes_back(machine: Booted) -> None:
    units = machine.must("sh", "-c", "cd /etc/systemd/system; ls -d sockproxy-*.service | grep -v prepare").split()
    for unit in units:
        machine.must("systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit)
    eventually(lambda: docker(machine, "alice", "ps", "-q").stdout, "all processes are back")
    machine.must("mkdir", "-p", "/run/systemd/system/sockproxy-front.service.d")
    machine.write("/run/systemd/system/sockproxy-front.service.d/soon.conf", "[Service]\nWatchdogSec=2\n")
    machine.must("systemctl", "daemon-reload")
    machine.must("systemctl", "restart", "sockproxy-front.service")
    machine.must("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "sockproxy-front.service")
    assert docker(machine, "alice", "ps", "-q").stdout  # waits until the watchdog has the front started again
    assert "Watchdog timeout" in machine.must("journalctl", "-u", "sockproxy-front", "-n", "40", "-o", "cat")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "change",
    [("systemctl", "restart", "sockproxy.service"), ("dpkg", "-i", "/root/sockproxy.deb")],
    ids=["restart", "upgrade"],
)
def test_no_connection_is_lost(machine: Booted, change: tuple[str, ...]) -> None:
    machine.run("rm", "-f", "/tmp/enough")
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda: results.append(machine.must("python3", "/tmp/load.py", user="alice")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    machine.must(*change)
    machine.must("touch", "/tmp/enough")
    for thread in threads:
        thread.join(60)
    assert [result.split()[1:] for result in results] == [[], []], results
    assert states(machine) == ["active"] * 3


@pytest.mark.usefixtures("installed")
def test_seals_in_the_journal_are_anchors(machine: Booted) -> None:
    """The writer seals all that was before at each end of it."""
    for _ in range(2):
        machine.must("systemctl", "restart", "sockproxy.service")
    told = machine.must("sockproxy", "audit", "verify")
    assert "anchored  nothing" in told
    for form in ("cat", "short", "export"):
        machine.must("sh", "-c", f"journalctl -t sockproxy-audit -o {form} >/root/anchors")
        told = machine.must("sockproxy", "audit", "verify", "--anchors", "/root/anchors")
        found = re.search(r"anchored  up to number ([0-9]+): ([0-9]+) of ([0-9]+) anchors match", told)
        assert found, told
        assert int(found[1]) > 0
        assert found[2] == found[3] != "0"
    machine.must("cp", "-r", "/var/log/sockproxy", "/root/cut")
    machine.must("sed", "-i", '/"ev":"seal"/q', "/root/cut/audit.jsonl")
    cut = machine.run("sockproxy", "audit", "verify", "--log-dir", "/root/cut")
    assert cut.returncode == 0  # what nobody can tell without
    cut = machine.run("sockproxy", "audit", "verify", "--log-dir", "/root/cut", "--anchors", "/root/anchors")
    assert (cut.returncode, "TRUNCATED" in cut.stdout) == (1, True)


@pytest.mark.usefixtures("installed")
def test_own_lines_are_told_by_a_unit_that_may_do_nothing_else(machine: Booted) -> None:
    docker(machine, "alice", "run", "--rm", "--name", "alices-own", "busybox", "true")
    eventually(lambda: "alices-own" in machine.run("sockproxy", "audit", "mine", user="alice").stdout, "own lines")
    assert "alices-own" not in machine.run("sockproxy", "audit", "mine", user="bob").stdout
    assert "Permission denied" in machine.run("sockproxy", "audit", "find", user="alice").stderr


@pytest.fixture
def later(machine: Booted, installed: None) -> Iterator[None]:
    """Have a later Docker run, which leaves cgroups to systemd too."""
    folder = "/run/systemd/system/docker.service.d"
    machine.must("mkdir", "-p", folder)
    machine.write(f"{folder}/later.conf", LATER)
    machine.must("systemctl", "daemon-reload")
    machine.must("systemctl", "restart", "docker")
    machine.import_busybox(DAEMON)
    yield
    machine.must("rm", f"{folder}/later.conf")
    machine.must("systemctl", "daemon-reload")
    machine.must("systemctl", "restart", "docker")


@pytest.mark.usefixtures("later")
def test_steps_of_buildkit_are_below_the_slice(machine: Booted) -> None:
    """BuildKit makes their cgroups by itself, whatever the daemon's driver; systemd leaves them where they are."""
    assert machine.must("docker", "info", "-f", "{{.CgroupDriver}}") == "systemd\n"
    uid = machine.must("id", "-u", "bob").strip()
    own, build = f"/sockproxy.slice/sockproxy-{uid}.slice/", [BUILDX, "build", "--no-cache", "/home/bob/build"]
    machine.must("mkdir", "/home/bob/build")
    machine.write("/home/bob/build/Dockerfile", "FROM busybox\nRUN exec sleep 1000\n")
    refused = machine.run(*build, "--cgroup-parent", f"sockproxy-{int(uid) - 1}.slice", user="bob")
    assert "may not choose the parent cgroup" in refused.stderr

    def step() -> list[str]:
        places = machine.run(
            "sh", "-c", 'for one in $(grep -lx sleep /proc/[0-9]*/comm); do cat "${one%comm}cgroup"; done'
        )
        return places.stdout.splitlines()

    with subprocess.Popen(machine.command(*build, user="bob"), stderr=subprocess.PIPE, text=True) as building:
        eventually(lambda: step() or building.poll() is not None, "the step")
        for _ in range(2):
            assert {line.split(":")[1] for line in step() if f":{own}" in line} >= {"memory", "cpu", "pids"}, step()
            assert totals(machine, "bob") == (str(16 << 30), "800000", "16384")
            machine.must("systemctl", "daemon-reload")  # systemd writes what it knows of
        machine.must("sh", "-c", "kill -9 $(grep -lx sleep /proc/[0-9]*/comm | cut -d/ -f3)")
    assert building.returncode == 1


@pytest.mark.usefixtures("boxes")
def test_all_is_there_again_after_a_reboot(machine: Booted) -> None:
    machine.must("docker", "rm", "-f", "alices", "bobs")  # sleep does not end by itself
    stays = "trap exit TERM; while true; do echo x >>/work/beats; sleep 1; done"
    run = [
        "run",
        "-d",
        "--init=false",
        "--restart=always",
        "-v",
        "/home/alice/work:/work",
        "--name",
        "stays",
        "busybox",
    ]
    made = docker(machine, "alice", *run, "sh", "-c", stays)
    assert made.returncode == 0, made.stderr
    machine.reboot()
    assert states(machine) == ["active"] * 3
    # The daemon has asked for the bind before sockproxy was there, and it is what it was: alice's, with a map.
    beats = machine.must("stat", "-c", "%s", "/home/alice/work/beats")
    eventually(lambda: machine.must("stat", "-c", "%s", "/home/alice/work/beats") != beats, "a beat after the boot", 60)
    assert machine.must("stat", "-c", "%U", "/home/alice/work/beats") == "alice\n"
    mounted = docker(machine, "alice", "exec", "stays", "cat", "/proc/self/mountinfo").stdout
    assert [
        line for line in mounted.splitlines() if " /work " in line and "nosuid,nodev" in line and "idmapped" in line
    ]
    machine.must("docker", "rm", "-f", "stays")
    assert docker(machine, "alice", "ps").returncode == 0
    # Cgroups were read-only when sockproxy was started: who has no slice since the boot gets one all the same.
    ran = docker(machine, "bob", "run", "--rm", "busybox", "true")
    assert ran.returncode == 0, ran.stderr
    assert "permission denied" in docker(machine, "mallory", "-H", f"unix://{DAEMON}", "ps").stderr


@pytest.mark.usefixtures("installed")
def test_uninstalled_all_is_as_it_was(machine: Booted) -> None:
    machine.must("sockproxy", "uninstall", "--yes")
    assert states(machine)[:2] == ["active", "active"]
    assert machine.must("stat", "-c", "%a %U %G", "/run/docker.sock") == "660 root docker\n"
    assert docker(machine, "mallory", "ps").returncode == 0  # as before: the group docker is root
    before = machine.must("cat", "/root/etc-before")
    assert etc(machine) == before
    assert machine.run("ls", "/run/sockproxy-docker").returncode != 0
    machine.must("dpkg", "--purge", "sockproxy")
    left = machine.run(
        "sh", "-c", "ls -d /usr/lib/sockproxy /usr/bin/sockproxy /usr/lib/systemd/system/sockproxy*"
    ).stdout
    assert left == ""
    assert machine.run("systemctl", "--failed", "--quiet").stdout == ""
    assert machine.must("sh", "-c", "ls /var/log/sockproxy")  # the record is not a package's to remove
