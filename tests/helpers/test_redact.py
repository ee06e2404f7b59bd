"""What the record tells of a request, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sockproxy_helpers.judge.redact import FIELDS, ITEMS, TEXT, Redaction

SALT = b"salt" * 8
CORPUS = Path(__file__).parents[1] / "corpus"


@pytest.fixture
def redaction():
    return Redaction(SALT, "program")


def changes(redaction, asked, sent):
    found = []
    redaction.changes("", asked, sent, found)
    return found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Image", "busybox:1"),
        ("HostConfig.Privileged", True),
        ("HostConfig.Memory", 1 << 30),
        ("HostConfig.Binds", ["/home/a:/b:ro"]),
        ("HostConfig.PortBindings", {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}),
        ("NetworkingConfig.EndpointsConfig", {"net": {"Aliases": ["a"], "IPAMConfig": {"IPv4Address": "10.0.0.1"}}}),
        ("?fromImage", "busybox"),
        ("?all", "1"),
    ],
)
def test_what_an_auditor_needs_is_told(redaction, path, value):
    assert redaction.show(path, value) == value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Env", ["A=hush", "B=hush", "C=hush=more"]),
        ("Labels", {"a": "hush"}),
        ("Cmd", ["sh", "-c", "hush"]),
        ("Cmd", ["echo", "hush"]),
        ("DriverOpts", {"password": "hush"}),
        ("HostConfig.LogConfig", {"Type": "syslog", "Config": {"token": "hush"}}),
        ("HostConfig.Mounts", [{"Type": "volume", "VolumeOptions": {"DriverConfig": {"Options": {"o": "hush"}}}}]),
        ("IPAM", {"Options": {"a": "hush"}}),
        ("Data", "hush"),
        ("", {"username": "hush", "password": "hush", "identitytoken": "hush"}),
        ("?buildargs", '{"TOKEN":"hush"}'),
        ("?changes", "ENV A=hush"),
        ("?remote", "https://user:hush@example.org"),
        ("?comment", "hush"),
        ("?unknown", "hush"),
        ("Unknown", {"deep": [["hush"]]}),
    ],
)
def test_secrets_are_not(redaction, path, value):
    assert "hush" not in str(redaction.show(path, value))


def test_equal_values_are_seen_to_be_equal(redaction):
    (first, second, third) = redaction.show("Env", ["A=x1", "B=x1", "C=x2"])
    assert first.partition("=")[2] == second.partition("=")[2] != third.partition("=")[2]
    assert Redaction(SALT, "program").hash("x1") == redaction.hash("x1") != Redaction(b"other", "program").hash("x1")
    assert redaction.show("Env", ["A", "B="]) == ["A", "B=" + redaction.hash("")]


def test_a_command_by_its_program_or_as_a_whole(redaction):
    words = ["mysql", "--password", "hush", "-ppw", "PASSWORD=hush", "--token=hush", "-u", "root", "A=b"]
    assert redaction.show("Cmd", words) == ["mysql", redaction.hash("\0".join(words[1:]))]
    assert redaction.show("Cmd", "true") == ["true"]
    whole = Redaction(SALT, "all").show("Cmd", words)
    assert [word for word in whole if "#" not in word] == ["mysql", "--password", "-ppw", "-u", "root", "A=b"]
    assert "hush" not in str(whole)


def test_what_was_hidden_is_hidden_in_what_the_daemon_says(redaction):
    redaction.show("", {"Env": ["A=hush-hush"], "Cmd": ["x", "hush"]})
    said = redaction.scrub('exec: "hush": not found, hush-hush')
    assert "hush" not in said
    assert said.startswith('exec: "#')


def test_changes_are_named_by_field(redaction):
    asked = {"Image": "a", "Env": ["A=b"], "HostConfig": {"Memory": 0, "Binds": ["v:/v"], "Init": False}}
    sent = {"Image": "a", "Env": ["A=b"], "Labels": {"o": "1"}, "HostConfig": {"Memory": 5, "CapDrop": ["MKNOD"]}}
    assert changes(redaction, asked, sent) == [
        {"field": "HostConfig.Memory", "sent": 5},
        {"field": "HostConfig.Binds", "asked": ["v:/v"]},
        {"field": "HostConfig.CapDrop", "sent": ["MKNOD"]},
        {"field": "Labels", "sent": {"o": "1"}},
    ]
    assert changes(redaction, {"HostConfig": {"Privileged": False}}, {}) == []
    assert changes(redaction, {"Env": ["A=hush"]}, {"Env": ["A=hush", "B=c"]})[0]["field"] == "Env"
    assert "hush" not in str(changes(redaction, {"Env": ["A=hush"]}, {}))


def test_floods_stay_small(redaction):
    assert len(redaction.show("Image", "x" * 10_000)) == TEXT + 1
    assert len(redaction.show("HostConfig.Binds", ["a"] * 1000)) == ITEMS + 1
    assert len(redaction.show("Labels", {str(number): "" for number in range(1000)})) == ITEMS + 1
    many = {str(number): number + 1 for number in range(1000)}
    assert len(changes(redaction, many, {})) == FIELDS


SECRET_FIELDS = ("Env", "Labels", "buildargs", "labels", "changes", "comment", "author", "password", "auth", "Data")
SECRET_FIELDS += ("identitytoken", "registrytoken", "DriverOpts", "Options", "filters", "cachefrom", "remote")


def plant(value, planted, secret=False):
    """Put a secret in the place of each text that may hold one, and behind the program's name of each command."""
    if isinstance(value, dict):
        return {
            key: plant(item, planted, secret or key in SECRET_FIELDS or (key == "Config" and isinstance(item, dict)))
            if key not in ("Cmd", "Test", "Entrypoint") or not isinstance(item, list)
            else [*item[:1], *plant(item[1:], planted, True)]
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [plant(item, planted, secret) for item in value]
    if secret and isinstance(value, str):
        planted.append(f"s3cret{len(planted)}x")
        name, equals, _ = value.partition("=")
        return f"{name}={planted[-1]}" if equals and name.isidentifier() else planted[-1]
    return value


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.json")), ids=lambda path: path.stem)
def test_no_secret_of_what_real_clients_send_is_told(path):
    count = 0
    for request in json.loads(path.read_text()):
        planted, found = [], []
        body = plant(request["body"], planted)
        query = plant(dict(request["query"]), planted)
        redaction = Redaction(SALT, "program")
        told = [redaction.show("", body), {key: redaction.show(f"?{key}", text) for key, text in query.items()}]
        redaction.changes("", body or {}, {}, found)
        assert not [secret for secret in planted if secret in json.dumps([told, found])], request["operation"]
        assert "s3cret" not in redaction.scrub(f"the daemon quotes {' '.join(planted[:50])}")
        count += len(planted)
    assert count > 5


def test_no_field_hides_behind_many_empty_ones() -> None:
    noise = {f"Field{number}": None for number in range(60)}
    shown = Redaction(b"salt", "program").show("", {"HostConfig": {**noise, "Privileged": True, "CapAdd": ["ALL"]}})
    assert isinstance(shown, dict)
    assert shown["HostConfig"].items() >= {"Privileged": True, "CapAdd": ["ALL"], "…": 42}.items()
