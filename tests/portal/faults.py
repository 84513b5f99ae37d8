"""What can go wrong with one answer of a portal."""

from __future__ import annotations

from enum import Enum


class Fault(Enum):
    """One fault of one answer; its value says what the server does.

    The members of PASSING go away when the same thing is asked again, those of LASTING would not.
    """

    BUSY = "429 with Retry-After"
    UNAVAILABLE = "503 without a word"
    RESET = "half of the body, then a reset of the connection"
    RESET_EARLY = "a reset of the connection before any answer"
    CUT = "half of the body under the whole length"
    CUT_CHUNKED = "half of the body in chunks, without the last one"
    CUT_SILENT = "half of the body without a length, ended by closing"
    CUT_ENDED = "half of the body in chunks that end as if it were whole"
    CORRUPT = "the whole body, one byte of it wrong"
    CHANGED = "half of another version under another ETag, then it hangs up"
    RANGE_IGNORED = "200 and the whole body, whatever range is asked for"
    RANGE_REFUSED = "416 to any range"
    RANGE_WRONG = "206 that begins elsewhere"
    DRIP = "the body in small pieces"
    STALL = "half of the body, then silence"
    NOT_FOUND = "404, a word of plain text"
    NO_RESULTS = "404 with an empty @graph"
    NO_OBJECT = "404 with a JSON error body without @graph"
    REVOKED = "403 with the portal's JSON: a file of encode-private"
    DENIED = "403 with the XML of a private bucket"
    LOGIN = "401"
    HTML = "a web page, 200 text/html"
    HTML_AS_DATA = "a web page that is called data"
    COMPRESSED = "the body in gzip that nobody asked for"


PASSING = (
    Fault.BUSY, Fault.UNAVAILABLE, Fault.RESET, Fault.RESET_EARLY, Fault.CUT, Fault.CUT_CHUNKED,
    Fault.CUT_SILENT, Fault.CUT_ENDED, Fault.CORRUPT, Fault.CHANGED, Fault.DRIP,
)  # fmt: skip
RANGES = (Fault.RANGE_IGNORED, Fault.RANGE_REFUSED, Fault.RANGE_WRONG)  # seen only after a cut
LASTING = (
    Fault.NOT_FOUND, Fault.NO_RESULTS, Fault.NO_OBJECT, Fault.REVOKED, Fault.DENIED, Fault.LOGIN, Fault.HTML,
    Fault.HTML_AS_DATA, Fault.COMPRESSED,
)  # fmt: skip

ERROR_BODIES: dict[Fault, tuple[int, str, str]] = {  # status, content type, body
    Fault.UNAVAILABLE: (503, "text/plain", ""),
    Fault.NOT_FOUND: (404, "text/plain", "Not Found"),
    Fault.NO_RESULTS: (
        404,
        "application/json",
        '{"@type": ["Search"], "@graph": [], "total": 0, "notification": "No results found"}',
    ),
    Fault.NO_OBJECT: (
        404,
        "application/json",
        '{"@type": ["HTTPNotFound", "Error"], "status": "error", "code": 404, "title": "Not Found", '
        '"description": "The resource could not be found.", "detail": "no such accession"}',
    ),
    Fault.REVOKED: (
        403,
        "application/json",
        '{"@type": ["HTTPForbidden", "Error"], "status": "error", "code": 403, "title": "Forbidden", '
        '"description": "Access was denied to this resource.", "detail": "the file was revoked"}',
    ),
    Fault.DENIED: (
        403,
        "application/xml",
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
    ),
    Fault.LOGIN: (401, "text/plain", "Authentication required"),
    Fault.HTML: (200, "text/html; charset=utf-8", "\n<!DOCTYPE html><html>Please log in</html>"),
    Fault.HTML_AS_DATA: (200, "application/octet-stream", "\n<!DOCTYPE html><html>Please log in</html>"),
}
