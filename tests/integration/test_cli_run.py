"""docker run and exec through sockproxy: output, input and exit codes are those of the command."""

from __future__ import annotations

import hashlib
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import MEBIBYTE, Running, assert_done, await_running, running, write_random
from tests.support.engines import Engine
from tests.support.proxy import Proxy
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

NOISE = "echo out; echo err >&2; exit 3"


def test_output_errors_and_exit_code_are_kept_apart(proxy: Proxy, users: Users) -> None:
    done = proxy.docker(users.alice, "run", "--rm", "busybox", "sh", "-c", NOISE)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)


def test_a_removed_container_is_gone_when_run_returns(proxy: Proxy, users: Users, engine: Engine) -> None:
    assert_done(proxy.docker(users.alice, "run", "--rm", "--name", "brief", "busybox", "true"))
    assert engine.docker("ps", "-aq").stdout == ""


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["run", "--rm", "busybox", "no-such-command"], 127, "executable file not found"),
        (["run", "--rm", "busybox", "/tmp"], 126, "permission denied"),
        (["run", "--rm", "no-such-image"], 125, "Unable to find image 'no-such-image:latest' locally"),
        (["run", "--rm", "--init", "busybox", "sh", "-c", "kill -9 $$"], 137, ""),
    ],
    ids=["missing command", "a folder", "missing image", "killed"],
)
def test_exit_codes_of_failures(proxy: Proxy, users: Users, command: list[str], code: int, words: str) -> None:
    done = proxy.docker(users.alice, *command)
    assert done.returncode == code, done.stderr
    assert words in done.stderr


def test_the_last_line_comes_after_stdin_has_ended(proxy: Proxy, users: Users) -> None:
    """Without -i the CLI half-closes its attach connection at once: that is no client that left."""
    done = proxy.docker(users.alice, "run", "--rm", "busybox", "sh", "-c", "sleep 1.5; echo last")
    assert (done.stdout, done.returncode) == ("last\n", 0)


def test_twenty_megabytes_on_stdin_come_back_whole(proxy: Proxy, users: Users) -> None:
    file = write_random(users.alice.home / "input", 20 * MEBIBYTE, users.alice)
    with open(file, "rb") as stdin:
        done: Any = proxy.docker(users.alice, "run", "-i", "--rm", "busybox", "cat", stdin=stdin, text=False)
    assert (done.stderr, done.returncode) == (b"", 0)
    assert _md5(done.stdout) == _md5(file.read_bytes())


def test_input_is_passed_as_it_comes(proxy: Proxy, users: Users) -> None:
    with Running(proxy, users.alice, "run", "-i", "--rm", "busybox", "cat", stdin=subprocess.PIPE) as cat:
        assert cat.process.stdin
        for word in ("one\n", "two\n"):
            cat.process.stdin.write(word.encode())
            cat.process.stdin.flush()
            assert cat.out.until("\n") == word
        cat.process.stdin.close()
        assert cat.wait() == 0


def test_many_at_once(proxy: Proxy, users: Users) -> None:
    """Two people's containers at the same time: everyone gets the output of their own, and the whole of it."""
    script = ["run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 7"]
    with ThreadPoolExecutor(6) as pool:
        found = [
            pool.submit(proxy.docker, (users.alice, users.bob)[number % 2], *script, input=f"{number}\n" * 50_000)
            for number in range(12)
        ]
        for number, future in enumerate(found):
            done = future.result()
            assert (done.stdout == f"{number}\n" * 50_000, done.stderr, done.returncode) == (True, "", 7)


def test_detached(proxy: Proxy, users: Users, engine: Engine) -> None:
    container = assert_done(proxy.docker(users.alice, "run", "-d", "busybox", "sleep", "1000")).strip()
    assert running(engine, container)
    assert engine.docker("ps", "--no-trunc", "-q").stdout.strip() == container


def test_an_interrupt_ends_an_attached_run(proxy: Proxy, users: Users, engine: Engine) -> None:
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done"
    with Running(proxy, users.alice, "run", "--name", "trapped", "busybox", "sh", "-c", script) as run:
        run.out.until("ready\n")
        run.process.send_signal(signal.SIGINT)
        assert run.out.until("caught\n") == "caught\n"
        assert run.wait() == 5
    await_running(engine, "trapped", state=False)


def test_environment_working_folder_labels_and_limits_reach_the_container(
    proxy: Proxy, users: Users, engine: Engine
) -> None:
    options = ["-e", "A=b c", "-w", "/tmp", "-l", "x=y", "-m", "64m", "--cpus", "0.5", "--pids-limit", "50"]
    options += ["--hostname", "h", "--user", "1:2", "--read-only", "--tmpfs", "/scratch", "--ulimit", "nofile=99:99"]
    options += ["--init", "--stop-signal", "USR1", "--restart", "no", "--add-host", "a:10.0.0.1", "--shm-size", "32m"]
    script = 'echo "$A $PWD $(id -u):$(id -g) $(hostname) $(ulimit -n)"; grep 10.0.0.1 /etc/hosts'
    script += "; touch /scratch/x; touch /x"
    done = proxy.docker(users.alice, "run", "--name", "full", *options, "busybox", "sh", "-c", script)
    assert done.stdout == "b c /tmp 1:2 h 99\n10.0.0.1\ta\n"
    assert "Read-only file system" in done.stderr
    form = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.Config.Labels.x}}"
    assert engine.docker("inspect", "-f", form, "full").stdout == f"{64 * MEBIBYTE} 500000000 50 y\n"


def test_home_and_named_volumes_are_mounted(proxy: Proxy, users: Users) -> None:
    folder = users.alice.home / "mounted"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("of alice\n")
    mounts = ["-v", f"{folder}:/w:ro", "-v", "kept:/k", "--mount", "type=tmpfs,target=/t", "--mount"]
    mounts += [f"type=bind,source={folder},target=/m,readonly"]
    script = "cat /w/file /m/file; echo data >/k/data; touch /t/x; touch /w/x"
    done = proxy.docker(users.alice, "run", "--rm", *mounts, "busybox", "sh", "-c", script)
    assert done.stdout == "of alice\nof alice\n"
    assert "Read-only file system" in done.stderr
    assert proxy.docker(users.alice, "run", "--rm", "-v", "kept:/k", "busybox", "cat", "/k/data").stdout == "data\n"
    assert_done(proxy.docker(users.alice, "volume", "rm", "kept"))


def test_a_published_port_answers(proxy: Proxy, users: Users, engine: Engine) -> None:
    web = "echo hello >/tmp/i; exec httpd -f -h /tmp -p 80"
    assert_done(
        proxy.docker(users.alice, "run", "-d", "--name", "web", "-p", "127.0.0.1:8080:80", "busybox", "sh", "-c", web)
    )
    assert assert_done(proxy.docker(users.alice, "port", "web")) == "80/tcp -> 127.0.0.1:8080\n"
    curl = ["curl", "-s", "-m", "10", "--retry", "10", "--retry-connrefused", "http://127.0.0.1:8080/i"]
    assert engine.exec(curl, capture_output=True).stdout == "hello\n"


@pytest.fixture
def box(proxy: Proxy, users: Users) -> str:
    """A container of alice's that does nothing."""
    return assert_done(proxy.docker(users.alice, "run", "-d", "--name", "box", "busybox", "sleep", "1000")).strip()


def test_exec(proxy: Proxy, users: Users, box: str, tmp_path: Path) -> None:
    """All of exec in one container: output, codes, input, environment, detached."""
    done = proxy.docker(users.alice, "exec", "box", "sh", "-c", NOISE)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)
    done = proxy.docker(
        users.alice, "exec", "-e", "A=b", "-w", "/etc", "-u", "5:6", box, "sh", "-c", "echo $A $PWD; id -u"
    )
    assert (done.stdout, done.returncode) == ("b /etc\n5\n", 0)
    data = write_random(tmp_path / "data", 20 * MEBIBYTE, users.alice)
    with open(data, "rb") as stdin:
        done = proxy.docker(users.alice, "exec", "-i", "box", "md5sum", stdin=stdin)
    assert (done.stdout.split()[0], done.returncode) == (_md5(data.read_bytes()), 0)
    missing = proxy.docker(users.alice, "exec", "box", "no-such-command")
    assert missing.returncode in (126, 127), missing
    assert "executable file not found" in missing.stdout + missing.stderr
    assert_done(
        proxy.docker(
            users.alice, "exec", "-d", "box", "sh", "-c", "echo yes >/tmp/done.part; mv /tmp/done.part /tmp/done"
        )
    )
    wait = "until [ -e /tmp/done ]; do sleep 0.05; done; cat /tmp/done"
    assert assert_done(proxy.docker(users.alice, "exec", "box", "sh", "-c", wait)) == "yes\n"
    done = proxy.docker(users.alice, "exec", "box", "sh", "-c", "sleep 1.2; echo last")
    assert (done.stdout, done.returncode) == ("last\n", 0)
    assert "No such container: nobody" in proxy.docker(users.alice, "exec", "nobody", "true").stderr


def _md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()
