"""Logins of portals: where they come from, to which host they are sent, and what no message may show.

A login is never in a file of the project. It comes from the environment, `MEGABASE_LOGIN_{HOST}` with the
value `user:secret` (the host in capitals, every character that is no letter or digit as `_`:
MEGABASE_LOGIN_DATA_4DNUCLEOME_ORG), else from the netrc file (`NETRC`, else `~/.netrc`).
"""

from __future__ import annotations

import base64
import ipaddress
import netrc
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from megabase.files import FileError

HOW_TO_LOG_IN = "logins come from MEGABASE_LOGIN_{HOST}=user:secret or from netrc"
_BLANK = "***"
_LOGIN_IN_URL = re.compile(r"(?<=://)[^/\s?#'\"]*@")
_SECRET_KEY = (
    r"(?:x-(?:amz|goog|ms)-[\w-]+|sig|key|[\w-]*(?:signature|token|secret|passw(?:or)?d|credential|"
    r"auth|api[-_]?key|accesskeyid|googleaccessid|key-pair-id|policy)[\w-]*)"
)
_SECRET_IN_QUERY = re.compile(rf"([?&;#]{_SECRET_KEY}=)[^&;\s'\"<>)\]]+", re.IGNORECASE)


class Login:
    """A user and a secret that show themselves in no text."""

    __slots__ = ("_secret", "_user")

    def __init__(self, user: str, secret: str) -> None:
        self._user, self._secret = user, secret

    def __repr__(self) -> str:
        return f"Login({_BLANK})"

    def header(self) -> str:
        """Value of the header `Authorization` (Basic, RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self._user}:{self._secret}".encode()).decode()


def blanked(text: object) -> str:
    """The text with logins in URLs, and secrets in their queries (signatures, tokens, keys), as `***`."""
    return _SECRET_IN_QUERY.sub(rf"\1{_BLANK}", _LOGIN_IN_URL.sub(f"{_BLANK}@", str(text)))


def login_variable(host: str) -> str:
    """Name of the environment variable with the login of a host."""
    return "MEGABASE_LOGIN_" + re.sub(r"[^A-Z0-9]", "_", host.upper())


def may_carry_login(url: str) -> bool:
    """Whether a login may be sent to a URL: over https, or to this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def login_of(url: str, environment: Mapping[str, str] | None = None) -> Login | None:
    """The login of the host of a URL, None where there is none or it may not be sent there.

    `environment` stands for the variables of the process. FileError for a variable without `:` and for a
    netrc file that cannot be read; neither shows what is in it.
    """
    environment = os.environ if environment is None else environment
    host = urlsplit(url).hostname or ""
    if not host or not may_carry_login(url):
        return None
    if given := environment.get(login_variable(host)):
        user, colon, secret = given.partition(":")
        if not colon:
            raise FileError(f"environment variable {login_variable(host)}: no `:` in it; wanted user:secret")
        return Login(user, secret)
    return _netrc_login(host, environment)


def _netrc_login(host: str, environment: Mapping[str, str]) -> Login | None:
    """The entry of exactly this host; a `default` entry is for no portal in particular, and is not used."""
    named = environment.get("NETRC")
    path = Path(named) if named else Path(environment.get("HOME") or Path.home()) / ".netrc"
    if not path.is_file():
        if named:
            raise FileError(f"{path}: not found, the environment variable NETRC names it")
        return None
    try:
        hosts = netrc.netrc(str(path)).hosts
    except netrc.NetrcParseError as error:
        raise FileError(f"{path}: line {error.lineno}: not a netrc file; correct it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read ({type(error).__name__}); correct its rights") from None
    entry = hosts.get(host)
    return Login(entry[0] or entry[1] or "", entry[2] or "") if entry else None
