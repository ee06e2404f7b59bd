"""Read the moment that the filter `until` stands for, as the daemon reads it (moby's GetTimestamp)."""

from __future__ import annotations

import re
import time

from sockproxy_helpers.errors import Malformed
from .strict import show

_UNITS = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = rf"([0-9]{{1,15}}\.?[0-9]{{0,15}}|\.[0-9]{{1,15}})({'|'.join(sorted(_UNITS, key=len, reverse=True))})"
_DURATION = re.compile(f"([+-]?)((?:{_PART}){{1,20}})")  # Go's time.ParseDuration
_UNIX = re.compile(r"\+?([0-9]{1,15}(?:\.[0-9]{1,9})?)")
_TIME = r"T([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(\.[0-9]{1,9})?)?)?"
_DATE = re.compile(rf"([0-9]{{4}})-([0-9]{{2}})-([0-9]{{2}})(?:{_TIME})?(Z|[+-](?:[01][0-9]|2[0-4]):[0-5][0-9])?")


def until(text: str, now: float) -> float:
    """Give the seconds since 1970 of a duration before now, a Unix time, or a date; without a zone it is the host's.

    Raises:
        Malformed: it is none of them.
    """
    if (found := _DURATION.fullmatch(text)) and text != "0":
        seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, found[2]))
        return float((now + seconds if found[1] == "-" else now - seconds) // 1)
    if found := _UNIX.fullmatch(text):
        return float(found[1])
    if not (found := _DATE.fullmatch(text)):
        raise Malformed(f"failed to parse value as time or duration: {show(text)}")
    *words, fraction, zone = found.groups()
    fields = tuple(int(word or 0) for word in words)
    if time.gmtime(seconds := _since_1970(*fields))[:6] != fields:
        raise Malformed(f"{show(text)} is no date")
    offset = 0 if zone == "Z" else int(f"{zone[0]}1") * (int(zone[1:3]) * 3600 + int(zone[4:]) * 60) if zone else None
    return seconds - (time.localtime(now).tm_gmtoff if offset is None else offset) + float(fraction or 0)


def _since_1970(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    """Count the seconds of the Gregorian calendar; years begin in March, so that February's end needs no rule."""
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 1
    return (days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second
