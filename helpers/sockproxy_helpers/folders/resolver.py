"""Answer the daemon, as its volume plugin, and the filesystem helper, which asks whether a bind could be made."""

from __future__ import annotations

import os
import re
import socket
import sys
import time

from sockproxy_helpers.channel import wire
from sockproxy_helpers.channel.loop import IN, Loop
from sockproxy_helpers.errors import Malformed, Refused, Unavailable
from sockproxy_helpers.judge import policyfile
from sockproxy_helpers.system.caller import PEERCRED
from . import worker
from .bindledger import Bind, BindLedger
from .plugin import Connection, Message
from .worker import Reply, Worker

YOUNG = 30.0  # seconds in which the daemon starts a container with what was attached for it
_MOUNT = re.compile(r"[0-9a-f]{1,64}")  # the daemon's number of a mount


class Resolver:
    """Know what is attached, and have it done.

    Invariant: each Mount of the daemon's has a stage of its own, and a number in its name; containers have copies of
    what is attached there, so a stage is needed only until the daemon has started one, and may end at any time after.
    """

    def __init__(self, loop: Loop, environment: dict[str, str]) -> None:
        """Prepare.

        Args:
            environment: SOCKPROXY_POLICY, SOCKPROXY_BINDS, SOCKPROXY_ATTACHER.
        """
        self._loop, self._policy_path = loop, environment["SOCKPROXY_POLICY"]
        self._ledger = BindLedger(environment["SOCKPROXY_BINDS"])
        self._attacher = environment["SOCKPROXY_ATTACHER"]
        self._worker = Worker(loop)
        self._stages: dict[str, list[str]] = {}  # of what the daemon has mounted: "NAME.ID"
        self._since: dict[str, float] = {}  # when a stage was attached
        self._known = False
        self.reload()

    def reload(self) -> None:
        """Load the compiled policy, which only root may have written."""
        self._policy = policyfile.load(self._policy_path)

    async def serve_daemon(self, sock: socket.socket) -> None:
        """Serve a connection of the daemon's."""
        pid, uid, _ = PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEERCRED.size))
        if uid == 0:
            await Connection(self._loop, sock, pid, self._answer).serve()
        else:
            self._loop.close(sock)

    async def _answer(self, method: str, message: Message, connection: Connection) -> Message:
        name, mount = str(message.get("Name", "")), str(message.get("ID", ""))
        try:
            if method == "Plugin.Activate":
                return {"Implements": ["VolumeDriver"]}
            if method == "VolumeDriver.Capabilities":
                return {"Capabilities": {"Scope": "local"}}
            if method == "VolumeDriver.List":
                return {"Volumes": []}  # binds are in nobody's list of volumes, and in no prune
            if method == "VolumeDriver.Mount" and _MOUNT.fullmatch(mount):
                return await self._mount(name, mount, connection)
            if method == "VolumeDriver.Unmount":
                return await self._unmount(name, mount)
            if method == "VolumeDriver.Remove":
                return {}
            bind = self._ledger.read(name)
            if method == "VolumeDriver.Create" and not message.get("Opts"):
                return {}
            if method == "VolumeDriver.Get":
                return {"Volume": {"Name": name, "Mountpoint": "", "Status": {"source": bind.source}}}
            if method == "VolumeDriver.Path":
                return {"Mountpoint": ""}
            raise Malformed(f"no {method} here")
        except KeyError:
            return {"Err": "sockproxy: no such bind: it is made with its container, by sockproxy alone"}
        except (Refused, Malformed, Unavailable) as error:
            return {"Err": f"sockproxy: {error}"}

    async def _mount(self, name: str, mount: str, connection: Connection) -> Message:
        bind = self._ledger.read(name)
        rules = worker.rules_of(self._policy, bind)
        stage = f"{name}.{mount}.{os.urandom(4).hex()}"
        seen_by = 0 if connection.seen else connection.pid
        reply = await self._worker.run(bind.uid, lambda: worker.attach(bind, rules, stage, self._attacher, seen_by))
        if "error" in reply:
            return {"Err": f"sockproxy: {reply['message']}"}
        connection.seen = True
        self._stages.setdefault(f"{name}.{mount}", []).append(stage)
        self._since[stage] = time.monotonic()
        return {"Mountpoint": reply["path"]}

    async def _unmount(self, name: str, mount: str) -> Message:
        """Detach the oldest stage of a mount: the daemon uses each only at the beginning of what it does with it."""
        await self._find_stages()
        stages = self._stages.get(f"{name}.{mount}", [])
        if stages:
            await self._detach(stages[0])
        return {}

    async def _detach(self, stage: str) -> None:
        self._since.pop(stage, None)
        key = stage.rpartition(".")[0]
        stages = self._stages.get(key, [])
        if stage in stages:
            stages.remove(stage)
        if not stages:
            self._stages.pop(key, None)
        reply = await self._worker.run(os.getuid(), lambda: worker.detach(stage, self._attacher))
        if "error" in reply:
            print(f"sockproxy binds: {stage}: {reply['message']}", file=sys.stderr)

    async def _find_stages(self) -> None:
        """Learn once what is attached of a life before this one."""
        if self._known:
            return
        reply = await self._worker.run(os.getuid(), lambda: worker.stages(self._attacher))
        found = reply.get("stages")
        for stage in found if isinstance(found, list) else []:
            known = self._stages.setdefault(stage.rpartition(".")[0], [])
            if stage not in known:
                known.insert(0, stage)
        self._known = "error" not in reply

    async def serve_check(self, sock: socket.socket) -> None:
        """Answer root: could this bind be made; end the stages of containers that do not run."""
        uid = PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEERCRED.size))[1]
        try:
            while uid == 0:
                try:
                    message, fds = wire.receive(sock)
                except BlockingIOError:
                    await self._loop.wait({sock.fileno(): IN})
                    continue
                for fd in fds:
                    os.close(fd)
                if not message:
                    break
                header, _ = wire.unpack(message)
                wire.send(sock, wire.pack(await self._reply(header)), [])
        except (OSError, wire.WireError):
            pass
        finally:
            self._loop.close(sock)

    async def _reply(self, header: dict[str, object]) -> Reply:
        if "running" in header:
            return await self._end_all_but(header["running"])
        try:
            fields = header.get("check")
            bind = Bind(fields if isinstance(fields, dict) else {})
            rules = worker.rules_of(self._policy, bind)
        except ValueError as error:
            raise wire.WireError(str(error)) from error
        except Refused as error:
            return worker.fault(error)
        return await self._worker.run(bind.uid, lambda: worker.check(bind, rules))

    async def _end_all_but(self, names: object) -> Reply:
        await self._find_stages()
        running, before = set(names) if isinstance(names, list) else set(), time.monotonic() - YOUNG
        for stage in [stage for stages in self._stages.values() for stage in stages]:
            if stage.partition(".")[0] not in running and self._since.get(stage, 0.0) < before:
                await self._detach(stage)
        return {}
