"""Do what single calls need beside the tables: the record of a build, and the cut of answers.

A treatment may ask before the call goes to the daemon, change or drop its answers, and tell how it ended.
"""

from __future__ import annotations

from typing import Any

from sockproxy.buildkit import bases, loads, policy, results, rules
from sockproxy.buildkit.helper import Helper
from sockproxy.buildkit.methods import Method
from sockproxy.buildkit.request import Request
from sockproxy.buildkit.schema import Message, Schema
from sockproxy.buildkit.words import Words
from sockproxy_helpers.errors import Malformed, Refused

_IMAGES = {"moby", "image"}  # outputs that the daemon keeps
_WARNINGS = 1000  # of one build, held back
_ORIGINS = 64  # of those that low-level definitions take files from, in the record
# Of the frontend's settings; of those that are URLs, without what may be secret.
_NOTED = ("filename", "target", "context", "platform", "requestid")


class Treatment:
    """Pass a call as the tables have judged it."""

    local = False  # the daemon is not asked

    def __init__(self, schema: Schema, helper: Helper, request: Request, method: Method) -> None:
        self._schema, self._helper, self.request, self._method = schema, helper, request, method

    async def before(self, message: Message, ask: bases.Ask) -> None:
        """Do what has to be done before the daemon is asked.

        Args:
            ask: calls the daemon about the same build.

        Raises:
            Refused, Malformed, NotFound, Unavailable: the call may not go on.
        """

    async def judge(self, answer: Message, ask: bases.Ask) -> None:
        """See that an answer may be passed on."""

    async def judge_error(self, told: str, ask: bases.Ask) -> None:
        """See that an error may be passed on."""

    def answer(self, message: Message) -> Message | None:
        """Cut an answer; None drops it."""
        return message

    async def after(self, status: str) -> None:
        """Tell how it ended, by gRPC's status."""


class Recorded(Treatment):
    """Record a call before the daemon is asked, and what came of it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._recorded, self._image = "", ""

    async def _record(self, question: dict[str, object]) -> dict[str, object]:
        """Have the intent approved and recorded."""
        reply = await self._helper.ask(question)
        self._recorded = str(reply.get("rid", ""))
        return reply

    async def after(self, status: str) -> None:
        """Record the outcome."""
        if self._recorded:
            await self._helper.ask({"ask": "outcome", "rid": self._recorded, "status": status, "image": self._image})


class Solve(Recorded):
    """Record a build, and the image that comes of it."""

    _ref = ""

    async def before(self, message: Message, ask: bases.Ask) -> None:
        """Have names approved and the intent recorded."""
        if not message.Ref:
            raise Malformed("SolveRequest.Ref: a build needs a name")
        request = self.request
        if request.pushes or any(entry.Type == "registry" for entry in message.Cache.Exports):
            self._demand("ImagePush")
        _import(message.Cache, "Imports", request)
        outputs = [output.Type for output in message.Exporters]
        if getattr(message.Definition, "def") and not _IMAGES.isdisjoint({*outputs, message.ExporterDeprecated}):
            request.context.path = "SolveRequest.Definition"
            raise request.context.refusal("would make an image that is nobody's (allowed: an output to a file)")
        if bases.needed(request) and (message.Frontend or bases.images(request.origins)):
            request.context.path = "SolveRequest"
            why = (
                "may not build at once what images are in (allowed: by a client's gateway, as docker buildx build does)"
            )
            raise request.context.refusal(why)
        noted = _noted(message.FrontendAttrs, request.origins)
        noted |= {"ref": message.Ref, "outputs": outputs, "push": request.pushes}
        reply = await self._record({"ask": "solve", "tags": request.tags, "pushes": request.pushes, "build": noted})
        self._ref = message.Ref
        request.facts.builds[self._ref] = self._recorded
        foreign = reply.get("foreign")
        policy.put(self._schema, message, request, foreign if isinstance(foreign, list) else [])

    async def after(self, status: str) -> None:
        """Record the outcome, and forget the build."""
        self.request.facts.builds.pop(self._ref, None)
        await super().after(status)

    def _demand(self, operation: str) -> None:
        if operation not in self.request.facts.operations:
            self.request.context.path = ""
            raise self.request.context.refusal(f"your role does not allow {operation}")

    def answer(self, message: Message) -> Message | None:
        """Note which image it is."""
        found = message.ExporterResponse
        self._image = found.get("containerimage.config.digest", "") or found.get("containerimage.digest", "")
        return message


class Frontend(Recorded):
    """Record what a frontend is asked for, and remember what it says of its result."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._needed = bases.needed(self.request)
        self._words: Words | None = None

    async def before(self, message: Message, ask: bases.Ask) -> None:
        """Have the intent recorded, and nothing told that it says, until that is judged."""
        _import(message, "CacheImports", self.request)
        if self._needed:
            message.Evaluate = False  # what runs, does when the result is returned
            given = [message.Definition, *message.FrontendInputs.values()]
            await bases.judge(self._schema, self._helper, self.request, given, ask)
        if self._needed and message.Frontend:
            self._words = Words(self._schema, self._helper, self.request, message)
            await self._words.begin(ask)
        await self._record({"ask": "frontend", "build": _noted(message.FrontendOpt, self.request.origins)})

    async def judge(self, answer: Message, ask: bases.Ask) -> None:
        """See whose the images are that it is from."""
        if not self._needed:
            return
        definitions, approved, refusal = bases.answered(answer), set[str](), None
        try:
            approved = await bases.judge(self._schema, self._helper, self.request, definitions, ask)
        except Refused as error:
            refusal = error
        # A refusal comes as it does of an error: which of the two there was would tell of the environment.
        if self._words:
            await self._words.judge(ask, approved, defined=any(getattr(one, "def") for one in definitions))
        if refusal:
            raise refusal
        if self._words:
            await self._words.end(ask)

    async def judge_error(self, told: str, ask: bases.Ask) -> None:
        """See of what images it is."""
        if self._words:
            await self._words.judge(ask, set(), told)

    async def after(self, status: str) -> None:
        """Record the outcome."""
        try:
            await super().after(status)
        finally:
            if self._words:
                await self._words.let_go()

    def answer(self, message: Message) -> Message | None:
        """Remember what the client will hand back."""
        result, facts = message.result, self.request.facts
        for key, value in result.metadata.items():
            facts.see(results.said(key, value))
        for ref in (result.ref, *result.refs.refs.values()):
            for operation in getattr(getattr(ref, "def"), "def"):
                facts.see(operation)
        return message


class Progress(Treatment):
    """Hold warnings back until the images are judged that they may be of, as the build's own progress tells."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._held: list[Message] = []
        self._open: int | None = None  # frontends that were asked, and have not been judged to their end

    def answer(self, message: Message) -> Message | None:
        """Take warnings out, and put them into the first message that they may be told with."""
        for warning in message.warnings:
            if warning.vertex != loads.MARK:
                self._held.append(warning)
            elif warning.short == loads.OPENED:
                self._open = (self._open or 0) + 1
            elif warning.short == loads.CLOSED:
                self._open = (self._open or 0) - 1
        del message.warnings[:]
        if self._open == 0 or not bases.needed(self.request):
            message.warnings.extend(self._held)
            self._held.clear()
        del self._held[_WARNINGS:]
        return message if message.ByteSize() else None


class History(Treatment):
    """Show one's own builds only: those whose name begins as only the caller's can."""

    def answer(self, message: Message) -> Message | None:
        """Drop others' builds; remember what is to be read of one's own."""
        facts = self.request.facts
        record = message.record
        if not record.Ref.startswith(facts.mark) and not facts.context.flag("sees_all"):
            return None
        record.Ref = record.Ref.removeprefix(facts.mark)
        if bases.needed(self.request):  # they have what was said before it was judged
            record.ClearField("logs")
            record.ClearField("trace")
        results = [record.Result, *record.Results.values()]
        named = [record.logs, record.trace, record.externalError]
        for result in results:
            named += [result.ResultDeprecated, *result.Attestations, *result.Results.values()]
        for descriptor in named:
            facts.see(descriptor.digest.encode())
        return message


class Everybodys(Treatment):
    """Keep the build cache, which has no owners, for those who see all: others see none of it and prune none."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.local = not self.request.context.flag("sees_all")


TREATMENTS: dict[str, type[Treatment]] = {
    "pass": Treatment,
    "solve": Solve,
    "frontend": Frontend,
    "progress": Progress,
    "history": History,
    "everybodys": Everybodys,
}


def _import(message: Message, field: str, request: Request) -> None:
    """Leave out what the cache is to be filled from, unless the role may: see rules.cache_from."""
    if not request.context.flag("cache_imports"):
        message.ClearField(field)
    for entry in getattr(message, field):
        rules.imported(entry.Type, entry.Attrs, request)


def _noted(attributes: Any, found: list[str]) -> dict[str, object]:
    noted: dict[str, object] = {key: _bare(attributes[key]) for key in _NOTED if key in attributes}
    contexts = [
        f"{key.partition(':')[2]}={_bare(value)}" for key, value in attributes.items() if key.startswith("context:")
    ]
    origins = sorted({_bare(origin)[:256] for origin in found})[:_ORIGINS]
    return noted | ({"contexts": sorted(contexts)} if contexts else {}) | ({"origins": origins} if origins else {})


def _bare(source: str) -> str:
    """Leave out of a URL what people put secrets into: user and password, and the query."""
    scheme, separator, rest = source.partition("://")
    if not separator:
        return source
    place, question, _ = rest.partition("?")
    host, slash, path = place.partition("/")
    user, _, bare = host.rpartition("@")
    return f"{scheme}://{'…@' if user else ''}{bare}{slash}{path}{'?…' if question else ''}"
