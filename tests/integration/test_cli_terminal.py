"""docker run, exec and attach on a real terminal through sockproxy: keys, sizes, detaching."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.support.cli import Running, Terminal, assert_done, await_running, handlers, running
from tests.support.engines import Engine
from tests.support.proxy import Proxy, eventually
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

DETACH = "\x10\x11"  # ctrl-p ctrl-q


def _await_size(terminal: Terminal, size: str) -> None:
    """Let the shell in the container wait for a size; the mark is not what was typed, which is echoed."""
    terminal.type(f"until [ \"$(stty size)\" = '{size}' ]; do sleep 0.05; done; echo 'size is'' {size}'\n")
    terminal.out.until(f"size is {size}")


def _resize(terminal: Terminal, rows: int, columns: int) -> None:
    """Change the size until it shows: the CLI listens to SIGWINCH only some time after it has told the first size."""
    terminal.type(f"until [ \"$(stty size)\" = '{rows} {columns}' ]; do sleep 0.05; done; echo 'now'' {rows}'\n")
    for _ in range(20):
        terminal.resize(rows, columns - 1)
        terminal.resize(rows, columns)
        if terminal.out.sees(f"now {rows}", 1):
            return
    raise AssertionError(f"the size did not change: {terminal.out.text[-500:]!r}")


def test_a_shell_on_a_terminal(proxy: Proxy, users: Users) -> None:
    with Terminal(proxy, users.alice, "run", "-it", "--rm", "busybox", "sh", rows=33, columns=111) as shell:
        _await_size(shell, "33 111")
        _resize(shell, 44, 122)
        shell.type("sh -c 'echo sleep\"\"ing; exec sleep 1000'\n")
        shell.out.until("sleeping")
        shell.type("\x03")
        shell.type("echo 'code'' '$?\n")
        shell.out.until("code 130")
        shell.type("exit 4\n")
        assert shell.wait() == 4


def test_exec_on_a_terminal(proxy: Proxy, users: Users) -> None:
    assert_done(proxy.docker(users.alice, "run", "-d", "--name", "box", "busybox", "sleep", "1000"))
    with Terminal(proxy, users.alice, "exec", "-it", "box", "sh", rows=31, columns=101) as shell:
        _await_size(shell, "31 101")
        _resize(shell, 41, 102)
        shell.type("PS1='prompt''> '\n")
        shell.out.until("prompt> ")  # before that the terminal has another mode, which the key would be lost with
        shell.type("\x04")  # end of input
        assert shell.wait() == 0
    with Terminal(proxy, users.alice, "exec", "-it", "box", "sh", "-c", "exit 9") as shell:
        assert shell.wait() == 9


def test_detaching_and_attaching_again(proxy: Proxy, users: Users, engine: Engine) -> None:
    with Terminal(proxy, users.alice, "run", "-it", "--name", "kept", "busybox", "sh") as shell:
        shell.type("a=before; echo 're''ady'\n")
        shell.out.until("ready")
        shell.type(DETACH)
        assert shell.wait() == 0
    assert running(engine, "kept")
    with Terminal(proxy, users.alice, "attach", "--detach-keys", "ctrl-e,e", "kept") as shell:
        shell.type("echo 'still'' '$a\n")
        shell.out.until("still before")
        shell.type("\x05e")
        shell.wait()
    assert running(engine, "kept")
    with Terminal(proxy, users.alice, "attach", "kept") as shell:
        shell.type("exit 6\n")
        assert shell.wait() == 6
    await_running(engine, "kept", state=False)


def test_attach_without_a_terminal(proxy: Proxy, users: Users, engine: Engine) -> None:
    """Input by one attach, output to two; each ends with the container and has its exit code."""
    script = "read line; echo got $line; read line; exit 8"
    assert_done(proxy.docker(users.alice, "run", "-di", "--name", "box", "busybox", "sh", "-c", script))
    with (
        Running(proxy, users.alice, "attach", "--no-stdin", "box") as reader,
        Running(proxy, users.alice, "attach", "box", stdin=subprocess.PIPE) as writer,
    ):
        eventually(lambda: handlers(engine, "postContainersAttach") == 2, "both at the daemon")
        assert writer.process.stdin
        writer.process.stdin.write(b"word\n")
        writer.process.stdin.flush()
        for one in (reader, writer):  # an attach that has not come so far would find the container stopped
            assert one.out.until("\n") == "got word\n"
        writer.process.stdin.write(b"end\n")
        writer.process.stdin.close()
        assert (reader.wait(), writer.wait()) == (8, 8)


def test_interrupting_an_attach_reaches_the_container(proxy: Proxy, users: Users, engine: Engine) -> None:
    script = "trap 'echo caught; exit 7' INT; while :; do echo tick; sleep 0.1; done"
    assert_done(proxy.docker(users.alice, "run", "-d", "--name", "box", "busybox", "sh", "-c", script))
    with Running(proxy, users.alice, "attach", "box") as attach:
        attach.out.until("tick\n")
        attach.process.send_signal(signal.SIGINT)
        attach.out.until("caught\n")
        assert attach.wait() == 7
