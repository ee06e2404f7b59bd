"""strict.parse takes exactly one JSON value that no other reader could read differently."""

from __future__ import annotations

import pytest

from sockproxy_helpers.api import strict
from sockproxy_helpers.errors import Malformed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"null", None),
        (b' \t\r\n{"a": [1, -2, true, "\xc3\xa9", {}]} ', {"a": [1, -2, True, "é", {}]}),
        (b'{"a": 1, "A": 2}', {"a": 1, "A": 2}),  # labels: the model judges case
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"0.5", 0.5),
        (b"[" * 32 + b"]" * 32, None),
    ],
)
def test_reads(text: bytes, value: object) -> None:
    parsed = strict.parse(text)
    assert value is None or parsed == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{}{}", "Extra data"),
        (b"{} x", "Extra data"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": 1, "a": 2}', 'the key "a" twice'),
        (b'{"HostConfig": {"Privileged": true}, "HostConfig": {}}', "twice"),
        (b'{"a": 1, "\\u0061": 2}', "twice"),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"9223372036854775808", "out of range"),
        (b"1" * 5000, "out of range"),
        (b"1e999", "out of range"),
        (b"0." + b"1" * 100, "out of range"),
        (b"01", "Extra data"),
        (b'"\\u0000"', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'"\\ud800"', "surrogate"),
        (b'"\n"', "not JSON"),
        (b"[" * 33 + b"]" * 33, "deeper"),
        (b"[" * 40_000, "deeper"),
        (b'{"a":' * 40_000, "deeper"),
        (b" " * (strict.LARGEST + 1), "more than"),
        (b"[" + b"{}," * 50_000 + b"{}]", "50000 values"),
        (b"'a'", "not JSON"),
        (b"[1,]", "not JSON"),
    ],
)
def test_refuses(text: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        strict.parse(text)


@pytest.mark.parametrize("value", [{"a": 1, "A": 2}, [{"\u017f": 1}], {"a": {"K": 1, "k": 2}}])
def test_unmodelled_keys_must_not_fold(value: object) -> None:
    with pytest.raises(Malformed, match="case"):
        strict.unfolded(value)


def test_shows_words_in_ascii() -> None:
    assert strict.show("a\n\u017f") == '"a\\n\\u017f"'
    assert len(strict.show("x" * 1000)) < 100
