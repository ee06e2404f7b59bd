"""Whatever is in the file: a policy that the helpers load, or a ConfigError that points into the file."""

from __future__ import annotations

from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sockproxy import paths
from sockproxy.errors import ConfigError
from sockproxy.policy.compile import compile_text, dump
from sockproxy.policy.document import parse
from sockproxy.policy.schema import RULES
from sockproxy_helpers.api import operations
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system.caller import Caller

VALID = Path(paths.config_dir(), "sockproxy.example.yaml").read_text()
PIECES = [
    *"[]{}:,-?&*!|>'\"%@`#\n\t ~=",
    *(
        "version: 1\n",
        "bindings:\n",
        "roles:\n",
        "  developer:\n",
        "    extends: developer\n",
        "- {user: a, role: ci}\n",
        "null",
        "true",
    ),
    *(
        "\n---\n",
        "...\n",
        "&a",
        "*a",
        "!!str",
        "<<: ",
        "? ",
        '"\\U00110000"',
        '"\\ud800"',
        "\x00",
        "\ufeff",
        "\x85",
        "\u2028",
        "1e999",
    ),
    *(f"    {name}: " for name in RULES),
]


def check(untrusted_text: bytes) -> None:
    try:
        text = dump(compile_text(untrusted_text, "p.yaml"))
    except ConfigError as error:
        line, message = error.line, str(error)
    else:
        Policy(text)
        return
    assert 0 <= line <= len(untrusted_text.decode(errors="replace").splitlines()) + 1
    assert message.startswith("p.yaml:")
    assert message.isprintable()


@given(st.binary(max_size=200))
def test_bytes(text: bytes) -> None:
    check(text)


@given(st.text(max_size=200))
@example('a: "\\U00110000"')
@example('? "\\ud800"\n: b')
def test_text(text: str) -> None:
    check(text.encode("utf-8", "surrogatepass"))


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=40))
def test_pieces_of_yaml(pieces: list[str]) -> None:
    check("".join(pieces).encode("utf-8", "surrogatepass"))


@settings(max_examples=60)
@given(st.integers(0, len(VALID)), st.integers(0, 12), st.sampled_from(PIECES) | st.text(max_size=6))
def test_a_valid_file_with_a_piece_replaced(start: int, length: int, piece: str) -> None:
    check((VALID[:start] + piece + VALID[start + length :]).encode("utf-8", "surrogatepass"))


WORDS = st.sampled_from(
    ["a", "1", "no", "ci", "8g", "ContainerList", "{home}", "/srv", "null", "true", "user", "role", "extends"]
)
TREES = st.recursive(
    WORDS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.sampled_from(sorted(RULES)), inner, max_size=4)
    ),
    max_leaves=12,
)


def write(tree: object) -> str:
    """Write a tree in YAML's flow style; texts in double quotes or plain, as they come."""
    if isinstance(tree, list):
        return "[" + ", ".join(map(write, tree)) + "]"
    if isinstance(tree, dict):
        return "{" + ", ".join(f'"{key}": {write(value)}' for key, value in tree.items()) + "}"
    return str(tree) if str(tree).isalnum() else '"' + str(tree).replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(TREES, TREES)
def test_trees_of_the_wrong_shape(roles: object, bindings: object) -> None:
    check(f"version: 1\nroles: {write(roles)}\nbindings: {write(bindings)}\n".encode("utf-8", "surrogatepass"))


@given(st.dictionaries(st.sampled_from(sorted(RULES)), TREES, max_size=4))
def test_rules_of_the_wrong_shape(rules: dict[str, object]) -> None:
    check(f"version: 1\nroles: {{r: {write(rules)}}}\n".encode("utf-8", "surrogatepass"))


NAMES = [operation.name for operation in operations.load() if operation.tag != "BuildKit"]


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(["user", "group"]), st.sampled_from("abcd"), st.sampled_from(["viewer", "ci"])),
        max_size=12,
    ),
    st.sampled_from("abcd"),
    st.lists(st.sampled_from("abcd"), max_size=3),
)
def test_the_first_match_wins(bindings: list[tuple[str, str, str]], user: str, groups: list[str]) -> None:
    text = (
        "version: 1\nbindings: [" + ", ".join(f"{{{who}: {name}, role: {role}}}" for who, name, role in bindings) + "]"
    )
    policy = Policy(dump(compile_text(text.encode(), "p.yaml")))
    expected = next((role for who, name, role in bindings if name in ([user] if who == "user" else groups)), None)
    found = policy.role_of(Caller(1, 1, 1, user, groups, "/"))
    assert (found and found[1]) == expected


@settings(max_examples=40)
@given(st.lists(st.sampled_from(NAMES)), st.lists(st.sampled_from(NAMES)))
def test_a_role_allows_what_is_allowed_and_not_denied(allow: list[str], deny: list[str]) -> None:
    text = f"version: 1\nroles: {{r: {{allow: [{', '.join(allow)}], deny: [{', '.join(deny)}]}}}}"
    names = compile_text(text.encode(), "p.yaml")["roles"]["r"]["operations"]
    always = {"SystemOptions", "SystemPing", "SystemPingHead"}
    assert set(names) == (always | set(allow)) - set(deny)


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=20))
def test_a_quoted_text_is_itself(text: str) -> None:
    node = parse(write([text + "\u00e9 x"]).encode(), "f")
    assert node is not None
    assert node.items[0].text == text + "\u00e9 x"  # type: ignore[attr-defined]
