"""Judge which images the classic builder will use, and write them into the Dockerfile so that it uses no others.

SECURITY: the daemon reads the Dockerfile after it has unpacked the whole context, and the last member of a name counts:
that is the one that is written here, through whatever links the context leads there. In it stand IDs wherever a name
could come to mean another image until the builder gets there, which may be an hour later. The builder never pulls: what
is missing is pulled here, under a claim of the caller's.
"""

from __future__ import annotations

import json

from sockproxy_helpers.api import names
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.judge import registries
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.judge.filesystem import changes
from sockproxy_helpers.judge.rules import clean
from sockproxy_helpers.upstream import pulls
from sockproxy_helpers.upstream.objects import OWNER, member, owner_of
from . import dockerfile, images, platforms
from .claims import Claim, Taken, Wish
from .dockerfile import Reference
from .images import Image, NoImage
from .ledger import PULLED
from .tags import Tags
from .tar import Scan
from .tarheaders import BLOCK, Member

DEFAULT = "Dockerfile"
Query = list[tuple[str, str]]


class Build:
    """Judge one build.

    Attributes:
        wanted: the members that may be its Dockerfile.
        query: without what is done here.
    """

    def __init__(self, tags: Tags, ctx: Context, claim: Claim, query: Query, config: str) -> None:
        """Prepare.

        Args:
            config: the client's X-Registry-Config.

        Raises:
            Refused: the context does not come with the call.
        """
        given = dict(query)
        if given.get("remote"):
            raise Refused("?remote", "a context that the daemon fetches can't be checked (allowed: send it)")
        self._tags, self._ctx, self._claim, self._config = tags, ctx, claim, config
        self._place = "/".join(clean(given.get("dockerfile", "")))
        self._target, self._platform = given.get("target", ""), given.get("platform", "")
        self._pulls = given.get("pull") == "1"
        arguments = json.loads(given.get("buildargs", "{}")) or {}
        self._arguments = {key: value for key, value in arguments.items() if isinstance(value, str)}
        self.wanted = (self._place,) if self._place else (DEFAULT, DEFAULT.lower())
        self.query = [pair for pair in query if pair[0] != "pull"]

    async def judge(self, scan: Scan) -> bytes:
        """Give the Dockerfile to add to the context.

        Raises:
            NoImage: it names an image that does not exist, or not for the caller.
            Taken: an image would have to be pulled under a name that is not the caller's.
        """
        member = self._member(scan)
        text = member.content.decode("utf-8", "surrogateescape")
        done, end = "", 0
        for reference in dockerfile.references(text, self._arguments, self._target):
            word = reference.text if reference.is_stage() else await self._image(reference)
            done += text[end : reference.first] + word + text[reference.last : reference.end]
            # The builder's cache is one for all, and what a step has read is not all in its key (hosts, networks): from
            # here on its steps are of an image of the caller's.
            done += f"\nLABEL {OWNER}={self._ctx.caller.uid}" if reference.base else ""
            end = reference.end
        return member.blocks((done + text[end:]).encode("utf-8", "surrogateescape"))

    def _member(self, scan: Scan) -> Member:
        for name in self.wanted:
            if name in scan.found:
                break
        else:
            raise Malformed(f"Cannot locate specified Dockerfile: {self.wanted[0]}")
        member = scan.found[name]
        if name == DEFAULT.lower() and not self._place:  # the builder looks for the other one first
            if len(member.headers) != BLOCK:
                raise Malformed("the header of the Dockerfile in the context is too long")
            header = DEFAULT.encode().ljust(100, b"\0") + member.headers[100:345] + bytes(155) + member.headers[500:]
            member = Member(header, member.content)
        return member

    async def _image(self, reference: Reference) -> str:
        found = await self._find(reference.text)
        if found is None or (self._pulls and reference.base and found.name):
            await self._pull(reference, found)
            found = await self._find(reference.text)
            if found is None:
                raise NoImage(f"No such image: {reference.text}")
        if reference.base:
            self._triggers(found, reference.stages)
        named = found.name and not self._tags.ledger.find(found.name, found.id)
        stays = named and not reference.platform and not self._platform
        return reference.text if stays and await self._tags.still.keep(self._claim, found.name, found.id) else found.id

    async def _find(self, text: str) -> Image | None:
        daemon = self._tags.connect()
        try:
            found = await images.find(self._tags.ledger, daemon, self._ctx, text)
            await platforms.see(self._tags.ledger, daemon, self._ctx.caller.uid, found)
            return found
        except NoImage:
            if not names.known(text):
                raise
            return None
        finally:
            daemon.close()

    async def _pull(self, reference: Reference, found: Image | None) -> None:
        self._ctx.path = "the Dockerfile"
        registries.judge(names.full(reference.text), self._ctx)
        name, daemon = names.full(reference.text), self._tags.connect()
        login, built = pulls.auth(self._config, name), name in self._claim.names
        try:
            if built:  # what is pulled is judged apart from what the build will make of the name
                await self._tags.conclude(self._claim, [name])
            await self._tags.add(self._claim, Wish([name], shared=PULLED))
            try:
                await pulls.pull(daemon, name, reference.platform or self._platform, login)
            finally:
                await self._tags.conclude(self._claim, [name])
            if name in self._claim.withheld:
                raise Refused("", self._claim.withheld[name])
            if built:
                await self._tags.add(self._claim, Wish([name]))
        except Taken:
            known = await pulls.current(daemon, name, login)
            if known and await self._tags.share(self._ctx.caller.uid, name, known[1]):
                pass
            elif found is None:
                raise NoImage(f"No such image: {names.familiar(name)}") from None
            else:
                raise
        finally:
            daemon.close()

    def _triggers(self, found: Image, stages: tuple[str, ...]) -> None:
        """See that what an image makes builds do copies from no image, only from stages, and is its user's own.

        It is done before a step is of an image of the caller's: its results are everybody's by the builder's cache, and
        what it copies is of whom the base's label names, or its own.
        """
        triggers, name = member(found.whole, "Config", "OnBuild"), show(found.name or found.id)
        if not isinstance(triggers, list) or not triggers:
            return
        if owner_of(found.whole) != self._ctx.caller.uid:
            why = "has ONBUILD instructions, which run before the build is yours (allowed: docker buildx build)"
            raise Refused("", f"{name} {why}")
        for trigger in triggers:
            for reference in dockerfile.references(str(trigger), {}):
                reference.stages = stages
                if reference.base or not reference.is_stage():
                    raise Refused("", f"{name} makes builds copy from {show(reference.text)} (ONBUILD)")
        self._ctx.path = f"{name}: ONBUILD"
        changes([str(trigger) for trigger in triggers], self._ctx)
