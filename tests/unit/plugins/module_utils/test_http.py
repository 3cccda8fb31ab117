from __future__ import annotations

import email.message
import io
import json
import socket
import ssl
import threading
import urllib.error
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _http


class Script:
    """A transport that plays answers (or raises them) and keeps what was sent."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.sent: list = []
        self.pauses: list = []

    def __call__(self, method, url, data, headers, timeout):
        self.sent.append((method, url, data, headers, timeout))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **more) -> _http.JsonClient:
        return _http.JsonClient("http://server:9997/", self, sleep=self.pauses.append, **more)


def answer(status=200, value=None, headers=()):
    return status, list(headers), b"" if value is None else json.dumps(value).encode()


def gone(method="GET") -> _http.ServerUnreachable:
    return _http.ServerUnreachable(method, "http://server:9997/v1", "Connection refused")


def test_a_get_carries_no_body_and_claims_none() -> None:
    script = Script(answer(value={"a": 1}))
    response = script.client(timeout=7).request("GET", "/v1/models")
    method, url, data, headers, timeout = script.sent[0]
    assert (method, url, data, timeout) == ("GET", "http://server:9997/v1/models", None, 7)
    assert "Content-Type" not in headers
    assert response.ok
    assert response.json == {"a": 1}


def test_json_is_sent_with_the_callers_headers() -> None:
    script = Script(answer())
    script.client().request("POST", "/x", json={"ä": []}, headers={"Authorization": "Bearer k"}, timeout=3)
    method, url, data, headers, timeout = script.sent[0]
    assert json.loads(data) == {"ä": []}
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Bearer k"
    assert timeout == 3


def test_an_error_status_is_an_answer() -> None:
    response = Script(answer(400, {"detail": "no such model"})).client().request("GET", "/x")
    assert not response.ok
    assert response.json == {"detail": "no such model"}


def test_a_body_that_is_not_json_is_text() -> None:
    response = _http.Response("GET", "u", 502, [], b"<html>Bad \xff Gateway")
    assert response.json is None
    assert "Bad" in response.text


def test_headers_are_found_without_regard_to_case() -> None:
    response = _http.Response("GET", "u", 200, [("set-cookie", "a=1"), ("Set-Cookie", "b=2")], b"")
    assert response.header("Set-Cookie") == "a=1"
    assert response.header_all("SET-COOKIE") == ["a=1", "b=2"]
    assert response.header("Location", "none") == "none"


def test_a_get_without_an_answer_is_repeated() -> None:
    script = Script(gone(), gone(), answer(value=1))
    assert script.client(retries=2, retry_delay=1).request("GET", "/v1").json == 1
    assert script.pauses == [1, 2]


def test_the_last_refusal_is_raised() -> None:
    script = Script(gone(), gone())
    with pytest.raises(_http.ServerUnreachable, match="Connection refused"):
        script.client(retries=1).request("GET", "/v1")
    assert len(script.sent) == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_that_changes_the_server_is_repeated(method: str) -> None:
    script = Script(gone(method), answer())
    with pytest.raises(_http.ServerUnreachable):
        script.client(retries=5).request(method, "/v1")
    assert len(script.sent) == 1
    script = Script(answer(503), answer())
    assert script.client(retries=5).request(method, "/v1", retry_statuses=[503]).status == 503


def test_a_status_is_repeated_only_when_asked_for() -> None:
    script = Script(answer(503), answer(value=1))
    assert script.client().request("GET", "/v1").status == 503
    script = Script(answer(503), answer(value=1))
    assert script.client().request("GET", "/v1", retry_statuses=[503]).json == 1
    script = Script(answer(503), answer(503), answer(503))
    assert script.client(retries=2).request("GET", "/v1", retry_statuses=[503]).status == 503


def test_the_exception_names_what_was_asked() -> None:
    assert str(gone()) == "GET http://server:9997/v1: no answer: Connection refused"


def test_shorten_keeps_one_line() -> None:
    assert _http.shorten("a\n  b\t c") == "a b c"
    assert _http.shorten("x" * 500, limit=10) == "x" * 9 + "…"
    assert len(_http.shorten("x" * 500)) == 400


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.reply()

    def do_POST(self) -> None:
        self.reply()

    def reply(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.dumps({"method": self.command, "sent": self.rfile.read(length).decode(), "agent": self.headers["User-Agent"]}).encode()
        self.send_response(404 if self.path == "/none" else 200)
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def server():
    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_the_real_transport_speaks_to_a_real_server(server: str) -> None:
    client = _http.JsonClient(server, _http.open_url_transport(use_proxy=False), timeout=10)
    response = client.request("POST", "/x", json={"a": 1})
    assert response.json == {"method": "POST", "sent": '{"a": 1}', "agent": "llmops.dify_xinference"}
    assert response.header_all("Set-Cookie") == ["a=1", "b=2"]
    missing = client.request("GET", "/none")
    assert (missing.status, missing.json["method"]) == (404, "GET")


def test_a_closed_port_is_unreachable_and_not_late() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(_http.ServerUnreachable, match="refused") as caught:
        _http.open_url_transport(use_proxy=False)("GET", f"http://127.0.0.1:{port}/", None, {}, 5)
    assert caught.value.timed_out is False


def test_a_silent_server_is_late() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(_http.ServerUnreachable) as caught:
            _http.open_url_transport(use_proxy=False)("GET", f"http://127.0.0.1:{silent.getsockname()[1]}/", None, {}, 0.3)
    assert caught.value.timed_out is True


@pytest.mark.parametrize(
    ("error", "timed_out"),
    [
        (urllib.error.URLError(socket.gaierror(-2, "Name or service not known")), False),
        (urllib.error.URLError(TimeoutError("timed out")), True),
        (TimeoutError(), True),
        (ssl.SSLError("certificate verify failed"), False),
        (ConnectionResetError(104, "Connection reset by peer"), False),
        (RuntimeError("something of module_utils.urls"), False),
    ],
)
def test_every_failure_to_answer_reads_the_same(monkeypatch: pytest.MonkeyPatch, error: Exception, timed_out: bool) -> None:
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("ansible.module_utils.urls.open_url", fail)
    with pytest.raises(_http.ServerUnreachable) as caught:
        _http.open_url_transport()("GET", "http://server/", None, {}, 5)
    assert caught.value.timed_out is timed_out
    assert caught.value.reason


def test_an_http_error_keeps_status_headers_and_body(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = email.message.Message()
    headers["X-Reason"] = "lockout"

    def fail(*arguments, **options):
        raise urllib.error.HTTPError("http://server/", 429, "Too many", headers, io.BytesIO(b"{}"))

    monkeypatch.setattr("ansible.module_utils.urls.open_url", fail)
    assert _http.open_url_transport()("POST", "http://server/", b"", {}, 5) == (429, [("X-Reason", "lockout")], b"{}")
