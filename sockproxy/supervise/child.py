"""Keep one process of the table running."""

from __future__ import annotations

import contextlib
import math
import os
import pwd
import signal
import socket
import struct
from collections.abc import Callable

import trio

from sockproxy.supervise.host import say
from sockproxy.supervise.table import Row

SETPRIV = "/usr/bin/setpriv"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
READY_WITHIN = 20.0  # seconds
# Seconds before it is started again: at once after a life of HEALTHY seconds, else ever later. It is never given up:
# what ends a process may be over soon (memory is short), and others are served meanwhile. To start one takes 0.04 s
# (audit writer) to 0.12 s of CPU, so that this is a quarter of a core at most, and service is back within a second of
# any kill, however many came before (`python -m tests.faults.returning`).
BACKOFF, MOST_BACKOFF, HEALTHY = 0.1, 0.4, 1.0
LINE = 4096  # bytes of a line that is passed on
LAST_WORDS = 1.0  # seconds for what a dead process has written; its own children could hold the pipe open for ever
_UCRED = struct.Struct("iII")
# Python ignores these and that would be inherited, as would be what started us (nohup) ignores.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def take_rights(row: Row) -> list[str]:
    """Form the command that takes on a row's rights: its user, groups and capabilities, now and by any later exec.

    The process is killed when the supervisor dies, whatever of.
    """
    user = pwd.getpwnam(row.user)
    groups = ["--groups", ",".join(row.groups)] if row.groups else ["--clear-groups"]
    ids = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), *groups]
    only = ",".join(("-all", *(f"+{name}" for name in row.capabilities)))
    capabilities = [f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}"]
    return [SETPRIV, *ids, *capabilities, "--no-new-privs", "--pdeathsig", "KILL"]


class Child:
    """Keep a process running, from `keep` until `terminate`.

    Attributes:
        ready: set when it was ready for the first time.
        finished: set when it has ended and will not be started again.
        pid: 0 while there is none.
        serving: it is ready.
    """

    def __init__(self, row: Row, fds: dict[str, int], runtime_dir: str, fail: Callable[[str], None]) -> None:
        """Prepare.

        Args:
            fds: the sockets to pass, by name.
            fail: called once, with the reason, when it does not start at first: what is wrong then stays wrong.
        """
        self.row, self._fds, self._fail = row, fds, fail
        self.ready, self.finished = trio.Event(), trio.Event()
        self.pid = 0
        self._ending = trio.Event()
        self.serving = False
        self._stale = False  # there is a newer policy than the one that it found when it was started
        self._notify_path = f"{runtime_dir}/notify/{row.name}"
        self._notified = self._listen()

    def _listen(self) -> socket.socket:
        """Make the socket on which the process says that it is ready. Its user alone may write to it."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        if os.path.lexists(self._notify_path):
            os.unlink(self._notify_path)  # the folder is root's and locked by us
        sock.bind(self._notify_path)
        os.chmod(self._notify_path, 0o200)
        os.chown(self._notify_path, pwd.getpwnam(self.row.user).pw_uid, 0)
        return sock

    async def keep(self) -> None:
        """Run the process, again and again."""
        pause = 0.0
        while not self._ending.is_set():
            why, lived = await self._run()
            if self._ending.is_set():
                break
            if not self.ready.is_set():
                self._fail(f"{self.row.name} did not start: {why}")
                break
            pause = 0.0 if lived >= HEALTHY else min(max(2 * pause, BACKOFF), MOST_BACKOFF)
            say(f"{self.row.name} ended with {why}: starting it again in {pause:g} s")
            with trio.move_on_after(pause):
                await self._ending.wait()
        self.finished.set()

    async def _run(self) -> tuple[str, float]:
        """Run the process once; tell why it ended, and how many seconds it lived."""
        started = trio.current_time()
        self._stale = False
        try:
            output, pidfd = self._begin()
        except OSError as error:  # no memory, no descriptors, or too many processes
            return str(error), 0.0
        try:
            self._set_oom_score()
            async with trio.open_nursery() as reading:
                reading.start_soon(self._relay, output)
                async with trio.open_nursery() as living:
                    living.start_soon(self._hear)
                    await trio.lowlevel.wait_readable(pidfd)
                    living.cancel_scope.cancel()
                reading.cancel_scope.deadline = trio.current_time() + LAST_WORDS
            return _reap(self.pid), trio.current_time() - started
        finally:
            self.pid, self.serving = 0, False
            os.close(pidfd)

    def _begin(self) -> tuple[int, int]:
        """Start the process; give the pipe that it prints to, and its pidfd."""
        with contextlib.ExitStack() as undo:
            output, theirs = os.pipe2(os.O_CLOEXEC)
            undo.callback(os.close, output)
            os.set_blocking(output, False)
            try:
                pid = self._spawn(theirs)
            finally:
                os.close(theirs)
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                os.kill(pid, signal.SIGKILL)
                _reap(pid)
                raise
            undo.pop_all()
            self.pid = pid
            return output, pidfd

    def _spawn(self, output: int) -> int:
        """Start the process: its sockets from 3 on, nothing else of ours, no terminal, a clean environment."""
        environment = {
            **self.row.environment,
            "WATCHDOG_USEC": f"{self.row.watchdog * 1e6:.0f}",
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "NOTIFY_SOCKET": self._notify_path,
            "LISTEN_FDS": str(len(self._fds)),
            "LISTEN_FDNAMES": ":".join(self._fds),
        }
        # The sockets' numbers here are above all numbers there (host.HIGH): none is overwritten before it is copied.
        passed = [(output, 1), (output, 2), *((fd, number) for number, fd in enumerate(self._fds.values(), 3))]
        return os.posix_spawn(
            SETPRIV,
            [*take_rights(self.row), "--", *self.row.argv],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                *((os.POSIX_SPAWN_DUP2, ours, theirs) for ours, theirs in passed),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )

    def _set_oom_score(self) -> None:
        # In a container it may not be allowed.
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/oom_score_adj", "w") as file:
            file.write(str(self.row.oom))

    async def _hear(self) -> None:
        """Wait until the process is ready, not for ever; then see that it stays alive. What else it says is dropped."""
        with trio.move_on_after(READY_WITHIN) as limit:
            while not self._said(b"READY=1"):
                await trio.lowlevel.wait_readable(self._notified)
        if limit.cancelled_caught:
            say(f"{self.row.name} was not ready within {READY_WITHIN:g} s")
            self.kill()
            return
        self.serving = True
        self.ready.set()
        if self._stale:
            self.reload()
        while not limit.cancelled_caught:
            with trio.move_on_after(self.row.watchdog or math.inf) as limit:
                while not self._said(b"WATCHDOG=1"):
                    await trio.lowlevel.wait_readable(self._notified)
        say(f"{self.row.name} has not said for {self.row.watchdog:g} s that it is alive")
        self.kill()

    def _said(self, word: bytes) -> bool:
        """Read one message and tell whether it has a word.

        The kernel says who sent it: not a process before this one, or another of the user's.
        """
        try:  # no room for descriptors that might come along
            untrusted_state, ancillary, _, _ = self._notified.recvmsg(4096, socket.CMSG_SPACE(_UCRED.size))
        except OSError:
            return False
        senders = [
            _UCRED.unpack(data)[0]
            for level, kind, data in ancillary
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
        ]
        return senders == [self.pid] and word in untrusted_state.split(b"\n")

    async def _relay(self, output: int) -> None:
        """Pass on what the process prints, as lines that can do nothing to a terminal."""
        untrusted_rest = b""
        try:
            while True:
                await trio.lowlevel.wait_readable(output)
                chunk = os.read(output, LINE)
                *untrusted_lines, untrusted_rest = (untrusted_rest + chunk).split(b"\n")
                if len(untrusted_rest) > LINE or not chunk:
                    untrusted_lines, untrusted_rest = [*untrusted_lines, untrusted_rest], b""
                for line in filter(None, untrusted_lines):
                    say(f"{self.row.name}: {_printable(line)}")
                if not chunk:
                    break
        finally:
            os.close(output)

    def reload(self) -> None:
        """Have the process load the policy again: now, or as soon as it can be told."""
        self._stale = not self.serving
        if self.serving:
            os.kill(self.pid, signal.SIGHUP)

    def terminate(self) -> None:
        """Ask the process to end, and do not start it again."""
        self._ending.set()
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Remove what belongs to it."""
        self._notified.close()
        os.unlink(self._notify_path)


def _reap(pid: int) -> str:
    """Collect an ended process; say how it ended."""
    result = os.waitid(os.P_PID, pid, os.WEXITED)
    assert result is not None
    if result.si_code == os.CLD_EXITED:
        return f"exit code {result.si_status}"
    return signal.Signals(result.si_status).name


def _printable(untrusted_line: bytes) -> str:
    text = untrusted_line.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
