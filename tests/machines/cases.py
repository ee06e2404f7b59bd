"""What is seen on other kernels than this machine's: one function a case, run as root in a virtual machine.

python3 cases.py CASE...    in a machine as `virtual` makes it, with sockproxy's package in /host/sockproxy.deb
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable

Case = Callable[[], str]  # gives what was seen
Done = subprocess.CompletedProcess[str]
NEW, OLD = "6.1", "5.10"  # the kernels of Debian 12 and 11
LIMITS = "limits: {memory: 48m, cpus: 2, pids: 35}, totals: {memory: 64m, cpus: 0.5, pids: 40}"
MEBI = 1 << 20
FORK = "i=0; while [ $i -lt %d ]; do busybox sleep 20 & i=$((i+1)); done; wait"
FILL = "busybox dd if=/dev/zero of=/dev/shm/full bs=1M count=36"
DIRECTORY = """[sssd]
services = nss, pam
domains = directory
[domain/directory]
id_provider = files
pwfield = *
passwd_files = /etc/sssd/people
group_files = /etc/sssd/groups
"""
UNMAPPED = "unmapped_binds: true"
LATER = """[Service]
ExecStart=
ExecStart=/host/dockerd -H fd:// --containerd /run/containerd/containerd.sock --data-root /var/lib/docker/later \\
    --iptables=false --ip6tables=false
"""


def run(*command: str, user: str = "root") -> Done:
    """Run a command."""
    return subprocess.run(["runuser", "-u", user, "--", *command], capture_output=True, text=True, timeout=600)


def must(*command: str, user: str = "root") -> str:
    """Run a command that must not fail; give what it prints."""
    done = run(*command, user=user)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def write(path: str, text: str) -> None:
    """Write a file."""
    with open(path, "w") as file:
        file.write(text)


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait for what has to come about."""
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.2)


def prepare() -> None:
    """Make people and an image, and install the package."""
    for name in ("alice", "bob"):
        must("sh", "-c", f"groupadd -f sockproxy-users; useradd -m -G sockproxy-users {name}")
    import_busybox()
    must("dpkg", "-i", "/host/sockproxy.deb")


def import_busybox() -> None:
    """Make the image."""
    layers = "cd $(mktemp -d); mkdir -p bin tmp; cp /bin/busybox bin/; ln -s busybox bin/sh; tar -c ."
    must("sh", "-c", f"{layers} | docker import -c 'ENV PATH=/bin' -c 'CMD [\"sh\"]' - busybox")


def docker(user: str, *arguments: str) -> Done:
    """Run docker before sockproxy."""
    return run("docker", "-H", "unix:///run/sockproxy/docker.sock", *arguments, user=user)


def started(user: str, script: str, *options: str) -> str:
    """Start a container that stays; give its ID."""
    done = docker(user, "run", "-d", *options, "busybox", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def role(rules: str, group: str = "sockproxy-users") -> None:
    """Have the role developer changed."""
    text = f"version: 1\nbindings: [{{group: {group}, role: developer}}]\n"
    write("/etc/sockproxy/sockproxy.yaml", f"{text}roles: {{developer: {{extends: developer, {rules}}}}}\n")
    must("systemctl", "reload", "sockproxy")


def told(check: str) -> str:
    """Ask the doctor: what it says in one row."""
    rows = json.loads(run("sockproxy", "doctor", "--format", "json").stdout)
    (row,) = (row for row in rows if row["check"] == check)
    return " ".join([row["result"], *row["facts"], *(finding["text"] for finding in row["findings"])])


def cgroups_of_systemd() -> str:
    """Version 2 of cgroups as Debian's Docker uses it by default: people's totals are those of slices."""
    return _totals("systemd", "sockproxy.slice/sockproxy-{}.slice")


def cgroups_of_the_daemon() -> str:
    """Version 2 of cgroups with the daemon's own driver: people's totals are those of folders."""
    return _totals("cgroupfs", "sockproxy/{}")


def _totals(driver: str, place: str) -> str:
    options = {} if driver == "systemd" else {"exec-opts": [f"native.cgroupdriver={driver}"]}
    write("/etc/docker/daemon.json", json.dumps(options))
    must("systemctl", "restart", "docker", "sockproxy")
    role(LIMITS)
    assert must("docker", "info", "-f", "{{.CgroupDriver}} {{.CgroupVersion}}") == f"{driver} 2\n"
    assert f"cgroups of version 2 by {driver}" in told("confinement")
    own = "/sys/fs/cgroup/" + place.format(must("id", "-u", "alice").strip())

    def kernel(file: str) -> str:
        return must("cat", f"{own}/{file}").strip()

    first, second = (started("alice", FORK % 30 + "; busybox sleep 1000") for _ in range(2))
    assert (kernel("memory.max"), kernel("cpu.max"), kernel("pids.max")) == (str(64 * MEBI), "50000 100000", "40")
    cgroup = must("sh", "-c", f"cat /proc/$(docker inspect -f '{{{{.State.Pid}}}}' {first})/cgroup")
    assert cgroup.startswith(f"0::{own.removeprefix('/sys/fs/cgroup')}/"), cgroup
    eventually(lambda: "can't fork" in run("docker", "logs", second).stderr, "the second can't fork")
    must("docker", "rm", "-f", first, second)
    spinning = [started("alice", "while :; do :; done") for _ in range(2)]
    eventually(lambda: int(re.findall(r"nr_throttled (\d+)", kernel("cpu.stat"))[0]) > 5, "throttled")
    must("docker", "rm", "-f", *spinning)
    filled = [started("alice", "busybox sleep 1000", "--shm-size", "48m") for _ in range(3)]
    fits = [docker("alice", "exec", one, "sh", "-c", FILL).returncode == 0 for one in filled]
    assert sum(fits) == 1, fits  # each within its own 48 MiB, two would be 72 of 64
    used = int(kernel("memory.current")) // MEBI
    must("docker", "rm", "-f", *filled)
    must("mkdir", "-p", "/srv/build")
    write("/srv/build/Dockerfile", f"FROM busybox\nRUN {FORK % 60}\n")
    build = ["env", "DOCKER_BUILDKIT=0", "docker", "-H", "unix:///run/{}docker.sock", "build", "/srv/build"]
    bare = run(*(word.format("") for word in build))
    assert bare.returncode == 0, bare.stderr
    done = run(*(word.format("sockproxy/") for word in build), "--no-cache", user="alice")
    assert "can't fork" in done.stdout + done.stderr, done.stderr
    assert done.returncode != 0
    seen = f"{own}: 40 processes, 64 MiB ({used} used when the second was killed), half a CPU"
    return f"{seen}; steps of the classic builder too"


def steps_of_buildkit() -> str:
    """A later Docker with BuildKit, which makes cgroups by itself below a slice of systemd's."""
    folder = "/run/systemd/system/docker.service.d"
    must("mkdir", "-p", folder)
    write(f"{folder}/later.conf", LATER)
    must("systemctl", "daemon-reload")
    must("systemctl", "restart", "docker", "sockproxy")
    import_busybox()
    role(LIMITS)
    version, *driver = must("docker", "info", "-f", "{{.ServerVersion}} {{.CgroupDriver}} {{.CgroupVersion}}").split()
    assert driver == ["systemd", "2"]
    own = "/sockproxy.slice/sockproxy-{}.slice".format(must("id", "-u", "alice").strip())
    must("install", "/host/docker-buildx", "/usr/local/bin/")  # people can't open what is in /host
    bare = ["docker-buildx", "build", "--progress=plain", "--no-cache", "/srv/build"]
    build = ["env", "DOCKER_HOST=unix:///run/sockproxy/docker.sock", *bare]

    def seen(pid: str) -> tuple[str, ...]:
        place = must("cat", f"/proc/{pid}/cgroup").strip().removeprefix("0::")
        assert place.startswith(f"{own}/"), place
        return place, *(must("cat", f"/sys/fs/cgroup{own}/{name}.max").strip() for name in ("memory", "cpu", "pids"))

    must("mkdir", "-p", "/srv/build")
    write("/srv/build/Dockerfile", "FROM busybox\nRUN exec busybox sleep 1000\n")
    found = "grep -lx busybox /proc/[0-9]*/comm | cut -d/ -f3"
    with subprocess.Popen(["runuser", "-u", "alice", "--", *build], stderr=subprocess.PIPE, text=True) as building:
        eventually(lambda: building.poll() is not None or must("sh", "-c", found) != "", "a step")
        assert building.poll() is None, building.communicate()
        pid = must("sh", "-c", found).strip()
        first = seen(pid)
        assert first[1:] == (str(64 * MEBI), "50000 100000", "40"), first
        must("systemctl", "daemon-reload")  # systemd writes what it knows of
        assert seen(pid) == first
        must("sh", "-c", f"kill -9 {pid}")
    write("/srv/build/Dockerfile", f"FROM busybox\nRUN {FORK % 60}\n")
    unbounded = run(*bare)
    assert unbounded.returncode == 0, unbounded.stderr
    done = run(*build, user="alice")
    assert "can't fork" in done.stderr, done.stderr
    assert done.returncode != 0
    return f"Docker {version}: {first[0]}, with {first[1:]}, after a reload of systemd too; no 41st process"


def apparmor() -> str:
    """Containers are confined by AppArmor; a take-over of the daemon's socket works beside it."""
    assert must("cat", "/sys/module/apparmor/parameters/enabled") == "Y\n"
    assert "apparmor" in told("confinement")
    write(
        "/root/profile",
        "profile without-etc flags=(attach_disconnected) {\n  file,\n  signal,\n  deny /etc/** rwl,\n}\n",
    )
    must("apparmor_parser", "-r", "/root/profile")
    role(LIMITS)

    def profile(*options: str) -> str:
        made = started("alice", "busybox sleep 1000", *options)
        found = must("sh", "-c", f"cat /proc/$(docker inspect -f '{{{{.State.Pid}}}}' {made})/attr/current")
        must("docker", "rm", "-f", made)
        return found

    confined = profile()
    assert confined == profile("--security-opt", "apparmor=docker-default") == "docker-default (enforce)\n"
    for name in ("unconfined", "without-etc"):
        refused = docker("alice", "run", "--rm", "--security-opt", f"apparmor={name}", "busybox", "sh")
        assert 'may not set "apparmor" (allowed: no-new-privileges' in refused.stderr, refused.stderr
    role("security_options: true")
    named = profile("--security-opt", "apparmor=without-etc")
    assert named == "without-etc (enforce)\n"
    must("sockproxy", "install", "--takeover", "--yes")
    done = run("docker", "run", "--rm", "busybox", "busybox", "echo", "hello", user="alice")
    assert done.stdout == "hello\n", done.stderr
    assert "denied" not in run("dmesg").stdout.lower()
    scores = [
        float(line.split()[1])
        for line in must("systemd-analyze", "security", "--no-pager").splitlines()
        if line.startswith("sockproxy") and line.split()[1] != "-"
    ]
    must("sockproxy", "uninstall", "--yes")
    must("dpkg", "-i", "/host/sockproxy.deb")
    return (
        f"{confined.strip()}, {named.strip()}; taken over and back; exposure of {len(scores)} units up to {max(scores)}"
    )


def network_file_system() -> str:
    """A home on NFS: not bound, or read-only where the role says so."""
    must("mkdir", "-p", "/srv/nfs", "/home/nina")
    write("/etc/exports", "/srv/nfs 127.0.0.1(rw,fsid=1,no_subtree_check)\n")
    must("systemctl", "restart", "nfs-server")
    must("sh", "-c", "mount -t nfs4 127.0.0.1:/srv/nfs /home/nina")
    return _unmappable("nina", "/srv/nfs", "nfs4")


def file_system_in_user_space() -> str:
    """A home on FUSE: the same."""
    must("mkdir", "-p", "/srv/fuse", "/home/fiona")
    must("sh", "-c", "modprobe fuse; bindfs -o allow_other /srv/fuse /home/fiona")
    return _unmappable("fiona", "/srv/fuse", "fuse")


def _unmappable(user: str, below: str, kind: str) -> str:
    must("useradd", "-M", "-G", "sockproxy-users", user)
    must("sh", "-c", f"mkdir {below}/work; echo here >{below}/work/file; chown -R {user}: {below}")
    work, script = f"/home/{user}/work", "busybox cat /h/file; echo x >/h/new"
    role(LIMITS)
    refused = docker(user, "run", "--rm", "-v", f"{work}:/h:ro", "busybox", "sh", "-c", script)
    why = "its file system does not let root in the container be you on disk (allowed: ext4, xfs"
    assert why in refused.stderr, refused.stderr
    row = told("file-systems")
    assert f"/home/{user} is on /home/{user} ({kind}" in row, row
    role(UNMAPPED)
    writing = docker(user, "run", "--rm", "-v", f"{work}:/h", "busybox", "sh", "-c", script)
    assert "(allowed: read-only, :ro)" in writing.stderr, writing.stderr
    read = docker(user, "run", "--rm", "-v", f"{work}:/h:ro", "busybox", "sh", "-c", script)
    assert (read.stdout, "Read-only file system" in read.stderr) == ("here\n", True), read.stderr
    assert must("ls", f"{below}/work") == "file\n"
    return f"{kind}: refused; with {UNMAPPED} read, not written"


def before_idmapped_mounts() -> str:
    """A kernel before 5.12: sockproxy serves, and binds nothing but read-only, where the role says so."""
    assert docker("alice", "run", "--rm", "busybox", "busybox", "echo", "hello").stdout == "hello\n"
    bind, script = (
        ("run", "--rm", "-v"),
        "busybox grep ' /h ' /proc/self/mountinfo; busybox cat /h/file; echo x >/h/new",
    )
    must("sh", "-c", "mkdir ~/work; echo here >~/work/file", user="alice")
    role(LIMITS)
    refused = docker("alice", *bind, "/home/alice/work:/h:ro", "busybox", "sh", "-c", script)
    assert "this kernel, before Linux 5.12," in refused.stderr, refused.stderr
    assert "no mount_setattr(2): no idmapped binds" in (mounts := told("mounts")), mounts
    assert "no Landlock" in told("landlock")
    role(UNMAPPED)
    writing = docker("alice", *bind, "/home/alice/work:/h", "busybox", "sh", "-c", script)
    assert "(allowed: read-only, :ro" in writing.stderr, writing.stderr
    read = docker("alice", *bind, "/home/alice/work:/h:ro", "busybox", "sh", "-c", script)
    assert read.stdout, read.stderr
    mount, _, text = read.stdout.partition("\n")
    assert {"ro", "nosuid", "nodev"} <= set(mount.split()[5].split(",")), mount
    assert (text, "Read-only file system" in read.stderr) == ("here\n", True), read.stderr
    left = must("sh", "-c", "grep -c /run/sockproxy/stages/ /proc/self/mountinfo || :").strip()
    return f"refused; with {UNMAPPED} read, not written: {mount.split()[5]}; stages left: {left}"


def accounts_of_a_directory() -> str:
    """Accounts that sssd alone knows: their groups count, in the helpers and behind the resolver's filter."""
    write("/etc/sssd/people", "sally:x:5001:5001::/home/sally:/bin/sh\nsam:x:5002:5002::/home/sam:/bin/sh\n")
    write("/etc/sssd/groups", "sally:x:5001:\nsam:x:5002:\npeople:x:5100:sally,sam\nsecret:x:5101:sally\n")
    write("/etc/sssd/sssd.conf", DIRECTORY)
    must(
        "sh", "-c", "chmod 600 /etc/sssd/sssd.conf; sed -i -E 's/^(passwd|group):.*/\\1: files sss/' /etc/nsswitch.conf"
    )
    must("systemctl", "restart", "sssd")
    eventually(lambda: run("id", "sally").returncode == 0, "the directory")
    groups = must("id", "-Gn", "sally").strip()
    assert groups == "sally people secret"
    must("sh", "-c", "mkdir -m 770 /srv/secret; echo here >/srv/secret/file; chgrp secret /srv/secret")
    must("sh", "-c", "for name in sally sam; do mkdir /home/$name; chown $name: /home/$name; done")
    role("binds: [{path: '{home}', mode: rw}, {path: /srv/secret, mode: ro}], bind_groups: true", "people")
    for user, expected in (("sally", "/h"), ("sam", "sam may not read /srv/secret")):
        mine = docker(user, "run", "--rm", "-v", f"/home/{user}:/h", "busybox", "sh", "-c", "echo x >/h/new")
        assert mine.returncode == 0, mine.stderr
        assert must("stat", "-c", "%U", f"/home/{user}/new") == f"{user}\n"
        listing = docker(user, "run", "--rm", "-v", "/srv/secret:/h:ro", "busybox", "sh", "-c", "echo /h")
        assert expected in listing.stdout + listing.stderr, listing.stderr
    assert "denied" not in must("journalctl", "-o", "cat", "--unit", "sockproxy-binds")
    return f"sally: {groups}; own folder bound, and one that only the last group opens"


CASES: dict[Case, str] = {
    cgroups_of_systemd: NEW,
    cgroups_of_the_daemon: NEW,
    steps_of_buildkit: NEW,
    network_file_system: NEW,
    file_system_in_user_space: NEW,
    apparmor: NEW,
    accounts_of_a_directory: NEW,
    before_idmapped_mounts: OLD,
}


def main() -> int:
    """Print the table; 1 when a case failed."""
    failed, began = 0, time.monotonic()
    prepare()
    print(f"| package | installed | Linux {platform.release()}, in {time.monotonic() - began:.0f} s |")
    for case in (case for case in CASES if case.__name__ in sys.argv[1:]):
        began = time.monotonic()
        try:
            seen = f"held | {case()}"
        except Exception:
            seen, failed = "FAILED |", 1
            traceback.print_exc()
        print(f"| {case.__name__.replace('_', ' ')} | {seen}; {time.monotonic() - began:.0f} s |")
    return failed


if __name__ == "__main__":
    sys.exit(main())
