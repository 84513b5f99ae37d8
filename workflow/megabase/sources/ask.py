"""Questions to a portal: one GET at a time, tried again where that may help, and kept for an audit.

A portal says "no results" with HTTP 404 and a body (ENCODE and 4DN do), so 404 is an answer and no error.
Answers of an unfinished listing lie in a record folder: a listing that was interrupted goes on from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx

from megabase.files import FileError, atomic_path
from megabase.sources.answers import RETRY_STATUS, Broken, portal_words, retry_after
from megabase.sources.client import Client, tried_again
from megabase.sources.credentials import blanked
from megabase.sources.turns import Turns

Params = Mapping[str, Any] | Iterable[tuple[str, Any]]
ANSWERS = (200, 404)  # statuses whose body is an answer
MAX_AGE = timedelta(hours=24)  # an older answer of an interrupted listing is asked again
PATIENCE = 300.0  # seconds without a byte: a portal searches for minutes before its first one
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


class Asker:
    """Asks portals: `asker(url, params) -> Answer`. A context manager that closes its connections.

    record: folder in which every answer is kept (`{key}.body`, and `{key}.json` with URL, UTC, status and
    sha256), and from which one younger than `max_age` is taken; none: nothing is kept. The folder belongs to
    one listing: who finishes a listing renames it, so that no later listing reads it. turns: the rate limit
    of hosts, shared with all that have the same. attempts, backoff: tries, and seconds before the second,
    doubled (with jitter) before each next, or what Retry-After asks for.
    """

    def __init__(
        self,
        record: Path | None = None,
        *,
        turns: Turns | None = None,
        attempts: int = 6,
        backoff: float = 1.0,
        max_age: timedelta = MAX_AGE,
    ) -> None:
        self.record, self.attempts, self.backoff = record, attempts, backoff
        self.max_age = max_age
        self.asked = self.taken = 0  # answers from the portal, and from the record
        self._client = Client(turns, patience=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._client.__exit__(kind, error, trace)

    def __call__(self, url: str, params: Params = ()) -> Answer:
        """The answer to GET `url` with `params` (name, value; a name may come twice).

        FileError for a status that is neither 200 nor 404, and where there is no answer after all attempts.
        """
        pairs = list(params.items() if isinstance(params, Mapping) else params)
        try:
            full = httpx.URL(url, params=[*httpx.URL(url).params.multi_items(), *pairs] if pairs else None)
        except httpx.InvalidURL as error:
            raise FileError(f"{blanked(url)}: {error}; correct the address of the portal") from None
        if full.scheme not in ("http", "https") or not full.host:
            raise FileError(f"{blanked(url)}: is no http(s) address; correct the address of the portal")
        if (kept := self._kept(str(full))) is not None:
            self.taken += 1
            return kept
        address = str(full)
        answer = tried_again(
            lambda: self._get(address), address, attempts=self.attempts, backoff=self.backoff
        )
        self.asked += 1
        self._keep(answer, str(full))
        return answer

    def _get(self, url: str) -> Answer:
        """One request; Broken or httpx.TransportError where another one may have another end."""
        with self._client.get(url, {"Accept": "application/json"}) as response:
            status = response.status_code
            if status in RETRY_STATUS or status >= 500:
                raise Broken(f"HTTP {status}", retry_after(response))
            if status not in ANSWERS:
                words = portal_words(response)
                raise FileError(f"{blanked(url)}: HTTP {status} {response.reason_phrase}: {words}")
            body = response.read()
        if _says_json(response) and not _is_json(body):  # a streamed body may end early without an error
            raise Broken(_not_json(body))
        return Answer(blanked(url), status, body, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))

    def _kept(self, url: str) -> Answer | None:
        """The recorded answer to a URL: whole, as it was received, and not too old; or None."""
        if self.record is None:
            return None
        path = self.record / f"{_key(url)}.json"
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            body = path.with_suffix(".body").read_bytes()
            age = datetime.now(UTC) - datetime.fromisoformat(note["retrieved_utc"])
            whole = hashlib.sha256(body).hexdigest() == note["sha256"] and note["url"] == blanked(url)
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


def _key(url: str) -> str:
    return hashlib.sha256(blanked(url).encode()).hexdigest()[:32]


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
