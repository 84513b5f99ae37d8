"""One file of a release, fetched and verified: whole and right under its name, or not there at all.

A transfer that broke off is taken up again, in this run or the next: what has arrived stays beside the
output as `{name}.part`, with what the server called it in `{name}.part.json`. How it is asked for is in
docs/sources.md, with every fault and what becomes of it.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from megabase.files import FileError, atomic_path
from megabase.logs import LOGGER, Progress, progress
from megabase.sources.checksums import Checksums, checksums_of
from megabase.sources.client import PATIENCE, Client, tried_again
from megabase.sources.credentials import blanked
from megabase.sources.manifest import HOW_TO_LIST, PLANNED, local_path
from megabase.sources.transfer import DiskFull, Served, Told, forget, held, notes_of, part_of, transfer
from megabase.sources.turns import Turns

_ADVICE = "the file has changed or the manifest is wrong: list the release again, or correct the row"


def fetch_source(
    url: str,
    output: str | Path,
    *,
    md5: str | None = None,
    size: int | None = None,
    crc32c: str | None = None,
    attempts: int = 6,
    backoff: float = 1.0,
    turns: Turns | None = None,
    client: Client | None = None,
    told: Told | None = None,
    patience: float = PATIENCE,
) -> Path:
    """Fetch `url` (`http(s)://...`, `file:...` or a path) to `output`, verify it, and return its path.

    A local file is hard-linked where the file system allows it, else copied. A download resumes where it
    broke off if the server still has the same file, and is tried `attempts` times without headway, waiting
    `backoff` seconds, then twice that, and so on. turns: the rate limit of hosts. client: connections that
    are shared with other downloads (it has the turns, then). told: gets the bytes as they come, else a
    progress line. patience: seconds without a byte. FileError, with nothing at `output`, for a missing file,
    a server's refusal, a web page instead of data, a size or checksum that is not the stated one, a file
    that nothing proves to be whole, a full disk.
    """
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    stated = Checksums(md5.lower() if md5 else None, crc32c or None)
    try:
        if url.startswith(("http://", "https://")):
            with ExitStack() as stack:
                client = client or stack.enter_context(Client(turns, patience=patience))
                told = told or stack.enter_context(_Line(output.name))
                return _fetch_remote(client, url, output, stated, size, attempts, backoff, told)
        if url.startswith(f"{PLANNED}:"):
            raise FileError(f"{url}: is planned, nobody has found the file yet; {HOW_TO_LIST}")
        return _fetch_local(local_path(url), output, stated, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(f"{output}: the disk is full; free space and rerun, a download resumes") from error


def _fetch_remote(
    client: Client,
    url: str,
    output: Path,
    stated: Checksums,
    size: int | None,
    attempts: int,
    backoff: float,
    told: Told,
) -> Path:
    """Download to the part beside `output`, verify, rename; bytes that are wrong are fetched once more."""
    part = part_of(output)

    def ask() -> Served:
        return transfer(client, url, part, size, told, summed=bool(stated))

    def wrong() -> tuple[str, bool]:
        served = tried_again(
            ask, url, attempts=attempts, backoff=backoff, reached=lambda: part.stat().st_size
        )
        return _compared(part, stated, size, served.checksums)

    with held(part) as waited:
        if waited and output.is_file() and not mismatch(output, stated, size):
            return output  # the one that was waited for has fetched it
        problem, final = wrong()
        if problem and not final:
            LOGGER.warning("%s: %s; fetching it once more", blanked(url), problem)
            forget(part)
            problem, _ = wrong()
        if problem:
            forget(part)
            raise FileError(f"{blanked(url)}: {problem}; {_ADVICE}")
        notes_of(part).unlink(missing_ok=True)
        os.replace(part, output)
    return output


def _fetch_local(source: Path, output: Path, stated: Checksums, size: int | None) -> Path:
    """Link or copy a file of this machine, verified before it gets its name."""
    if not source.is_file():
        raise FileError(f"{source}: not found; correct the url in the manifest, or the config key `data`")
    with atomic_path(output) as temporary:
        try:
            os.link(source.resolve(), temporary)
        except OSError:  # another file system, or one that has no hard links
            shutil.copyfile(source, temporary)
        if problem := mismatch(temporary, stated, size):
            raise FileError(f"{source}: {problem}; {_ADVICE}")
    return output


def mismatch(path: Path, stated: Checksums, size: int | None) -> str:
    """How a file differs from the size and checksums that the manifest states; empty if it does not."""
    return _compared(path, stated, size, Checksums())[0]


def _compared(path: Path, stated: Checksums, size: int | None, told: Checksums) -> tuple[str, bool]:
    """(how a file differs from what the manifest states, whether it is what the server says that it sent).

    Checksums of the server count where the manifest states none.
    """
    found = path.stat().st_size
    if size is not None and found != size:
        return f"{found} bytes, the manifest states {size}", False
    sums = checksums_of(path, Checksums(stated.md5 or told.md5, stated.crc32c or told.crc32c))
    if problem := stated.differences(sums, "the manifest"):
        return problem, bool(told) and not told.differences(sums, "")
    return ("" if stated else told.differences(sums, "the server")), False


class _Line:
    """The progress line of one download, from when its length is known."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown = ExitStack()
        self._line: Progress | None = None

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def begin(self, have: int, total: int | None) -> None:
        """A new answer, a new line."""
        self._shown.close()
        self._line = None
        if total:
            self._line = self._shown.enter_context(progress(total, self._name, "B", have))

    def advance(self, n: int) -> None:
        if self._line is not None:
            self._line.advance(n)
