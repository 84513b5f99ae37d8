"""Downloads against a server on this machine that breaks off, changes its files and refuses."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from megabase.files import FileError
from megabase.seeds import generator
from megabase.sources import download
from megabase.sources.download import fetch_source

BODY = generator(0, "download").bytes(300_000)
MD5 = hashlib.md5(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """A file server with faults: `cuts` is how many bytes to send of the next answers before hanging up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.kind = BODY, '"one"', "application/octet-stream"
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.ranges: list[str | None] = []
        self.chunked = self.ignore_range = False
        self.url = f"http://127.0.0.1:{self.server_port}/file.bw"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        if server.statuses and (status := server.statuses.pop(0)) != 200:
            self.send_response(status)
            for name, value in (("Retry-After", "0"), ("Content-Length", "0"), ("Location", "/moved.bw")):
                self.send_header(name, value)
            self.end_headers()
            return
        start = 0
        if asked and not server.ignore_range and self.headers.get("If-Range") == server.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            last, total = len(server.body) - 1, len(server.body)
            self.send_header("Content-Range", f"bytes {start}-{last}/{total}")
        self.answer(server.body[start:])

    def answer(self, body: bytes) -> None:
        server = self.server
        self.send_header("Content-Type", server.kind)
        if server.etag:
            self.send_header("ETag", server.etag)
        cut = server.cuts.pop(0) if server.cuts else len(body)
        if server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body[:cut]), body[:cut]))
            self.wfile.write(b"0\r\n\r\n" if cut >= len(body) else b"")
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut])
        if cut < len(body):
            self.wfile.flush()
            self.close_connection = True


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


def fetch(server: Server, folder: Path, **options: object) -> Path:
    given = {"md5": MD5, "size": len(BODY), "attempts": 3, "backoff": 0.01} | options
    return fetch_source(server.url, folder / "out" / "x.bw", **given)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out").iterdir())


def test_a_file_arrives_whole_and_alone(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert left(tmp_path) == ["x.bw"] and server.ranges == [None]


def test_a_length_that_the_server_states_is_enough(server: Server, tmp_path: Path) -> None:
    server.etag = ""
    assert fetch(server, tmp_path, md5=None, size=None).read_bytes() == BODY


@pytest.mark.parametrize("chunked", [False, True])
def test_a_broken_transfer_is_continued(server: Server, tmp_path: Path, chunked: bool) -> None:
    server.cuts, server.chunked = [100_000, 50_000], chunked
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert left(tmp_path) == ["x.bw"]


def test_headway_renews_the_attempts(server: Server, tmp_path: Path) -> None:
    server.cuts = [30_000] * 8
    assert fetch(server, tmp_path, attempts=2).read_bytes() == BODY
    assert len(server.ranges) == 9


def test_the_next_run_continues_where_the_last_gave_up(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 0, 0, 0]
    with pytest.raises(FileError, match="tried 3 times without headway, 100000 bytes are kept"):
        fetch(server, tmp_path)
    assert left(tmp_path) == ["x.bw.part", "x.bw.part.json"]
    server.cuts, server.ranges = [], []
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == ["bytes=100000-"] and left(tmp_path) == ["x.bw"]


def test_a_part_of_another_file_is_not_continued(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 0, 0, 0]
    with pytest.raises(FileError):
        fetch(server, tmp_path)
    server.cuts, server.etag, server.body = [], '"two"', BODY[::-1]
    found = fetch(server, tmp_path, md5=hashlib.md5(server.body).hexdigest())
    assert found.read_bytes() == BODY[::-1]


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_name_the_transfer_begins_again(server: Server, tmp_path: Path, etag: str) -> None:
    server.cuts, server.etag = [100_000], etag
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, None]


def test_a_server_that_ignores_ranges_sends_it_all(server: Server, tmp_path: Path) -> None:
    server.cuts, server.ignore_range = [100_000], True
    assert fetch(server, tmp_path).read_bytes() == BODY


def test_a_resumed_file_of_another_md5_is_fetched_once_more(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "out" / "x.bw.part"
    part.parent.mkdir()
    part.write_bytes(b"\0" * 1000)
    part.with_name("x.bw.part.json").write_text(
        f'{{"url": "{server.url}", "validator": "\\"one\\"", "total": {len(BODY)}}}'
    )
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges == ["bytes=1000-", None]


def test_a_wrong_md5_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=f"MD5 is {MD5}, the manifest states {'0' * 32}; .*list the release"):
        fetch(server, tmp_path, md5="0" * 32)
    assert left(tmp_path) == []


def test_a_wrong_size_stops_before_the_transfer(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="the server has 300000 bytes, the manifest states 299999"):
        fetch(server, tmp_path, size=299_999)
    assert left(tmp_path) == []
    server.chunked = True
    with pytest.raises(FileError, match="more than the 299999 bytes that are stated; list the release"):
        fetch(server, tmp_path, size=299_999, md5=None)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "HTTP 404 .*not there"), (403, "HTTP 403 .*refuses"), (401, "needs a login"), (410, "gone")],
)
def test_a_refusal_is_final(server: Server, tmp_path: Path, status: int, message: str) -> None:
    server.statuses = [status]
    with pytest.raises(FileError, match=message):
        fetch(server, tmp_path)
    assert len(server.ranges) == 1 and left(tmp_path) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path, status: int) -> None:
    server.statuses = [status, status]
    assert fetch(server, tmp_path).read_bytes() == BODY
    server.statuses = [status] * 3
    with pytest.raises(FileError, match=f"HTTP {status}; tried 3 times"):
        fetch(server, tmp_path)


def test_redirects_are_followed_but_not_for_ever(server: Server, tmp_path: Path) -> None:
    server.statuses = [307]
    assert fetch(server, tmp_path).read_bytes() == BODY
    server.statuses = [302] * 30
    with pytest.raises(FileError, match=r"[Rr]edirect"):
        fetch(server, tmp_path)


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_is_no_data(server: Server, tmp_path: Path, kind: str) -> None:
    server.kind, server.body = kind, b"\n<!DOCTYPE html><html>Please log in</html>"
    with pytest.raises(FileError, match="a web page instead of data"):
        fetch(server, tmp_path, md5=None, size=None)
    assert left(tmp_path) == []


def test_an_unreachable_server_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"http://127.0.0.1:9/x: .*tried 2 times"):
        fetch_source("http://127.0.0.1:9/x", tmp_path / "out" / "x", attempts=2, backoff=0.01)


def test_a_full_disk_is_named(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(FileError, match="300000 bytes still to come, the disk has 1000 free"):
        fetch(server, tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.undo()
    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(FileError, match="the disk is full; free space and rerun"):
        fetch(server, tmp_path)
    monkeypatch.undo()
    assert fetch(server, tmp_path).read_bytes() == BODY


def test_local_files_are_linked_or_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.bw"
    source.write_bytes(BODY)
    linked = fetch_source(f"file:{source}", tmp_path / "out" / "linked", md5=MD5, size=len(BODY))
    assert linked.samefile(source)
    (tmp_path / "pointer").symlink_to(source)
    pointed = fetch_source(str(tmp_path / "pointer"), tmp_path / "out" / "pointed", md5=MD5)
    assert pointed.samefile(source) and not pointed.is_symlink()

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    copied = fetch_source(f"file://{source}", tmp_path / "out" / "copied", md5=MD5.upper())
    assert copied.read_bytes() == BODY and not copied.samefile(source)
    assert fetch_source(f"file:{source}", copied).read_bytes() == BODY


def test_wrong_local_files_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.bw").write_bytes(BODY)
    for url, options, message in (
        ("none.bw", {}, "none.bw: not found"),
        ("a.bw", {"md5": "0" * 32}, f"MD5 is {MD5}"),
        ("a.bw", {"size": 1}, "300000 bytes, the manifest states 1"),
    ):
        with pytest.raises(FileError, match=message):
            fetch_source(f"file:{tmp_path}/{url}", tmp_path / "out" / "x", **options)
        assert left(tmp_path) == []
    assert (tmp_path / "a.bw").read_bytes() == BODY
