"""Share the front among callers: how many connections, requests a second and bytes of memory one may take.

The rule `traffic` of a person's role says how many; who has no role has a little, perhaps to log in with a password.
Whom the kernel does not tell, and uids that nobody's account has, share one account: a person may connect with any
number of those (user namespaces). A container's owner is not known here: each has an account of its own. Streams are
counted by the helpers, which know the owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sockproxy.errors import Crowded
from sockproxy.policy.least import LEAST_TRAFFIC
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system import caller
from sockproxy_helpers.system.peer import Peer

BURST = 5.0  # seconds' worth of requests that may come at once: `docker compose up` of a hundred services
PATIENCE = 1.0  # seconds that a request waits for its turn; a refusal takes as long, so that it is not asked for again
SMALL = 64 << 10  # bytes that each connection may hold: a usual head and body, and the answer to it
LARGE = 64 << 20  # bytes of one caller's beyond that: some forty bodies of the largest
QUIET = 1.0  # seconds between two records of the same caller's refusals
ACCOUNTS = 10_000  # remembered
CONTAINER = {"connections": 200, "requests": 100}  # of one, whosever it is


class Account:
    """Count what one caller takes.

    Invariant: `_level` is how many requests may come now, at `_since`; below 0 so many wait for their turn.
    """

    def __init__(self, now: float) -> None:
        self.connections = self._held = self._unsaid = 0
        self._since, self._told = now, now - QUIET
        self._bounds: Mapping[str, object] = {}
        self._at, self._who = "", ""
        self._level = float("inf")

    def bind(self, who: str, bounds: Mapping[str, object], at: str) -> None:
        """Take the bounds of now; they may have changed since the last connection."""
        rate = bounds["requests"]
        full = float("inf") if rate is None else float(str(rate)) * BURST
        self._level = full if self._level == float("inf") or not self._bounds else min(self._level, full)
        self._who, self._bounds, self._at = who, bounds, at

    def seat(self) -> Seat:
        """Count one more connection; see `Seat.leave`."""
        self.connections += 1
        most = self._bounds["connections"]
        over = self.connections / most if isinstance(most, int) else 0.0
        return Seat(self, over > 1, over > 2)

    def refuse_connection(self) -> Crowded:
        """Say why a connection is not served."""
        return Crowded(f"{self._who} may have {self._bounds['connections']} connections at once: close some", self._at)

    def turn(self, now: float) -> float:
        """Take a request's turn: tell how many seconds it has to wait for it.

        Raises:
            Crowded: longer than PATIENCE.
        """
        rate = self._bounds["requests"]
        if not isinstance(rate, int):
            return 0.0
        self._level = min(self._level + (now - self._since) * rate, rate * BURST) - 1
        self._since = now
        if self._level >= 0:
            return 0.0
        if (wait := -self._level / rate) <= PATIENCE:
            return wait
        self._level += 1
        raise Crowded(f"{self._who} may ask {rate} times a second: ask again a little later", self._at)

    def lend(self, most: int) -> int:
        """Take turns beforehand: a quarter of those left at most, so that the caller's other connections find some."""
        turns = int(min(most, max(0.0, self._level / 4)))
        self._level -= turns
        return turns

    def give_back(self, turns: int) -> None:
        """Give turns back that were not used."""
        self._level += turns

    def hold(self, more: int) -> None:
        """Count bytes that are held, or (negative) no longer.

        Raises:
            Crowded: too many; they are counted all the same, until they are given back.
        """
        self._held += more
        if more > 0 and self._held > LARGE:
            raise Crowded(f"{self._who} may have {LARGE >> 20} MiB of requests and answers under way at once", self._at)

    def tells(self, now: float) -> int | None:
        """Tell whether a refusal is to be recorded, and if so, of how many more it speaks."""
        if now - self._told < QUIET:
            self._unsaid += 1
            return None
        self._told, unsaid, self._unsaid = now, self._unsaid, 0
        return unsaid


class Seat(NamedTuple):
    """Hold one connection's place in its caller's account.

    Attributes:
        crowded: there were as many connections as the rule says: it is refused, in words.
        flooded: there is no room even for that.
    """

    account: Account
    crowded: bool
    flooded: bool

    def leave(self) -> None:
        """Give the place back."""
        self.account.connections -= 1


class Traffic:
    """Keep the accounts."""

    def __init__(self) -> None:
        self._accounts: dict[object, Account] = {}

    def enter(self, process: Peer, policy: Policy, now: float) -> Seat:
        """Give a new connection its place."""
        who = caller.from_process(process)
        rules = policy.rules_of(who) if not who.trouble else None
        key: object
        if rules is not None:
            key, words = who.uid, f"user {who.user}"
            value, at = rules["traffic"]
            bounds = value if isinstance(value, dict) else LEAST_TRAFFIC
        elif who.trouble == caller.IN_CONTAINER:
            # Only root can put a process of root's there; another's may be in a cgroup that is only called so.
            key = process.containers[0] if process.uid == 0 else f"uid {process.uid} in containers"
            words, bounds, at = "the processes of a container", CONTAINER, ""
        elif who.user:
            key, words, bounds, at = who.uid, f"user {who.user}, who has no role,", LEAST_TRAFFIC, ""
        else:
            key, words, bounds, at = None, "all who are not known together", LEAST_TRAFFIC, ""
        account = self._accounts.get(key)
        if account is None:
            if len(self._accounts) >= ACCOUNTS:
                self._accounts = {key: account for key, account in self._accounts.items() if account.connections}
            account = self._accounts[key] = Account(now)
        account.bind(words, bounds, at)
        return account.seat()
