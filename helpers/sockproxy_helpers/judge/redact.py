"""Tell what was in a request without telling its secrets.

SECURITY: pure. Shown is only what tables/recorded.txt has a row for; any other text becomes a hash with a salt that is
root's, so that "the same value?" can be answered and "which value?" can't.
"""

from __future__ import annotations

import hashlib
import re

from sockproxy_helpers.api.operations import read_table
from .walk import is_zero

TEXT, ITEMS, FIELDS = (
    200,
    20,
    64,
)  # characters of a text, items of a list or empty ones of a map, fields: more says nothing more
HIDDEN = 200  # texts that are looked for in what the daemon says
_HOW: dict[str, str] = {row[0]: row[1] for row in read_table("recorded", 2)}
_PLAIN = ("", "0", "1", "true", "false")
_SECRET = re.compile(r"(?i).*(?:pass|pwd|secret|token|key|cred|auth).*")
_OPTION = re.compile(r"(?i)--[^=]*(?:pass|pwd|secret|token|key|cred|auth)[^=]*")


class Redaction:
    """Redact one call's texts, and remember what was hidden."""

    def __init__(self, salt: bytes, commands: str) -> None:
        """Prepare.

        Args:
            salt: of the hashes; at most 64 bytes.
            commands: "program" shows the first word of a command, "all" also the others, but for likely secrets.
        """
        self._salt, self._commands = salt, commands
        self._hidden: dict[str, str] = {}

    def hash(self, text: str) -> str:
        """Stand for a text."""
        hidden = self._hidden.get(text)
        if hidden is None:
            data = text.encode("utf-8", "surrogatepass")
            hidden = "#" + hashlib.blake2b(data, key=self._salt, digest_size=6).hexdigest()
            if len(self._hidden) < HIDDEN:
                self._hidden[text] = hidden
        return hidden

    def scrub(self, text: str) -> str:
        """Put the hashes in the place of what was hidden, in a sentence of somebody else's."""
        for hidden in sorted(self._hidden, key=len, reverse=True):
            if len(hidden) > 2:
                text = text.replace(hidden, self._hidden[hidden])
        return text

    def show(self, path: str, value: object) -> object:
        """Tell a value."""
        return self._show(path, _HOW.get(path, ""), value)

    def _show(self, path: str, how: str, value: object) -> object:
        if isinstance(value, dict):
            items = list(value.items())
            if len(items) > ITEMS:  # clients write out all fields of the API: those that say something come first
                items.sort(key=lambda item: is_zero(item[1]))
                said = sum(not is_zero(item) for _, item in items)
                items = items[: min(max(said, ITEMS), FIELDS)]
            shown = {self._key(key): self._show(*_below(path, str(key), how), item) for key, item in items}
            return shown | ({"…": len(value) - len(items)} if len(value) > len(items) else {})
        if how == "command" and isinstance(value, (list, str)):
            return self._command(value if isinstance(value, list) else [value])
        if isinstance(value, list):
            listed = [self._show(path, how, item) for item in value[:ITEMS]]
            return listed + ([f"… {len(value) - ITEMS} more"] if len(value) > ITEMS else [])
        if not isinstance(value, str):
            return value
        if how in ("text", "all") or value in _PLAIN:
            return value if len(value) <= TEXT else value[:TEXT] + "…"
        name, equals, secret = value.partition("=")
        if how == "names":
            return self._key(name) + (equals + self.hash(secret) if equals else "")
        return self.hash(value)

    def _key(self, key: object) -> str:
        return str(key)[:TEXT]

    def _command(self, words: list[object]) -> list[object]:
        texts = [str(word) for word in words]
        if self._commands != "all":
            for text in texts[1:]:
                self.hash(text)
            return [*(text[:TEXT] for text in texts[:1]), *([self.hash("\0".join(texts[1:]))] if texts[1:] else [])]
        shown: list[object] = []
        for index, text in enumerate(texts[:ITEMS]):
            name, equals, value = text.partition("=")
            if equals and _SECRET.fullmatch(name):
                shown.append(f"{name[:TEXT]}={self.hash(value)}")
            elif index and _OPTION.fullmatch(texts[index - 1]):
                shown.append(self.hash(text))
            else:
                shown.append(text[:TEXT])
        return shown

    def changes(self, path: str, asked: object, sent: object, found: list[dict[str, object]]) -> None:
        """Find where what is sent is not what was asked; what the daemon takes for not given is nothing."""
        if asked == sent or (is_zero(asked) and is_zero(sent)) or len(found) >= FIELDS:
            return
        if isinstance(asked, dict) and isinstance(sent, dict):
            for key in [*asked, *(key for key in sent if key not in asked)]:
                self.changes(_below(path, str(key), "")[0], asked.get(key), sent.get(key), found)
            return
        change = {"field": path}
        both = (("asked", asked), ("sent", sent))
        found.append(change | {word: self.show(path, value) for word, value in both if not is_zero(value)})


def _below(path: str, key: str, how: str) -> tuple[str, str]:
    """Give the path of a field in an object, and how it is told; a key that people chose is no field of the table's."""
    inner = f"{path}.{key}" if path else key
    return inner, _HOW.get(inner, "all" if how == "all" else "")
