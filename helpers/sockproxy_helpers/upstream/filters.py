"""Apply the filters of a prune to what lists tell, as the daemon does."""

from __future__ import annotations

import time

from sockproxy_helpers.api import instant
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed
from .objects import labels_of

_TAKEN = ("label", "label!", "until")


class Filters:
    """Hold the filters of one prune.

    Attributes:
        labels: what a list can be narrowed by.
    """

    def __init__(self, given: dict[str, list[str]]) -> None:
        """Read them.

        Raises:
            Malformed: the daemon's prune would not take them.
        """
        for key in given:
            if key not in _TAKEN:
                raise Malformed(f"invalid filter {show(key)}")
        if len(moments := given.get("until", [])) > 1:
            raise Malformed("more than one until filter specified")
        self.labels, self._without = given.get("label", []), given.get("label!")
        self._until = instant.until(moments[0], time.time()) if moments else None

    def match(self, item: dict[str, object]) -> bool:
        """Apply those that lists have not. Lists tell whole seconds: what was made in the very second stays."""
        labels, made = labels_of(item), item.get("Created")
        if self._until is not None and not (isinstance(made, int) and made < self._until // 1):
            return False
        return self._without is None or not all(_has(labels, text) for text in self._without)


def _has(labels: dict[str, object], text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)
