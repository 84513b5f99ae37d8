"""Every fault of a portal, met by `fetch_source`: what the user sees, what is asked again, what is left.

The invariant of all: a file has its name only when it is whole and right.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from download_stand_ins import BODY, CRC, MD5, MD5_64, OTHER, PATH, fetch, left, statuses

from megabase.files import FileError
from megabase.sources import transfer
from megabase.sources.turns import Turns
from portal import Fault, Portal
from portal.faults import LASTING, PASSING, RANGES


@pytest.mark.parametrize("stated", [True, False], ids=["stated", "nothing stated"])
@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.name)
def test_what_passes_is_asked_again(portal: Portal, tmp_path: Path, fault: Fault, stated: bool) -> None:
    url = portal.file(PATH, BODY, fault, fault)
    options = {} if stated else {"size": None, "md5": None}
    silent = fault in (Fault.CUT_SILENT, Fault.CUT_ENDED, Fault.CORRUPT)
    if not stated and silent:
        if fault is Fault.CORRUPT:  # a length and nothing else: as right as anyone can tell
            assert len(fetch(url, tmp_path, **options).read_bytes()) == len(BODY)
            return
        with pytest.raises(FileError, match=r"no length, .*its 50000 bytes are all; state its size, md5"):
            fetch(url, tmp_path, **options)
        assert left(tmp_path) == []
        return
    if fault is Fault.CORRUPT:  # fetched once more, and then believed to be what the portal has
        with pytest.raises(FileError, match=r"MD5 is .*list the release again"):
            fetch(url, tmp_path)
        assert left(tmp_path) == []
        url = portal.file(PATH, BODY, fault)
    assert fetch(url, tmp_path, **options).read_bytes() == BODY
    assert left(tmp_path) == ["x.bw"]


@pytest.mark.parametrize("fault", RANGES, ids=lambda fault: fault.name)
@pytest.mark.parametrize("md5", [MD5, None])
def test_odd_answers_to_a_range(portal: Portal, tmp_path: Path, fault: Fault, md5: str | None) -> None:
    url = portal.file(PATH, BODY, Fault.CUT, fault)
    assert fetch(url, tmp_path, md5=md5).read_bytes() == BODY
    wanted = {Fault.RANGE_IGNORED: [], Fault.RANGE_REFUSED: [416], Fault.RANGE_WRONG: [206]}[fault]
    assert statuses(portal) == [200, *wanted, 200] and left(tmp_path) == ["x.bw"]


WORDS = {
    Fault.NOT_FOUND: "HTTP 404 Not Found: the file is not there; the portal says: Not Found",
    Fault.NO_RESULTS: "HTTP 404 .*the portal says: No results found",
    Fault.NO_OBJECT: "HTTP 404 .*says: Not Found; The resource could not be found.; no such accession",
    Fault.REVOKED: "HTTP 403 .*revoked, or it needs a login.*says: Forbidden; .*denied .*file was revoked",
    Fault.DENIED: "HTTP 403 .*the portal says: AccessDenied: Access Denied",
    Fault.LOGIN: r"HTTP 401 .*needs a login \(logins come from MEGABASE_LOGIN_\{HOST\}=user:secret or",
    Fault.HTML: "a web page instead of data; open it in a browser",
    Fault.HTML_AS_DATA: "a web page instead of data; open it in a browser",
    Fault.COMPRESSED: r"packs the file on the way \(gzip\)",
}


@pytest.mark.parametrize("fault", LASTING, ids=lambda fault: fault.name)
def test_a_refusal_is_final_and_in_the_portals_words(portal: Portal, tmp_path: Path, fault: Fault) -> None:
    url = portal.file(PATH, BODY, always=fault)
    with pytest.raises(FileError, match=WORDS[fault]) as error:
        fetch(url, tmp_path, size=None, md5=None)
    assert str(error.value).startswith(f"{url}: ")
    assert len(portal.requests) == 1 and left(tmp_path) == []


def test_every_fault_has_a_test() -> None:
    assert {*PASSING, *RANGES, *WORDS, Fault.STALL} == set(Fault)


def test_silence_is_broken_off_and_taken_up(portal: Portal, tmp_path: Path) -> None:
    url = portal.file(PATH, BODY, Fault.STALL, wait=1.5)
    assert fetch(url, tmp_path, patience=0.3).read_bytes() == BODY
    assert [request.headers.get("range") for request in portal.requests] == [None, "bytes=50000-"]


def test_a_slow_portal_is_waited_for(portal: Portal, tmp_path: Path) -> None:
    """Longer in all than the patience, but never silent for so long."""
    url = portal.file(PATH, BODY, Fault.DRIP, wait=0.05)
    assert fetch(url, tmp_path, patience=0.7).read_bytes() == BODY
    assert statuses(portal) == [200]


@pytest.mark.parametrize("date", [False, True], ids=["seconds", "date"])
def test_retry_after_holds_back_the_other_jobs(portal: Portal, tmp_path: Path, date: bool) -> None:
    """One job is told to wait; another one, which shares the folder of turns, waits as well."""
    asked = formatdate(time.time() + 3, usegmt=True) if date else "2"  # a date has whole seconds: 2 to 3
    url = portal.file("/busy", BODY, always=Fault.BUSY, retry_after=asked)
    with pytest.raises(FileError, match="HTTP 429; tried 1 times"):
        fetch(url, tmp_path, attempts=1, turns=Turns(tmp_path / "turns", 1000.0))
    told = portal.requests[-1].when
    fetch(portal.file("/other", BODY), tmp_path, turns=Turns(tmp_path / "turns", 1000.0))
    assert portal.seen("/other")[0].when - told >= 1.9


def test_retry_after_is_waited_for_without_turns(portal: Portal, tmp_path: Path) -> None:
    url = portal.file(PATH, BODY, Fault.BUSY, retry_after="1")
    fetch(url, tmp_path)
    first, second = (request.when for request in portal.requests)
    assert second - first >= 0.99


@pytest.mark.parametrize("text", ["soon", "-5", "Wed, 21 Oct 2015 07:28:00 GMT", ""])
def test_retry_after_that_asks_for_nothing(portal: Portal, tmp_path: Path, text: str) -> None:
    assert fetch(portal.file(PATH, BODY, Fault.BUSY, retry_after=text), tmp_path).read_bytes() == BODY


def test_crc32c_is_compared(portal: Portal, tmp_path: Path) -> None:
    url = portal.file(PATH, BODY)
    assert fetch(url, tmp_path, md5=None, crc32c=CRC).read_bytes() == BODY
    (tmp_path / "out" / "x.bw").unlink()
    with pytest.raises(FileError, match=f"CRC-32C is {CRC}, the manifest states AAAAAA==; .*list the rel"):
        fetch(url, tmp_path, md5=None, crc32c="AAAAAA==")
    assert left(tmp_path) == []
    with pytest.raises(FileError, match=f"CRC-32C is {CRC}"):
        fetch(url, tmp_path, crc32c="AAAAAA==")  # the MD5 is right
    (tmp_path / "local").write_bytes(BODY)
    with pytest.raises(FileError, match=f"CRC-32C is {CRC}"):
        fetch(f"file:{tmp_path}/local", tmp_path, crc32c="AAAAAA==")


def test_a_server_that_says_it_sent_what_arrived_is_not_asked_twice(portal: Portal, tmp_path: Path) -> None:
    """Its checksum agrees with the bytes: the manifest is of another version, not the transfer bad."""
    headers = {"x-goog-hash": f"crc32c={CRC},md5={MD5_64}"}
    url = portal.file(PATH, BODY, headers=headers)
    with pytest.raises(FileError, match=f"MD5 is {MD5}, the manifest states"):
        fetch(url, tmp_path, md5="0" * 32)
    assert len(portal.requests) == 1
    portal.file(PATH, BODY)
    with pytest.raises(FileError, match=f"MD5 is {MD5}, the manifest states"):
        fetch(url, tmp_path, md5="0" * 32)
    assert len(portal.requests) == 3 and left(tmp_path) == []


def test_the_servers_checksum_counts_where_the_manifest_has_none(portal: Portal, tmp_path: Path) -> None:
    for headers in ({"x-goog-hash": f"crc32c={CRC}"}, {"Content-MD5": MD5_64}):
        url = portal.file(PATH, BODY, Fault.CORRUPT, headers=headers)
        assert fetch(url, tmp_path, md5=None).read_bytes() == BODY
        url = portal.file(PATH, BODY, always=Fault.CORRUPT, headers=headers)
        (tmp_path / "out" / "x.bw").unlink()
        with pytest.raises(FileError, match="the server states"):
            fetch(url, tmp_path, md5=None)
        assert left(tmp_path) == []
    unpacked = {"x-goog-hash": "crc32c=AAAAAA==", "x-goog-stored-content-encoding": "gzip"}
    assert fetch(portal.file(PATH, BODY, headers=unpacked), tmp_path, md5=None).read_bytes() == BODY


def test_a_file_of_no_stated_length_is_whole_if_its_format_says_so(portal: Portal, tmp_path: Path) -> None:
    packed = gzip.compress(BODY)
    url = portal.file(PATH, packed, Fault.CUT_SILENT, Fault.CUT_ENDED, Fault.CUT_CHUNKED, stated=False)
    assert fetch(url, tmp_path, md5=None, size=None).read_bytes() == packed
    assert ["range" in request.headers for request in portal.requests] == [False, True, True, True]
    url = portal.file(PATH, packed, always=Fault.CUT_ENDED, etag="")
    with pytest.raises(FileError, match=r"broke off after .* gzip without its trailer; tried 3 times"):
        fetch(url, tmp_path, md5=None, size=None)
    assert "x.bw" in left(tmp_path) and (tmp_path / "out" / "x.bw").read_bytes() == packed  # the old one


def test_a_killed_download_leaves_no_mixture_of_two_versions(
    portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file changed while its download was broken off, and the next run dies between notes and bytes."""
    url = portal.file(PATH, BODY, Fault.CUT, always=Fault.RESET_EARLY)
    with pytest.raises(FileError):
        fetch(url, tmp_path, md5=None)

    state: dict[Path, bytes] = {}

    def killed(*_: object) -> None:
        state.update({path: path.read_bytes() for path in (tmp_path / "out").iterdir()})
        raise KeyboardInterrupt

    portal.file(PATH, OTHER)
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_append", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(url, tmp_path, md5=None)
    assert sorted(path.name for path in state) == ["x.bw.part", "x.bw.part.json"]
    for path, content in state.items():  # as a kill would have left them
        path.write_bytes(content)
    assert fetch(url, tmp_path, md5=None).read_bytes() == OTHER


def test_a_file_that_changes_while_it_is_fetched(portal: Portal, tmp_path: Path) -> None:
    url = portal.file(PATH, BODY, Fault.CHANGED)
    assert fetch(url, tmp_path, md5=None).read_bytes() == BODY
    assert statuses(portal) == [200, 200] and "if-range" in portal.requests[1].headers
    portal.file(PATH, BODY, Fault.CUT, etag='"same"')
    portal.requests.clear()
    with pytest.raises(FileError, match="the server has 60000 bytes, the manifest states 100000"):
        real = portal.find

        def find(target: str):  # the same ETag, but fewer bytes
            found = real(target)
            if len(portal.requests) > 1:
                found.body = BODY[:60_000]
            return found

        portal.find = find  # type: ignore[method-assign]
        fetch(url, tmp_path, md5=None)


def test_a_disk_that_fills_up_in_mid_write(
    portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written stays, and the next run goes on from it."""
    url = portal.file(PATH, BODY, Fault.DRIP, wait=0.0)
    real, room = Path.open, 30_000

    class Full:
        def __init__(self, handle) -> None:
            self.handle = handle

        def write(self, block: bytes) -> int:
            if self.handle.tell() + len(block) > room:
                raise OSError(28, "No space left on device")
            return self.handle.write(block)

        def __getattr__(self, name: str):
            return getattr(self.handle, name)

        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None:
            self.handle.close()

    def opened(path: Path, mode: str = "r", *more, **options):
        handle = real(path, mode, *more, **options)
        return Full(handle) if mode == "r+b" else handle

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(FileError, match="the disk is full; free space and rerun, a download resumes"):
            fetch(url, tmp_path)
    kept = (tmp_path / "out" / "x.bw.part").stat().st_size
    assert 0 < kept <= room and not (tmp_path / "out" / "x.bw").exists()
    assert fetch(url, tmp_path).read_bytes() == BODY
    assert portal.requests[-1].headers["range"] == f"bytes={kept}-"


def test_two_jobs_that_fetch_one_file(
    portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue may start a job twice: one waits for the other, and takes what it has fetched."""
    url, output = portal.file(PATH, BODY), tmp_path / "out" / "x.bw"
    output.parent.mkdir()
    waits, real = threading.Event(), fcntl.flock

    def flock(handle: int, how: int) -> None:
        if how == fcntl.LOCK_EX:
            waits.set()
        real(handle, how)

    second = threading.Thread(target=fetch, args=(url, tmp_path))
    with transfer.held(transfer.part_of(output)):
        monkeypatch.setattr(transfer.fcntl, "flock", flock)
        second.start()
        assert waits.wait(60)
        output.write_bytes(BODY)
        transfer.part_of(output).unlink()
    second.join()
    assert portal.requests == [] and left(tmp_path) == ["x.bw"]
    fetch(url, tmp_path)  # it is nobody's any more
    assert statuses(portal) == [200]


def test_notes_are_json_with_what_the_server_said(portal: Portal, tmp_path: Path) -> None:
    url = portal.file(
        PATH, BODY, Fault.CUT, always=Fault.RESET_EARLY, headers={"x-goog-hash": f"crc32c={CRC}"}
    )
    with pytest.raises(FileError):
        fetch(url, tmp_path)
    notes = json.loads((tmp_path / "out" / "x.bw.part.json").read_text())
    tag = f'"{MD5}"'
    assert notes == {"url": url, "validator": tag, "total": len(BODY), "md5": "", "crc32c": CRC}
