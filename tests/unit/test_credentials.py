"""Logins: where they come from, where they may go, and that no text shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from megabase.files import FileError
from megabase.sources.credentials import Login, blanked, login_of, login_variable, may_carry_login

NETRC = "machine data.example.org login anna password s3cret\ndefault login all password d3fault\n"


def test_the_environment_comes_first_then_netrc(tmp_path: Path) -> None:
    (tmp_path / "rc").write_text(NETRC)
    url = "https://data.example.org/x"
    assert login_variable("data.example.org") == "MEGABASE_LOGIN_DATA_EXAMPLE_ORG"
    both = {"MEGABASE_LOGIN_DATA_EXAMPLE_ORG": "key:a:b", "NETRC": str(tmp_path / "rc")}
    assert login_of(url, both).header() == Login("key", "a:b").header() == "Basic a2V5OmE6Yg=="
    assert login_of(url, {"NETRC": str(tmp_path / "rc")}).header() == Login("anna", "s3cret").header()
    (tmp_path / ".netrc").write_text(NETRC)
    assert login_of(url, {"HOME": str(tmp_path)}).header() == Login("anna", "s3cret").header()
    assert login_of(url, {"HOME": "/nowhere"}) is None


@pytest.mark.parametrize(
    "url",
    ["https://other.example.org/x", "https://example.org/x", "https://sub.data.example.org/x",
     "http://data.example.org/x", "https://data.example.org.evil.net/x", "file:/x", "x"],
)  # fmt: skip
def test_a_login_is_of_exactly_one_host_over_https(tmp_path: Path, url: str) -> None:
    (tmp_path / "rc").write_text(NETRC)
    given = {"MEGABASE_LOGIN_DATA_EXAMPLE_ORG": "key:s3cret", "NETRC": str(tmp_path / "rc")}
    assert login_of(url, given) is None


def test_this_machine_needs_no_https() -> None:
    hosts = ["127.0.0.1:80", "127.0.0.2", "localhost", "[::1]:8080", "10.0.0.1", "localhost.evil.net"]
    assert [may_carry_login(f"http://{host}/x") for host in hosts] == [True] * 4 + [False] * 2
    assert login_of("http://127.0.0.1:80/x", {"MEGABASE_LOGIN_127_0_0_1": "a:b"}) is not None


def test_a_bad_source_of_logins_is_named_without_what_is_in_it(tmp_path: Path) -> None:
    url = "https://data.example.org/x"
    with pytest.raises(FileError, match="MEGABASE_LOGIN_DATA_EXAMPLE_ORG: no `:` in it") as error:
        login_of(url, {"MEGABASE_LOGIN_DATA_EXAMPLE_ORG": "s3cret"})
    assert "s3cret" not in str(error.value)
    with pytest.raises(FileError, match="not found, the environment variable NETRC names it"):
        login_of(url, {"NETRC": str(tmp_path / "none")})
    (tmp_path / "rc").write_text("machine data.example.org s3cret\n")
    with pytest.raises(FileError, match=r"rc: line \d: not a netrc file") as error:
        login_of(url, {"NETRC": str(tmp_path / "rc")})
    assert "s3cret" not in str(error.value) and error.value.__cause__ is None


def test_a_login_shows_itself_in_no_text() -> None:
    login = Login("anna", "s3cret")
    texts = [repr(login), str(login), f"{login}", f"{[login]}", f"{login!r}"]
    assert not any("s3cret" in text or "anna" in text for text in texts)
    assert not hasattr(login, "__dict__")


def test_secrets_of_urls_are_blanked_and_the_rest_is_kept() -> None:
    secrets = [
        "https://u:s3cret@a.org/x",
        "https://u:p@s3cret@a.org/x",
        "https://b.s3.amazonaws.com/x.bw?X-Amz-Algorithm=A&X-Amz-Signature=s3cret&X-Amz-Expires=9",
        "https://b.s3.amazonaws.com/x?AWSAccessKeyId=s3cret&Signature=s3cret%3D&Expires=1",
        "https://a.blob.core.windows.net/x?sv=2019&sig=s3cret%2F&se=1",
        "https://storage.googleapis.com/x?X-Goog-Signature=s3cret",
        "https://a.org/x?token=s3cret", "https://a.org/x?access_token=s3cret#access_token=s3cret",
        "https://a.org/x?apikey=s3cret&api_key=s3cret&API-KEY=s3cret", "https://a.org/x?password=s3cret",
    ]  # fmt: skip
    for url in secrets:
        assert "s3cret" not in blanked(f"{url}: HTTP 500; 'see {url}'"), url
    kept = "https://a.org/files/X/@@download/X.bw?type=File&limit=all&field=keyword&design=a&x=%2520"
    assert blanked(kept) == kept
    assert blanked("https://a.org/x?sig=abc&type=File") == "https://a.org/x?sig=***&type=File"
