"""Do one bind's work in a process of its own, which may hang, be killed, and keeps nothing.

The binds helper forks it, reads one JSON object from it, and ends it when it takes too long: a folder may lie on a file
system that never answers, and its owner may have made it so.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import stat
import sys
from collections.abc import Callable

from sockproxy_helpers.channel import wire
from sockproxy_helpers.channel.loop import IN, Loop
from sockproxy_helpers.errors import Malformed, Refused, Unavailable
from sockproxy_helpers.judge.places import places
from sockproxy_helpers.judge.policy import Policy, Rule
from sockproxy_helpers.system import kernel
from . import bindledger, idmap, stage

SECONDS = 10.0  # for one bind; the daemon gives its plugins 2 min
Reply = dict[str, object]
_PATIENCE = 5.0  # with the attacher


class Worker:
    """Run pieces of work, each in a process.

    Attributes:
        busy: how many processes run, by uid.
    """

    MOST, MOST_EACH = 32, 8  # at a time, of all and of one user: a hanging file system keeps them for SECONDS

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.busy: dict[int, int] = {}

    async def run(self, uid: int, work: Callable[[], Reply]) -> Reply:
        """Do a piece of work for a user; give what it returned, or the fault that it raised (`fault`)."""
        while self.busy.get(uid, 0) >= self.MOST_EACH or sum(self.busy.values()) >= self.MOST:
            await self._loop.wait({}, 0.05)
        self.busy[uid] = self.busy.get(uid, 0) + 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            _work(theirs, work)
        theirs.close()
        ours.setblocking(False)
        try:
            answer = b""
            if await self._loop.wait({ours.fileno(): IN}, SECONDS):
                answer = ours.recv(wire.INLINE)
            return json.loads(answer) if answer else fault(Unavailable("the bind's file system does not answer"))
        finally:
            self._loop.close(ours)
            os.kill(pid, signal.SIGKILL)
            self._loop.spawn(self._reap(pid, uid))

    async def _reap(self, pid: int, uid: int) -> None:
        """Collect the process: killed, it ends as soon as its file system lets it."""
        pause = 0.001
        while os.waitpid(pid, os.WNOHANG) == (0, 0):  # noqa: ASYNC222 (it does not wait)
            await self._loop.wait({}, pause)
            pause = min(2 * pause, 1.0)
        self.busy[uid] -= 1
        if not self.busy[uid]:
            del self.busy[uid]


def _work(channel: socket.socket, work: Callable[[], Reply]) -> None:
    """Be the process: without our sockets, which would live as long as it."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        kept = os.dup2(channel.fileno(), 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        try:
            reply = work()
        except (Refused, Malformed, Unavailable) as error:
            reply = fault(error)
        except OSError as error:
            reply = fault(Unavailable(f"the bind can't be made: {error.strerror}", 500))
        os.write(kept, json.dumps(reply).encode())
    except BrokenPipeError:
        pass  # who asked was killed
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def fault(error: Refused | Malformed | Unavailable) -> Reply:
    """Form the reply that says why not."""
    rule = error.rule if isinstance(error, Refused) else ""
    return {"error": error.status, "message": str(error), "rule": rule}


def check(bind: bindledger.Bind, rules: dict[str, Rule]) -> Reply:
    """See that a bind can be made now; make what is missing."""
    os.close(_clone(bind, rules))
    return {}


def attach(bind: bindledger.Bind, rules: dict[str, Rule], name: str, attacher: str, seen_by: int) -> Reply:
    """Make a bind's mount and have it attached; give its path.

    Args:
        name: of the stage.
        attacher: the path of its socket.
        seen_by: a process that must see the mount, the daemon; 0 when that is known.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.connect(attacher)  # while we still are who may
        fd = _clone(bind, rules)
        is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        request = {"ask": "attach", "stage": name, "folder": is_folder, "restrict": not kernel.sets_attributes()}
        reply = ask(channel, request, [fd])
    if seen_by and not _sees(seen_by, str(reply["path"])):
        why = "the Docker daemon runs in a mount namespace of its own, and would see an empty folder"
        raise Unavailable(f"the bind can't be attached: {why}", 500)
    return reply


def _sees(pid: int, path: str) -> bool:
    """Tell whether a process sees a mount; where that can't be known, it is taken to."""
    try:
        with open(f"/proc/{pid}/mountinfo", errors="surrogateescape") as file:
            return any(line.split(" ", 5)[4] == path.replace(" ", "\\040") for line in file)
    except OSError:
        return True


def stages(attacher: str) -> Reply:
    """List what is attached."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.connect(attacher)
        return ask(channel, {"ask": "list"}, [])


def detach(name: str, attacher: str) -> Reply:
    """Have a stage detached."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.connect(attacher)
        return ask(channel, {"ask": "detach", "stage": name}, [])


def ask(channel: socket.socket, request: Reply, fds: list[int]) -> Reply:
    """Ask the attacher, and wait for its answer."""
    channel.settimeout(_PATIENCE)
    try:
        wire.send(channel, wire.pack(request), fds)
        message, _ = wire.receive(channel)
    except OSError:
        message = b""
    if not message:
        raise Unavailable("the attacher does not answer: try again")
    reply, _ = wire.unpack(message)
    if "error" in reply:
        raise Unavailable(f"the bind can't be attached: {reply['error']}", 500)
    return reply


def _clone(bind: bindledger.Bind, rules: dict[str, Rule]) -> int:
    account = _account(bind)
    if bind.own_socket:
        return stage.own_socket(os.environ["SOCKPROXY_LISTEN"])
    owner = stage.Owner(bind.user, bind.uid, account.pw_gid)
    same = owner.groups if rules["bind_groups"][0] is True else []
    own = [idmap.subordinate(path, bind.user, bind.uid) for path in ("/etc/subuid", "/etc/subgid")]
    uids = idmap.extents(bind.ids[0], bind.uid, own[0], [])
    gids = idmap.extents(bind.ids[1], owner.gid, own[1], same)
    userns = idmap.namespace(idmap.shifted(uids, bind.root[0]), idmap.shifted(gids, bind.root[1]))
    fd = stage.source(bind, owner, places(rules["binds"][0], account.pw_dir), uids, gids)
    return stage.clone(fd, bind, userns, rules["unmapped_binds"][0] is True)


def _account(bind: bindledger.Bind) -> pwd.struct_passwd:
    """Find the owner's account; a uid that has come to be another person's has not."""
    try:
        account = pwd.getpwnam(bind.user)
    except KeyError:
        account = None
    if account is None or account.pw_uid != bind.uid:
        raise Refused(bind.field, f"the account {bind.user} that bound {bind.source} is gone")
    return account


def rules_of(policy: Policy, bind: bindledger.Bind) -> dict[str, Rule]:
    """Look up what the role allows now, perhaps years after the container was created."""
    rules = policy.rules_of_role(bind.role)
    if rules is None:
        raise Refused(bind.field, f"the role {bind.role} that could bind {bind.source} is gone")
    return rules
