"""Questions to a server on this machine that refuses, breaks off, is busy, or answers with a web page."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from megabase.files import FileError
from megabase.sources.ask import Answer, Asker
from megabase.sources.turns import Turns

NOTHING = b'{"@graph": [], "total": 0}'


class Server(ThreadingHTTPServer):
    """Answers in order: (status, body, content type, more headers, bytes to leave out of the end)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, bytes, str, dict[str, str], int]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/search/"

    def say(self, status: int = 200, body: bytes = b'{"total": 1}', kind: str = "application/json",
            cut: int = 0, **more: str) -> None:  # fmt: skip
        self.answers.append((status, body, kind, {k.replace("_", "-"): v for k, v in more.items()}, cut))


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.server.headers.append(dict(self.headers))
        status, body, kind, more, cut = self.server.answers.pop(0)
        if status == 0:  # hang up
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) - cut])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def asker(record: Path | None = None, **more) -> Asker:
    return Asker(record, **({"attempts": 3, "backoff": 0.01} | more))


def test_an_answer_has_its_url_status_and_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.say(body=b'{"total": 7}')
    hosts: list[str] = []
    turns = Turns(None, 1000.0)
    monkeypatch.setattr(turns, "wait", hosts.append)
    with asker(turns=turns) as ask:
        answer = ask(server.url, [("type", "File"), ("type", "Set"), ("assay_title", "TF ChIP-seq")])
    assert answer.json() == {"total": 7} and answer.status == 200
    assert server.paths == ["/search/?type=File&type=Set&assay_title=TF+ChIP-seq"] or server.paths == [
        "/search/?type=File&type=Set&assay_title=TF%20ChIP-seq"
    ]
    assert answer.url.endswith(server.paths[0]) and hosts == ["127.0.0.1"]
    age = datetime.now(UTC) - datetime.fromisoformat(answer.retrieved_utc)
    assert timedelta(seconds=-1) <= age < timedelta(minutes=10)
    assert server.headers[0]["Accept"] == "application/json"
    assert server.headers[0]["Accept-Encoding"] == "identity"


def test_parameters_join_those_of_the_url(server: Server) -> None:
    server.say()
    with asker() as ask:
        ask(f"{server.url}?a=1", {"b": 2})
    assert server.paths == ["/search/?a=1&b=2"]


def test_no_results_are_an_answer(server: Server) -> None:
    server.say(404, NOTHING)
    with asker() as ask:
        answer = ask(server.url)
    assert answer.status == 404 and answer.json()["@graph"] == [] and len(server.paths) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 0])
def test_what_may_pass_is_asked_again(server: Server, status: int) -> None:
    server.say(status)
    server.say()
    with asker() as ask:
        assert ask(server.url).status == 200
    assert len(server.paths) == 2


def test_a_busy_server_says_how_long_to_wait(server: Server) -> None:
    server.say(429, Retry_After="1")
    server.say()
    began = time.monotonic()
    with asker() as ask:
        ask(server.url)
    assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize("status", [400, 401, 403, 410])
def test_a_refusal_is_an_error_at_once(server: Server, status: int) -> None:
    server.say(status, b'{"detail": "not today"}')
    with asker() as ask, pytest.raises(FileError, match=rf"search/: HTTP {status} .*not today"):
        ask(server.url)
    assert len(server.paths) == 1


@pytest.mark.parametrize("url", ["portal.org/search/", "ftp://portal.org/x", "http://[::bad/x"])
def test_an_address_that_is_none_is_told_at_once(url: str) -> None:
    with asker(backoff=60) as ask, pytest.raises(FileError, match="correct the address of the portal"):
        ask(url, {"a": 1})


def test_no_answer_is_an_error_in_the_end(server: Server, tmp_path: Path) -> None:
    for _ in range(3):
        server.say(503)
    with asker(tmp_path) as ask, pytest.raises(FileError, match=r"HTTP 503; tried 3 times.*; rerun"):
        ask(server.url)
    assert list(tmp_path.iterdir()) == []


def test_a_body_that_broke_off_is_asked_again(server: Server) -> None:
    server.say(cut=4)
    server.say()
    with asker() as ask:
        assert ask(server.url).json() == {"total": 1}


def test_json_that_ended_early_without_a_sign_is_asked_again(server: Server) -> None:
    server.say(body=b'{"@graph": [1, 2')
    server.say()
    with asker() as ask:
        assert ask(server.url).json() == {"total": 1}
    for _ in range(3):
        server.say(body=b'{"@graph": [1, 2')
    with asker() as ask, pytest.raises(FileError, match=r"JSON that ends early.*\(16 bytes\)"):
        ask(server.url)


def test_a_web_page_is_no_json_and_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.say(body=b"<!DOCTYPE html><title>Down for maintenance</title>", kind="text/html")
    with asker(tmp_path) as ask:
        answer = ask(server.url)
        with pytest.raises(FileError, match=r"127.0.0.1.*a web page instead of JSON.*maintenance"):
            answer.json()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "message"), [(b"", "an empty body"), (b"oops", "not JSON: 'oops'"), (b"[1, ", "ends early")]
)
def test_other_bodies_are_named(body: bytes, message: str) -> None:
    with pytest.raises(FileError, match=rf"http://x/: HTTP 200, .*{message}"):
        Answer("http://x/", 200, body, "").json()


def test_an_interrupted_listing_goes_on_from_its_record(server: Server, tmp_path: Path) -> None:
    server.say(body=b'{"total": 1}')
    server.say(404, NOTHING)
    with asker(tmp_path / "r") as ask:
        first = [ask(server.url, {"page": page}) for page in (1, 2)]
    with asker(tmp_path / "r") as ask:
        again = [ask(server.url, {"page": page}) for page in (1, 2)]
        assert (ask.asked, ask.taken) == (0, 2)
    assert again == first and len(server.paths) == 2


def test_a_record_that_is_old_or_damaged_is_asked_again(server: Server, tmp_path: Path) -> None:
    for n in range(4):
        server.say(body=b'{"total": %d}' % n)
    with asker(tmp_path) as ask:
        ask(server.url)
    with asker(tmp_path, max_age=timedelta(seconds=-1)) as ask:
        assert ask(server.url).json() == {"total": 1}
    (body,) = tmp_path.glob("*.body")
    body.write_bytes(b'{"total": 9}')
    with asker(tmp_path) as ask:
        assert ask(server.url).json() == {"total": 2}
    (note,) = tmp_path.glob("*.json")
    note.write_text("{")
    with asker(tmp_path) as ask:
        assert ask(server.url).json() == {"total": 3}


def test_a_login_in_an_address_is_refused_and_not_shown(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.url.replace("http://", "http://me:hush@")
    with caplog.at_level(logging.DEBUG, logger="megabase"), asker(tmp_path) as ask:
        with pytest.raises(FileError, match="has a login in it") as caught:
            ask(url)
    assert "hush" not in caplog.text + str(caught.value) and server.paths == []
    assert list(tmp_path.iterdir()) == []
