"""Say whose fault an end of a call is by a type; each maps to one HTTP status, and none of them to a forwarded call."""

from __future__ import annotations


class Refused(Exception):
    """Report that the policy forbids what was asked (403).

    Attributes:
        field: what was asked for, as the Engine API writes it ("HostConfig.Privileged", "?fromSrc"); "" when it is
            the call as a whole.
        why: a sentence for the person who asked.
        rule, at: the rule that decided and its FILE:LINE; "" when no rule can be changed to allow it.
    """

    status = 403

    def __init__(self, field: str, why: str, rule: str = "", at: str = "") -> None:
        super().__init__(f"{field}: {why}" if field else why)
        self.field, self.why, self.rule, self.at = field, why, rule, at


class Crowded(Refused):
    """Report that the caller has as many calls under way as the policy allows (429)."""

    status = 429


class BadPolicy(Refused):
    """Report a compiled policy that is not in its exact shape: a refusal, so that catching too little still denies."""

    def __init__(self, why: str) -> None:
        super().__init__("", f"the compiled policy is damaged: {why}")


class Malformed(Exception):
    """Report a request that no client of the Engine API sends (400)."""

    status = 400


class NotFound(Exception):
    """Report an object that does not exist, or that the caller may not see: nobody can tell which (404)."""

    status = 404


class Unavailable(Exception):
    """Report that something needed for the call is gone: the daemon (502), or the record or a helper (503)."""

    def __init__(self, why: str, status: int = 502) -> None:
        super().__init__(why)
        self.status = status
