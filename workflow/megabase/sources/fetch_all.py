"""A whole manifest, fetched side by side to where the rule `fetch_source` would put each file.

For machines that move data, and for clusters whose compute nodes have no network: the workflow finds every
file in its place, and fetches none.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from megabase.files import FileError
from megabase.logs import LOGGER
from megabase.settings.data import SourceSettings
from megabase.sources.checksums import Checksums
from megabase.sources.client import PATIENCE, Client
from megabase.sources.credentials import blanked
from megabase.sources.download import fetch_source, mismatch
from megabase.sources.ledger import Ledger
from megabase.sources.manifest import (
    HOW_TO_LIST,
    TURNS,
    filled,
    is_planned,
    raw_name,
    read_manifest,
    resolve_url,
)
from megabase.sources.tally import Share, Stopped, Tally
from megabase.sources.transfer import DiskFull, part_of
from megabase.sources.turns import Turns


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the manifest: where its file is, where it goes, and what is stated of it."""

    accession: str
    url: str
    path: Path
    size: int | None
    stated: Checksums


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that is not there, and why."""

    accession: str
    path: Path
    why: str


def fetch_sources(
    manifest: str | Path,
    output: str | Path,
    *,
    data: str | Path = "",
    settings: SourceSettings | None = None,
    backoff: float = 1.0,
    patience: float = PATIENCE,
) -> list[Path]:
    """Fetch every file of a manifest below the folder `output` (`results/raw`); returns their paths.

    A file that is there and known to be what its row states is left alone; one that is there and is not
    known is compared first. Failing files do not stop the others: they are told in a table at the end, and
    then FileError says how many they are. FileError before any work for a manifest that cannot be used, has
    planned files or needs `data`, and for a disk that has not the room for what is missing.
    """
    settings = settings or SourceSettings()
    folder = Path(output)
    jobs = _jobs(read_manifest(manifest).to_dicts(), folder, data, str(manifest))
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder)
    missing = [job for job in jobs if not ledger.knows(job.path, job.size, job.stated)]
    _check_room(missing, folder)
    tally = Tally([job.size for job in missing], len(jobs) - len(missing))
    turns = Turns(folder / TURNS, settings.requests_per_second)
    with Client(turns, connections=settings.connections, patience=patience) as client, tally:
        work = _Work(client, ledger, tally, settings.attempts, backoff)
        failures = work.all(by_turns(missing), settings.connections)
    if failures:
        _print_table(failures)
        raise FileError(
            f"{manifest}: {len(failures)} of {len(jobs)} files are not there, the table above tells why; "
            "rerun to fetch them, what is there stays"
        )
    LOGGER.info("fetch-sources: all %d files are there and verified, %d of them new", len(jobs), tally.new)
    return [job.path for job in jobs]


def _jobs(rows: Sequence[Mapping[str, Any]], folder: Path, data: str | Path, manifest: str) -> list[Job]:
    if planned := [row["accession"] for row in rows if is_planned(row)]:
        raise FileError(f"{manifest}: {len(planned)} files are planned, such as {planned[0]}; {HOW_TO_LIST}")
    return [
        Job(
            row["accession"], resolve_url(row, data), folder / raw_name(row), row["size"],
            Checksums(row["md5"], row.get("crc32c")),
        )
        for row in map(filled, rows)
    ]  # fmt: skip


def by_turns(jobs: Iterable[Job]) -> list[Job]:
    """Jobs in an order in which hosts alternate, so that one slow host does not hold all connections."""
    seen: dict[str, int] = {}
    order = []
    for number, job in enumerate(jobs):
        host = urlsplit(job.url).hostname or ""
        seen[host] = seen.get(host, 0) + 1
        order.append((seen[host], number, job))
    return [job for _, _, job in sorted(order, key=lambda item: item[:2])]


def _check_room(missing: Sequence[Job], folder: Path) -> None:
    """FileError if what is missing, as far as its sizes are known, does not fit on the disk."""
    files = (job for job in missing if job.url.startswith(("http:", "https:")) and not job.path.exists())
    needed = sum(max(0, (job.size or 0) - _have(part_of(job.path))) for job in files)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(
            f"{folder}: {needed} bytes are missing, the disk has {free} free; free space and rerun"
        )


def _have(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Work:
    """The downloads of one run, over one set of connections."""

    def __init__(self, client: Client, ledger: Ledger, tally: Tally, attempts: int, backoff: float) -> None:
        self._client, self._ledger, self._tally = client, ledger, tally
        self._attempts, self._backoff = attempts, backoff

    def all(self, jobs: Sequence[Job], connections: int) -> list[Failure]:
        """Do all jobs; those that failed, in the order of the accessions."""
        failures = []
        with ThreadPoolExecutor(connections, thread_name_prefix="fetch") as pool:
            running = {pool.submit(self.one, job): job for job in jobs}
            try:
                for done in as_completed(running):
                    if failure := done.result():
                        failures.append(failure)
            except BaseException:
                self._tally.stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return sorted(failures, key=lambda failure: failure.accession)

    def one(self, job: Job) -> Failure | None:
        """Make one file be there and right; why it is not, if it is not."""
        if self._tally.stop.is_set():
            return Failure(job.accession, job.path, "not tried: the disk is full")
        share = Share(self._tally)
        try:
            if job.path.is_file() and not mismatch(job.path, job.stated, job.size):
                share.begin(_have(job.path), job.size)
            else:
                self._fetch(job, share)
            self._ledger.add(job.path, job.size, job.stated)
        except Stopped:
            return Failure(job.accession, job.path, "broken off: the disk is full; what has come stays")
        except DiskFull as error:
            self._tally.stop.set()
            return Failure(job.accession, job.path, blanked(error))
        except (ValueError, OSError) as error:
            return Failure(job.accession, job.path, " ".join(blanked(error).split()))
        self._tally.finished()
        return None

    def _fetch(self, job: Job, share: Share) -> None:
        if job.path.exists():
            LOGGER.warning("%s: is not what the manifest states; fetching it anew", job.path)
        fetch_source(
            job.url, job.path, md5=job.stated.md5, size=job.size, crc32c=job.stated.crc32c,
            attempts=self._attempts, backoff=self._backoff, client=self._client, told=share,
        )  # fmt: skip
        share.begin(_have(job.path), job.size)
        self._tally.fetched()


def _print_table(failures: Iterable[Failure]) -> None:
    """`accession  path  why`, a line a file, on standard output: to be kept, sorted or counted."""
    lines = ["accession\tpath\twhy", *(f"{f.accession}\t{f.path}\t{f.why}" for f in failures)]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
