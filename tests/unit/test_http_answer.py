"""Answers of our own, read back by h11 as a client would."""

from __future__ import annotations

import json

import h11
import pytest

from sockproxy import errors
from sockproxy.http import answer

ID = "0123456789abcdef"


def receive(raw: bytes, method: str = "GET") -> tuple[h11.Response, bytes]:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "d")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data[0] == b""
    return response, body


def message(raw: bytes) -> str:
    text = json.loads(receive(raw)[1])["message"]
    assert isinstance(text, str)
    return text


def test_error_in_dockers_form() -> None:
    response, body = receive(answer.error(404, "page not found", ID, close=False))
    assert response.status_code == 404
    assert response.reason == b"Not Found"
    assert body == b'{"message": "page not found"}\n'
    assert list(response.headers) == [
        (b"content-type", b"application/json"),
        (b"x-sockproxy-request-id", ID.encode()),
        (b"content-length", b"30"),
    ]


def test_error_may_close() -> None:
    response, _ = receive(answer.error(400, "malformed", ID, close=True))
    assert (b"connection", b"close") in list(response.headers)


def test_head_gets_the_length_only() -> None:
    response, body = receive(answer.error(404, "page not found", ID, close=False, head_only=True), method="HEAD")
    assert (b"content-length", b"30") in list(response.headers)
    assert body == b""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\r\nb\0", "a\\r\\nb\\x00"),
        ("a\x9bb", "a\\x9bb"),
        ("a\u202eb\u2028", "a\\u202eb\\u2028"),
        ("\udc80", "\\udc80"),
        ("caf\xe9 \u65e5", "caf\xe9 \u65e5"),
    ],
)
def test_a_message_moves_no_terminal(text: str, shown: str) -> None:
    assert message(answer.error(403, text, ID, close=False)) == shown


def test_a_message_is_bounded() -> None:
    assert len(message(answer.error(403, "a" * 1_000_000, ID, close=False))) == answer.MAX_MESSAGE


@pytest.mark.parametrize(
    ("problem", "status", "shown"),
    [
        (errors.RequestError("page not found", 404), 404, "page not found"),
        (errors.RequestError("malformed"), 400, "malformed"),
        (
            errors.Denied("carol (viewer) may not ContainerCreate", "roles.yaml:31"),
            403,
            f"sockproxy: carol (viewer) may not ContainerCreate: rule roles.yaml:31 (request {ID})",
        ),
        (errors.Denied("no binding matches carol"), 403, f"sockproxy: no binding matches carol (request {ID})"),
        (errors.HelperGone("no daemon"), 502, f"sockproxy: no daemon (request {ID})"),
        (errors.AuditGone("no record"), 503, f"sockproxy: no record (request {ID})"),
        (errors.CallError("internal error"), 500, f"sockproxy: internal error (request {ID})"),
    ],
)
def test_each_kind_of_problem_has_its_answer(problem: errors.CallError, status: int, shown: str) -> None:
    raw = answer.refuse(problem, ID, close=True)
    assert receive(raw)[0].status_code == status
    assert message(raw) == shown


def test_every_status_in_use_has_a_reason() -> None:
    for status in (400, 403, 404, 413, 415, 417, 431, 500, 501, 502, 503, 505):
        assert receive(answer.error(status, "a", ID, close=False))[0].reason not in (b"", b"Unknown")


def test_options_is_empty() -> None:
    response, body = receive(answer.options(ID, close=False), method="OPTIONS")
    assert (response.status_code, body) == (200, b"")
    assert (b"content-length", b"0") in list(response.headers)


def test_continue_is_an_informational_answer() -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="PUT", target="/", headers=[("Host", "d"), ("Content-Length", "1")]))
    client.receive_data(answer.CONTINUE)
    assert isinstance(client.next_event(), h11.InformationalResponse)


def test_a_header_can_not_break_its_line() -> None:
    for name, value, reason in (("A", "b\r\nC: d", ""), ("A\n", "b", ""), ("A", "\xe9", ""), ("A", "b", "c\r\n")):
        with pytest.raises(ValueError, match="unprintable"):
            answer.build(200, [(name, value)], reason=reason)


def test_configuration_errors_point() -> None:
    assert str(errors.ConfigError("a.yaml", 3, 5, "unknown key rolls", "roles")) == (
        "a.yaml:3:5: unknown key rolls, expected roles"
    )
    assert str(errors.ConfigError("a.yaml", 0, 0, "no such file")) == "a.yaml: no such file"
