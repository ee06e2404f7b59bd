"""Put a mount of our volume plugin in the place of each bind of a container's configuration.

SECURITY: what the daemon gets is a name that nobody can guess, for which a record says whose bind it stands for; the
path itself it never gets. So nothing that the daemon does with it later, at a restart by itself or years after, can
lead anywhere but where the binds helper, with the owner's rights, then comes out (see `stage`).
"""

from __future__ import annotations

import time

from sockproxy_helpers.channel.asking import ask
from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import Malformed, Refused, Unavailable
from sockproxy_helpers.judge import engine
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.judge.places import DAEMON_SOCKETS
from sockproxy_helpers.upstream.daemon import Daemon
from .bindledger import Bind, BindLedger, new_name
from .imageusers import ImageUsers

Part = dict[str, object]
_UNDOING = frozenset(("ALL", "MKNOD", "SYS_ADMIN", "SYS_RAWIO", "DAC_READ_SEARCH", "SYS_MODULE", "BPF"))
_PRIVATE = ("", "private", "rprivate")
_OPEN_MODES = ("shared", "rshared", "slave", "rslave", "z", "Z")
ASK_AGAIN = 60.0  # seconds; with another answer than the daemon's containers fit no folder, and none is harmed
CHECK_SECONDS = 20.0  # for a bind to be tried


class Stager:
    """Turn binds into what the daemon may have.

    Args:
        environment: SOCKPROXY_BINDS, SOCKPROXY_BINDS_SOCKET, SOCKPROXY_PLUGIN.
    """

    def __init__(self, loop: Loop, environment: dict[str, str]) -> None:
        self._loop = loop
        self._ledger = BindLedger(environment["SOCKPROXY_BINDS"])
        self._users, self._root_inside, self._asked = ImageUsers(), [0, 0], -ASK_AGAIN
        self._checks, self._plugin = environment["SOCKPROXY_BINDS_SOCKET"], environment["SOCKPROXY_PLUGIN"]

    async def prepare(self, daemon: Daemon, ctx: Context, part: Part, image: str, user: str) -> None:
        """Replace binds, each tried before.

        Args:
            part: the filesystem part of a ContainerCreate, approved and with its volumes made; changed in place.
            user: whom the request names; "" for the image's.

        Raises:
            Refused, Malformed: a bind could not be made, in words for who asked.
        """
        host = part.get("HostConfig")
        if not isinstance(host, dict) or ctx.flag("plain_binds"):
            return
        binds, mounts = list(host.get("Binds") or []), list(host.get("Mounts") or [])
        paths = [text for text in binds if text.startswith("/") and ":" in text]
        if not paths and not any(mount.get("Type") == "bind" for mount in mounts):
            return
        ids = {"ids": await self._users.ids(daemon, image, user), "root": await self._root(daemon)}
        asked: list[tuple[int | None, Bind]] = [(None, _of_text(text, ctx, ids)) for text in paths]
        asked += [(at, _of_mount(mount, ctx, ids)) for at, mount in enumerate(mounts) if mount.get("Type") == "bind"]
        refuse_undone(ctx)
        self._count(len(asked), ctx)
        for _, bind in asked:
            await self._check(bind, ctx)
        for at, bind in asked:
            name = new_name(ctx.caller.uid)
            self._ledger.write(name, bind)
            mount: Part = {"Type": "volume", "Source": name, "Target": bind.target}
            mount["VolumeOptions"] = {"NoCopy": True, "DriverConfig": {"Name": self._plugin}}
            if at is None:
                mounts.append(mount)
            else:
                mounts[at] = mount
        rest = {"Binds": [text for text in binds if text not in paths], "Mounts": mounts}
        part["HostConfig"] = {**host, **rest} if rest["Binds"] else {**_without(host, "Binds"), "Mounts": mounts}

    async def _root(self, daemon: Daemon) -> list[int]:
        """Tell whom root in a container is on this host; a daemon that was restarted may have another answer."""
        now = time.monotonic()
        if now - self._asked > ASK_AGAIN:
            self._root_inside, self._asked = await engine.root_inside(daemon), now
        return self._root_inside

    def _count(self, more: int, ctx: Context) -> None:
        """Keep a user's binds within the role's total, those of stopped containers counted."""
        most, have = ctx.number("totals", "binds"), self._ledger.count(ctx.caller.uid)
        if most is not None and have + more > most:
            ctx.path = "HostConfig"
            why = f"may have {most} binds, and you have {have}: remove a container that has some (docker ps -a)"
            raise ctx.refusal(why, "totals")

    async def _check(self, bind: Bind, ctx: Context) -> None:
        """Have the binds helper try it."""
        try:
            reply = await ask(self._loop, self._checks, {"check": bind.fields()}, seconds=CHECK_SECONDS)
        except OSError as error:
            raise Unavailable("the binds helper is not there: no folders of the host can be bound", 503) from error
        if "error" not in reply:
            return
        why, rule = str(reply.get("message")), str(reply.get("rule"))
        if reply["error"] == Refused.status:
            raise Refused("", why, rule, ctx.rules[rule][1] if rule in ctx.rules else "")
        raise Malformed(why) if reply["error"] == Malformed.status else Unavailable(why)


def _without(host: Part, key: str) -> Part:
    return {name: value for name, value in host.items() if name != key}


def refuse_undone(ctx: Context) -> None:
    """Refuse a bind to who could take its safety away: make devices on the disk, mount it anew, open past it."""
    undone = sorted(_UNDOING & set(ctx.names("capabilities"))) + ["privileged mode"] * ctx.flag("privileged")
    if undone:
        ctx.path = "HostConfig"
        why = f"may have {', '.join(undone)}, which undoes what makes binds safe (allowed: neither, or plain_binds)"
        raise ctx.refusal(why, "plain_binds")


def _of_text(text: str, ctx: Context, ids: dict[str, list[int]]) -> Bind:
    source, target, *modes = text.split(":")
    words = modes[0].split(",") if modes else []
    for word in words:
        if word in _OPEN_MODES:
            _refuse(word, ctx)
    return _bind(ctx, "Binds", text, source, target, ids, writable="ro" not in words, recursive=True, made=True)


def _of_mount(mount: Part, ctx: Context, ids: dict[str, list[int]]) -> Bind:
    options = mount.get("BindOptions")
    options = options if isinstance(options, dict) else {}
    if options.get("Propagation", "") not in _PRIVATE:
        _refuse(str(options["Propagation"]), ctx)
    source, target = str(mount.get("Source")), str(mount.get("Target"))
    writable, recursive = mount.get("ReadOnly") is not True, options.get("NonRecursive") is not True
    made = options.get("CreateMountpoint") is True
    return _bind(ctx, "Mounts", mount, source, target, ids, writable=writable, recursive=recursive, made=made)


def _refuse(word: str, ctx: Context) -> None:
    ctx.path = "HostConfig"
    raise ctx.refusal(f"may not have a bind that is {word} (allowed: private)", "plain_binds")


def _bind(
    ctx: Context, form: str, asked: object, source: str, target: str, ids: dict[str, list[int]], **flags: bool
) -> Bind:
    flags["own_socket"] = source in DAEMON_SOCKETS
    who = {"uid": ctx.caller.uid, "user": ctx.caller.user, "role": ctx.role}
    return Bind({**who, **flags, "form": form, "asked": asked, "source": source, "target": target, **ids})
