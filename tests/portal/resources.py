"""What lies under one path of the portal, and which of its faults the next answer has."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from portal.faults import Fault

Query = tuple[tuple[str, str], ...]


def query_of(query: str | Mapping[str, Any] | Iterable[tuple[str, str]]) -> Query:
    """Parameters of a query in one order, so that the order in which a client asks does not matter."""
    if isinstance(query, str):
        return tuple(sorted(parse_qsl(query.removeprefix("?"), keep_blank_values=True)))
    pairs = query.items() if isinstance(query, Mapping) else query
    lists = ((key, value if isinstance(value, list | tuple) else [value]) for key, value in pairs)
    return tuple(sorted((str(key), str(value)) for key, values in lists for value in values))


@dataclass
class Resource:
    """Body and headers of one path.

    etag: of the body's bytes unless given; empty: none is sent. stated: whether the length is sent (else the
    body goes in chunks). login: `user:secret` that is asked for. location: a redirect, or what makes one
    each time. uses: GETs until the link is dead (a presigned one). wait: seconds between the pieces of DRIP,
    and the silence of STALL.
    """

    body: bytes = b""
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault | None = None
    status: int = 200
    kind: str = "application/octet-stream"
    etag: str | None = None
    modified: str = ""
    stated: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    login: str = ""
    location: str | Callable[[], str] = ""
    uses: int | None = None
    wait: float = 0.01
    retry_after: str = "0"
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def tag(self) -> str:
        """ETag of the body."""
        return f'"{hashlib.md5(self.body).hexdigest()}"' if self.etag is None else self.etag

    def next_fault(self) -> Fault | None:
        """The fault of this answer; one is used up."""
        with self.lock:
            return self.faults.popleft() if self.faults else self.always

    def use(self) -> bool:
        """Whether a link may still be used; one use is gone."""
        with self.lock:
            if self.uses is None:
                return True
            self.uses -= 1
            return self.uses >= 0
