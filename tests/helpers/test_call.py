"""The front's message, of which nothing is believed."""

from __future__ import annotations

import os
import socket

import pytest

from sockproxy_helpers.calls.call import Call, adopt
from sockproxy_helpers.channel.wire import WireError
from tests.helpers.support import OPERATIONS, assert_closed, descriptors, message

SURROGATE = "\ud800"
# Each row is a good message with one thing wrong.
WRONG = {
    "op missing": ("op", ...),
    "op unknown": ("op", "ContainerFrobnicate"),
    "op of another scope": ("op", "NetworkList"),
    "op in another case": ("op", "containerinspect"),
    "op a list": ("op", ["ContainerInspect"]),
    "op null": ("op", None),
    "rid missing": ("rid", ...),
    "rid a number": ("rid", 1),
    "rid short": ("rid", "0123"),
    "rid long": ("rid", "0" * 17),
    "rid upper case": ("rid", "0123456789ABCDEF"),
    "rid with a newline": ("rid", "0123456789abcde\n"),
    "rid with a newline behind": ("rid", "0123456789abcdef\n"),
    "rid with an escape": ("rid", "\x1b[2J3456789abcdef"),
    "rid in other digits": ("rid", "\u0660" * 16),
    "api missing": ("api", ...),
    "api a number": ("api", 1.41),
    "api upper case": ("api", "V1.41"),
    "api of two": ("api", "v2.41"),
    "api too old": ("api", "v1.23"),
    "api too new": ("api", "v1.999"),
    "api with three numbers": ("api", "v1.41.0"),
    "api a path": ("api", "v1.41/../x"),
    "api with a newline": ("api", "v1.41\n"),
    "api in other digits": ("api", "v1.\u0664\u0661"),
    "minor missing": ("minor", ...),
    "minor two": ("minor", 2),
    "minor negative": ("minor", -1),
    "minor a float": ("minor", 1.0),
    "minor a truth value": ("minor", True),
    "minor a text": ("minor", "1"),
    "vars missing": ("vars", ...),
    "vars a list": ("vars", [["id", "x"]]),
    "vars null": ("vars", None),
    "variable missing": ("vars", {}),
    "variable of another name": ("vars", {"name": "x"}),
    "variable too many": ("vars", {"id": "x", "name": "x"}),
    "variable a number": ("vars", {"id": 1}),
    "variable empty": ("vars", {"id": ""}),
    "variable with a slash": ("vars", {"id": "x/json"}),
    "variable with dots": ("vars", {"id": ".."}),
    "variable with a dot": ("vars", {"id": "."}),
    "variable with a percent": ("vars", {"id": "x%2fjson"}),
    "variable with a question": ("vars", {"id": "x?force=1"}),
    "variable with a space": ("vars", {"id": "x HTTP/1.1"}),
    "variable with CR LF": ("vars", {"id": "x\r\nX: y"}),
    "variable with a newline": ("vars", {"id": "x\n"}),
    "variable with NUL": ("vars", {"id": "x\0"}),
    "variable not ASCII": ("vars", {"id": "\u00e4"}),
    "variable a surrogate": ("vars", {"id": SURROGATE}),
    "variable too long": ("vars", {"id": "x" * 256}),
    "query missing": ("query", ...),
    "query an object": ("query", {"size": "1"}),
    "query of texts": ("query", ["ab"]),
    "query of triples": ("query", [["a", "b", "c"]]),
    "query of singles": ("query", [["a"]]),
    "query with a number": ("query", [["size", 1]]),
    "query with null": ("query", [["size", None]]),
    "query with a surrogate": ("query", [["size", SURROGATE]]),
    "headers missing": ("headers", ...),
    "headers a list": ("headers", [["accept", "x"]]),
    "header a number": ("headers", {"accept": 1}),
    "header with CR LF": ("headers", {"accept": "x\r\nX: y"}),
    "header with LF": ("headers", {"user-agent": "x\nX: y"}),
    "header with NUL": ("headers", {"accept": "x\0"}),
    "header not ASCII": ("headers", {"accept": "\u00e4"}),
    "header with a line separator": ("headers", {"accept": "\u2028"}),
    "header a surrogate": ("headers", {"accept": SURROGATE}),
    "expect missing": ("expect", ...),
    "expect a number": ("expect", 1),
    "expect a text": ("expect", "100-continue"),
    "body missing": ("body", ...),
    "body longer than the payload": ("body", 5),
    "body negative": ("body", -1),
    "body null": ("body", None),
    "body a truth value": ("body", True),
    "body where none belongs": ("body", 4),
    "upload missing": ("upload", ...),
    "upload where none belongs": ("upload", "chunked"),
    "upload of a length where none belongs": ("upload", 0),
    "upgrade missing": ("upgrade", ...),
    "upgrade null": ("upgrade", None),
    "upgrade a truth value": ("upgrade", True),
    "unknown field": ("uid", 0),
    "unknown field with an empty name": ("", ""),
    "the siblings' message": ("part", "ContainerCreate"),
}
LIFECYCLE = {name: row for name, row in OPERATIONS.items() if row.scope == "lifecycle"}
FILESYSTEM = {name: row for name, row in OPERATIONS.items() if row.scope == "filesystem"}


def good(**fields: object) -> dict[str, object]:
    return message("ContainerInspect", **{"vars": {"id": "x"}, **fields})


def test_good():
    call = Call(good(query=[["size", "\u00e4&="], ["size", ""]], headers={"accept": "x"}), b"rest", LIFECYCLE)
    assert call.operation.name == "ContainerInspect"
    assert call.query == [("size", "\u00e4&="), ("size", "")]
    assert (call.body, call.early) == (b"", b"rest")
    assert call.fields() == [("Accept", "x")]


@pytest.mark.parametrize("name", WRONG)
def test_every_field_wrong_once(name):
    key, value = WRONG[name]
    header = good()
    if value is ...:
        del header[key]
    else:
        header[key] = value
    with pytest.raises(WireError):
        Call(header, b"rest", LIFECYCLE)


@pytest.mark.parametrize("upload", [-1, 10**18 + 1, 1.5, True, "5", "Chunked", "gzip", [], {}])
def test_upload_that_is_none(upload):
    with pytest.raises(WireError):
        Call(message("ImageBuild", upload=upload), b"", FILESYSTEM)


def test_chunked_upload_in_http_1_0():
    """Go ignores Transfer-Encoding in an HTTP/1.0 request: the body would be read as the next request."""
    with pytest.raises(WireError):
        Call(message("ImageBuild", upload="chunked", minor=0), b"", FILESYSTEM)
    assert Call(message("ImageBuild", upload=5, minor=0), b"", FILESYSTEM).upload == 5


@pytest.mark.parametrize("name", ["x/../y", "x/./y", "../x", "x/..", "x//y", "/x", "x/", "x/.y/z", ".", "x%2fy", "x\n"])
def test_reference_that_is_a_path_trick(name):
    with pytest.raises(WireError):
        Call(message("ImageInspect", vars={"name": name}), b"", FILESYSTEM)


@pytest.mark.parametrize("name", ["x", "127.0.0.1:5404/u/bb", "u/bb:1.0_a-b", "u/bb@sha256:" + "0" * 64, "sha256:00"])
def test_reference(name):
    call = Call(message("ImageInspect", vars={"name": name}), b"", FILESYSTEM)
    assert call.operation.target("v1.41", call.variables, []) == f"/v1.41/images/{name}/json"


def test_framing_fields_are_made_here():
    headers = {
        "transfer-encoding": "chunked",
        "content-length": "5",
        "content-type": "application/x-www-form-urlencoded",
        "connection": "x",
        "host": "x",
        "upgrade": "h2c",
        "cookie": "x",
    }
    assert Call(good(headers=headers), b"", LIFECYCLE).fields() == []
    fields = Call(message("ImageBuild", upload="chunked", headers=headers), b"", FILESYSTEM).fields()
    assert fields == [("Content-Type", "application/x-tar"), ("Transfer-Encoding", "chunked")]
    fields = Call(message("ImageBuild", upload=0), b"", FILESYSTEM).fields()
    assert fields == [("Content-Type", "application/x-tar"), ("Content-Length", "0")]


@pytest.mark.parametrize(("upgrade", "sent"), [("tcp", True), ("websocket", True), ("h2c", False), ("", False)])
def test_upgrade_only_where_a_stream_is(upgrade, sent):
    """docker-api.md 4: dockerd upgrades on the header alone, so it gets one for a stream and of a known kind only."""
    stream = Call(message("ContainerAttach", vars={"id": "x"}, upgrade=upgrade), b"", LIFECYCLE)
    assert stream.fields() == ([("Connection", "Upgrade"), ("Upgrade", upgrade)] if sent else [])
    assert Call(good(upgrade=upgrade), b"", LIFECYCLE).fields() == []


def test_no_header_is_added_that_the_client_did_not_send():
    """proxy-lessons: an added Accept-Encoding made `docker cp` nine times slower."""
    assert Call(good(), b"", LIFECYCLE).fields() == []


def test_body_and_early_bytes_are_divided():
    call = Call(message("ExecStart", vars={"id": "x"}, body=2, upgrade="tcp"), b"{}stdin", LIFECYCLE)
    assert (call.body, call.early) == (b"{}", b"stdin")


def test_adopt():
    before = descriptors()
    one, other = socket.socketpair()
    fd = one.detach()
    os.set_blocking(fd, True)
    sock = adopt([fd])
    assert not os.get_blocking(sock.fileno())
    assert sock.family == socket.AF_UNIX
    sock.close()
    other.close()
    assert_closed(before)


def pipe() -> int:
    read, write = os.pipe()
    os.close(write)
    return read


@pytest.mark.parametrize("make", [lambda: os.open("/dev/null", 0), lambda: os.memfd_create("x"), pipe])
def test_adopt_what_is_no_socket(make):
    before = descriptors()
    fd = make()
    with pytest.raises(WireError):
        adopt([fd])
    assert_closed(before)


def test_adopt_nothing():
    with pytest.raises(WireError):
        adopt([])
