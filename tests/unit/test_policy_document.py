"""The reader of configuration files: texts with places, and nothing of YAML's surprises."""

from __future__ import annotations

from pathlib import Path

import pytest

from sockproxy.errors import ConfigError
from sockproxy.policy.document import DEEPEST, LARGEST, Mapping, Node, Scalar, Sequence, did_you_mean, parse, read


def plain(node: Node | None) -> object:
    if isinstance(node, Mapping):
        return {key: plain(value) for key, (_, value) in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return node.text if isinstance(node, Scalar) else None


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "--- # x\n", "\ufeff"])
def test_a_file_that_says_nothing(text: str) -> None:
    assert parse(text.encode(), "f") is None


@pytest.mark.parametrize(
    "word", ["no", "on", "22:22", "1e3", "0x10", "010", "1_000", ".5", "2024-01-01", "null", "~", "=", "<<", "True"]
)
def test_a_value_stays_the_text_it_is(word: str) -> None:
    assert plain(parse(f"key: {word}\n".encode(), "f")) == {"key": word}


def test_each_part_knows_its_place() -> None:
    top = parse(b"# first\nroles:\n  dev: {binds: [ '/srv' ]}\n", "dir/p.yaml")
    assert isinstance(top, Mapping)
    roles = top.get("roles")
    assert isinstance(roles, Mapping)
    key, dev = roles.entries["dev"]
    assert (key.line, key.column, key.at) == (3, 3, "dir/p.yaml:3")
    assert isinstance(dev, Mapping)
    binds = dev.get("binds")
    assert isinstance(binds, Sequence)
    assert (binds.items[0].line, binds.items[0].column) == (3, 18)
    assert str(binds.items[0].error("this", "that")) == "dir/p.yaml:3:18: this, expected that"


def test_quotes_and_styles_give_the_same_text() -> None:
    assert plain(parse(b"a: 'x y'\nb: \"x y\"\nc: x y\nd: x\n  y\n", "f")) == dict.fromkeys("abcd", "x y")


MISTAKES = [
    ("a: 1\na: 2", "f:2:1: `a` for the second time, expected one key a, as in line 1"),
    ("{a: 1, 'a': 2}", 'f:1:8: "a" for the second time, expected one key a, as in line 1'),
    ("1: a", "f:1:1: `1` as a key, expected a word as key (in quotes, if it is meant as a word)"),
    ("no: a", "f:1:1: `no` as a key, expected a word as key (in quotes, if it is meant as a word)"),
    ("<<: {a: b}", "f:1:1: `<<` as a key, expected a word as key (in quotes, if it is meant as a word)"),
    ("'': a", 'f:1:1: "" as a key, expected a word as key (in quotes, if it is meant as a word)'),
    ("?\n: a", "f:1:2: nothing as a key, expected a word as key (in quotes, if it is meant as a word)"),
    ("? [a]\n: b", "f:1:3: a list as a key, expected a word as key"),
    ("? {a: b}\n: b", "f:1:3: a map as a key, expected a word as key"),
    ("a: &x 1", "f:1:4: an anchor, expected maps, lists and scalars only"),
    ("a: &x [1]", "f:1:4: an anchor, expected maps, lists and scalars only"),
    ("a: *x", "f:1:4: an alias, expected maps, lists and scalars only"),
    ("a: !!str 1", "f:1:4: a tag, expected maps, lists and scalars only"),
    ("a: ! 1", "f:1:4: a tag, expected maps, lists and scalars only"),
    ("!!python/object:os.system {}", "f:1:1: a tag, expected maps, lists and scalars only"),
    ("%YAML 1.1\n---\na: b", "f:1:1: a directive, expected maps, lists and scalars only"),
    ("%TAG ! tag:x,1:\n---\na: b", "f:1:1: a directive, expected maps, lists and scalars only"),
    ("a: b\n---\nc: d", "f:2:1: a second document, expected maps, lists and scalars only"),
    ("a: b\n---\n", "f:2:1: a second document, expected maps, lists and scalars only"),
    ("[" * (DEEPEST + 1), f"f:1:{DEEPEST + 1}: nested too deep, expected at most {DEEPEST} levels"),
    ("- " * 5000, f"f:1:{2 * DEEPEST + 1}: nested too deep, expected at most {DEEPEST} levels"),
    ('a: "b\\n"', "f:1:4: a control character or line break inside a text, expected printable text on one line"),
    ("a: |\n  b\n", "f:1:4: a control character or line break inside a text, expected printable text on one line"),
    ('a: "\\e[31m"', "f:1:4: a control character or line break inside a text, expected printable text on one line"),
    ('a: "\\ud800"', "f:1:4: a control character or line break inside a text, expected printable text on one line"),
    ("a: b\u202ec", "f:1:4: a control character or line break inside a text, expected printable text on one line"),
    ("a:\n  \x00", "f:2:3: the character U+0000, expected printable text"),
    ("a: b: c", "f:1:5: mapping values are not allowed here, expected YAML"),
    (
        "\ta: b",
        "f:1:1: found character '\\t' that cannot start any token, while scanning for the next token, expected YAML",
    ),
    ("a: [b", "f:1:6: expected ',' or ']', but got '<stream end>', while parsing a flow sequence, expected YAML"),
    ("a: 'b", "f:1:6: found unexpected end of stream, while scanning a quoted scalar, expected YAML"),
    (
        "a: @b",
        "f:1:4: found character '@' that cannot start any token, while scanning for the next token, expected YAML",
    ),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_pointed_at(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text.encode(), "f")
    assert str(error.value) == message


@pytest.mark.parametrize("text", ['a: "\\U00110000"', "%YAML 1." + "1" * 5000 + "\n---\n"])
def test_what_makes_pyyaml_stumble_is_a_mistake_too(text: str) -> None:
    with pytest.raises(ConfigError, match="something unreadable after this"):
        parse(text.encode(), "f")


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(ConfigError) as error:
        parse("é: 1\nab: ".encode() + b"\xff", "f")
    assert str(error.value) == "f:2:5: bytes that are not UTF-8, expected UTF-8"


def test_a_file_may_be_as_large_as_the_limit() -> None:
    assert parse(b"#" * LARGEST, "f") is None
    with pytest.raises(ConfigError) as error:
        parse(b"#" * (LARGEST + 1), "f")
    assert str(error.value) == f"f: the file is too large, expected at most {LARGEST} bytes"


def test_a_large_file_is_not_read_to_its_end() -> None:
    assert len(read("/dev/zero")) == LARGEST + 1


@pytest.mark.parametrize(
    ("name", "why"), [("none", "No such file or directory"), ("", "Is a directory"), ("a\0b", "null")]
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"{why}.*, expected a file that can be read"):
        read(f"{tmp_path}/{name}")


def test_long_texts_are_cut_in_messages() -> None:
    node = Scalar("f", 1, 1, "x" * 100, True)
    assert node.what == "`" + "x" * 61 + "...`"


def test_suggestions() -> None:
    assert did_you_mean("ContainerLst", ["ContainerList", "ImageList"]) == " (did you mean ContainerList?)"
    assert did_you_mean("zzz", ["ContainerList"]) == ""
