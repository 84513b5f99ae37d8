"""Questions to a portal: one GET at a time, tried again where that may help, and kept for an audit.

A portal says "no results" with HTTP 404 and a body (ENCODE and 4DN do), so 404 is an answer and no error.
Answers of an unfinished listing lie in a record folder: a listing that was interrupted goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import httpx

from megabase import __version__
from megabase.files import FileError, atomic_path
from megabase.logs import LOGGER
from megabase.seeds import generator
from megabase.sources.download import MAX_WAIT, RETRY_STATUS

Params = Mapping[str, Any] | Iterable[tuple[str, Any]]
ANSWERS = (200, 404)  # statuses whose body is an answer
MAX_AGE = timedelta(hours=24)  # an older answer of an interrupted listing is asked again
_HEADERS = {
    "User-Agent": f"megabase/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
}
_TIMEOUT = httpx.Timeout(60.0, read=300.0)  # a portal searches for minutes before its first byte
_FIRST_WORDS = 80  # characters of an unusable body that a message shows


@dataclass(frozen=True)
class Answer:
    """What a portal answered: the URL asked (no user or password), HTTP status, body, and when (UTC, ISO)."""

    url: str
    status: int
    body: bytes
    retrieved_utc: str

    def json(self) -> Any:
        """The body as JSON; FileError with the URL and the first words of the body where it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise FileError(f"{self.url}: HTTP {self.status}, {_not_json(self.body)}") from error


class _Again(Exception):
    """A question that may be answered if it is asked again; `wait` is what the server wants, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Asker:
    """Asks portals: `asker(url, params) -> Answer`. A context manager that closes its connections.

    record: folder in which every answer is kept (`{key}.body`, and `{key}.json` with URL, UTC, status and
    sha256), and from which one younger than `max_age` is taken; none: nothing is kept. The folder belongs to
    one listing: who finishes a listing renames it, so that no later listing reads it. wait: called with the
    host before each request, to keep its rate limit. attempts, backoff: tries, and seconds before the second,
    doubled (with jitter) before each next, or what Retry-After asks for.
    """

    def __init__(
        self,
        record: Path | None = None,
        *,
        wait: Callable[[str], None] = lambda host: None,
        attempts: int = 6,
        backoff: float = 1.0,
        max_age: timedelta = MAX_AGE,
    ) -> None:
        self.record, self.wait, self.attempts, self.backoff = record, wait, attempts, backoff
        self.max_age = max_age
        self.asked = self.taken = 0  # answers from the portal, and from the record
        self._client = httpx.Client(headers=_HEADERS, follow_redirects=True, timeout=_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def __call__(self, url: str, params: Params = ()) -> Answer:
        """The answer to GET `url` with `params` (name, value; a name may come twice).

        FileError for a status that is neither 200 nor 404, and where there is no answer after all attempts.
        """
        pairs = list(params.items() if isinstance(params, Mapping) else params)
        try:
            full = httpx.URL(url, params=[*httpx.URL(url).params.multi_items(), *pairs] if pairs else None)
        except httpx.InvalidURL as error:
            raise FileError(f"{url}: {error}; correct the address of the portal") from error
        if (kept := self._kept(str(full))) is not None:
            self.taken += 1
            return kept
        answer = self._ask(full)
        self.asked += 1
        self._keep(answer, str(full))
        return answer

    def _ask(self, url: httpx.URL) -> Answer:
        jitter = generator(0, "ask", str(url))
        shown = without_login(str(url))
        for attempt in range(1, self.attempts + 1):
            self.wait(url.host)
            try:
                return self._get(url, shown)
            except (httpx.TooManyRedirects, httpx.UnsupportedProtocol) as error:
                raise FileError(f"{shown}: {error}; correct the address of the portal") from error
            except (_Again, httpx.TransportError) as error:
                reason = str(error) or type(error).__name__
                if attempt == self.attempts:
                    raise FileError(
                        f"{shown}: {reason}; asked {attempt} times; rerun to continue, answers are kept"
                        if self.record
                        else f"{shown}: {reason}; asked {attempt} times; try again later"
                    ) from error
                seconds = self.backoff * 2 ** (attempt - 1) * (1 + jitter.random() / 2)
                seconds = min(max(seconds, getattr(error, "wait", 0.0)), MAX_WAIT)
                LOGGER.warning("%s: %s; asking again in %.1f s", shown, reason, seconds)
                time.sleep(seconds)
        raise ValueError(f"{self.attempts} attempts; wanted at least 1")

    def _get(self, url: httpx.URL, shown: str) -> Answer:
        """One request; _Again where another one may have another end."""
        response = self._client.get(url)
        status, body = response.status_code, response.content
        if status in RETRY_STATUS or status >= 500:
            raise _Again(f"HTTP {status}", asked_wait(response.headers.get("retry-after", "")))
        if status not in ANSWERS:
            raise FileError(f"{shown}: HTTP {status} {response.reason_phrase}: {_first_words(body)}")
        if _says_json(response) and not _is_json(body):  # a streamed body may end early without an error
            raise _Again(_not_json(body))
        return Answer(shown, status, body, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))

    def _kept(self, url: str) -> Answer | None:
        """The recorded answer to a URL: whole, as it was received, and not too old; or None."""
        if self.record is None:
            return None
        path = self.record / f"{_key(url)}.json"
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            body = path.with_suffix(".body").read_bytes()
            age = datetime.now(UTC) - datetime.fromisoformat(note["retrieved_utc"])
            whole = hashlib.sha256(body).hexdigest() == note["sha256"] and note["url"] == without_login(url)
        except (OSError, ValueError, KeyError):
            return None
        if not whole or age > self.max_age:
            return None
        return Answer(note["url"], note["status"], body, note["retrieved_utc"])

    def forget(self, answer: Answer) -> None:
        """Drop an answer from the record, so that its question is asked again: it was not whole."""
        if self.record is not None:
            (self.record / f"{_key(answer.url)}.json").unlink(missing_ok=True)

    def _keep(self, answer: Answer, url: str) -> None:
        """Record an answer, its note last; a web page instead of data is shown to the caller alone."""
        if self.record is None or answer.body.lstrip().startswith(b"<"):
            return
        note = {"url": answer.url, "retrieved_utc": answer.retrieved_utc, "status": answer.status,
                "sha256": hashlib.sha256(answer.body).hexdigest()}  # fmt: skip
        path = self.record / f"{_key(url)}.json"
        with atomic_path(path.with_suffix(".body")) as temporary:
            temporary.write_bytes(answer.body)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


class Pace:
    """Waits so that this process asks a host at most `per_second` times a second."""

    def __init__(self, per_second: float) -> None:
        self.interval = 1.0 / per_second
        self._next: dict[str, float] = {}

    def wait(self, host: str) -> None:
        """Return when the host may be asked again."""
        now = time.monotonic()
        turn = max(now, self._next.get(host, 0.0))
        self._next[host] = turn + self.interval
        time.sleep(turn - now)


def asked_wait(value: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or as a date; 0 where it says neither."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def without_login(url: str) -> str:
    """The URL without a user and password, fit for logs and records."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _key(url: str) -> str:
    return hashlib.sha256(without_login(url).encode()).hexdigest()[:32]


def _says_json(response: httpx.Response) -> bool:
    return "json" in response.headers.get("content-type", "")


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def _first_words(body: bytes) -> str:
    words = " ".join(body[: 4 * _FIRST_WORDS].decode("utf-8", "replace").split())
    return repr(words[:_FIRST_WORDS]) if words else "an empty body"


def _not_json(body: bytes) -> str:
    """What a body is that is not JSON."""
    if body.lstrip().startswith(b"<"):
        return f"a web page instead of JSON: {_first_words(body)}; open it in a browser to see why"
    if body.lstrip()[:1] in (b"{", b"["):
        return f"JSON that ends early or is broken ({len(body)} bytes): {_first_words(body)}; ask again"
    return f"not JSON: {_first_words(body)}"
