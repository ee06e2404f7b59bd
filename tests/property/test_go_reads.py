"""What Go would read of a body is what the model judged, or the body was refused.

The reader of tests/support/gojson.py stands for Go; that it is right is measured at real daemons in tests/threats.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy_helpers.api import strict
from sockproxy_helpers.api.fields import Field
from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.judge import model
from sockproxy_helpers.judge.walk import Walk
from tests.support.gojson import GoError, meaning, plain, read, scan
from tests.support.judging import ADMIN, OPERATIONS, context, judge

CORPUS = [
    (item["operation"], item["body"])
    for path in Path(__file__).parents[1].glob("corpus/*.json")
    for item in json.loads(path.read_text())
    if isinstance(item["body"], dict) and item["body"]
]
# What a table says, without its rules: anything that its kinds let through is kept.
OTHERS = [
    '{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/a","TmpfsOptions":{"Options":[["a"]]}}]}}',
    '{"HostConfig":{"Privileged":true,"Binds":["/:/h"],"CapAdd":"ALL","Init":true,"PidsLimit":1,"Sysctls":{"a.b":"c"}}}',
]
CORPUS += [("ContainerCreate", json.loads(text)) for text in OTHERS]


def without_rules(*tables: dict[str, Field]) -> dict[str, Field]:
    """Join the tables of the scopes, their rules left out."""
    found: dict[str, Field] = {}
    for name in {name for table in tables for name in table}:
        rows = [table[name] for table in tables if name in table]
        found[name] = Field(rows[0].kind, "free", None, always=False)
        found[name].children = without_rules(*(row.children for row in rows))
    return found


FIELDS = {
    operation: without_rules(*(table[operation].body for table in model.TABLES.values() if operation in table))
    for operation in {operation for operation, _ in CORPUS}
}


def spell(value: Any, chance: random.Random) -> str:
    """Write JSON as an attacker would: other letters, escapes, keys twice, null before and behind, odd numbers."""
    if isinstance(value, dict):
        pairs = [(key, spell(item, chance)) for key, item in value.items()]
        if pairs and chance.random() < 0.15:
            key, _ = chance.choice(pairs)
            other = chance.choice(["null", "{}", "[]", '""', "0", "true", spell(value[key], chance)])
            pairs.insert(chance.randrange(len(pairs) + 1), (key, other))
        if chance.random() < 0.05:
            pairs.append((chance.choice(["Privileged", "Binds", "HostConfig", "X", "", "a\nb"]), "true"))
        return "{" + ", ".join(f"{_key(key, chance)}:{text}" for key, text in pairs) + "}"
    if isinstance(value, list):
        items = [spell(item, chance) for item in value]
        if chance.random() < 0.05:
            items.insert(chance.randrange(len(items) + 1), chance.choice(["null", "1", "{}"]))
        return "[" + ",".join(items) + "]"
    if chance.random() < 0.02:
        return nested(chance.randint(1, 2 * strict.DEEPEST), chance)
    if chance.random() < 0.04:
        return chance.choice(
            ["null", "1e2", "1.0", "-0", "00", "1E400", "99999999999999999999", "NaN", '"1"', "tru", "[[]]"]
        )
    return _quoted(value, chance) if isinstance(value, str) else json.dumps(value)


def nested(depth: int, chance: random.Random) -> str:
    """Write lists and objects in one another."""
    pairs = chance.choices([("[", "]"), ('{"Env":', "}"), ('{"a":null,"HostConfig":', "}")], k=depth - 1)
    return "".join(first for first, _ in pairs) + "[]" + "".join(last for _, last in reversed(pairs))


def _key(key: str, chance: random.Random) -> str:
    if chance.random() < 0.06:
        changes = [str.lower, str.upper, str.swapcase, lambda text: text.replace("s", "\u017f").replace("k", "\u212a")]
        key = chance.choice(changes)(key)
    return _quoted(key, chance)


def _quoted(text: str, chance: random.Random) -> str:
    if text and chance.random() < 0.1:
        at = chance.randrange(len(text))
        letter = f"\\u{ord(text[at]):04x}" if ord(text[at]) < 0x10000 else text[at]
        return (
            json.dumps(text[:at], ensure_ascii=False)[:-1] + letter + json.dumps(text[at + 1 :], ensure_ascii=False)[1:]
        )
    return json.dumps(text, ensure_ascii=chance.random() < 0.5)


def around(text: str, chance: random.Random) -> bytes:
    """Put something around a body, now and then."""
    data = text.encode(errors="surrogatepass")
    if chance.random() < 0.1:
        blank = b" \t\r\n"[chance.randrange(4) :][:1] * (strict.LARGEST - len(data) + chance.randint(-1, 1))
        data = chance.choice(
            [
                blank + data,
                data + blank,
                b"\xef\xbb\xbf" + data,
                data + b" {}",
                data + b"\0",
                b"\n" + data + b"\t",
                data + b",",
                data[:-1],
            ]
        )
    if chance.random() < 0.03 and data:
        at = chance.randrange(len(data))
        data = (
            data[:at] + chance.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\\ud800", b"\r", b"/**/"]) + data[at:]
        )
    return data


@settings(max_examples=1500)
@given(st.sampled_from(CORPUS), st.integers(0, 2**64).map(random.Random))
def test_what_is_kept_is_what_go_reads(request: tuple[str, Any], chance: random.Random) -> None:
    operation, body = request
    data = around(spell(body, chance), chance)
    try:
        kept = Walk(context(ADMIN, operation)).fields(FIELDS[operation], strict.parse(data), "")
    except (Malformed, Refused):
        return
    assert meaning(read(FIELDS[operation], data)) == meaning(kept)


@settings(max_examples=300)
@given(st.integers(1, 2 * strict.DEEPEST), st.integers(0, 2**64).map(random.Random))
def test_depth_ends_where_it_is_said_to(depth: int, chance: random.Random) -> None:
    data = nested(depth, chance).encode()
    if depth > strict.DEEPEST:
        with pytest.raises(Malformed, match=f"deeper than {strict.DEEPEST}"):
            strict.parse(data)
    else:
        assert strict.parse(data) == json.loads(data) == plain(scan(data.decode()))


@pytest.mark.parametrize("depth", [5_000, 10_000, 200_000])
def test_however_deep_it_is_malformed(depth: int) -> None:
    """Go gives up at 10,000; nothing of ours may give up otherwise."""
    for first, last in (("[", "]"), ('{"HostConfig":', "}")):
        with pytest.raises(Malformed, match=r"deeper than|more than|not JSON"):
            strict.parse((first * depth + "1" + last * depth).encode()[: strict.LARGEST + 9])


@settings(max_examples=100)
@given(st.sampled_from(CORPUS), st.integers(-2, 2), st.integers(0, 3), st.booleans())
def test_size_ends_where_it_is_said_to(request: tuple[str, Any], beyond: int, kind: int, before: bool) -> None:
    """Padding counts, wherever it stands: what is cut off nobody reads."""
    data = json.dumps(request[1]).encode()
    blank = b" \t\r\n"[kind : kind + 1] * (strict.LARGEST - len(data) + beyond)
    whole = blank + data if before else data + blank
    if beyond > 0:
        with pytest.raises(Malformed, match=f"more than {strict.LARGEST} bytes"):
            strict.parse(whole)
    else:
        assert strict.parse(whole) == request[1]


@settings(max_examples=50)
@given(st.integers(strict.MOST - 3, strict.MOST + 3), st.booleans())
def test_values_end_where_it_is_said_to(count: int, keyed: bool) -> None:
    items = [f'"{number}":0' if keyed else "0" for number in range(count)]
    data = ("{" + ",".join(items) + "}" if keyed else "[" + ",".join(items) + "]").encode()
    if count > strict.MOST:
        with pytest.raises(Malformed, match=f"more than {strict.MOST} values"):
            strict.parse(data)
    else:
        assert len(strict.parse(data)) == count  # type: ignore[arg-type]


@settings(max_examples=500)
@given(st.sampled_from(CORPUS), st.integers(0, 2**64).map(random.Random), st.booleans())
def test_what_is_sent_reads_as_it_was_judged(request: tuple[str, Any], chance: random.Random, admin: bool) -> None:
    operation, body = request
    try:
        parsed = strict.parse(around(spell(body, chance), chance))
        _, sent = judge(operation, parsed, **({"rules": ADMIN} if admin else {}))
    except (Malformed, Refused):
        return
    text = json.dumps(sent, separators=(",", ":")).encode()  # as approve.py writes it
    assert meaning(read(FIELDS[operation], text)) == meaning(sent)


# What Go reads from each, and Python's json does not.
DIFFERENT = [
    '{"HostConfig":{"Privileged":true},"HostConfig":{}}',
    '{"HostConfig":{"Privileged":true},"hostconfig":{}}',
    '{"HostConfig":{"Privileged":true,"Privileged":null}}',
    '{"HostConfig":{"privileged":true}}',
    '{"Ho\u017ftConfig":{"Privileged":true}}',
    '{"Ho\\u017FtConfig":{"Privileged":true}}',
    '{"HostConfig":{"Privileged":true}} {"HostConfig":{}}',
    '{"HostConfig":{"Privileged":true}}]',
]


@pytest.mark.parametrize("text", DIFFERENT)
def test_what_only_go_reads_is_refused(text: str) -> None:
    assert read(FIELDS["ContainerCreate"], text.encode(), trailing=True)["HostConfig"] == {"Privileged": True}
    with pytest.raises((Malformed, Refused)):
        judge("ContainerCreate", strict.parse(text.encode()), rules=ADMIN)


def test_go_error_is_an_error_here() -> None:
    for text in (
        "",
        "{",
        '{"a" 1}',
        '{"a":1,}',
        "[1,]",
        '{"a":01}',
        '{"a":"\\x"}',
        '{"a":"\x01"}',
        '{"Image":1}',
        "nul",
        "{}x",
    ):
        with pytest.raises(GoError):
            read(FIELDS["ContainerCreate"], text.encode())
        with pytest.raises((Malformed, Refused)):
            judge("ContainerCreate", strict.parse(text.encode()), rules=ADMIN)
    assert OPERATIONS.keys() >= FIELDS.keys()
