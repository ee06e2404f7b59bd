"""A Debian 12 that was booted with systemd, in a container of systemd-nspawn, with a Docker daemon of its own.

Its root is made once, below the engines' cache; each boot writes to a layer over it. It shares nothing with this
machine but the kernel: network, processes, mounts, and the cgroups in which systemd works, are its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support import needs
from tests.support.proxy import eventually

CACHE = Path(os.environ.get("SOCKPROXY_ENGINE_CACHE", "/var/cache/sockproxy-engines"))
ENGINE = Path(__file__).resolve().parents[1] / "engines" / "engine"
PACKAGES = "systemd,systemd-sysv,dbus,python3,docker.io,busybox-static,iproute2"
VERSION = "1"  # of what is in the root: a change of PACKAGES needs another
BOOT = """
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/up,workdir=$2/work" "$2/root"
exec systemd-nspawn --quiet --directory="$2/root" --register=no --keep-unit --private-network --capability=all \\
    --system-call-filter='@keyring bpf landlock_create_ruleset landlock_add_rule landlock_restrict_self' \\
    --bind="$2/disks/home:/home" --bind="$2/disks/docker:/var/lib/docker" --tmpfs=/var/lib/containerd \\
    --bind-ro="$3:/opt/engine" --boot
"""
# In a hierarchy of version 1 nspawn gives its container the controllers to read only; containers in it need more.
WRITABLE = """[Service]
ExecStartPre=sh -c 'for folder in /sys/fs/cgroup/*/; do mount -o remount,bind,rw "$$folder" || :; done 2>/dev/null'
"""


def root() -> Path:
    """Find the root, made now when it isn't there."""
    for tool in ("mmdebstrap", "systemd-nspawn"):
        if not shutil.which(tool):
            needs.missing(f"no {tool} on this host")
    return once(f"booted-{VERSION}", lambda place: debian(place, PACKAGES))


def later() -> Path:
    """Find the packages of a later Docker, unpacked: they are below /opt/engine there."""
    done = subprocess.run([ENGINE, "fetch", "28"], capture_output=True, text=True)
    if done.returncode:
        needs.missing(f"no engine 28: {done.stderr[-500:]}")
    return Path(done.stdout.strip())


def once(name: str, make: Callable[[Path], None]) -> Path:
    """Find a folder below the cache, made now when it isn't there."""
    CACHE.mkdir(parents=True, exist_ok=True)
    place = CACHE / name
    with open(CACHE / "booted.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            draft = Path(tempfile.mkdtemp(prefix="booted-", dir=CACHE))
            make(draft / "root")
            (draft / "root").rename(place)
            draft.rmdir()
    return place


def debian(place: Path, packages: str, *options: str) -> None:
    """Make the root of a Debian 12, from this machine's own mirror.

    Args:
        options: further ones of mmdebstrap.
    """
    sources = [path for path in Path("/etc/apt").glob("sources.list*/*") if path.suffix in (".list", ".sources")]
    sources += [path for path in (Path("/etc/apt/sources.list"),) if path.exists() and path.stat().st_size]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}"]
    command += ["--aptopt=Acquire::Retries 3", *options, "bookworm", place, *sources]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        needs.missing(f"no root of a Debian: {done.stderr[-500:]}")


class Booted:
    """A machine that was booted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("up", "work", "root", "disks"):
            (folder / name).mkdir()
        # What is on an overlay can neither be a layer of Docker's nor be idmapped. These two disks outlive a reboot.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder / "disks"], check=True)
        for name in ("home", "docker"):
            (folder / "disks" / name).mkdir()
        before_docker = folder / "up/usr/lib/systemd/system/docker.service.d"
        before_docker.mkdir(parents=True)
        (before_docker / "cgroups.conf").write_text(WRITABLE)
        # What it is started in, in each hierarchy, is the root of what it sees: its systemd trims what is not its own.
        self._cgroups = [
            place / f"sockproxy-booted-{os.getpid()}"
            for place in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir())
            if (place / "cgroup.procs").exists() and place.is_mount() and not place.is_symlink()
        ]
        for cgroup in self._cgroups:
            cgroup.mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):  # of version 1, where nothing runs before they are set
                if (cgroup / name).exists() and (cgroup / "notify_on_release").exists():
                    (cgroup / name).write_text((cgroup.parent / name).read_text())
        self._leader = 0
        self._nspawn = self._boot()

    def _boot(self) -> subprocess.Popen[bytes]:
        command = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-euc",
            BOOT,
            "sh",
            root(),
            self._folder,
            later(),
        ]
        with open(self._folder / "console", "wb") as console:
            nspawn = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                preexec_fn=self._enter_cgroups,
            )
        eventually(lambda: self._has_booted(nspawn), "boot", 60)
        self.must("systemctl", "daemon-reexec")  # it looks at its start which controllers it may use
        return nspawn

    def _enter_cgroups(self) -> None:
        for cgroup in self._cgroups:
            (cgroup / "cgroup.procs").write_text("0")

    def _has_booted(self, nspawn: subprocess.Popen[bytes]) -> bool:
        assert nspawn.poll() is None, self.console()
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
        with contextlib.suppress(OSError):
            for child in map(int, children):
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    self._leader = child
                    told = self.run("systemctl", "is-system-running", "--wait").stdout.strip()
                    return told in ("running", "degraded")
        return False

    def console(self) -> str:
        """Give the last that was printed on its console."""
        return (self._folder / "console").read_text(errors="replace")[-2000:]

    def command(self, *argv: str, user: str = "root") -> list[str]:
        """Form the command that runs one in the machine."""
        enter = ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        return [*enter, "runuser", "-u", user, "--", *argv]

    def run(self, *argv: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        """Run a command in the machine."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        return subprocess.run(
            self.command(*argv, user=user),
            capture_output=True,
            text=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    def must(self, *argv: str, user: str = "root") -> str:
        """Run a command that must not fail; give what it prints."""
        done = self.run(*argv, user=user)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def copy(self, file: Path, path: str) -> None:
        """Put a file into the machine."""
        with open(file, "rb") as source:
            subprocess.run(self.command("sh", "-c", f"cat >{path}"), stdin=source, check=True)

    def write(self, path: str, text: str) -> None:
        """Write a file in the machine."""
        subprocess.run(self.command("sh", "-c", f"cat >{path}"), input=text, text=True, check=True)

    def import_busybox(self, socket: str) -> None:
        """Make the image busybox at a daemon."""
        script = (
            "cd $(mktemp -d); mkdir -p bin tmp; cp /bin/busybox bin/;"
            "for applet in cat echo sh sleep true; do ln -s busybox bin/$applet; done;"
            f"tar -c . | docker -H unix://{socket} import -c 'ENV PATH=/bin' -c 'CMD [\"sh\"]' - busybox"
        )
        self.must("sh", "-c", script)

    def reboot(self) -> None:
        """Switch it off and on again: what is on its disk stays, all else is gone."""
        self.run("systemctl", "poweroff")
        self._nspawn.wait(60)
        self._nspawn = self._boot()

    def stop(self) -> None:
        """Switch it off."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._leader, signal.SIGKILL)
            self._nspawn.wait(20)
        self._nspawn.kill()
        self._nspawn.wait()
        for cgroup in self._cgroups:
            for place, _, _ in os.walk(cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(place)
        subprocess.run(["umount", "--lazy", self._folder / "disks"], check=True)
        shutil.rmtree(self._folder, ignore_errors=True)
