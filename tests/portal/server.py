"""The portal itself: what it has, what it was asked, and the threads that answer."""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from portal.answers import Handler
from portal.faults import Fault
from portal.recorded import recorded_answers
from portal.resources import Query, Resource, query_of
from portal.search import object_path, search


@dataclass
class Request:
    """One request: `target` as it came over the wire, `status` of the answer (0: reset before one).

    when: on the clock of `time.monotonic`. peer: the client's port, one a connection.
    """

    method: str
    target: str
    headers: dict[str, str]
    when: float
    peer: int
    status: int = 0

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def login(self) -> str | None:
        """`user:secret` that was sent, if any."""
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        return base64.b64decode(value).decode() if kind == "Basic" else None


class Portal(ThreadingHTTPServer):
    """A server on a loopback address and a free port; another address is another host to a client."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), Handler)
        self.host, self.url = host, f"http://{host}:{self.server_port}"
        self.requests: list[Request] = []
        self._resources: dict[tuple[str, Query | None], Resource] = {}
        self._items: list[dict[str, Any]] = []
        self._links = itertools.count(1)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Portal:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    # What it has

    def file(self, path: str, body: bytes, *faults: Fault, query: Any = None, **options: Any) -> str:
        """Lay a file at `path` (with `?query`, or of any query); returns its URL. `options` of Resource."""
        split = urlsplit(path)
        query = split.query or query
        key = (split.path, query_of(query) if query else None)
        self._resources[key] = Resource(body, deque(faults), **options)
        return f"{self.url}{path}"

    def resource(self, path: str) -> Resource:
        """What lies at a path, to change it."""
        return self._resources[(path, None)]

    def answer(self, path: str, value: Any, *faults: Fault, query: Any = None, **options: Any) -> str:
        """Lay JSON (or bytes as they are) at `path`, for one query (text, mapping or pairs) or for all."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.file(path, body, *faults, query=query, **{"kind": "application/json"} | options)

    def presigned(
        self, path: str, body: bytes, *faults: Fault, storage: Portal | None = None, **options: Any
    ) -> str:
        """A file behind a 307 to a link of `storage` (else this one) that serves one GET; faults are its."""
        holder = Resource(body, deque(faults), **options)
        self._resources[(path, None)] = Resource(
            status=307, location=lambda: (storage or self).link(path, holder)
        )
        return f"{self.url}{path}"

    def link(self, path: str, holder: Resource) -> str:
        """A new link to a file, good for one GET; it shares the faults of the file."""
        number = next(self._links)
        query = f"X-Amz-Expires=129600&X-Amz-Credential=AKIA{number}&X-Amz-Signature=secret{number}"
        values = {**vars(holder), "uses": 1}
        self._resources[(f"/storage{path}", query_of(query))] = Resource(**values)
        return f"{self.url}/storage{path}?{query}"

    def items(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Objects of the portal: `/search/` looks through them, each has a page at its `@id`."""
        for item in items:
            self._items.append({"@id": object_path(item), **item})

    def recorded(self, folder: str | Path) -> list[str]:
        """Serve the recorded answers of `folder` (data/portals); returns the targets that they answer."""
        answers = recorded_answers(Path(folder))
        for answer in answers:
            self.answer(answer.path, answer.body, query=answer.query, status=answer.status, kind=answer.kind)
        return [f"{answer.path}?{answer.query}" if answer.query else answer.path for answer in answers]

    # What it was asked

    def seen(self, path: str) -> list[Request]:
        """Requests of a path, in the order of arrival."""
        return [request for request in list(self.requests) if request.path == path]

    def note(self, method: str, target: str, headers: Mapping[str, str], peer: int) -> Request:
        """Log one request."""
        lower = {key.lower(): value for key, value in headers.items()}
        request = Request(method, target, lower, time.monotonic(), peer)
        self.requests.append(request)
        return request

    def find(self, target: str) -> Resource:
        """What answers a target: its path with this query, its path, an object, a search, or a 404."""
        path, _, text = target.partition("?")
        query = query_of(text)
        for key in ((path, query), (path, None)):
            if (found := self._resources.get(key)) is not None:
                return found
        if path.rstrip("/") == "/search":
            status, value = search(self._items, query)
            return Resource(json.dumps(value).encode(), status=status, kind="application/json")
        for item in self._items:
            if item["@id"].strip("/") == path.strip("/"):
                return Resource(json.dumps(item).encode(), kind="application/json")
        return Resource(always=Fault.NO_OBJECT)
