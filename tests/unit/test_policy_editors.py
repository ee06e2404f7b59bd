"""The JSON Schema for editors: it takes what the loader takes, and refuses what the loader refuses, where it can."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sockproxy import cli, paths
from sockproxy.errors import ConfigError
from sockproxy.policy.compile import compile_text
from sockproxy.policy.document import Mapping, Node, Scalar, Sequence, parse
from sockproxy.policy.editors import schema
from sockproxy.policy.schema import RULES
from tests.unit.test_policy_schema import BAD, GOOD

VALIDATOR = Draft202012Validator(schema())
FILES = [path for path in sorted(Path(paths.config_dir()).glob("*.yaml")) if path.name != "schema.yaml"]


def plain(node: Node | None) -> Any:
    """Read a document as an editor does (YAML 1.2)."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, (_, value) in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    if not isinstance(node, Scalar) or node.is_null or not (node.text or not node.plain):
        return None
    if not node.plain:
        return node.text
    if node.text in ("true", "false"):
        return node.text == "true"
    if re.fullmatch(r"[-+]?[0-9]+", node.text, re.ASCII):
        return int(node.text)
    number = re.fullmatch(r"[-+]?([.][0-9]+|[0-9]+([.][0-9]*)?)([eE][-+]?[0-9]+)?", node.text, re.ASCII)
    return float(node.text) if number else node.text


def faults(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(plain(parse(text.encode(), "f")))]


def test_it_is_a_schema_and_every_rule_is_in_it() -> None:
    Draft202012Validator.check_schema(schema())
    role: Any = schema()["properties"]
    assert RULES.keys() <= role["roles"]["additionalProperties"]["properties"].keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_our_own_files(file: Path) -> None:
    assert faults(file.read_text()) == []


def test_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["policy", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


@pytest.mark.parametrize(("rule", "text"), [row[:2] for row in GOOD])
def test_what_the_loader_takes(rule: str, text: str) -> None:
    assert faults(f"version: 1\nroles:\n r:\n  {rule}: {text}") == []


# A schema knows no usual spelling of addresses and numbers, can't count what a text says, and takes nothing for null.
ONLY_THE_LOADER = {
    "{addresses: ['127.1']}",
    "{addresses: ['0:0::1']}",
    "{addresses: ['1.2.3.4.5']}",
    "{addresses: ['127.0.0.01']}",
    "['172.16.0.1/12']",
    "['172.16.0.0/33']",
    "['172.016.0.0/12']",
    "['fd00:0::/8']",
    "{cpus: .5}",
    "{cpus: 1e3}",
    "{cpus: 1.2345}",
    "{logs: 1k}",
    "{memory: 5m}",
    "{memory: }",
    "{memory: 9999999t}",
}


@pytest.mark.parametrize(("rule", "text"), [row[:2] for row in BAD])
def test_what_the_loader_refuses(rule: str, text: str) -> None:
    assert (faults(f"version: 1\nroles:\n r:\n  {rule}: {text}") == []) == (text in ONLY_THE_LOADER)


BEFORE = "version: 1\n"


@pytest.mark.parametrize(
    "text",
    [
        "bindings: []",
        "version: 2",
        BEFORE + "rules: {}",
        BEFORE + "bindings: {}",
        BEFORE + "bindings: [{user: a}]",
        BEFORE + "bindings: [{role: ci}]",
        BEFORE + "bindings: [{user: a, group: b, role: ci}]",
        BEFORE + "bindings: [{user: a, role: ci, more: 1}]",
        BEFORE + "bindings: [{user: 'a:b', role: ci}]",
        BEFORE + "bindings: [{container: {owner: a}, role: ci}]",
        BEFORE + "bindings: [{container: {label: a}, role: ci}]",
        BEFORE + "bindings: [{container: {nmae: a}, role: ci}]",
        BEFORE + "roles: {1r: {}}",
        BEFORE + "roles: {r: {allow: [ContainerLst]}}",
        BEFORE + "roles: {r: {allow: [GET /containers]}}",
        BEFORE + "roles: {r: {privilged: true}}",
        BEFORE + "audit: {on_full: stop}",
        BEFORE + "auth: {cache: 3601}",
        BEFORE + "auth: {accounts: ldap}",
    ],
)
def test_what_both_refuse(text: str) -> None:
    with pytest.raises(ConfigError):
        compile_text(text.encode(), "f")
    assert faults(text) != []
