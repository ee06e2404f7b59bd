"""Run the process table: start it in order, obey signals, end it in reverse order."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable

import trio

from sockproxy import paths
from sockproxy.audit.client import Recorder
from sockproxy.errors import AuditGone, ConfigError
from sockproxy.policy.compile import compile_file, dump
from sockproxy.supervise import host, pam
from sockproxy.supervise.child import Child, take_rights
from sockproxy.supervise.host import Listener, UpError, say
from sockproxy.supervise.table import AUTH, GRACE, Row, Settings, accounts, groups, table
from sockproxy_helpers.errors import Refused
from sockproxy_helpers.judge.policy import Policy

USAGE_ERROR = 2


def main(options: argparse.Namespace, rows_of: Callable[[Settings], tuple[Row, ...]] = table) -> int:
    """Run all processes until SIGTERM or SIGINT; give the exit code.

    Args:
        options: config, docker_socket, listen, runtime_dir, state_dir, log_dir.
        rows_of: makes the process table.
    """
    try:
        if os.geteuid() != 0:
            raise UpError("`sockproxy up` must be run by root: it starts processes under several users")
        settings = Settings.of(options)
        os.umask(0o022)
        os.chdir("/")
        while (fd := os.open(os.devnull, os.O_RDWR)) < 3:  # whoever started us may have closed these
            pass
        os.close(fd)
        return trio.run(_prepare(settings, host.startable(rows_of(settings))).run)
    except (UpError, ConfigError, OSError) as error:
        say(str(error))
        return USAGE_ERROR


def _prepare(settings: Settings, rows: tuple[Row, ...]) -> Supervisor:
    """Do all that may fail before there is a process."""
    if os.path.realpath(settings.docker_socket) == os.path.realpath(settings.listen):
        raise UpError(f"{settings.listen} cannot be both the daemon's socket and the users'")
    ready_host(settings, rows)
    locks = [host.lock(settings.runtime_dir), host.lock(settings.state_dir)]
    ready_state(settings)
    policy = publish(settings)
    host.assertion_key(settings.assertion_key, AUTH)
    if policy.auth["accounts"] != "none":
        pam.install(os.path.join(paths.config_dir(), "pam.d"))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # inherited: each call holds several descriptors
    if not os.path.exists(settings.docker_socket):
        say(f"warning: there is no {settings.docker_socket} yet; calls are answered with 502 until there is")
    return Supervisor(settings, rows, policy, locks)


def ready_host(settings: Settings, rows: tuple[Row, ...]) -> None:
    """Have the users, the folders and what else processes find; see that they will be able to start.

    Raises:
        UpError: it can't be had.
    """
    for name in accounts(rows):
        host.account(name)
    for name in groups(rows):
        host.group(name)
    for row in rows:
        host.readable(row, take_rights(row))
    host.folders(settings)


def ready_state(settings: Settings) -> None:
    """Have what processes go by from one start to the next, and what the kernel holds for them until it ends."""
    host.salt(os.path.join(settings.state_dir, "salt"))
    host.cgroups_of_users(settings.shares)


def publish(settings: Settings) -> Policy:
    """Compile the policy and put it, complete or not at all, where the processes load it.

    Raises:
        ConfigError, UpError: it is wrong; what was there stays.
    """
    text = dump(compile_file(paths.policy_file(settings.config), lambda warning: say(f"warning: {warning}")))
    try:
        policy = Policy(text)  # as each process will
    except Refused as error:
        raise UpError(f"the compiled policy would not be accepted: {error}") from error
    draft = f"{settings.policy}.new"
    with open(draft, "wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, settings.policy)
    return policy


def published(settings: Settings) -> Policy:
    """Load the policy that is in force.

    Raises:
        UpError, OSError: there is none, or it was damaged.
    """
    with open(settings.policy, "rb") as file:
        try:
            return Policy(file.read())
        except Refused as error:
            raise UpError(f"{settings.policy}: {error}") from error


async def record(recorder: Recorder, settings: Settings, policy: Policy, event: dict[str, object]) -> None:
    """Put an event of the whole on the record, with the policy in force; say so when that can't be."""
    known = {"policy": policy.sha256, "source": policy.source, "listen": settings.listen, "sync": True}
    try:
        await recorder.record({**event, **known})
    except AuditGone as error:
        say(f"{event['ev']}: {error}")


class Supervisor:
    """Keep the processes of the table."""

    def __init__(self, settings: Settings, rows: tuple[Row, ...], policy: Policy, locks: list[int]) -> None:
        """Open the listening sockets.

        Args:
            locks: descriptors that hold the folders; the kernel lets go of them when this process ends, however.
        """
        self._settings, self._policy, self._locks = settings, policy, locks
        self._groups = [list(rows) for _, rows in itertools.groupby(rows, lambda row: row.order)]
        self._listeners: dict[str, Listener] = {}
        try:
            for endpoint in (endpoint for row in rows for endpoint in row.sockets.values()):
                self._listeners[endpoint.path] = Listener(endpoint)
        except BaseException:
            self._remove(rows)
            raise
        self._started: list[list[Child]] = []
        self._recorder = Recorder(settings.runtime_dir)
        self._serving = trio.CancelScope()  # until there is a reason to end
        self._patience = trio.CancelScope()  # with processes that are ending
        self._failure, self._hurry = "", False

    async def run(self) -> int:
        """Run; give the exit code."""
        with trio.open_signal_receiver(signal.SIGHUP, signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, signals, nursery)
                with self._serving:
                    await self._start(nursery)
                    with contextlib.suppress(OSError):
                        print(f"ready DOCKER_HOST=unix://{self._settings.listen}", flush=True)
                    await trio.sleep_forever()
                await self._end()
                self._recorder.close()
                nursery.cancel_scope.cancel()
        return 1 if self._failure else 0

    async def _start(self, nursery: trio.Nursery) -> None:
        for rows in self._groups:
            children = [self._child(row) for row in rows]
            self._started.append(children)
            for child in children:
                nursery.start_soon(child.keep)
            for child in children:
                await child.ready.wait()
            if len(self._started) == 1:  # the writer is first: what the others do is on the record
                await self._record({"ev": "start", "docker_socket": self._settings.docker_socket})

    def _child(self, row: Row) -> Child:
        fds = {name: self._listeners[endpoint.path].fd for name, endpoint in row.sockets.items()}
        return Child(row, fds, self._settings.runtime_dir, self._fail)

    def _fail(self, why: str) -> None:
        """End, because going on makes no sense."""
        self._failure = self._failure or why
        say(f"giving up: {why}")
        self._serving.cancel()

    async def _obey(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                nursery.start_soon(self._record, self._reload())
            elif not self._serving.cancel_called:
                self._serving.cancel()
            elif number == signal.SIGINT:  # whoever presses ^C again does not want to wait
                self._hurry = True
                self._patience.cancel()

    def _reload(self) -> dict[str, object]:
        """Put a new policy in the place of the old, if it is right; give the record of it.

        Helpers first: they decide, and what a front with the newer policy would let through they must know.
        """
        try:
            self._policy = publish(self._settings)
        except (ConfigError, UpError, OSError) as error:
            say(f"the old policy stays: {error}")
            return {"ev": "policy", "verdict": "refused", "why": str(error)}
        for children in self._started:
            for child in children:
                if child.row.reloads:
                    child.reload()
        say(f"new policy, sha256 {self._policy.sha256}")
        return {"ev": "policy", "verdict": "loaded"}

    async def _record(self, event: dict[str, object]) -> None:
        await record(self._recorder, self._settings, self._policy, event)

    async def _end(self) -> None:
        """End the processes in reverse order; nobody new gets in, what is under way may end within GRACE."""
        while self._started:
            children = self._started.pop()
            if not self._started and all(child.serving for child in children):
                await self._record({"ev": "stop", "why": self._failure or "told to"})
            self._remove([child.row for child in children])
            await self._end_together(children)

    async def _end_together(self, children: list[Child]) -> None:
        for child in children:
            child.terminate()
        with trio.move_on_after(0 if self._hurry else GRACE) as self._patience:
            for child in children:
                await child.finished.wait()
        for child in children:
            if child.pid:
                say(f"{child.row.name} does not end: killing it")
                child.kill()
        for child in children:
            await child.finished.wait()
            child.close()

    def _remove(self, rows: list[Row] | tuple[Row, ...]) -> None:
        for endpoint in (endpoint for row in rows for endpoint in row.sockets.values()):
            if endpoint.path in self._listeners:
                self._listeners[endpoint.path].remove()
                self._listeners.pop(endpoint.path).close()
