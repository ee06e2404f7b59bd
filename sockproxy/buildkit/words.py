"""See that nothing a frontend tells is of an image that is somebody else's: not an answer, and not an error either.

A frontend looks images up itself, and expands their environment in what it says: an error, what `--check` and `--call`
answer. What it answers with a definition has most of its images in it (see bases.py), but for those that have no
layers, or none that are used. So BuildKit is asked which images the build has loaded, and those are judged as a
definition's are. A name may be another image the next time it is looked up: where there was one without a digest, the
frontend runs again, with each image by the digest that was judged, and that is what is told.
"""

from __future__ import annotations

import contextlib
import math
import os
import re

import trio

from sockproxy.buildkit import bases, loads
from sockproxy.buildkit.helper import Helper
from sockproxy.buildkit.loads import Load
from sockproxy.buildkit.methods import FAULTS
from sockproxy.buildkit.request import Request
from sockproxy.buildkit.schema import Message, Schema
from sockproxy_helpers.errors import Refused, Unavailable

MOST = 8  # runs of one call's; each knows more images (those of ONBUILD) than the one before
KEPT = 5.0  # seconds that nobody else sets a name; such a run has all that it needs on this machine
PATIENCE = 30.0  # seconds for BuildKit to say what it has said already
STATUS, WARN, PING = "/moby.buildkit.v1.Control/Status", f"{bases.BRIDGE}Warn", f"{bases.BRIDGE}Ping"
_REPLAYS = "source.policy"  # BuildKit 0.11 brought both: that, and that who asks late is told all from the beginning
# What older ones say before an image is looked up, or as it can't be: nothing is expanded until all have been.
_EARLY = re.compile(
    r"(?:failed to solve with frontend dockerfile\.v0: )?(?:failed to create LLB definition: )?(?:failed to read "
    r"dockerfile: |dockerfile parse error |unsupported request |target stage |failed to do request: Head "
    r"|\S+: not found$).*",
    re.DOTALL,
)


class Again(Exception):
    """Have a call made again, with another message, before anything of it is told; in so many seconds."""

    def __init__(self, body: bytes, seconds: float) -> None:
        super().__init__()
        self.body, self.seconds = body, seconds


class Words:
    """Judge what is said in one call."""

    def __init__(self, schema: Schema, helper: Helper, request: Request, message: Message) -> None:
        """Prepare; `message` is what the frontend is asked for."""
        self._schema, self._helper, self._request, self._message = schema, helper, request, message
        self._kept: list[str] = []  # names, until the run is over in which they are looked up
        self._before: set[Load] = set()
        self._known: set[str] = set()  # vertices of what was judged before this run, and is the same in it
        self._pins: dict[str, str] = {}
        self._runs = 0

    async def begin(self, ask: bases.Ask) -> None:
        """Mark in the build's progress that from here on it may tell what it may not."""
        if await self._replays(ask):
            await self._mark(loads.OPENED, ask)

    async def end(self, ask: bases.Ask) -> None:
        """Mark that what was said may be told; never when that was said of a name that may have been another image."""
        if await self._replays(ask) and not self._runs:
            await self._mark(loads.CLOSED, ask)

    async def judge(self, ask: bases.Ask, approved: set[str], told: str = "", *, defined: bool = False) -> None:
        """See that what was said may be told.

        Args:
            approved: by which vertices the images of a definition have been looked up.
            told: the error.
            defined: there is a definition.

        Raises:
            Again: not this, but perhaps what it says then.
            Refused: it is of somebody else's image, or nobody can tell.
            Unavailable: the builder does not tell.
        """
        if not await self._replays(ask):
            if defined or _EARLY.fullmatch(told):
                return
            raise self._withheld()
        options, again = dict(self._message.FrontendOpt), False
        for load in await self._loads(ask) - self._before:
            if load.vertex not in self._known | approved:
                again |= await self._look(load, options, ask)
        if not again:
            while self._kept:
                await bases.let_go(self._helper, self._kept.pop())
            return
        self._runs += 1
        if self._runs == MOST:
            raise self._withheld()
        self._before = await self._loads(ask)
        self._message.FrontendOpt.clear()
        self._message.FrontendOpt.update(loads.pinned(options, self._pins))
        raise Again(self._message.SerializeToString(), KEPT if self._kept else math.inf)

    async def let_go(self) -> None:
        """Let names be set again that were kept, whatever they mean by now."""
        while self._kept:
            with contextlib.suppress(*FAULTS):
                await bases.let_go(self._helper, self._kept.pop())

    async def _replays(self, ask: bases.Ask) -> bool:
        facts = self._request.facts
        if facts.replays is None:
            pong = await ask(PING, b"", "gateway.PongResponse")
            facts.replays = any(cap.ID == _REPLAYS for cap in pong.LLBCaps)
        return facts.replays

    async def _look(self, load: Load, options: dict[str, str], ask: bases.Ask) -> bool:
        """Judge an image; tell whether another may be called by its name the next time."""
        image = loads.image(load, options)
        if image is None:
            raise self._withheld()
        asked = bases.question(self._schema, "oci-layout" if image.layout else "docker-image", image.name)
        asked.StoreID, asked.ResolveMode = image.layout, options.get("image-resolve-mode", "default")
        asked.Platform.OS, asked.Platform.Architecture, asked.Platform.Variant = (
            *image.platform.split("/"), "", "",
        )[:3]  # fmt: skip
        if "@" not in image.name:  # if it is here, it stays the same until the next run is over
            self._kept.append(await bases.keep(self._helper, self._request, image.name))
        digest = await bases.look(self._schema, self._helper, asked, ask)
        if "@" in image.name or not digest:
            self._known |= loads.vertices(image.name, image.platform)
            return "@" not in image.name
        await bases.let_go(self._helper, self._kept.pop())
        self._known |= loads.vertices(f"{image.name}@{digest}", image.platform)
        if self._pins.setdefault(image.name, digest) != digest:
            raise self._withheld()
        return True

    async def _loads(self, ask: bases.Ask) -> set[Load]:
        """Ask what the build has loaded from its beginning until now."""
        mark, status = os.urandom(16).hex().encode(), self._schema.new("control.StatusRequest")
        status.Ref = self._request.build
        await self._mark(mark, ask)
        found: dict[Load, bool] = {}

        def enough(progress: Message) -> bool:
            for load, failed in loads.seen(progress):
                found[load] = found.get(load, False) or failed
            return any(one.short == mark for one in progress.warnings)

        with trio.move_on_after(PATIENCE) as patience:
            await ask(STATUS, status.SerializeToString(), "control.StatusResponse", enough)
        if patience.cancelled_caught:
            raise Unavailable("the builder does not tell what it has loaded")
        return {load for load, failed in found.items() if not failed}

    async def _mark(self, mark: bytes, ask: bases.Ask) -> None:
        warning = self._schema.new("gateway.WarnRequest")
        warning.digest, warning.level, warning.short = loads.MARK, 1, mark
        await ask(WARN, warning.SerializeToString(), "gateway.WarnResponse")

    def _withheld(self) -> Refused:
        self._request.context.path = ""
        why = (
            "what the builder says of this Dockerfile is not told, as nobody can tell of which images it is "
            "(allowed: common platforms; with a Docker daemon before 24, DOCKER_BUILDKIT=0)"
        )
        return self._request.context.refusal(why)
