"""Carry a fault from one process to another: as a reply, and back."""

from __future__ import annotations

from .errors import Malformed, NotFound, Refused, Unavailable

Fault = Refused | Malformed | NotFound | Unavailable
FAULTS = (Refused, Malformed, NotFound, Unavailable)


def fault(error: Fault) -> dict[str, object]:
    """Form the reply that says why a call does not go on."""
    return {"error": error.status, "message": str(error), "at": error.at if isinstance(error, Refused) else ""}


def fault_of(reply: dict[str, object]) -> Fault:
    """Turn a sibling's reply back into the fault that it was."""
    why, at = str(reply.get("message")), str(reply.get("at", ""))
    faults: dict[int, Fault] = {403: Refused("", why, at=at), 400: Malformed(why), 404: NotFound(why)}
    status = reply.get("error")
    return faults.get(status if isinstance(status, int) else 0, Unavailable(why))
