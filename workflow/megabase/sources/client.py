"""Requests to portals: each in its host's turn, with the login of exactly its host, by way of redirects.

GET only: presigned links refuse HEAD. Every request begins at the address that the manifest states, so that
presigned links, which expire, are made anew each time and kept nowhere.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

import httpx

from megabase import __version__
from megabase.files import FileError
from megabase.logs import LOGGER
from megabase.seeds import generator
from megabase.sources.answers import MAX_WAIT, RETRY_STATUS, Broken, retry_after
from megabase.sources.credentials import HOW_TO_LOG_IN, blanked, login_of
from megabase.sources.turns import Turns

MOST_REDIRECTS = 10
PATIENCE = 60.0  # seconds without a byte, after which a request counts as broken
_HEADERS = {"User-Agent": f"megabase/{__version__}", "Accept-Encoding": "identity"}
_REDIRECT = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}

for _name in ("httpx", "httpcore"):  # they log whole addresses, with the signatures of presigned links
    logging.getLogger(_name).setLevel(logging.WARNING)

T = TypeVar("T")


class Client:
    """Connections to portals, kept open between requests; threads may share one.

    turns: the rate limit (None: none). connections: open at once. patience: seconds without a byte.
    """

    def __init__(
        self, turns: Turns | None = None, *, connections: int = 1, patience: float = PATIENCE
    ) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=2 * connections)
        self._http = httpx.Client(headers=_HEADERS, timeout=httpx.Timeout(patience), limits=limits)
        self._turns = turns

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """The answer to a GET, its body still unread, after at most MOST_REDIRECTS redirects.

        A login is sent to the host of `url` only, over https (or to this machine), and to no host any more
        once a redirect has left it. A 429 or 503 that names a time holds back all who share the turns.
        FileError for an address that cannot be asked, Broken or httpx.TransportError for what may pass.
        """
        first = here = _parsed(url, url)
        if first.userinfo:
            raise FileError(f"{blanked(url)}: has a login in it; take it out, {HOW_TO_LOG_IN}")
        left = False
        for _ in range(MOST_REDIRECTS + 1):
            left = left or not _same_host(first, here)
            login = None if left else login_of(str(here))
            asked = {**(headers or {}), **({"Authorization": login.header()} if login else {})}
            if self._turns is not None:
                self._turns.wait(here.host)
            with self._http.stream("GET", here, headers=asked, follow_redirects=False) as response:
                self._hold(here.host, response)
                location = response.headers.get("location")
                if response.status_code not in _REDIRECT or not location:
                    yield response
                    return
            here = _parsed(_joined(here, location), url)
        raise FileError(f"{blanked(url)}: more than {MOST_REDIRECTS} redirects; correct the manifest's url")

    def _hold(self, host: str, response: httpx.Response) -> None:
        """Tell the others that the host wants to be left alone."""
        asked = retry_after(response) if response.status_code in RETRY_STATUS else 0.0
        if asked and self._turns is not None:
            self._turns.hold(host, min(asked, MAX_WAIT))


def _joined(here: httpx.URL, location: str) -> str:
    try:
        return str(here.join(location))
    except httpx.InvalidURL:
        return location


def _parsed(url: str, origin: str) -> httpx.URL:
    """An address that can be asked."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise FileError(f"{blanked(origin)}: {blanked(error)}; correct the manifest's url") from None
    if parsed.scheme not in _PORTS or not parsed.host:
        raise FileError(f"{blanked(origin)}: leads to {blanked(url)}, which is no http(s) address")
    return parsed


def _same_host(first: httpx.URL, other: httpx.URL) -> bool:
    """Whether two addresses are of one server; a step from http to https is."""
    ports = [url.port or _PORTS[url.scheme] for url in (first, other)]
    return first.host == other.host and (ports[0] == ports[1] or ports == [80, 443])


def tried_again(
    ask: Callable[[], T], url: str, *, attempts: int, backoff: float, reached: Callable[[], int] = lambda: 0
) -> T:
    """What `ask` gives, tried until it does, or fails `attempts` times without headway (FileError).

    Headway is a growth of `reached` (bytes). Between two tries lie `backoff` seconds, then twice that, and
    so on, up to half more by chance, or what the server asked for, at most MAX_WAIT.
    """
    jitter = generator(0, "fetch_source", url)
    failures, most = 0, 0
    while True:
        try:
            return ask()
        except (Broken, httpx.TransportError) as error:
            have = reached()
            failures = 1 if have > most else failures + 1
            most = max(most, have)
            reason = blanked(error) or type(error).__name__
            if failures >= attempts:
                kept = f", {have} bytes are kept; rerun to continue" if have else "; rerun later"
                raise FileError(
                    f"{blanked(url)}: {reason}; tried {attempts} times without headway{kept}"
                ) from None
            wait = backoff * 2 ** (failures - 1) * (1 + jitter.random() / 2)
            wait = min(max(wait, getattr(error, "wait", 0.0)), MAX_WAIT)
            LOGGER.warning("%s: %s; trying again in %.1f s", blanked(url), reason, wait)
            time.sleep(wait)
