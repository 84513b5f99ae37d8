"""One file of a release, fetched and verified: whole and right under its name, or not there at all.

A transfer that broke off is taken up again, in this run or the next: what has arrived stays beside the
output as `{name}.part`, with what the server called it in `{name}.part.json`.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from megabase import __version__
from megabase.files import FileError, atomic_path
from megabase.logs import LOGGER, progress
from megabase.seeds import generator
from megabase.sources.manifest import HOW_TO_LIST, PLANNED, local_path, md5_of

RETRY_STATUS = (408, 425, 429, 500, 502, 503, 504)
MAX_WAIT = 300.0  # seconds, however long a server asks for
_HEADERS = {"User-Agent": f"megabase/{__version__}", "Accept-Encoding": "identity"}
_WEB_PAGE = (b"<!doctype html", b"<html")


def fetch_source(
    url: str,
    output: str | Path,
    *,
    md5: str | None = None,
    size: int | None = None,
    attempts: int = 6,
    backoff: float = 1.0,
) -> Path:
    """Fetch `url` (`http(s)://...`, `file:...` or a path) to `output`, verify it, and return its path.

    A local file is hard-linked where the file system allows it, else copied. A download resumes where it
    broke off if the server still has the same file, and is tried `attempts` times without headway, waiting
    `backoff` seconds, then twice that, and so on. FileError, with nothing at `output`, for a missing file, a
    server's refusal, a web page instead of data, a size or MD5 that is not the stated one, a full disk.
    """
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        if url.startswith(("http://", "https://")):
            return _fetch_remote(url, output, md5, size, attempts, backoff)
        if url.startswith(f"{PLANNED}:"):
            raise FileError(f"{url}: is planned, nobody has found the file yet; {HOW_TO_LIST}")
        return _fetch_local(local_path(url), output, md5, size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise FileError(f"{output}: the disk is full; free space and rerun, a download resumes") from error


def _fetch_remote(
    url: str, output: Path, md5: str | None, size: int | None, attempts: int, backoff: float
) -> Path:
    """Download to the part beside `output`, verify, rename; a part that is whole but wrong is forgotten."""
    part = output.with_name(f"{output.name}.part")
    fresh = _download(url, part, size, attempts, backoff)
    if not fresh and md5 and md5_of(part) != md5.lower():
        LOGGER.warning("%s: the resumed download has another MD5, starting again", url)
        _forget(part)
        _download(url, part, size, attempts, backoff)
    try:
        _verify(part, url, md5, size)
    except FileError:
        _forget(part)
        raise
    os.replace(part, output)
    _forget(part)
    return output


def _fetch_local(source: Path, output: Path, md5: str | None, size: int | None) -> Path:
    """Link or copy a file of this machine, verified before it gets its name."""
    if not source.is_file():
        raise FileError(f"{source}: not found; correct the url in the manifest, or the config key `data`")
    with atomic_path(output) as temporary:
        try:
            os.link(source.resolve(), temporary)
        except OSError:  # another file system, or one that has no hard links
            shutil.copyfile(source, temporary)
        _verify(temporary, str(source), md5, size)
    return output


def _verify(path: Path, origin: str, md5: str | None, size: int | None) -> None:
    """FileError if a file has not the stated size or MD5."""
    advice = "the file has changed or the manifest is wrong: list the release again, or correct the row"
    found = path.stat().st_size
    if size is not None and found != size:
        raise FileError(f"{origin}: {found} bytes, the manifest states {size}; {advice}")
    if md5 and (digest := md5_of(path)) != md5.lower():
        raise FileError(f"{origin}: MD5 is {digest}, the manifest states {md5}; {advice}")


@dataclass(frozen=True, slots=True)
class _Served:
    """What the server called the file of a part: only the same file may be continued."""

    url: str
    validator: str = ""  # strong ETag, else Last-Modified
    total: int | None = None


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def _earlier(part: Path, url: str) -> _Served | None:
    """What an earlier run noted of its part; None (and no part) unless it can be continued."""
    try:
        served = _Served(**json.loads(_notes(part).read_text()))
    except (OSError, ValueError, TypeError):
        served = None
    if served is None or served.url != url or not served.validator or not part.exists():
        _forget(part)
        return None
    return served


class _Broken(Exception):
    """A transfer that may succeed if it is tried again; `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def _download(url: str, part: Path, size: int | None, attempts: int, backoff: float) -> bool:
    """Fill `part` from `url`; whether it came in one piece, that is, without resuming."""
    fresh, failures, reached = True, 0, 0
    jitter = generator(0, "fetch_source", url)
    with httpx.Client(headers=_HEADERS, follow_redirects=True, timeout=httpx.Timeout(60.0)) as client:
        while True:
            try:
                return _transfer(client, url, part, size) and fresh
            except (httpx.TooManyRedirects, httpx.InvalidURL) as error:
                raise FileError(f"{url}: {error}; correct the manifest's url") from error
            except (_Broken, httpx.TransportError) as error:
                have = part.stat().st_size if part.exists() else 0
                failures = 1 if have > reached else failures + 1
                reached, fresh = max(reached, have), False
                if failures >= attempts:
                    raise FileError(
                        f"{url}: {error or type(error).__name__}; tried {attempts} times without headway, "
                        f"{have} bytes are kept; rerun to continue"
                    ) from error
                wait = backoff * 2 ** (failures - 1) * (1 + jitter.random() / 2)
                wait = min(max(wait, getattr(error, "wait", 0.0)), MAX_WAIT)
                LOGGER.warning("%s: %s; trying again in %.1f s", url, error or type(error).__name__, wait)
                time.sleep(wait)


def _transfer(client: httpx.Client, url: str, part: Path, size: int | None) -> bool:
    """One request: append to `part` what is missing; whether it began at the first byte. Raises _Broken."""
    served = _earlier(part, url)
    have = part.stat().st_size if served else 0
    if served and served.total == have:
        return False
    headers = {"Range": f"bytes={have}-", "If-Range": served.validator} if served and have else {}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 416:
            _forget(part)
            raise _Broken("the part kept is not of this file")
        _check_answer(response, url)
        resumed = response.status_code == 206
        if resumed and _range_start(response) != have:
            _forget(part)
            raise _Broken(f"asked from byte {have}, got {response.headers.get('content-range')!r}")
        have = have if resumed else 0
        total = _total(response, have)
        if size is not None and total is not None and total != size:
            raise FileError(f"{url}: the server has {total} bytes, the manifest states {size}; list it again")
        _check_space(part, (total or size or 0) - have)
        note = _Served(url, _validator(response), total)
        _notes(part).write_text(json.dumps(asdict(note)))
        _append(response, part, have, total or size)
    found = part.stat().st_size
    wanted = size if total is None else total
    if wanted is not None and found < wanted:
        raise _Broken(f"broke off after {found} of {wanted} bytes")
    return not resumed


def _check_answer(response: httpx.Response, url: str) -> None:
    """_Broken for an answer that may change, FileError for one that will not."""
    status = response.status_code
    if status in RETRY_STATUS:
        asked = response.headers.get("retry-after", "")
        raise _Broken(f"HTTP {status}", float(asked) if asked.isdigit() else 0.0)
    if status not in (200, 206):
        text = f"{url}: HTTP {status} {response.reason_phrase}"
        reasons = {404: "the file is not there", 410: "the file is gone", 401: "it needs a login",
                   403: "the portal refuses it (revoked, or it needs a login)"}  # fmt: skip
        raise FileError(f"{text}: {reasons.get(status, 'it cannot be fetched')}; correct the manifest's url")
    kind = response.headers.get("content-type", "")
    if kind.startswith("text/html") and ".html" not in url:
        raise FileError(f"{url}: the server sent a web page instead of data; open it in a browser to see why")


def _range_start(response: httpx.Response) -> int:
    first = response.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1


def _total(response: httpx.Response, have: int) -> int | None:
    """Bytes of the whole file, if the server tells."""
    last = response.headers.get("content-range", "").rpartition("/")[2]
    if last.isdigit():
        return int(last)
    length = response.headers.get("content-length", "")
    return have + int(length) if length.isdigit() else None


def _validator(response: httpx.Response) -> str:
    """What must be unchanged for a part to be continued: a strong ETag, else the date of change."""
    tag = response.headers.get("etag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("last-modified", "")


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise FileError(
            f"{part}: {needed} bytes still to come, the disk has {free} free; free space and rerun"
        )


def _append(response: httpx.Response, part: Path, have: int, total: int | None) -> None:
    """Write the body behind the first `have` bytes; what came before an error stays."""
    bar: Any = progress(total, part.name.removesuffix(".part"), "B", have) if total else nullcontext()
    with part.open("r+b" if have else "wb") as handle, bar as done:
        handle.seek(have)
        handle.truncate()
        advance: Callable[[int], None] = done.advance if done else lambda n: None
        for number, block in enumerate(response.iter_raw()):
            if number == 0 and have == 0 and block[:64].lstrip().lower().startswith(_WEB_PAGE):
                _forget(part)
                raise FileError(
                    f"{response.url}: the server sent a web page instead of data; open it to see why"
                )
            handle.write(block)
            advance(len(block))
        handle.flush()
        os.fsync(handle.fileno())
