"""What a server's answer means: data, a fault that may pass, or a refusal with the portal's words."""

from __future__ import annotations

import json
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from megabase.files import FileError
from megabase.sources.credentials import HOW_TO_LOG_IN, blanked

RETRY_STATUS = (408, 425, 429, 500, 502, 503, 504)
MAX_WAIT = 300.0  # seconds, however long a server asks for
_REASONS = {
    401: f"it needs a login ({HOW_TO_LOG_IN})",
    403: f"the portal refuses it (revoked, or it needs a login: {HOW_TO_LOG_IN})",
    404: "the file is not there",
    410: "the file is gone",
}
_WEB_PAGE = (b"<!doctype html", b"<html")
_MOST_WORDS = 300  # characters of what a portal says
_MOST_READ = 1 << 16  # bytes of an error's body
_WORD_KEYS = ("notification", "title", "description", "detail", "message", "error")


class Broken(Exception):
    """A request that may succeed if it is made again; `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(blanked(reason))
        self.wait = min(wait, MAX_WAIT)


def check_answer(response: httpx.Response, url: str) -> None:
    """Broken for an answer that may change, FileError for one that will not; nothing for data."""
    status = response.status_code
    if status in RETRY_STATUS:
        raise Broken(f"HTTP {status}", retry_after(response))
    if status not in (200, 206):
        words = portal_words(response)
        said = f"; the portal says: {words}" if words else ""
        reason = _REASONS.get(status, "it cannot be fetched")
        text = f"{blanked(url)}: HTTP {status} {response.reason_phrase}: {reason}{said}"
        raise FileError(f"{text}; correct the manifest's url")
    if response.headers.get("content-type", "").startswith("text/html") and ".html" not in url:
        raise web_page(url)
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise FileError(
            f"{blanked(url)}: the server packs the file on the way ({encoding}), though it was asked not to; "
            "its bytes are not those of the portal's file; take another address of it"
        )


def web_page(url: str) -> FileError:
    """The error for a web page where data were asked for."""
    return FileError(
        f"{blanked(url)}: the server sent a web page instead of data; open it in a browser to see why"
    )


def is_web_page(start: bytes) -> bool:
    """Whether a body that begins so is a web page, whatever the server calls it."""
    return start[:64].lstrip().lower().startswith(_WEB_PAGE)


def retry_after(response: httpx.Response) -> float:
    """Seconds that the header Retry-After asks for (a number or an HTTP date, RFC 9110 10.2.3), else 0."""
    asked = response.headers.get("retry-after", "").strip()
    if asked.isdigit():
        return float(asked)
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def portal_words(response: httpx.Response) -> str:
    """What the body of an error says, in one line without secrets: the messages of JSON or XML, or text."""
    body = b""
    try:
        for block in response.iter_raw():
            body += block
            if len(body) > _MOST_READ:
                break
    except httpx.HTTPError:
        pass  # the status is enough
    text = body[:_MOST_READ].decode("utf-8", "replace").strip()
    return _one_line(_said(text))


def _said(text: str) -> str:
    if is_web_page(text.encode()[:64]):
        return ""
    try:
        return "; ".join(_messages(json.loads(text)))
    except ValueError:
        pass
    if text.startswith("<"):
        return ": ".join(re.findall(r"<(?:Code|Message)>([^<]*)<", text))
    return text


def _messages(value: Any) -> list[str]:
    """Texts under the keys in which portals put words, each once; validation errors have lists of them."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [word for item in value for word in _messages(item)]
    if not isinstance(value, dict):
        return []
    found = [word for key in (*_WORD_KEYS, "msg") if key in value for word in _messages(value[key])]
    return list(dict.fromkeys(word for word in found if word))


def _one_line(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text)
    words = blanked(" ".join(printable.split()))
    return words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]}..."


def range_start(response: httpx.Response) -> int:
    """First byte of a partial answer, -1 where it tells none."""
    first = response.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1


def total_bytes(response: httpx.Response, have: int) -> int | None:
    """Bytes of the whole file, `have` of them before this answer; None if the server does not tell."""
    last = response.headers.get("content-range", "").rpartition("/")[2]
    if last.isdigit():
        return int(last)
    length = response.headers.get("content-length", "")
    return have + int(length) if length.isdigit() and response.status_code != 206 else None


def validator(response: httpx.Response) -> str:
    """What must be unchanged for a part to be continued: a strong ETag, else the date of change."""
    tag = response.headers.get("etag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("last-modified", "")
