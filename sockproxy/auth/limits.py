"""Let only so many attempts through, for each of many keys."""

from __future__ import annotations

from collections import OrderedDict

# Remembered; the one that was used longest ago is forgotten. Who makes up names, and as root in a container has another
# uid for each, has 200 attempts a second: until one is forgotten so, it is forgiven (20 tries of 30 s, see `desk`).
KEYS = 120_000


class Limit:
    """Allow bursts of attempts, and then so many in a time (a token bucket a key)."""

    def __init__(self, burst: int, seconds: float) -> None:
        """Prepare.

        Args:
            seconds: until one more attempt is allowed.
        """
        self._burst, self._seconds = float(burst), seconds
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> bool:
        """Take an attempt, if there is one."""
        left = self._level(key, now)
        allowed = left >= 1
        self._set(key, left - allowed, now)
        return allowed

    def give_back(self, key: str, now: float) -> None:
        """Take back the count of an attempt that was none: the right password."""
        self._set(key, min(self._level(key, now) + 1, self._burst), now)

    def _level(self, key: str, now: float) -> float:
        left, since = self._left.get(key, (self._burst, now))
        return min(left + (now - since) / self._seconds, self._burst)

    def _set(self, key: str, left: float, now: float) -> None:
        self._left[key] = left, now
        self._left.move_to_end(key)
        if len(self._left) > KEYS:
            self._left.popitem(last=False)
