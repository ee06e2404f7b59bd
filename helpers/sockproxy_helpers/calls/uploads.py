"""Judge what a call uploads, before it is sent or while its archive passes: names of images, members to be unpacked."""

from __future__ import annotations

from sockproxy_helpers.api import names
from sockproxy_helpers.content import images, loads, pushes, withheld
from sockproxy_helpers.content.builds import Build
from sockproxy_helpers.content.claims import Claim, Taken, Wish
from sockproxy_helpers.content.naming import Naming
from sockproxy_helpers.content.scanned import Judge, Last
from sockproxy_helpers.content.tags import Tags
from sockproxy_helpers.content.tar import Scan
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream import pulls
from .approved import Approved
from .call import Call

SAVING = ("ImageGet", "ImageGetAll")  # names are looked up before the answer begins
_DEVICES = (b"3", b"4")  # character and block special files
_FILES = (b"0", b"\0", b"7", b"1", b"2", b"5")  # and links to them, and folders
Query = list[tuple[str, str]]


async def prepare(tags: Tags, ctx: Context, call: Call, query: Query, naming: Naming, approved: Approved) -> Query:
    """Claim what is known, and have judged what is not: both in `approved`.

    Returns:
        The query to send.

    Raises:
        Taken: a name is not the caller's to change.
    """
    wish = naming.wish
    if ctx.operation == "PutContainerArchive":
        approved.judge = _copied(ctx)
        return query
    if ctx.flag("sees_all"):
        if ctx.operation == "ImagePush":
            approved.last = pushes.taken(tags, ctx.caller.uid, await named(tags, call, query))
        return query
    if ctx.operation == "ImageLoad":
        claim = approved.claim = Claim(ctx)

        async def load(scan: Scan) -> bytes:
            return await loads.judge(tags, claim, scan)

        approved.judge = Judge(loads.WANTED, load, _unpacked, proves=True)
        approved.last = _last(tags, claim, call.request_id)
    elif ctx.operation == "ImageBuild":
        claim = approved.claim = await tags.claim(ctx, wish or Wish([]))
        build = Build(tags, ctx, claim, query, call.headers.get("x-registry-config", ""))
        approved.judge, approved.last = Judge(build.wanted, build.judge, _unpacked), _last(tags, claim, call.request_id)
        return build.query
    elif wish:
        query = await _claim(tags, ctx, call, query, wish, approved)
        if approved.claim and approved.claim.had is not None and ctx.operation != "ImageTag":
            approved.last = _last(tags, approved.claim, call.request_id)
        return query
    elif naming.still:
        approved.claim = Claim(ctx)
        found = await _keep(tags, approved.claim, naming)
        if ctx.operation == "ImagePush":
            approved.last = pushes.taken(tags, ctx.caller.uid, found)
    return query


async def _keep(tags: Tags, claim: Claim, naming: Naming) -> dict[str, str]:
    """Keep the names that are sent as they are, until the daemon is done with the call; give what they name."""
    kept: dict[str, str] = {}
    for name, identity in naming.still:
        if not await (tags.still.keep(claim, name, identity) if identity else tags.still.keep_repository(claim, name)):
            raise Taken(name, f"the name {names.familiar(name)} is being set right now: try again")
        kept |= {name: identity} if identity else await naming.whole(name)
    return kept


async def named(tags: Tags, call: Call, query: Query) -> dict[str, str]:
    """Find what a push of somebody who sees all names, with its images; nothing where the daemon will say that."""
    daemon = tags.connect()
    try:
        repository, own, _ = names.split(call.variables["name"])
        tag = dict(query).get("tag", "") or own
        wanted = f"{repository}:{tag}"
        every = [(name, str(item["Id"])) for item in await images.every(daemon) for name in images.full_names(item)]
        return {one: image for one, image in every if (one == wanted if tag else one.startswith(wanted))}
    except Malformed:
        return {}
    finally:
        daemon.close()


async def _claim(tags: Tags, ctx: Context, call: Call, query: Query, wish: Wish, approved: Approved) -> Query:
    try:
        approved.claim = await tags.claim(ctx, wish)
    except Taken as taken:
        found = await _current(tags, call, taken.name) if dict(query).get("fromImage") else None
        if not found:
            raise
        # What the registry has is here: pulled by its digest it is told so, and no tag moves.
        digest, identity = found
        if not await tags.share(ctx.caller.uid, taken.name, identity):
            raise
        kept = [pair for pair in query if pair[0] not in ("fromImage", "tag")]
        return [*kept, ("fromImage", names.repository(taken.name)), ("tag", digest)]
    return query


def _last(tags: Tags, claim: Claim, request_id: str) -> Last:
    """Give what to do before the client sees the end of an answer: from then on it may use what came of the call."""

    async def last(tail: bytes) -> bytes:
        await tags.conclude(claim, claim.names)
        claim.had = None  # that was all
        if claim.ctx.operation == "ImageCommit":  # its answer is no stream that can say so
            withheld.refuse(claim)
        lines = (f"sockproxy: {why} (request {request_id})" for why in claim.withheld.values())
        return b"".join(map(withheld.line, lines))

    return last


async def _current(tags: Tags, call: Call, name: str) -> tuple[str, str] | None:
    daemon = tags.connect()
    try:
        return await pulls.current(daemon, name, pulls.login_of(call.headers))
    finally:
        daemon.close()


def _unpacked(kind: bytes, name: str) -> None:
    """Refuse what the daemon would unpack, and then open: in a named pipe that nobody writes to it waits for ever, with
    a thread of its own, of which it may have 10,000 before it ends.
    """
    if kind not in _FILES:
        raise Malformed(f"{name} in the archive is a named pipe or a device (allowed: files, folders, links)")


def _copied(ctx: Context) -> Judge | None:
    """Refuse devices in what is copied into a container: the daemon itself makes them, as root, also on the host's disk
    where a folder is bound. All else is harmless there: setuid bits and file capabilities are the owner's own by the
    bind's map, and links lead no further than the container's root, for the daemon as for the container.
    """
    if ctx.flag("devices"):
        return None

    def member(kind: bytes, name: str) -> None:
        if kind in _DEVICES:
            raise ctx.refusal(f"may not copy the device {name} (allowed: files, folders, links)", "devices")

    return Judge((), _nothing, member)


async def _nothing(scan: Scan) -> bytes:
    return b""
