"""A whole manifest side by side: complete under faults, honest about what is missing, continued if killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from megabase.files import FileError
from megabase.plan import Plan
from megabase.seeds import generator
from megabase.settings.data import SourceSettings
from megabase.sources import fetch_all
from megabase.sources.fetch_all import by_turns, fetch_sources
from megabase.sources.ledger import LEDGER
from megabase.sources.manifest import raw_path, read_manifest, write_manifest
from megabase.sources.tally import Tally, readable
from portal import Fault, Portal
from portal.faults import PASSING, RANGES

FAST = SourceSettings(requests_per_second=100_000, attempts=6, connections=8)


def body_of(number: int, size: int = 2000) -> bytes:
    return b"\x01" + generator(number, "fetch all").bytes(size - 1)


def row(portal: Portal, number: int, *faults: Fault, size: int = 2000, **options: Any) -> dict[str, Any]:
    """A file on the portal and its manifest row."""
    accession, body = f"ENCFF{number:06d}", body_of(number, size)
    url = portal.file(f"/files/{accession}/@@download/{accession}.bed.gz", body, *faults, **options)
    return {"portal": "encode", "accession": accession, "output_type": "dnase", "organism": "human",
            "url": url, "md5": hashlib.md5(body).hexdigest(), "size": len(body)}  # fmt: skip


def listed(folder: Path, rows: list[dict[str, Any]]) -> Path:
    write_manifest(rows, folder / "manifest.tsv")
    return folder / "manifest.tsv"


def fetched(folder: Path, rows: list[dict[str, Any]], **options: Any) -> list[Path]:
    given = {"settings": FAST, "backoff": 0.001} | options
    return fetch_sources(listed(folder, rows), folder / "results" / "raw", **given)


def files(folder: Path) -> list[str]:
    """Files below the raw folder that are no business of the run's own."""
    raw = folder / "results" / "raw"
    found = (path.relative_to(raw) for path in raw.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.parts[0] not in (".turns", LEDGER))


@pytest.mark.timeout(300)
def test_two_thousand_files_with_faults_end_complete(portal: Portal, tmp_path: Path) -> None:
    """One file in ten has a fault that passes, of every kind, some two in a row."""
    random = generator(0, "soak")
    rows = []
    for number in range(2000):
        faults: list[Fault] = []
        if random.random() < 0.1:
            first = PASSING[int(random.integers(len(PASSING)))]
            second = RANGES[int(random.integers(len(RANGES)))] if first is Fault.CUT else None
            faults = [fault for fault in (first, second) if fault]
        rows.append(row(portal, number, *faults, wait=0.001))
    paths = fetched(tmp_path, rows)
    assert all(path.read_bytes() == body_of(number) for number, path in enumerate(paths))
    assert files(tmp_path) == [f"encode/ENCFF{number:06d}.bed.gz" for number in range(2000)]
    assert 2150 < len(portal.requests) < 2600  # the faults were there, and cost a request or two each
    assert {request.method for request in portal.requests} == {"GET"}
    portal.requests.clear()
    fetched(tmp_path, rows)
    assert portal.requests == []


def test_files_are_where_the_rule_puts_them(
    portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here.tar.gz").write_bytes(b"local")
    local = row(portal, 3) | {"url": "{data}/here.tar.gz", "md5": None, "size": 5, "output_type": "genome"}
    rows = [row(portal, 1), row(portal, 2) | {"portal": "4dn", "accession": "4DN.x"}, local]
    paths = fetched(tmp_path, rows, data=tmp_path)
    table = read_manifest(tmp_path / "manifest.tsv").to_dicts()
    assert paths == [raw_path(found, tmp_path / "results") for found in table]
    assert paths[2].samefile(tmp_path / "here.tar.gz")
    (tmp_path / "resources" / "manifests").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    write_manifest(rows, "resources/manifests/r.tsv")
    folds = {"names": ["a"], "schemes": {"all": {"valid": [], "test": []}}}
    genomes = {"human": {"organism": "human", "fasta": local["accession"]}}
    config = {"release": "r", "organisms": ["human"], "genomes": genomes, "folds": folds}
    plan = Plan(config | {"teachers": {"folds": []}}, "config.yaml")
    wanted = [path.replace("<results>", "results") for path in plan.raw_files(table)]
    assert [str(path.relative_to(tmp_path)) for path in paths] == wanted


def test_what_fails_is_told_in_a_table_and_the_rest_arrives(
    portal: Portal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(portal, 1), row(portal, 2, always=Fault.REVOKED), row(portal, 3, always=Fault.HTML),
            row(portal, 4, always=Fault.RESET), row(portal, 5),
            row(portal, 6) | {"md5": "0" * 32}]  # fmt: skip
    rows[1]["url"] += "?token=s3cret"
    with pytest.raises(FileError, match="4 of 6 files are not there, the table above tells why; rerun"):
        fetched(tmp_path, rows, settings=FAST.model_copy(update={"attempts": 2}))
    assert files(tmp_path)[:2] == ["encode/ENCFF000001.bed.gz", "encode/ENCFF000004.bed.gz.part"]
    assert "encode/ENCFF000005.bed.gz" in files(tmp_path)
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["accession", "path", "why"] and {len(line) for line in lines} == {3}
    told = {line[0]: line[2] for line in lines[1:]}
    assert list(told) == [f"ENCFF00000{number}" for number in (2, 3, 4, 6)]
    assert "HTTP 403" in told["ENCFF000002"] and "the file was revoked" in told["ENCFF000002"]
    assert "web page" in told["ENCFF000003"] and "tried 2 times" in told["ENCFF000004"]
    assert "the manifest states 00000000" in told["ENCFF000006"]
    assert "s3cret" not in str(told)


def test_a_rerun_fetches_what_is_missing_and_nothing_else(portal: Portal, tmp_path: Path) -> None:
    rows = [row(portal, number) for number in range(4)]
    rows[3]["md5"] = None
    paths = fetched(tmp_path, rows)
    portal.requests.clear()
    paths[1].unlink()
    paths[2].write_bytes(b"\0" * 2000)  # a file that is not what it was
    paths[3].write_bytes(b"")
    (tmp_path / "results" / "raw" / LEDGER).open("a").write("cut sho")
    fetched(tmp_path, rows)
    assert sorted(request.path[-13:-7] for request in portal.requests) == ["000001", "000002", "000003"]
    assert all(path.read_bytes() == body_of(number) for number, path in enumerate(paths))
    portal.requests.clear()
    fetched(tmp_path, rows)
    assert portal.requests == []


def test_known_files_are_not_read_again(
    portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row(portal, number) for number in range(3)]
    fetched(tmp_path, rows)
    compared: list[Path] = []
    real = fetch_all.mismatch
    monkeypatch.setattr(fetch_all, "mismatch", lambda path, *more: compared.append(path) or real(path, *more))
    fetched(tmp_path, rows)
    assert compared == []
    (tmp_path / "results" / "raw" / LEDGER).unlink()  # as of files that the workflow fetched
    paths = fetched(tmp_path, rows)
    assert sorted(compared) == sorted(paths)
    compared.clear()
    rows[0]["md5"] = "0" * 32  # the row states something else now
    with pytest.raises(FileError, match="1 of 3 files"):
        fetched(tmp_path, rows)
    assert compared == [paths[0]] and paths[0].exists()


def test_names_of_files_come_from_the_manifest_alone(portal: Portal, tmp_path: Path) -> None:
    headers = {"Content-Disposition": 'attachment; filename="../../../evil"'}
    portal.file("/storage/..%2F..%2Fevil", body_of(1), headers=headers)
    rows = [row(portal, 1, status=307, location="/storage/..%2F..%2Fevil")]
    rows[0]["url"] = portal.file("/x/n.b%2F..%2F..%2Fevil", body_of(1), headers=headers)
    paths = fetched(tmp_path, rows)
    assert [path.name for path in paths] == ["ENCFF000001.b%2F..%2F..%2Fevil"]
    assert files(tmp_path) == ["encode/ENCFF000001.b%2F..%2F..%2Fevil"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.tsv", "results"]
    for field in ("accession", "portal"):
        for name in ("../x", "..", "a/b", ".turns", "/etc"):
            with pytest.raises(FileError, match=f"{field} .* has characters that a file name should not"):
                fetched(tmp_path, [row(portal, 1) | {field: name}])


def test_nothing_is_done_for_a_manifest_that_cannot_be_used(
    portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileError, match="1 files are planned, such as ENCFF000002"):
        fetched(tmp_path, [row(portal, 1), row(portal, 2) | {"url": "planned:x.bw"}])
    with pytest.raises(ValueError, match="needs the config key `data`"):
        fetched(tmp_path, [row(portal, 1), row(portal, 2) | {"url": "{data}/x.bw"}])
    usage = type("Usage", (), {"free": 3000})()
    with monkeypatch.context() as patch:
        patch.setattr(fetch_all.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(FileError, match="4000 bytes are missing, the disk has 3000 free"):
            fetched(tmp_path, [row(portal, 1), row(portal, 2)])
    assert portal.requests == []


def test_a_full_disk_ends_the_run(
    portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    rows = [row(portal, number) for number in range(20)]
    with monkeypatch.context() as patch:
        patch.setattr("megabase.sources.transfer.os.fsync", full)
        with pytest.raises(FileError, match="20 of 20 files"):
            fetched(tmp_path, rows, settings=FAST.model_copy(update={"connections": 2}))
    told = capsys.readouterr().out
    assert "the disk is full; free space and rerun" in told and "not tried: the disk is full" in told
    assert len(portal.requests) < 20
    assert len(fetched(tmp_path, rows)) == 20


def test_connections_are_kept_and_side_by_side(portal: Portal, tmp_path: Path) -> None:
    """16 files that take a fifth of a second each, over 8 connections, within the time of 8 of them."""
    rows = [row(portal, number, Fault.DRIP, wait=0.01) for number in range(16)]
    began = time.monotonic()
    fetched(tmp_path, rows)
    first, last = portal.requests[0].when, portal.requests[-1].when
    assert last - first < 16 * 0.2 / 2 and time.monotonic() - began > 0.2
    assert len({request.peer for request in portal.requests}) <= 8


def test_the_rate_holds_for_the_run(portal: Portal, tmp_path: Path) -> None:
    rows = [row(portal, number) for number in range(20)]
    fetched(tmp_path, rows, settings=FAST.model_copy(update={"requests_per_second": 40.0}))
    came = sorted(request.when for request in portal.requests)
    assert came[-1] - came[0] >= 0.8 * 19 / 40


def test_hosts_alternate() -> None:
    hosts = ["a", "a", "a", "b", "c", "b"]
    jobs = [
        fetch_all.Job(str(n), f"https://{host}/x", Path("x"), None, fetch_all.Checksums())
        for n, host in enumerate(hosts)
    ]
    assert [job.accession for job in by_turns(jobs)] == ["0", "3", "4", "1", "5", "2"]


def test_the_line_tells_files_bytes_rate_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, *[110.0] * 99])
    monkeypatch.setattr("megabase.sources.tally.time.monotonic", lambda: next(clock))
    tally = Tally([3_000_000_000, 1_000_000_000, None], there=2)
    tally.move(1_000_000_000, counts=False)  # of an earlier run
    tally.move(1_000_000_000, counts=True)
    tally.finished()
    assert tally.line() == (
        "fetch-sources: 1/3 files, 2 GB of 4 GB and 1 of unknown size (50%), 100 MB/s, 0:20 left"
    )
    assert [readable(n) for n in (0, 999, 1500, 4.2e13)] == ["0 B", "999 B", "1.5 kB", "42 TB"]


@pytest.fixture
def killed() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_killed_at_any_moment_it_goes_on(portal: Portal, tmp_path: Path, killed: list) -> None:
    """kill -9 in mid-run: a rerun is complete, asks for no finished file again, and goes on in the others."""
    size = 200_000
    slow = [row(portal, number, Fault.DRIP, size=size, wait=0.2) for number in range(5)]  # 4 s each
    rows = [*slow, *(row(portal, number, size=size) for number in range(5, 20))]
    manifest = listed(tmp_path, rows)
    command = [sys.executable, "-m", "megabase", "fetch-sources", str(manifest), "-o",
               str(tmp_path / "results/raw"), "--connections", "6", "--settings",
               '{"requests_per_second": 1000}']  # fmt: skip
    killed.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    raw = tmp_path / "results" / "raw" / "encode"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = [number for number in range(5, 20) if (raw / f"ENCFF{number:06d}.bed.gz").exists()]
        begun = [n for n in range(5) if _size(raw / f"ENCFF{n:06d}.bed.gz.part") > size // 10]
        if len(done) == 15 and len(begun) >= 3:
            break
        time.sleep(0.002)
    os.kill(killed[0].pid, signal.SIGKILL)
    killed[0].wait()
    assert begun and not any((raw / f"ENCFF{n:06d}.bed.gz").exists() for n in begun)
    asked = len(portal.requests)
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert "all 20 files are there and verified" in again.stderr
    later = portal.requests[asked:]
    assert {int(request.path[-13:-7]) for request in later} == set(range(5))
    resumed = {int(request.path[-13:-7]) for request in later if "range" in request.headers}
    assert set(begun) <= resumed
    for number in range(20):
        assert (raw / f"ENCFF{number:06d}.bed.gz").read_bytes() == body_of(number, size)
    assert files(tmp_path) == [f"encode/ENCFF{number:06d}.bed.gz" for number in range(20)]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_the_command_ends_with_the_table_and_exit_status_1(portal: Portal, tmp_path: Path) -> None:
    signed = row(portal, 3)
    signed["url"] = portal.presigned("/signed.bed.gz", body_of(3))
    manifest = listed(tmp_path, [row(portal, 1), row(portal, 2, always=Fault.NOT_FOUND), signed])
    command = [sys.executable, "-m", "megabase", "fetch-sources", str(manifest), "-o", str(tmp_path / "raw")]
    environment = os.environ | {"MEGABASE_LOGIN_127_0_0_1": "key:s3cret"}
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert found.returncode == 1
    assert found.stdout.splitlines()[0] == "accession\tpath\twhy" and "ENCFF000002" in found.stdout
    assert found.stderr.splitlines()[-1].startswith("error: ") and "1 of 3 files are not" in found.stderr
    told = found.stdout + found.stderr + "".join(path.read_text() for path in tmp_path.rglob(".*.tsv"))
    assert "s3cret" not in told and "Signature" not in told and "AKIA" not in told
    assert portal.requests[0].login == "key:s3cret" and (tmp_path / "raw/encode/ENCFF000003.bed.gz").exists()
