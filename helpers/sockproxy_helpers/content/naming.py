"""Resolve the images that a request names, and collect the names that it would set or remove."""

from __future__ import annotations

import json

from sockproxy_helpers.api import names
from sockproxy_helpers.errors import Malformed, NotFound, Refused
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import Object, owner_of
from . import images, platforms, removals
from .claims import Wish
from .images import Image, View
from .ledger import PULLED, Ledger

Query = list[tuple[str, str]]


class Naming:
    """Do it for one call.

    Attributes:
        wish: the names to claim before the daemon is asked; None for none.
        still: the names, with their images, and the repositories (with "") that must mean the same when it looks.
    """

    def __init__(self, ledger: Ledger, daemon: Daemon, ctx: Context) -> None:
        self._ledger, self._daemon, self._ctx = ledger, daemon, ctx
        self.wish: Wish | None = None
        self.still: list[tuple[str, str]] = []

    async def image(self, form: str, text: str) -> str:
        """Put what the daemon can't take for anything else in the place of a reference.

        Args:
            form: id: the ID in any case | name: as it is if it is a name, since the answer or the object shows it.

        Raises:
            NotFound: there is none that the caller may use.
        """
        if self._ctx.flag("sees_all"):
            found = await images.known_to_all(self._daemon, text) if self._ctx.operation == "ContainerCreate" else None
            if found:
                self._ctx.found.append(_told(found))
            return text
        if not text:
            return text
        found = await images.find(self._ledger, self._daemon, self._ctx, text)
        await self._see(found)
        self._ctx.found.append(_told(found))
        return text if form == "name" and found.name else found.id

    async def known(self, text: str) -> str:
        """Leave out of a JSON list what is not there: a cache to build from need not exist."""
        kept = []
        for reference in json.loads(text):
            try:
                kept.append(await self.image("id", reference))
            except NotFound:
                pass
        return json.dumps(kept or ["sockproxy-has-no-such-image.invalid/x"] if text != "[]" else [])

    async def change(self, form: str, variables: dict[str, str], query: Query) -> Query:
        """Note which names a call sets or removes, and write them so that they can't mean anything else.

        Args:
            form: tagged (repo and tag) | built (each t) | pulled (fromImage and tag) | pushed | saved |
                removed.
        """
        if self._ctx.flag("sees_all"):
            return query
        if form == "removed":
            variables["name"], self.wish = await removals.removed(
                self._ledger, self._daemon, self._ctx, variables["name"]
            )
            return query
        if form == "saved":
            if "name" in variables:
                found = await self._saved(variables["name"])
                if len(found) != 1:
                    raise Refused("", "not all tags of that name are yours to save (allowed: by name)")
                variables["name"] = found[0]
            kept = [pair for pair in query if pair[0] != "names"]
            asked = [text for key, text in query if key == "names"]
            return [*kept, *[("names", name) for text in asked for name in await self._saved(text)]]
        if form == "pushed":
            await self._pushed(variables["name"], dict(query).get("tag", ""))
            return query
        return {"tagged": self._tagged, "built": self._built, "pulled": self._pulled}[form](query)

    def _tagged(self, query: Query) -> Query:
        given = dict(query)
        repo, tag = given.get("repo", ""), given.get("tag", "")
        self.wish = Wish([])
        if given.get("fromImage") or not repo:
            return query
        name = names.settable(repo, tag)
        self.wish = Wish([name])
        return [*(pair for pair in query if pair[0] not in ("repo", "tag")), *names.apart(name, "repo")]

    def _built(self, query: Query) -> Query:
        set_ = [names.settable(text) for key, text in query if key == "t" and text]
        self.wish = Wish(set_)
        return [*(pair for pair in query if pair[0] != "t"), *(("t", name) for name in set_)]

    def _pulled(self, query: Query) -> Query:
        given = dict(query)
        image, tag = given.get("fromImage", ""), given.get("tag", "")
        if not image:
            return query
        if given.get("fromSrc") or given.get("repo"):
            raise Malformed("fromImage and fromSrc are two ways to create an image: choose one")
        repository, tag, digest = names.pulled(image, tag)
        if not digest and not tag:
            raise Refused("?fromImage", "all tags of a repository at once (allowed: one tag, such as :latest)")
        name = names.full(f"{repository}@{digest}") if digest else names.settable(repository, tag)
        self.wish = Wish([name], shared=PULLED)
        return [*(pair for pair in query if pair[0] not in ("fromImage", "tag")), *names.apart(name, "fromImage")]

    async def _pushed(self, text: str, tag: str) -> None:
        repository, own, digest = names.split(text)
        if digest:
            raise Malformed(f"{text}: push by tag, not by digest")
        if tag or own:
            name = names.tagged(repository, tag or own)
            found = await images.find(self._ledger, self._daemon, self._ctx, name)
            if View(self._ledger, self._ctx.caller.uid).anothers(found.name, found.id):
                why = (
                    f"the name {names.familiar(name)} is somebody else's to push (allowed: tag it, push your own name)"
                )
                raise Refused("", why)
            await self._see(found)
            self.still.append((found.name, found.id))
            return
        await self.whole(repository)
        self.still.append((repository, ""))

    async def whole(self, repository: str) -> dict[str, str]:
        """See that all tags of a repository are the caller's to push, or to save; give them, with their images.

        Raises:
            NoImage: none that the caller may know of.
            Refused: somebody else has some.
        """
        told, shown = await self._all_of(repository)
        if not shown:
            raise images.NoImage(f"No such image: {names.familiar(repository)}")
        view, push = View(self._ledger, self._ctx.caller.uid), self._ctx.operation == "ImagePush"
        if len(told) != len(shown) or (push and any(view.anothers(*one) for one in shown.items())):
            verb = "push" if push else "save"
            raise Refused("", f"not all tags of {names.familiar(repository)} are yours to {verb} (allowed: by name)")
        return shown

    async def _saved(self, text: str) -> list[str]:
        """Give the names to save: one without a tag stands for all tags of its repository, other people's included."""
        repository, tag, digest = names.split(text) if names.known(text) else ("", "", "")
        if repository and not tag and not digest:
            told, shown = await self._all_of(repository)
            if shown:
                self.still += shown.items() if len(told) != len(shown) else [(repository, "")]
                return [text] if len(told) == len(shown) else list(shown)
        found = await self.image("name", text)
        self.still += [(item.name, item.id) for item in self._ctx.found[-1:] if item.name]
        return [found]

    async def _all_of(self, repository: str) -> tuple[list[str], dict[str, str]]:
        """List a repository's tags, and those of them that the caller may know, with their images."""
        view, told, shown = View(self._ledger, self._ctx.caller.uid), [], {}  # type: View, list[str], dict[str, str]
        for item in await images.every(self._daemon):
            known = images.full_names(view.cut(item) or {})
            own = [name for name in images.full_names(item) if names.alike(name, repository + ":") and "@" not in name]
            told += own
            shown |= {name: str(item.get("Id")) for name in own if name in known}
        for name in shown:
            await self._see(await images.find(self._ledger, self._daemon, self._ctx, name))
        return told, shown

    async def _see(self, found: Image) -> None:
        await platforms.see(self._ledger, self._daemon, self._ctx.caller.uid, found)


def _told(image: Image) -> Object:
    """Form what the record says of an image: with its digest in a registry, if it has one there."""
    digests = image.item.get("RepoDigests")
    named = [one for one in digests if isinstance(one, str)] if isinstance(digests, list) else []
    own = [one for one in named if names.known(one).partition("@")[0] == names.repository(image.name)]
    more = {"digest": (own or named)[0].partition("@")[2]} if named else {}
    return Object("image", image.id, image.name, owner_of(image.whole), False, more)
