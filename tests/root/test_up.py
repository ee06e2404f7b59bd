"""`sockproxy up` with its true processes, before a daemon that only says OK."""

from __future__ import annotations

import grp
import http.client
import json
import os
import pwd
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import BOUND, Running, ends, open_folder

from sockproxy.review.verify import verify
from sockproxy.supervise.table import Settings, table
from tests.support import needs
from tests.support.proxy import eventually

pytestmark = pytest.mark.root
NAMES = tuple(row.name for row in table(Settings(None, *["/x"] * 5)))
CAPABILITIES = {"setgid": 6, "setuid": 7, "sys_admin": 21, "setfcap": 31}
WHAT_NEEDS = {"network-helper": "/networks", "filesystem-helper": "/volumes"}
CAP_SYS_RESOURCE = 24


class Daemon(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    class RequestHandlerClass(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]")


@pytest.fixture
def folder() -> Iterator[Path]:
    needs.root()
    with open_folder() as path:
        yield path


@pytest.fixture
def settings(folder: Path) -> Settings:
    config = str(folder / "sockproxy.yaml")
    (folder / "sockproxy.yaml").write_text("version: 1\nbindings:\n  - {user: root, role: viewer}\n")
    paths = [str(folder / name) for name in ("daemon.sock", "docker.sock", "run", "state", "log", "plugins")]
    return Settings(config, *paths)


@pytest.fixture
def daemon(settings: Settings) -> Iterator[None]:
    with Daemon(settings.docker_socket, Daemon.RequestHandlerClass) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


Start = Callable[[Settings], Running]


@pytest.fixture
def start() -> Iterator[Start]:
    started = []

    def run(settings: Settings) -> Running:
        options = [f"--{name.replace('_', '-')}={value}" for name, value in settings._asdict().items()]
        running = Running([sys.executable, "-I", "-m", "sockproxy", "up", *options])
        started.append(running)
        return running

    yield run
    for running in started:
        running.close()


@pytest.fixture
def up(start: Start, settings: Settings, daemon: None) -> Running:
    running = start(settings)
    assert running.ready() == f"ready DOCKER_HOST=unix://{settings.listen}"
    return running


def ask(settings: Settings, method: str = "GET", target: str = "/containers/json") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("docker")
    with socket.socket(socket.AF_UNIX) as connection.sock:
        connection.sock.settimeout(BOUND)
        connection.sock.connect(settings.listen)
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, response.read()


def records(settings: Settings) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(settings.log_dir, "audit.jsonl").read_text().splitlines()]


def by_name(running: Running, settings: Settings) -> dict[str, int]:
    names = {row.argv: row.name for row in table(settings)}
    children = running.children()  # one may not have become yet what it will be
    return {names[tuple(argv)]: pid for pid, argv in children.items() if tuple(argv) in names}


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.split() for key, _, value in (line.partition(":") for line in lines)}


def test_each_process_has_its_own_rights_and_no_more(up: Running, settings: Settings) -> None:
    pids = by_name(up, settings)
    assert set(pids) == set(NAMES)
    may_favour = int(status(up.pid)["CapEff"][0], 16) >> CAP_SYS_RESOURCE & 1
    for row in table(settings):
        has, user = status(pids[row.name]), pwd.getpwnam(row.user)
        assert has["Uid"] == [str(user.pw_uid)] * 4
        assert has["Gid"] == [str(user.pw_gid)] * 4
        assert has["Groups"] == [str(grp.getgrnam(group).gr_gid) for group in row.groups]
        held = sum(1 << CAPABILITIES[name] for name in row.capabilities)
        for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
            assert has[f"Cap{kind}"] == [f"{held:016x}"]
        assert has["NoNewPrivs"] == ["1"]
        if may_favour:
            assert Path(f"/proc/{pids[row.name]}/oom_score_adj").read_text().strip() == str(row.oom)
        assert has["SigBlk"] == ["0" * 16]


def test_each_process_has_its_own_sockets_and_no_more(up: Running, settings: Settings) -> None:
    """A listening socket's path in /proc/net/unix tells whose it is; connections have no path of their own."""
    lines = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    listening = {f"socket:[{fields[6]}]": fields[7] for fields in lines if len(fields) > 7 and fields[3] == "00010000"}
    pids = by_name(up, settings)
    kept = {
        "audit-writer": {f"{settings.log_dir}/audit.jsonl"},
        "filesystem-helper": {f"{settings.state_of('filesystem')}/tags.jsonl"},
    }
    for row in table(settings):
        links = {fd: os.readlink(f"/proc/{pids[row.name]}/fd/{fd}") for fd in os.listdir(f"/proc/{pids[row.name]}/fd")}
        assert links["0"] == "/dev/null"
        assert links["1"] == links["2"]
        passed = [listening.get(links[str(number)]) for number in range(3, 3 + len(row.sockets))]
        assert passed == [endpoint.path for endpoint in row.sockets.values()]
        assert {listening[link] for link in links.values() if link in listening} == set(passed)
        files = {link for link in links.values() if not re.match(r"socket:|pipe:|anon_inode:|/dev/null$", link)}  # noqa: TID251
        assert files == kept.get(row.name, set())


def test_the_environment_is_clean(up: Running, settings: Settings) -> None:
    added = {"PATH", "LANG", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_USEC"}
    for row in table(settings):
        text = Path(f"/proc/{by_name(up, settings)[row.name]}/environ").read_text().rstrip("\0")
        names = {entry.partition("=")[0] for entry in text.split("\0")}
        assert names == row.environment.keys() | added
        assert ("SOCKPROXY_DOCKER_SOCKET" in names) == row.name.endswith("-helper")


def test_folders_and_files_have_their_owners_and_modes(up: Running, settings: Settings) -> None:
    expected = {
        settings.runtime_dir: ("root", "root", 0o40755),
        f"{settings.runtime_dir}/helpers": ("root", "sockproxy", 0o40750),
        f"{settings.runtime_dir}/audit": ("root", "sockproxy", 0o40750),
        f"{settings.runtime_dir}/audit/audit.sock": ("root", "sockproxy", 0o140660),
        f"{settings.runtime_dir}/audit-readers.sock": ("root", "sockproxy-audit", 0o140660),
        f"{settings.runtime_dir}/status.sock": ("root", "sockproxy-status", 0o140660),
        f"{settings.log_dir}/seal.key": ("sockproxy-audit", "sockproxy-audit", 0o100600),
        f"{settings.runtime_dir}/helpers/network.sock": ("root", "sockproxy", 0o140660),
        f"{settings.runtime_dir}/notify/front": ("sockproxy", "root", 0o140200),
        f"{settings.runtime_dir}/binds": ("sockproxy-attach", "sockproxy-attach", 0o40700),
        f"{settings.runtime_dir}/attach.sock": ("root", "sockproxy-binds", 0o140660),
        f"{settings.runtime_dir}/binds-checks.sock": ("root", "root", 0o140600),
        f"{settings.plugin_dir}/{settings.plugin}.sock": ("root", "root", 0o140600),
        settings.binds: ("root", "sockproxy-binds", 0o42750),
        settings.state_dir: ("root", "root", 0o40755),
        settings.policy: ("root", "root", 0o100644),
        settings.log_dir: ("sockproxy-audit", "sockproxy-audit", 0o40750),
        f"{settings.log_dir}/audit.jsonl": ("sockproxy-audit", "sockproxy-audit", 0o100640),
        settings.listen: ("root", "root", 0o140666),
    }
    for path, (user, group, mode) in expected.items():
        found = os.lstat(path)
        has = (pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name, oct(found.st_mode))
        assert has == (user, group, oct(mode)), path


@pytest.mark.parametrize("name", NAMES)
def test_a_process_that_is_killed_comes_back(up: Running, settings: Settings, name: str) -> None:
    target = WHAT_NEEDS.get(name, "/containers/json")
    assert ask(settings, "GET", target)[0] == 200
    before = by_name(up, settings)[name]
    with ends([before]):
        os.kill(before, signal.SIGKILL)
    up.wait_for(f"{name} ended with SIGKILL: starting it again")
    assert ask(settings, "GET", target)[0] == 200  # whoever comes in between waits: the listening sockets stay open
    eventually(lambda: set(by_name(up, settings)) == set(NAMES), "all processes")
    pids = by_name(up, settings)
    assert pids[name] != before
    assert [record["seq"] for record in records(settings)] == list(range(1, len(records(settings)) + 1))


def test_nothing_outlives_the_supervisor(up: Running) -> None:
    with ends(list(up.children())):
        up.process.kill()


def test_sigterm_ends_all_and_removes_the_sockets(up: Running, settings: Settings) -> None:
    ask(settings)
    with ends(list(up.children())):
        assert up.end(signal.SIGTERM) == 0
    assert [
        path for path in Path(settings.listen).parent.rglob("*") if path.is_socket() and "daemon" not in path.name
    ] == []
    _, first, *_, last, seal = records(settings)
    assert seal["ev"] == "seal"
    assert (first["ev"], first["source"], last["ev"]) == ("start", settings.config, "stop")
    assert {first["peer"]["pid"], last["peer"]["pid"]} == {up.pid}


def test_it_can_be_started_again_at_once(start: Start, settings: Settings, daemon: None) -> None:
    for _ in range(2):
        running = start(settings)
        assert running.ready()
        assert ask(settings) == (200, b"[]")
        assert running.end(signal.SIGTERM) == 0
    events = [(record["seq"], record["ev"]) for record in records(settings)]
    assert events == list(enumerate(["key", *["start", "intent", "outcome", "stop", "seal"] * 2], 1))
    assert verify(settings.log_dir).findings == []


def test_a_killed_one_leaves_nothing_in_the_way(start: Start, settings: Settings, daemon: None) -> None:
    running = start(settings)
    running.ready()
    with ends(list(running.children())):
        running.process.kill()
    assert Path(settings.listen).is_socket()
    assert start(settings).ready()
    assert ask(settings) == (200, b"[]")


def test_reload(up: Running, settings: Settings) -> None:
    assert settings.config
    good = Path(settings.policy).read_bytes()
    assert ask(settings, "POST", "/containers/prune")[0] == 403
    Path(settings.config).write_text("version: 1\nbindings:\n  - {user: root, role: admin, rule: x}\n")
    up.process.send_signal(signal.SIGHUP)
    assert f"{settings.config}:3:" in up.wait_for("the old policy stays")
    assert Path(settings.policy).read_bytes() == good
    assert ask(settings, "POST", "/containers/prune")[0] == 403

    Path(settings.config).write_text("version: 1\nbindings:\n  - {user: root, role: admin}\n")
    up.process.send_signal(signal.SIGHUP)
    digest = up.wait_for("new policy").split()[-1]
    end = time.monotonic() + BOUND
    while ask(settings, "POST", "/containers/prune")[0] == 403:  # until both, front and helper, have loaded it
        assert time.monotonic() < end
    found = [(record["verdict"], record["policy"]) for record in records(settings) if record["ev"] == "policy"]
    assert [verdict for verdict, _ in found] == ["refused", "loaded"]
    assert found[0][1] != found[1][1] == digest
    assert set(by_name(up, settings)) == set(NAMES)


def test_a_wrong_policy_starts_nothing(start: Start, settings: Settings) -> None:
    assert settings.config
    Path(settings.config).write_text("version: 2\n")
    running = start(settings)
    assert running.ready() == ""
    assert running.end() == 2
    assert f"{settings.config}:1:10: version" in running.said[-1]


@pytest.mark.parametrize("what", ["runtime_dir", "state_dir"])
def test_one_folder_is_for_one(up: Running, settings: Settings, start: Start, what: str) -> None:
    folder = Path(settings.listen).parent
    others = {name: str(folder / f"other-{name}") for name in ("listen", "runtime_dir", "state_dir", "log_dir")}
    del others[what]
    second = start(settings._replace(**others))
    assert second.end() == 2
    assert f"another sockproxy is running with {getattr(settings, what)}" in second.said[-1]
    assert ask(settings) == (200, b"[]")


def test_a_living_socket_is_not_replaced(up: Running, settings: Settings, start: Start) -> None:
    folder = Path(settings.listen).parent
    others = {name: str(folder / f"other-{name}") for name in ("runtime_dir", "state_dir", "log_dir")}
    second = start(settings._replace(**others))
    assert second.end() == 2
    assert f"{settings.listen} is in use by another process" in second.said[-1]
    assert not [path for path in (folder / "other-runtime_dir").rglob("*") if path.is_socket()]
    assert ask(settings) == (200, b"[]")


def test_one_log_is_for_one(up: Running, settings: Settings, start: Start) -> None:
    folder = Path(settings.listen).parent
    others = {name: str(folder / f"other-{name}") for name in ("listen", "runtime_dir", "state_dir")}
    second = start(settings._replace(**others))
    assert second.end() == 1
    assert any("another audit writer has" in line for line in second.said)
    assert ask(settings) == (200, b"[]")


def link(settings: Settings) -> None:
    os.mkdir(f"{settings.state_dir}-elsewhere")
    os.symlink(f"{settings.state_dir}-elsewhere", settings.state_dir)


def others(settings: Settings) -> None:
    os.mkdir(settings.state_dir)
    os.chown(settings.state_dir, 65534, 65534)


def writable(settings: Settings) -> None:
    os.chmod(os.path.dirname(settings.state_dir), 0o777)


def closed(settings: Settings) -> None:
    os.chmod(os.path.dirname(settings.state_dir), 0o700)


def a_file(settings: Settings) -> None:
    Path(settings.listen).write_text("")


UNSAFE = {
    link: "no folder that can be used",
    others: "belongs to somebody else",
    writable: "others than root may change",
    closed: "is closed to unprivileged users",
    a_file: "is in the way: it is no socket",
}


@pytest.mark.parametrize("prepare", UNSAFE, ids=lambda prepare: prepare.__name__)
def test_what_is_unsafe_is_refused(start: Start, settings: Settings, prepare: Callable[[Settings], None]) -> None:
    prepare(settings)
    running = start(settings)
    assert running.end() == 2
    assert UNSAFE[prepare] in running.said[-1]
    assert not running.said[-1].startswith("Traceback")


def test_the_daemons_socket_is_not_the_users(start: Start, settings: Settings) -> None:
    running = start(settings._replace(listen=settings.docker_socket))
    assert running.end() == 2
    assert "cannot be both" in running.said[-1]


def test_a_path_too_long_for_a_socket_is_named(start: Start, settings: Settings) -> None:
    running = start(settings._replace(listen=f"{settings.listen}{'x' * 100}"))
    assert running.end() == 2
    assert "too long for a socket" in running.said[-1]


def test_without_a_daemon_it_starts_and_answers_502_until_there_is_one(
    start: Start, settings: Settings, request: pytest.FixtureRequest
) -> None:
    running = start(settings)
    assert running.ready()
    assert any(settings.docker_socket in line for line in [running.wait_for("warning: there is no")])
    assert ask(settings)[0] == 502
    request.getfixturevalue("daemon")
    assert ask(settings) == (200, b"[]")


def test_code_that_users_can_not_read_is_named_before_anything_starts(start: Start, settings: Settings) -> None:
    """Move the whole package below a closed folder, as a checkout in /root is."""
    top = Path(settings.listen).parent / "closed"
    shutil.copytree(Path(__file__).parents[2] / "sockproxy", top / "sockproxy")
    shutil.copytree(Path(__file__).parents[2] / "helpers", top / "helpers")
    shutil.copytree(Path(__file__).parents[2] / "config", top / "config")
    top.chmod(0o700)
    code = (
        f"import sys; sys.path[:0] = {[str(top), str(top / 'helpers')]}; import sockproxy.cli as c; sys.exit(c.main())"
    )
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings._asdict().items()]
    done = subprocess.run([sys.executable, "-I", "-B", "-c", code, "up", *options], capture_output=True, text=True)
    assert done.returncode == 2
    assert "audit-writer (user sockproxy-audit) cannot read" in done.stderr
    assert not Path(settings.runtime_dir).exists()


def test_standard_streams_may_be_closed(settings: Settings, daemon: None) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings._asdict().items()]
    command = [sys.executable, "-I", "-m", "sockproxy", "up", *options]
    with subprocess.Popen(["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *command], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline().startswith(b"ready ")
        assert ask(settings) == (200, b"[]")
        process.terminate()
        assert process.wait(BOUND) == 0


def test_without_the_capability_to_mount_all_else_works(settings: Settings) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings._asdict().items() if value]
    command = ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-I", "-m", "sockproxy", "up", *options]
    running = Running([str(word) for word in command])
    try:
        assert running.ready() == f"ready DOCKER_HOST=unix://{settings.listen}"
        assert len(running.children()) == len(NAMES) - 2
        running.wait_for("no capability for attacher, binds: binds of the host's folders are refused")
    finally:
        running.close()
