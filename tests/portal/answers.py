"""How one request is answered: the bytes on the wire, with the fault that is due."""

from __future__ import annotations

import base64
import gzip
import os
import socket
import struct
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from portal.faults import ERROR_BODIES, Fault
from portal.resources import Resource

if TYPE_CHECKING:
    from portal.server import Portal, Request

_PIECES = 20  # of a body that drips
_CUTS = (
    Fault.CUT, Fault.CUT_CHUNKED, Fault.CUT_SILENT, Fault.CUT_ENDED, Fault.RESET, Fault.STALL, Fault.CHANGED,
)  # fmt: skip
_UNENDED = {Fault.CUT_CHUNKED, Fault.RESET, Fault.STALL, Fault.CHANGED, Fault.CUT}  # no last chunk


class Handler(BaseHTTPRequestHandler):
    """Answers GET with a resource of the portal, and refuses HEAD as a presigned link does."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: Portal
    request_log: Request

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._note()
        self._send(403, b"", {"Content-Type": "application/xml"})

    def do_GET(self) -> None:
        self._note()
        found = self.server.find(self.path)
        if found.login and not self._may(found):
            return self._error(Fault.LOGIN, {"WWW-Authenticate": 'Basic realm="portal"'})
        if not found.use():
            return self._error(Fault.DENIED)
        fault = found.next_fault()
        if fault is Fault.RESET_EARLY:
            return self._reset()
        if fault is Fault.BUSY:
            return self._send(429, b"", {"Retry-After": found.retry_after})
        if fault in ERROR_BODIES:
            return self._error(fault)
        if found.location:
            target = found.location() if callable(found.location) else found.location
            return self._send(found.status, b"", {"Location": target, **found.headers})
        self._body(found, fault)

    def _note(self) -> None:
        headers, peer = dict(self.headers.items()), self.client_address[1]
        self.request_log = self.server.note(self.command, self.path, headers, peer)

    def _may(self, found: Resource) -> bool:
        wanted = base64.b64encode(found.login.encode()).decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def _error(self, fault: Fault, headers: dict[str, str] | None = None) -> None:
        status, kind, text = ERROR_BODIES[fault]
        self._send(status, text.encode(), {"Content-Type": kind, **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._head(status, {"Content-Length": str(len(body)), **headers})
        self.wfile.write(b"" if self.command == "HEAD" else body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.request_log.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, found: Resource, fault: Fault | None) -> None:
        """The file, or the range of it that was asked for, under the fault that is due."""
        body, tag = found.body, found.tag()
        if fault is Fault.CHANGED:
            body, tag = body[::-1], '"another version"'
        headers = {"Content-Type": found.kind, "ETag": tag, "Last-Modified": found.modified}
        headers = {name: value for name, value in headers.items() if value} | found.headers
        start = 0 if fault in (Fault.RANGE_IGNORED, Fault.CHANGED) else self._start(tag or found.modified)
        status = found.status
        if start is not None and start > 0:
            if fault is Fault.RANGE_REFUSED or start >= len(body):
                return self._send(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            start += fault is Fault.RANGE_WRONG
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[start:]
        if fault is Fault.CORRUPT and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        if fault is Fault.COMPRESSED:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        self._write(status, headers, body, found, fault)

    def _start(self, validator: str) -> int:
        """First byte that was asked for, 0 where no range was or the file is another one now."""
        asked = self.headers.get("Range", "")
        condition = self.headers.get("If-Range")
        if not asked.startswith("bytes=") or (condition and condition != validator):
            return 0
        return int(asked.removeprefix("bytes=").partition("-")[0])

    def _write(
        self, status: int, headers: dict[str, str], body: bytes, found: Resource, fault: Fault | None
    ) -> None:
        closing = fault is Fault.CUT_SILENT
        chunked = fault in (Fault.CUT_CHUNKED, Fault.CUT_ENDED) or not (found.stated or closing)
        how: dict[str, Any] = {"Content-Length": str(len(body))}
        if chunked or closing:
            how = {"Transfer-Encoding": "chunked"} if chunked else {"Connection": "close"}
        self._head(status, headers | how)
        sent = body[: len(body) // 2] if fault in _CUTS else body
        step = max(1, len(sent) // _PIECES) if fault is Fault.DRIP else max(1, len(sent))
        for first in range(0, len(sent), step):
            piece = sent[first : first + step]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            if fault is Fault.DRIP:
                self.wfile.flush()
                time.sleep(found.wait)
        if chunked and fault not in _UNENDED:
            self.wfile.write(b"0\r\n\r\n")
        self._hang_up(found, fault)

    def _hang_up(self, found: Resource, fault: Fault | None) -> None:
        """End the connection where the fault wants it."""
        if fault is Fault.STALL:
            self.wfile.flush()
            time.sleep(found.wait)
        if fault is Fault.RESET:
            self._reset()
        elif fault in _CUTS and fault is not Fault.CUT_ENDED:
            self.wfile.flush()
            self.close_connection = True

    def _reset(self) -> None:
        """Close with unsent data forgotten: the client meets a reset, not an end."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True
