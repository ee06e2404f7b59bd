"""Routing: every row of the table there and back, and every path trick nowhere."""

from __future__ import annotations

import pytest

from sockproxy.api.route import route
from sockproxy.errors import RequestError
from sockproxy_helpers.api import operations
from sockproxy_helpers.api.operations import Operation

ROWS = [operation for operation in operations.load() if operation.method != "OPTIONS"]
NAMES = ["a", "0f" * 32, "web_1.x-y", "json", "create", "prune", "v1.41"]
REFERENCES = [*NAMES, "a/b/c", "127.0.0.1:5404/u/bb:1.0", "r/a@sha256:" + "0f" * 32, "a/json", "get/push"]


def refusal(method: str, path: bytes) -> tuple[int, str]:
    with pytest.raises(RequestError) as caught:
        route(method, path)
    return caught.value.status, caught.value.message


def variables(operation: Operation, value: str) -> dict[str, str]:
    return {segment[1:-1]: value for segment in operation.segments if segment.startswith("{")}


@pytest.mark.parametrize("version", ["", "v1.24", "v1.41", "v1.55"])
@pytest.mark.parametrize("operation", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_every_row_there_and_back(operation: Operation, version: str) -> None:
    match = route(operation.method, operation.target(version, variables(operation, "a"), []).encode())
    assert match.operation.name == operation.name
    assert (match.operation.path, match.version, match.variables) == (
        operation.path,
        version,
        variables(operation, "a"),
    )


@pytest.mark.parametrize("operation", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_every_row_with_odd_names(operation: Operation) -> None:
    """A name may look like a word of the table; then the row that has the word as such wins, and no other."""
    for value in REFERENCES if operation.tag in operations.REFERENCE_TAGS else NAMES:
        wanted = variables(operation, value)
        target = operation.target("", wanted, [])
        match = route(operation.method, target.encode())
        if (match.operation.path, match.variables) != (operation.path, wanted):
            assert match.operation.target("", match.variables, []) == target
            literal = [segment for segment in match.operation.segments if not segment.startswith("{")]
            assert len(literal) > len(operation.segments) - len(wanted), (operation.path, match.operation.path)


@pytest.mark.parametrize("operation", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_no_row_takes_a_slash_that_is_no_reference(operation: Operation) -> None:
    if operation.tag in operations.REFERENCE_TAGS or "{" not in operation.path:
        return
    path = operation.path
    for name in variables(operation, ""):
        path = path.replace("{" + name + "}", "a/b")
    assert refusal(operation.method, path.encode()) == (404, "page not found")


@pytest.mark.parametrize(
    ("method", "path", "name", "value"),
    [
        ("GET", b"/images/get", "ImageGetAll", None),
        ("GET", b"/images/json", "ImageList", None),
        ("GET", b"/images/search", "ImageSearch", None),
        ("GET", b"/images/a/json", "ImageInspect", "a"),
        ("GET", b"/images/x/y/json", "ImageInspect", "x/y"),
        ("GET", b"/images/json/json", "ImageInspect", "json"),
        ("GET", b"/images/a/get/json", "ImageInspect", "a/get"),
        ("GET", b"/images/a/json/get", "ImageGet", "a/json"),
        ("POST", b"/images/127.0.0.1:5404/u/bb/push", "ImagePush", "127.0.0.1:5404/u/bb"),
        ("POST", b"/images/127.0.0.1%3A5404/u/bb/push", "ImagePush", "127.0.0.1:5404/u/bb"),
        ("POST", b"/images/create/tag", "ImageTag", "create"),
        ("DELETE", b"/images/x/y:z", "ImageDelete", "x/y:z"),
        ("DELETE", b"/images/x/y/json", "ImageDelete", "x/y/json"),
        ("DELETE", b"/images/json", "ImageDelete", "json"),
        ("GET", b"/distribution/x/y@sha256:00/json", "DistributionInspect", "x/y@sha256:00"),
        ("GET", b"/plugins/privileges", "GetPluginPrivileges", None),
        ("GET", b"/plugins/x/y/json", "PluginInspect", "x/y"),
        ("DELETE", b"/plugins/x/y", "PluginDelete", "x/y"),
        ("GET", b"/containers/json", "ContainerList", None),
        ("GET", b"/containers/json/json", "ContainerInspect", "json"),
        ("DELETE", b"/containers/create", "ContainerDelete", "create"),
        ("GET", b"/containers/a/attach/ws", "ContainerAttachWebsocket", "a"),
        ("GET", b"/containers%2djs", None, None),
        ("GET", b"/%63ontainers/js%6fn", "ContainerList", None),
        ("GET", b"/v1%2e41/containers/json", "ContainerList", None),
        ("GET", b"/networks", "NetworkList", None),
        ("GET", b"/networks/", "NetworkList", None),
        ("GET", b"/v1.41/networks/", "NetworkList", None),
        ("DELETE", b"/networks/create", "NetworkDelete", "create"),
        ("GET", b"/debug/pprof/", "DebugPprof", None),
        ("GET", b"/debug/pprof/heap", "DebugPprofNamed", "heap"),
        ("GET", b"/debug/pprof/cmdline", "DebugPprofCmdline", None),
        ("HEAD", b"/_ping", "SystemPingHead", None),
        ("HEAD", b"/containers/a/archive", "ContainerArchiveInfo", "a"),
    ],
)
def test_paths(method: str, path: bytes, name: str | None, value: str | None) -> None:
    if name is None:
        assert refusal(method, path)[0] == 404
        return
    match = route(method, path)
    assert match.operation.name == name
    assert list(match.variables.values()) == ([] if value is None else [value])


TRICKS = [
    # what the engine takes as another path
    b"/containers%2fjson",
    b"/containers%2Fjson",
    b"/containers/a%2fjson",
    b"/images/a%2fb/json",
    b"/containers/%2e%2e/containers/json",
    b"/%2fcontainers/json",
    b"/containers/json%00",
    b"/containers/a%00b/json",
    b"/containers/a%0ab/json",
    b"/containers/a\n/json",
    b"/containers/json\n",
    b"/containers/%c3%a9/json",
    b"/containers/\xc3\xa9/json",
    b"/containers/\xef\xbc\x8fjson",
    b"/containers/js%256fn",
    b"/containers%252fjson",
    b"/containers/a%/json",
    b"/containers/a%4/json",
    b"/containers/a%zz/json",
    # what the engine redirects
    b"//containers/json",
    b"/containers//json",
    b"/./containers/json",
    b"/x/../containers/json",
    b"/containers/./json",
    b"/containers/../json",
    b"/images/a/../b/json",
    b"/images/a//b/json",
    b"/images//json",
    b"/images/./json",
    b"/images/../json",
    b"/networks//",
    # slashes at the end
    b"/containers/json/",
    b"/images/json/",
    b"/volumes/",
    b"/images/",
    b"/debug/pprof",
    b"/",
    b"",
    b"*",
    # version prefixes
    b"/V1.41/containers/json",
    b"/v1.41/v1.41/containers/json",
    b"/v1.41.0/containers/json",
    b"/v1..41/containers/json",
    b"/v01.41/containers/json",
    b"/v1.041/containers/json",
    b"/v1.4100/containers/json",
    b"/v1/containers/json",
    b"/v1./containers/json",
    b"/v.41/containers/json",
    b"/v1.+41/containers/json",
    b"/v1.4_1/containers/json",
    b"/v1.\xd9\xa4\xd9\xa1/containers/json",
    b"/1.41/containers/json",
    b"/v1.41",
    b"/v1.41/",
    b"v1.41/containers/json",
    b"/v4.3.1/libpod/_ping",
    # words
    b"/Containers/json",
    b"/containers/JSON",
    b"/containers/json;a",
    b"/containers/json,x",
    b"/containers/json x",
    b"/containers/json%20",
    b"/containers/json%3fall=1",
    b"/containers/json?all=1",
    b"/containers/-a/json",
    b"/containers/.a/json",
    b"/containers/_a/json",
    b"/containers/a:b/json",
    b"/containers/" + b"a" * 256 + b"/json",
    b"/images/" + b"a" * 512 + b"/json",
    b"/images/" + b"%61" * 2000 + b"/json",
    b"/libpod/containers/json",
    b"/containers/a/json/b",
    b"/containers",
    b"http://x/containers/json",
]


@pytest.mark.parametrize("path", TRICKS)
def test_tricks_are_no_page(path: bytes) -> None:
    assert refusal("GET", path) == (404, "page not found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", b"/containers/json"),
        ("HEAD", b"/info"),
        ("POST", b"/containers/json"),
        ("GET", b"/containers/create"),
        ("get", b"/containers/json"),
        ("PATCH", b"/containers/json"),
        ("GET", b"/images/a"),
        ("POST", b"/images/create/"),
        ("GET", b"/grpc"),
    ],
)
def test_another_method_is_no_page(method: str, path: bytes) -> None:
    assert refusal(method, path) == (404, "page not found")


def test_versions_outside_are_refused_in_the_daemons_words() -> None:
    old = "is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
    for version in ("1.23", "1.0", "0.99"):
        assert refusal("GET", f"/v{version}/info".encode()) == (400, f"client version {version} {old}")
    new = "is too new. Maximum supported API version is 1.55"
    for version in ("1.56", "1.99", "1.999", "2.0", "99.0"):
        assert refusal("GET", f"/v{version}/info".encode()) == (400, f"client version {version} {new}")
    assert refusal("GET", b"/v1.10/nothing")[0] == 404


@pytest.mark.parametrize("path", [b"*", b"/", b"/containers/json", b"/v9.9/../%00"])
def test_options_is_the_same_everywhere(path: bytes) -> None:
    match = route("OPTIONS", path)
    assert (match.operation.name, match.version, match.variables) == ("SystemOptions", "", {})


def test_what_acts_is_all_but_reads_and_the_wait_for_a_container():
    still = {row.name for row in ROWS if not row.acts}
    assert {row.name for row in ROWS if row.method in ("GET", "HEAD") and row.response != "hijack"} < still
    assert {row.name for row in ROWS if row.method not in ("GET", "HEAD") and row.name in still} == {"ContainerWait"}
