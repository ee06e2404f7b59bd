"""What the record tells of a request, and what it does not."""

from __future__ import annotations

import pytest

from sockproxy_helpers.redact import FIELDS, ITEMS, TEXT, Redaction

SALT = b"salt" * 8


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
