"""One name for each tag, as the daemon reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockproxy_helpers.api import names
from sockproxy_helpers.errors import Malformed

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("library/busybox:latest", "docker.io/library/busybox:latest", "busybox:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("me/tool:V1", "docker.io/me/tool:V1", "me/tool:V1"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1", "localhost:5000/a/b:1"),
        ("EXAMPLE.org/a", "EXAMPLE.org/a:latest", "EXAMPLE.org/a:latest"),
        ("Registry/a", "Registry/a:latest", "Registry/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        (f"a@{DIGEST}", f"docker.io/library/a@{DIGEST}", f"a@{DIGEST}"),
        (f"a:1@{DIGEST}", f"docker.io/library/a@{DIGEST}", f"a@{DIGEST}"),
    ],
)
def test_names(text: str, full: str, familiar: str) -> None:
    assert names.full(text) == full
    assert names.full(full) == full
    assert names.familiar(full) == familiar
    assert names.full(familiar) == full


@pytest.mark.parametrize(
    "text",
    ["", ":", "a:", "A", "a/B", "/a", "a/", "a//b", "a b", "a:b:c", "-a", "a-", "a..b", "a___b", "a@", "a@x", "a:-",
     "\u212a", "ab" * 32, "sha256:" + "ab" * 32, "a\n", "a:1\n", "a/" + "b" * 255, "http://a/b", "a:" + "b" * 129,
     "<none>:<none>"],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(Malformed):
        names.full(text)
    assert names.known(text) == ""
    with pytest.raises(Malformed):
        names.settable(text)


@pytest.mark.parametrize(
    "text", ["ab" * 6, "0123456789ab", "ab" * 31, "sha256", "sha512:ab", f"a@{DIGEST}", "docker.io/sha256:ab"]
)
def test_what_looks_like_an_id_is_not_set(text: str) -> None:
    with pytest.raises(Malformed):
        names.settable(text)


def test_a_tag_given_apart() -> None:
    assert names.settable("a:1", "2") == "docker.io/library/a:2"
    assert names.settable("a", "") == "docker.io/library/a:latest"
    for tag in ("a/b", "a:b", " ", "-a", "a\n"):
        with pytest.raises(Malformed):
            names.settable("a", tag)


@given(st.text(alphabet="aB0:/@.-_ \n", max_size=12))
def test_a_full_name_is_its_own(text: str) -> None:
    name = names.known(text)
    if name:
        assert names.full(name) == name
        assert names.full(names.familiar(name)) == name or "." in name
        assert name.startswith(names.repository(name))
