"""Build sockproxy's container image and use it as two people would, on an engine 28 and a host of its own.

As root, at the top of the checkout: .venv/bin/python -m tests.container

The host is a mount and network namespace with a /run, an /etc and a /home of its own. No registry is needed: the image
that the recipe builds on is made of Debian's packages. While it is built, the engine is in this machine's network, as
building takes packages from Debian and PyPI. Exit code 1, and what was printed, when something is not as it should be.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support import cgroups, engines
from tests.support.proxy import eventually

CHECKOUT = Path(__file__).resolve().parents[1]
RECIPE = CHECKOUT / "config/container/compose.yaml"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"  # this machine's, which may have more than Debian's
# $1 is a folder for all that the host keeps. The last command holds the namespaces.
HOST = """
mkdir -p "$1/home" "$1/lib" "$1/log" /var/lib/sockproxy /var/log/sockproxy
cp -a /etc "$1/etc" || : # while others make users
sed -i '/^sockproxy/d' "$1"/etc/passwd "$1"/etc/group "$1"/etc/shadow "$1"/etc/gshadow
rm -rf "$1/etc/sockproxy" "$1/etc/docker"
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mount --bind "$1/etc" /etc; mount --bind "$1/home" /home
mount --bind "$1/lib" /var/lib/sockproxy; mount --bind "$1/log" /var/log/sockproxy
ip link set lo up; ip link add eth0 type veth peer name eth0p; ip addr add 192.0.2.2/24 dev eth0
ip link set eth0p up; ip link set eth0 up
echo made; exec sleep infinity
"""
# A host without syslog has no /dev/log, and not every machine lets root lower the score.
OVERRIDE = """services:
  sockproxy:
    oom_score_adj: 0
    volumes: [{type: bind, source: /run/dev-log, target: /dev/log}]
"""
STARTED = time.monotonic()
MOVED, OURS = "/run/sockproxy-docker/docker.sock", "/run/sockproxy/docker.sock"


def say(text: str) -> None:
    """Tell how far it has come, in how many seconds of this process."""
    print(f"{time.monotonic() - STARTED:4.0f} s  {text}", flush=True)


class Host:
    """A host that runs everything in containers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        client = engines.client()
        self.path = f"{client.docker.parents[1]}/sbin:{client.docker.parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        (folder / "config/cli-plugins").mkdir(parents=True)
        for plugin in client.plugins.iterdir():
            (folder / "config/cli-plugins" / plugin.name).symlink_to(plugin)
        command = ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-euc", HOST, "sh", folder]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._holder.stdout
        assert self._holder.stdout.readline() == b"made\n"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.socket = ""

    def command(self, *argv: str, user: str = "", net: bool = True, **more: str) -> list[str]:
        """Form the command that runs one on the host."""
        home = f"/home/{user}" if user else str(self.folder)
        identity = [f"--reuid={user}", f"--regid={user}", "--init-groups", "--inh-caps=-all"] if user else []
        environment = {"PATH": self.path, "HOME": home, "DOCKER_CONFIG": f"{self.folder}/config"} | more
        words = [f"{name}={value}" for name, value in environment.items()]
        enter = ["nsenter", "-t", str(self._holder.pid), "-m", *(["-n"] if net else [])]
        return [*enter, "env", "-i", "-C", home if user else str(CHECKOUT), *words, "setpriv", *identity, *argv]

    def run(self, *argv: str, user: str = "", code: int = 0, **more: str) -> str:
        """Run a command, which must end with a code; give all that it prints."""
        done = subprocess.run(
            self.command(*argv, user=user, **more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, f"{argv}: code {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
        return done.stdout + done.stderr

    def docker(self, *argv: str, **more: str) -> str:
        """Run docker as root, past sockproxy."""
        return self.run("docker", *argv, DOCKER_HOST=f"unix://{self.socket}", **more)

    def start(self, path: str, *options: str, net: bool = True) -> None:
        """Start the daemon."""
        self.socket = path
        options = ("--data-root", f"{self.folder}/docker", "--group", "root", "-H", f"unix://{path}", *options)
        with open(self.folder / "dockerd.log", "ab") as log:
            command = self.command("dockerd", *options, net=net)
            self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        ping = self.command("docker", "version", DOCKER_HOST=f"unix://{path}")
        eventually(lambda: not subprocess.run(ping, capture_output=True).returncode, "dockerd", 60)

    def stop(self) -> None:
        """Stop the daemon."""
        if self.daemon:
            self.daemon.terminate()
            self.daemon.wait(90)
            self.daemon = None

    def end(self) -> None:
        """End all."""
        with contextlib.suppress(AssertionError, subprocess.SubprocessError):
            for kept in ("sockproxy", ""):  # last, as the others' binds are its
                self.docker("rm", "-fv", *(set(self.docker("ps", "-a", "--format", "{{.Names}}").split()) - {kept}))
        self.stop()
        self._holder.kill()
        self._holder.wait()


def base(host: Host) -> None:
    """Make the image that the recipe begins with, as a registry has it, with this machine's way to packages."""
    tree = host.folder / "base"
    sources = [path for path in Path("/etc/apt").glob("sources.list*/*") if path.suffix in (".list", ".sources")]
    sources += [path for path in (Path("/etc/apt/sources.list"),) if path.exists() and path.stat().st_size]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--aptopt=Acquire::Retries 3", "bookworm", tree, *sources]
    subprocess.run(command, check=True)
    shutil.copy(CERTIFICATES, tree / "etc/pip.crt")
    script = f"tar -C {tree} -c . | docker import -c 'ENV PIP_CERT=/etc/pip.crt' - debian:bookworm-slim"
    host.run("sh", "-c", script, DOCKER_HOST=f"unix://{host.socket}")


def busybox(host: Host) -> None:
    """Make the image that people run."""
    script = (
        "cd $(mktemp -d); mkdir -p bin tmp; cp $(command -v busybox) bin/;"
        "for applet in cat echo grep id ls sh sleep touch true; do ln -s busybox bin/$applet; done;"
        "tar -c . | docker import -c 'ENV PATH=/bin' -c 'CMD [\"sh\"]' - busybox"
    )
    host.run("sh", "-c", script, DOCKER_HOST=f"unix://{host.socket}")


def compose(host: Host, *argv: str, **more: str) -> str:
    """Run docker compose on the recipe, as root."""
    override = host.folder / "override.yaml"
    override.write_text(OVERRIDE)
    return host.docker("compose", "-f", str(RECIPE), "-f", str(override), *argv, **more)


def await_served(host: Host, listen: str) -> None:
    """Wait until sockproxy answers."""
    asked = host.command("docker", "version", user="alice", DOCKER_HOST=f"unix://{listen}")
    eventually(lambda: not subprocess.run(asked, capture_output=True).returncode, "sockproxy", 60)


def use(host: Host, listen: str) -> None:
    """Be two people on one host."""
    alice, bob = ({"user": name, "DOCKER_HOST": f"unix://{listen}"} for name in ("alice", "bob"))
    await_served(host, listen)
    assert host.run("docker", "run", "--rm", "busybox", "echo", "hello", **alice) == "hello\n"
    host.run("docker", "run", "-d", "--name", "web", "-v", "/home/alice:/data", "busybox", "sleep", "1000", **alice)
    host.run("docker", "exec", "web", "touch", "/data/made", **alice)
    assert Path(f"{host.folder}/home/alice/made").stat().st_uid == int(host.run("id", "-u", "alice"))
    assert "web" in host.run("docker", "ps", **alice)
    assert "web" not in host.run("docker", "ps", "-a", **bob)
    assert "No such container: web" in host.run("docker", "stop", "web", code=1, **bob)
    assert "may not bind" in host.run("docker", "run", "-v", "/home/alice:/d", "busybox", "true", code=125, **bob)
    assert "may not run privileged" in host.run("docker", "run", "--privileged", "busybox", "true", code=125, **bob)
    own = ["-v", "/var/run/docker.sock:/s", "busybox", "ls", "-l", "/s"]
    assert "/s" in host.run("docker", "run", "--rm", *own, **bob)


def look(host: Host) -> None:
    """Look at it as its administrator would."""
    inside = host.docker("exec", "--privileged", "sockproxy", "sockproxy", "doctor", code=1)
    found = {line.split()[1] for line in inside.splitlines() if line.startswith(("FOUND", "unknown"))}
    assert found <= {"clock"}, inside
    assert ": healthy" in host.docker("exec", "sockproxy", "sockproxy", "status")
    record = host.docker("exec", "sockproxy", "sockproxy", "audit", "find", "--user", "bob", "--verdict", "deny")
    assert "HostConfig.Privileged" in record, record
    processes = [line for line in Path("/proc").iterdir() if line.name.isdigit()]
    held = {}
    for process in processes:
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"/usr/lib/sockproxy/libexec/sockproxy" in words or b"sockproxy.app" in words:
                status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
                held[words[-2].decode()] = (int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"])
    assert held["sockproxy.app"] == held["lifecycle"] == held["filesystem"] == (0, 0, "1"), held
    assert held["attacher"] == (1 << 21, 1 << 21, "1"), held
    uid = host.run("id", "-u", "alice").strip()
    assert cgroups.read("pids", f"sockproxy/{uid}") == "16384"


def main() -> int:
    """Go through it all."""
    folder = Path(tempfile.mkdtemp(prefix="spc-", dir="/var/tmp"))
    folder.chmod(0o755)
    cgroups.made.add("sockproxy")
    host = Host(folder)
    try:
        host.start("/run/docker.sock", "--bridge=none", "--iptables=false", "--ip6tables=false", net=False)
        base(host)
        say("image to build on made")
        host.docker("build", "--network=host", "-t", "sockproxy", "-f", str(RECIPE.parent / "Dockerfile"), ".")
        host.stop()
        say("built")
        host.start("/run/docker.sock")
        busybox(host)
        log = "import socket, time; s = socket.socket(1, 2); s.bind('/run/dev-log'); time.sleep(9999)"
        syslog = subprocess.Popen(host.command("python3", "-c", log))
        eventually(lambda: not subprocess.run(host.command("test", "-S", "/run/dev-log")).returncode, "syslog")
        compose(host, "up", "-d")
        assert "sockproxy-audit" in host.run("getent", "passwd", "sockproxy-audit")
        for name in ("alice", "bob"):  # after it was started
            host.run("useradd", "-m", "-s", "/bin/sh", "-G", "sockproxy-users", name)
        use(host, OURS)
        look(host)
        say("used by two people, looked at")

        alice = {"user": "alice", "DOCKER_HOST": f"unix://{OURS}"}
        script = "echo again >>/d/starts; exec sleep 9999"
        kept = ["--restart", "always", "--name", "kept", "-v", "/home/alice:/d", "busybox", "sh", "-c", script]
        host.run("docker", "run", "-d", *kept, **alice)
        host.docker("restart", "sockproxy")
        await_served(host, OURS)
        host.run("docker", "restart", "-t", "0", "kept", **alice)
        assert host.run("docker", "exec", "kept", "cat", "/d/starts", **alice) == "again\n" * 2
        (folder / "etc/sockproxy").mkdir()
        (folder / "etc/sockproxy/sockproxy.yaml").write_text("version: 1\nbindings: [{user: alice, role: viewer}]\n")
        host.docker("kill", "-s", "HUP", "sockproxy")
        refused = host.command("docker", "run", "--rm", "busybox", "true", **alice)
        eventually(lambda: subprocess.run(refused, capture_output=True).returncode == 125, "the new policy")
        (folder / "etc/sockproxy/sockproxy.yaml").unlink()
        say("restarted, reloaded")

        host.stop()  # a take-over, and as good as a reboot
        host.run("mkdir", "-m", "700", os.path.dirname(MOVED))
        host.start(MOVED)
        compose(host, "up", "-d", SOCKPROXY_DOCKER_SOCKET=MOVED, SOCKPROXY_LISTEN="/run/docker.sock")
        await_served(host, "/run/docker.sock")
        host.docker("rm", "-f", "web")
        alice["DOCKER_HOST"] = "unix:///run/docker.sock"
        host.run("docker", "restart", "-t", "0", "kept", **alice)  # if it is not running: see config/README.md
        assert host.run("docker", "exec", "kept", "grep", "-c", "again", "/d/starts", **alice) in ("3\n", "4\n")
        use(host, "/run/docker.sock")
        say("taken over")
        compose(host, "down")
        syslog.kill()
        syslog.wait()
    finally:
        host.end()
        cgroups.remove("sockproxy")
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
