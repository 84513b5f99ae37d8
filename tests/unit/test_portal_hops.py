"""Redirects, presigned links, logins and names: what goes to which server, and what no message shows."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from download_stand_ins import BODY, PATH, fetch, left, statuses

from megabase.files import FileError
from megabase.sources import client
from portal import Fault, Portal


def test_presigned_links_are_made_anew_and_never_asked_for_by_head(portal: Portal, tmp_path: Path) -> None:
    with Portal("127.0.0.2") as storage:
        url = portal.presigned(PATH, BODY, Fault.CUT, Fault.RESET, storage=storage)
        assert fetch(url, tmp_path).read_bytes() == BODY
    assert statuses(portal) == [307] * 3 and [r.method for r in storage.requests] == ["GET"] * 3
    assert len({request.target for request in storage.requests}) == 3  # a link each
    assert [request.status for request in storage.requests] == [200, 206, 206]


def test_secrets_of_links_are_in_no_message_and_no_note(
    portal: Portal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = portal.presigned(PATH, BODY, Fault.CUT, always=Fault.RESET_EARLY)
    with pytest.raises(FileError) as error:
        fetch(f"{url}?token=s3cret1&sig=s3cret2", tmp_path)
    assert "tried 3 times without headway, 50000 bytes are kept" in str(error.value)
    notes = (tmp_path / "out" / "x.bw.part.json").read_text()
    assert {"megabase"} <= {record.name for record in caplog.records}
    for text in (str(error.value), repr(error.value), notes, caplog.text):
        assert "s3cret" not in text and "secret1" not in text and "AKIA" not in text
    assert "token=***&sig=***" in notes and "token=***" in caplog.text
    assert error.value.__cause__ is None


def test_a_part_goes_on_under_a_new_signature(portal: Portal, tmp_path: Path) -> None:
    portal.file(PATH, BODY, Fault.CUT, always=Fault.RESET_EARLY)
    with pytest.raises(FileError):
        fetch(f"{portal.url}{PATH}?sig=one", tmp_path)
    portal.file(PATH, BODY)
    assert fetch(f"{portal.url}{PATH}?sig=two", tmp_path).read_bytes() == BODY
    assert portal.requests[-1].headers["range"] == "bytes=50000-"


def test_a_login_goes_to_its_host_and_no_further(
    portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MEGABASE_LOGIN_127_0_0_1", "key:s3cret")
    monkeypatch.setenv("MEGABASE_LOGIN_127_0_0_2", "other:s3cret")
    with Portal("127.0.0.2") as storage:
        back = portal.file("/back.bw", BODY)
        there = storage.file("/there.bw", b"", status=307, location=back)
        portal.file("/here.bw", b"", status=302, location=there)
        url = portal.file(PATH, b"", status=307, location="/here.bw", login="key:s3cret")
        assert fetch(url, tmp_path).read_bytes() == BODY
    logins = [(request.path, request.login) for request in portal.requests]
    assert logins == [(PATH, "key:s3cret"), ("/here.bw", "key:s3cret"), ("/back.bw", None)]
    assert [request.login for request in storage.requests] == [None]
    assert "s3cret" not in caplog.text and "a2V5OnMzY3JldA" not in caplog.text


def test_another_port_is_another_server(
    portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEGABASE_LOGIN_127_0_0_1", "key:s3cret")
    with Portal() as neighbour:
        url = portal.file(PATH, b"", status=307, location=neighbour.file("/x.bw", BODY))
        assert fetch(url, tmp_path).read_bytes() == BODY
    assert [request.login for request in neighbour.requests] == [None]


def test_netrc_is_read_and_its_default_is_for_nobody(
    portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login all password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    url = portal.file(PATH, BODY)
    fetch(url, tmp_path)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login anna password s3cret\n")
    fetch(url, tmp_path)
    assert [request.login for request in portal.requests] == [None, "anna:s3cret"]


def test_a_login_in_a_url_is_not_sent(portal: Portal, tmp_path: Path) -> None:
    url = portal.file(PATH, BODY).replace("://", "://user:s3cret@")
    with pytest.raises(FileError, match="has a login in it; take it out") as error:
        fetch(url, tmp_path)
    assert "s3cret" not in str(error.value) and portal.requests == []


def test_paths_travel_as_they_are(portal: Portal, tmp_path: Path) -> None:
    """FANTOM5's names are encoded twice; a client that puts URLs in order asks for another file."""
    path = "/5/chronic%2520myelogenous%252c%2520biol_rep1.CNhs12334.10824-111C5.hg38.nobarcode.ctss.bed.gz"
    url = portal.file(path, BODY)
    assert fetch(url, tmp_path).read_bytes() == BODY
    moved = portal.file("/moved%2520.gz", b"", status=307, location=path)
    assert fetch(moved, tmp_path).read_bytes() == BODY
    assert [request.target for request in portal.requests] == [path, "/moved%2520.gz", path]


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "x%2F..%2F..%2Fy", "..\\x"])
def test_a_name_that_the_server_gives_is_not_used(portal: Portal, tmp_path: Path, name: str) -> None:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Location": f"/{name}"}
    portal.file("/storage/x", BODY, headers=headers)
    url = portal.file(PATH, b"", status=307, location=f"/storage/x?response-content-disposition={name}")
    portal.file("/storage/x", BODY, headers=headers)
    assert fetch(url, tmp_path) == tmp_path / "out" / "x.bw"
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "x.bw"]


def test_redirects_to_nowhere(portal: Portal, tmp_path: Path) -> None:
    for location, message in (
        ("ftp://a.org/x?sig=s3cret", r"leads to ftp://a.org/x\?sig=\*\*\*, which is no http"),
        ("file:///etc/passwd", "leads to file:/+etc/passwd, which is no http"),
    ):
        url = portal.file(PATH, b"", status=307, location=location)
        with pytest.raises(FileError, match=message):
            fetch(url, tmp_path)
        assert left(tmp_path) == []
    url = portal.file(PATH, b"", status=307, location=PATH)
    portal.requests.clear()
    with pytest.raises(FileError, match=f"more than {client.MOST_REDIRECTS} redirects"):
        fetch(url, tmp_path)
    assert len(portal.requests) == client.MOST_REDIRECTS + 1
