"""Let people of a group see and use one another's objects, where their role says `share: group`.

Nothing is written on the objects: whose they are is on them, and who shares with whom follows from the policy and the
host's groups as they are now. So who leaves the group sees nothing of the others from then on, nor they of that person.

What one of them gives a container of another's is written on that (`marks`): when they share no more, nobody uses it
(`access`), and what runs is stopped here.

The daemon can't narrow a list to several owners: its label filters are ANDed. So it lists what has any owner, and the
rest is cut here. Events are a stream, and stay one's own; so do prunes.
"""

from __future__ import annotations

import grp
import json
from collections.abc import Callable

from sockproxy_helpers.api.operations import quote
from sockproxy_helpers.audit.record import Recorder
from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import NotFound, Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system.caller import person
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.marks import GIVEN
from sockproxy_helpers.upstream.objects import Objects, labels_of, owner_of, parse

SECONDS = 5.0  # between looks; what the accounts database says may be as old again
_GIVEN = "/containers/json?all=1&filters=" + quote(json.dumps({"label": [GIVEN]}))
_NEVER = json.dumps({"RestartPolicy": {"Name": "no"}}).encode()
LISTS = ("ContainerList", "VolumeList")


def share(ctx: Context) -> bool:
    """Tell whether the caller's role shares within a group."""
    return ctx.rule("share") == "group"


def cut_of(ctx: Context, query: list[tuple[str, str]]) -> Callable[[bytes], bytes] | None:
    """Give what cuts a list to what the caller sees; None where the daemon has narrowed it.

    Args:
        query: the caller's; how many containers it asks for is counted after the cut.
    """
    if ctx.operation not in LISTS or ctx.flag("sees_all") or not share(ctx):
        return None
    limit = max(0, int(dict(query).get("limit") or 0))
    shown = 0  # by pieces before this one

    def cut(body: bytes) -> bytes:
        nonlocal shown
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise Unavailable("the Docker daemon answered malformed JSON") from error
        if isinstance(answer, dict):  # {"Volumes": […], "Warnings": […]}
            kept: object = {**answer, "Volumes": _seen(answer.get("Volumes"), ctx)}
        else:
            seen = _seen(answer, ctx)
            kept = seen[: max(0, limit - shown)] if limit else seen
            shown += len(seen)
        return json.dumps(kept, separators=(",", ":")).encode() + b"\n"

    return cut


def _seen(items: object, ctx: Context) -> list[object]:
    found = items if isinstance(items, list) else []
    return [item for item in found if isinstance(item, dict) and ctx.sees(owner_of(item))]


class Watch:
    """Stop the containers that were given what is of somebody who shares with their owner no more."""

    def __init__(self, loop: Loop, recorder: Recorder, path: str) -> None:
        """Prepare.

        Args:
            path: the daemon's socket.
        """
        self._loop, self._recorder, self._path = loop, recorder, path
        self._objects, self._policy = Objects(), None  # type: Objects, Policy | None
        self._ended: set[str] = set()
        self._ending: set[str] = set()

    async def run(self, policy: Callable[[], Policy]) -> None:
        """Look again and again; `policy()` gives the policy of now."""
        while True:
            daemon = Daemon(self._loop, self._path)
            try:
                await self.look(daemon, policy())
            except Unavailable:
                pass
            finally:
                daemon.close()
            await self._loop.wait({}, SECONDS)

    async def look(self, daemon: Daemon, policy: Policy) -> None:
        """Look at all such containers: while a role shares, and once with each policy.

        Raises:
            Unavailable: the daemon does not answer.
        """
        groups = policy.sharing()
        if (policy is self._policy and not groups) or not all(map(_exists, groups)):
            return
        status, items = parse(*await daemon.request("GET", _GIVEN))
        if status != 200 or not isinstance(items, list):
            raise Unavailable("the Docker daemon lists nothing")
        left = {str(item.get("Id")): item for item in items if isinstance(item, dict) and _strangers(item, policy)}
        self._ended &= left.keys()
        for identity, item in left.items():
            runs = item.get("State") not in ("created", "exited", "dead")
            if identity not in self._ending and (runs or identity not in self._ended):
                self._ending.add(identity)  # in a task of its own: one that hangs in the daemon keeps no other running
                self._loop.spawn(self._end(daemon.another(), identity, runs, _strangers(item, policy)))
        self._policy = policy

    async def _end(self, daemon: Daemon, identity: str, runs: bool, strangers: list[int]) -> None:
        """Stop a container, and let the daemon not start it again by itself."""
        try:
            found = await self._objects.find(daemon, "container", identity)
            if found.owner is None or not found.given.issuperset(strangers):
                return  # its labels are its image's
            if runs:
                await daemon.request("POST", f"/containers/{identity}/kill")
                why = f"uid {strangers[0]}, whose things {found.name} was given, shares nothing with its owner: stopped"
                said = {"via": {"helper": "lifecycle"}, "why": why, "objects": [found.record()]}
                self._recorder.outcome({"ev": "unshared", **said})
            await daemon.request("POST", f"/containers/{identity}/update", _NEVER)
            self._ended.add(identity)
        except (NotFound, Unavailable):
            pass  # removed meanwhile, or the next look will tell
        finally:
            self._ending.discard(identity)
            daemon.close()


def _strangers(item: dict[str, object], policy: Policy) -> list[int]:
    """List those whose things a container was given, and who surely do not share with its owner now."""
    owner, given = owner_of(item), str(labels_of(item).get(GIVEN)).split(",")
    others = [int(uid) for uid in given if uid.isascii() and uid.isdigit()]
    return [uid for uid in others if owner is not None and apart(policy, owner, uid)]


def apart(policy: Policy, owner: int, other: int) -> bool:
    """Tell whether two people surely do not share: where the host's accounts don't tell, nothing is stopped."""
    people = person(owner), person(other)
    rules = policy.rules_of(people[0])
    if not all(one.user for one in people) or (rules is not None and rules["sees_all"][0] is True):
        return False
    first, second = map(policy.group_of, people)
    return not first or first != second


def _exists(group: str) -> bool:
    try:
        return bool(grp.getgrnam(group))
    except (KeyError, OSError):  # or the directory does not answer: then it is unknown who is in it
        return False
