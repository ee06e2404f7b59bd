"""What a Dockerfile names, as the classic builder reads it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy_helpers.content import dockerfile
from sockproxy_helpers.errors import Malformed


def named(text: str, target: str = "", **arguments: str) -> list[str]:
    """List the images that are named; each must stand where it is said to, or have a variable in it."""
    found = dockerfile.references(text, arguments, target)
    for one in found:
        assert text[one.first : one.last] == one.text or "$" in text[one.first : one.last]
    return [one.text for one in found if not one.is_stage()]


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("FROM a", ["a"]),
        ("\ufeffFROM a\r\nRUN x\r\n", ["a"]),
        ("# FROM a\n  from \t b:1  AS  X\nFROM x\nFROM scratch\n", ["b:1"]),
        ("FROM a AS x\nCOPY --from=x . .\nCOPY --from=0 . .\nCOPY --from=1 . .\n", ["a", "1"]),
        ("FROM a\nCOPY --from=b@sha256:1 --chown=1 . .\n", ["a", "b@sha256:1"]),
        ("FROM 0 AS x\nFROM 0\n", ["0", "0"]),
        ("FROM a\nCOPY --from=late . .\nFROM b AS late\n", ["a", "late", "b"]),
        ("FROM a\nONBUILD COPY --from=b . .\nonbuild add --from=c . .\n", ["a", "b", "c"]),
        ("FROM \\\n# x\n\n   a \\  \n AS y\nCOPY \\\n --from=z . .\n", ["a", "z"]),
        ("FROM a\nRUN echo \\\n # FROM b \\\n FROM c\nFROM d\n", ["a", "d"]),
        ("FROM a\nRUN x\\\\y\nRUN echo --from=b; FROM c\nCOPY [\"--from=x\", \"y\"]\nCOPY a --from=b c\n", ["a"]),
        ("ARG A=1 B=\"x$A\" C='q'\nARG D\nFROM ${A}$B${C}-${D:-d}${D:+no}\nARG E=$F\n", ["1x1q-d"]),
        ("ARG A=b\nFROM $A", ["b"]),
        ("ARG A\nFROM x${A}", ["x"]),
        ("FROM a\nCOPY --from= . .\n", ["a"]),
    ],
)  # fmt: skip
def test_names(text: str, images: list[str]) -> None:
    assert named(text) == images


def test_build_arguments() -> None:
    text = "ARG A=b\nARG B\nFROM $A:${B}\nARG C\nFROM x$C\n"
    assert named(text, A="c", B="1", C="no") == ["c:1", "x"]
    assert named("FROM x$A", A="undeclared") == ["x"]


def test_a_target() -> None:
    text = "FROM a AS One\nFROM b AS two\nFROM c\n"
    assert named(text, "one") == ["a"]
    assert named(text, "ONE") == ["a"]
    assert named(text, "1") == ["a", "b"]
    assert named(text, "other") == named(text) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "text",
    [
        "FROM",
        "FROM a b",
        "FROM a AS",
        "FROM a OR b",
        "FROM a AS b c",
        "FROM a\\\nb",
        "FROM $a$(b)",
        "FROM ${a#b}",
        'FROM "a"',
        "FROM 'a'",
        "FROM a\\$b",
        "FROM ${a:-$b}",
        "FROM ${a",
        'FROM a\nCOPY --from="b" . .',
        "FROM a\nCOPY --fr\\om=b . .",
        "FROM a\nCOPY --fr\\\nom=b . .",
        "FROM a\nCOPY --from=b\\\nc . .",
        "FROM a\nCOPY --from=b --from=c . .",
        "# escape=`\nFROM a",
        "#Escape = `\nFROM a",
        "FROM a\nRUN <<EOF\nEOF",
        'FROM a\nCOPY 3<<-"x" /',
        "FROM a\nRUN x \\\\\nFROM b",
        "FROM a\n\vRUN x",
        "FROM a\n\u00a0FROM b",
        "FROM a\n\u2003FROM b",
        "FROM a\rFROM b",
        "FROM\0a",
        "FROM a\nONBUILD FROM b",
        "FROM a\nONBUILD ONBUILD RUN x",
        "ARG 1=2\nFROM a",
        'ARG A="x\nFROM a',
        'ARG A=`x`"\nFROM a',
        "FROM a\nRUN " + "x" * 70_000,
        'FROM --platform=$X"y" a',
    ],
)
def test_what_is_read_in_two_ways(text: str) -> None:
    with pytest.raises(Malformed):
        named(text)


PARTS = ["FROM ", "a", "\n", "\\\n", "COPY --from=", "b", " AS ", "#", " ", "ARG ", "=", "$", "{", "}", "0", "\t"]


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [
                "FROM ",
                "a",
                "\n",
                "\\\n",
                "COPY --from=",
                "b",
                " AS ",
                "c",
                "#",
                " ",
                "ARG ",
                "=",
                "$",
                "{",
                "}",
                "0",
                "\t",
            ]
        ),
        max_size=25,
    )
)
def test_any_text(parts: list[str]) -> None:
    """It is refused, or each name stands where it is said to."""
    try:
        named("".join(parts))
    except Malformed:
        pass


def test_a_dockerfile_has_bounds() -> None:
    """Each of its characters is read by the helper, in which nobody else is served: see test_costs."""
    with pytest.raises(Malformed, match="characters"):
        dockerfile.references("FROM a\n" + "#" * dockerfile.LARGEST, {})
    stages = "FROM a\n" * dockerfile.MOST_STAGES
    assert len(dockerfile.references(stages, {})) == dockerfile.MOST_STAGES
    with pytest.raises(Malformed, match="stages"):
        dockerfile.references(stages + "FROM a\n", {})
