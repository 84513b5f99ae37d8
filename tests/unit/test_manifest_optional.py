"""Optional columns of a manifest: there where a row fills them, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from megabase.files import FileError
from megabase.plan import Plan
from megabase.sources.groups import rows_identity
from megabase.sources.listing import list_sources
from megabase.sources.manifest import read_manifest, superseded, write_manifest
from megabase.spec import MANIFEST_COLUMNS, MANIFEST_OPTIONAL

GOOD = {
    "portal": "gtex", "accession": "a", "output_type": "dnase", "organism": "x", "url": "https://a.org/a.bw",
}  # fmt: skip
CRC = "yZRlqg=="  # of b"hello world", as Google's documentation has it


def read(path: Path, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    write_manifest(rows, path)
    return read_manifest(path).to_dicts()


def test_a_column_is_written_only_where_a_row_fills_it(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.tsv", tmp_path / "m.tsv"
    write_manifest([GOOD], plain)
    empty = GOOD | dict.fromkeys(MANIFEST_OPTIONAL)
    assert list(read(path, empty)[0]) == list(MANIFEST_COLUMNS)
    assert path.read_bytes() == plain.read_bytes()
    rows = read(path, GOOD | {"crc32c": CRC}, GOOD | {"accession": "b"})
    assert list(rows[0]) == [*MANIFEST_COLUMNS, "crc32c"]
    assert [row["crc32c"] for row in rows] == [CRC, None]
    rows = read(path, GOOD, GOOD | {"accession": "b", "supersedes": "a0,a1"})
    assert [superseded(row) for row in rows] == [[], ["a0", "a1"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"crc32c": "c99465aa"}, "crc32c 'c99465aa' is not base64 of 4 bytes"),
     ({"crc32c": "yZRlqg"}, "crc32c 'yZRlqg' is not base64"), ({"crc32c": "yZRlqgA="}, "crc32c .* 4 bytes"),
     ({"supersedes": "a/b"}, "supersedes 'a/b' is no accession")],
)  # fmt: skip
def test_bad_fields_are_named(tmp_path: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(FileError, match=f"line 2: {message}"):
        read(tmp_path / "m.tsv", GOOD | change)


def test_unknown_columns_may_be_meant_as_optional_ones(tmp_path: Path) -> None:
    path = tmp_path / "m.tsv"
    write_manifest([GOOD | {"crc32c": CRC}], path)
    path.write_text(path.read_text().replace("crc32c", "crc32"))
    with pytest.raises(FileError, match="unknown column 'crc32'; nearest: crc32c"):
        read_manifest(path)


def test_listing_keeps_them(tmp_path: Path) -> None:
    write_manifest([GOOD | {"crc32c": CRC}], tmp_path / "one.tsv")
    write_manifest([GOOD | {"accession": "b"}], tmp_path / "two.tsv")
    found = list_sources([tmp_path / "two.tsv", tmp_path / "one.tsv"], tmp_path / "m.tsv")
    assert found["crc32c"].to_list() == [None, CRC]


def test_a_checksum_changes_the_download_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folds = {"names": ["a"], "schemes": {"all": {"valid": [], "test": []}}}
    config = {"release": "r", "organisms": ["x"], "genomes": {"x": {"organism": "x", "fasta": "b"}},
              "folds": folds, "teachers": {"folds": []}}  # fmt: skip
    genome = GOOD | {"accession": "b", "output_type": "genome"}

    def jobs(row: dict[str, Any], other: dict[str, Any]) -> tuple[str, str]:
        write_manifest([row, other], "resources/manifests/r.tsv")
        plan = Plan(config, "c.yaml")
        return rows_identity([dict.fromkeys(MANIFEST_COLUMNS) | row]), plan.source_options(
            SimpleNamespace(portal="gtex", file="a.bw")
        )

    plain = jobs(GOOD, genome)
    assert plain[1] == "https://a.org/a.bw"
    assert jobs(GOOD, genome | {"crc32c": CRC}) == plain  # the column is there, this row leaves it empty
    assert jobs(GOOD | {"crc32c": CRC}, genome) == (plain[0], f"https://a.org/a.bw --crc32c={CRC}")
    assert jobs(GOOD | {"supersedes": "a0"}, genome) == plain
    assert jobs(GOOD | {"strand": "+"}, genome)[0] != plain[0]


@pytest.mark.parametrize("url", ["https://user:s3cret@a.org/a.bw", "http://s3cret@a.org/a.bw"])
def test_a_login_in_a_url_is_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(FileError, match=r"://\*\*\*@a.org/a.bw' has a login in it; .*MEGABASE") as error:
        read(tmp_path / "m.tsv", GOOD | {"url": url})
    assert "s3cret" not in str(error.value)
    assert read(tmp_path / "m.tsv", GOOD | {"url": "https://a.org/@@download/a.bw"})  # `@` in a path is none
