"""Manifests are checked row by row; a user's own table becomes one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest

from megabase.files import FileError
from megabase.sources.listing import list_sources
from megabase.sources.manifest import local_path, raw_path, read_manifest, resolve_url, write_manifest
from megabase.spec import MANIFEST_COLUMNS

GOOD = {
    "portal": "encode",
    "accession": "ENCFF001AAA",
    "output_type": "dnase",
    "organism": "human",
    "strand": ".",
    "url": "https://example.org/files/ENCFF001AAA.bigWig",
    "md5": "0" * 32,
    "size": "12",
}


def write(path: Path, *rows: dict[str, str], columns: tuple[str, ...] = MANIFEST_COLUMNS) -> Path:
    lines = ["\t".join(columns), *("\t".join(row.get(name, "") for name in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_keep_their_order_and_unknown_is_null(tmp_path: Path) -> None:
    other = {**GOOD, "accession": "b", "output_type": "genome", "strand": "", "md5": "", "size": ""}
    table = read_manifest(write(tmp_path / "m.tsv", GOOD, other))
    assert tuple(table.columns) == MANIFEST_COLUMNS
    assert table["accession"].to_list() == ["ENCFF001AAA", "b"]
    assert table["size"].to_list() == [12, None] and table["size"].dtype == pl.Int64
    assert table["strand"].to_list() == [".", None] and table["md5"].to_list() == ["0" * 32, None]


def test_columns_go_by_name(tmp_path: Path) -> None:
    shuffled = tuple(reversed(MANIFEST_COLUMNS))
    one = read_manifest(write(tmp_path / "a.tsv", GOOD))
    assert read_manifest(write(tmp_path / "b.tsv", GOOD, columns=shuffled)).equals(one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_type": "dnase1"}, "line 3: output_type 'dnase1' .* nearest: dnase"),
        ({"output_type": "gene"}, "nearest: genes"),
        ({"strand": "plus"}, "line 3: strand 'plus' is not one of"),
        ({"md5": "abc"}, "line 3: md5 'abc' is not 32"),
        ({"size": "1e6"}, "line 3: size '1e6' is not a number"),
        ({"url": ""}, "line 3: url is empty, it is required"),
        ({"url": "s3://bucket/key"}, "line 3: url 's3://bucket/key' is not http"),
        ({"url": "https:/x"}, "names no host"),
        ({"accession": "../x"}, "line 3: accession '../x' has characters"),
        ({"portal": "a/b"}, "line 3: portal 'a/b' has characters"),
        ({"accession": "ENCFF001AAA"}, "line 3: accession 'ENCFF001AAA' is that of line 2"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, change: dict[str, str], message: str) -> None:
    path = write(tmp_path / "m.tsv", GOOD, {**GOOD, "accession": "other"} | change)
    with pytest.raises(FileError, match=message):
        read_manifest(path)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    columns = tuple("strnd" if name == "strand" else name for name in MANIFEST_COLUMNS)
    with pytest.raises(FileError, match="unknown column 'strnd'; nearest: strand"):
        read_manifest(write(tmp_path / "a.tsv", GOOD, columns=columns))
    with pytest.raises(FileError, match="columns missing: retrieved_utc"):
        read_manifest(write(tmp_path / "b.tsv", GOOD, columns=MANIFEST_COLUMNS[:-1]))
    with pytest.raises(FileError, match="named twice"):
        read_manifest(write(tmp_path / "c.tsv", GOOD, columns=(*MANIFEST_COLUMNS, "url")))
    cut = tmp_path / "d.tsv"
    cut.write_text(write(cut, GOOD).read_text()[:-30])
    with pytest.raises(FileError, match=r"line 2: \d+ fields, wanted 19"):
        read_manifest(cut)
    (tmp_path / "e.tsv").write_text("")
    with pytest.raises(FileError, match="empty"):
        read_manifest(tmp_path / "e.tsv")
    with pytest.raises(FileError, match="not found"):
        read_manifest(tmp_path / "f.tsv")


@pytest.mark.parametrize(
    ("url", "data", "wanted"),
    [
        ("https://a.org/x.bw", "", "https://a.org/x.bw"),
        ("file:tracks/x.bw", "", "file:tracks/x.bw"),
        ("{data}/x.bw", "/big", "file:/big/x.bw"),
        ("file:{data}/x.bw", "/big/", "file:/big/x.bw"),
        ("{data}/x.bw", "https://mirror.org/a", "https://mirror.org/a/x.bw"),
    ],
)
def test_urls_are_resolved(url: str, data: str, wanted: str) -> None:
    assert resolve_url({"accession": "a", "url": url}, data) == wanted


def test_a_url_that_needs_data_says_so() -> None:
    with pytest.raises(ValueError, match=r"a: url .* needs the config key `data`"):
        resolve_url({"accession": "a", "url": "{data}/x"})


def test_local_paths() -> None:
    wanted = {"file:a/b%20c": "a/b%20c", "file:/a": "/a", "file:///a/b%20c": "/a/b c",
              "file://localhost/a": "/a", "/x/y": "/x/y", "x": "x"}  # fmt: skip
    assert {url: str(local_path(url)) for url in wanted} == wanted
    with pytest.raises(ValueError, match="names host 'server'"):
        local_path("file://server/a")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.org/v1.2/x.fastq.gz", "acc.fastq.gz"),
        ("https://a.org/x.bw?sig=a.b/c.d", "acc.bw"),
        ("https://a.org/download", "acc"),
        ("file:/d.ir/GRCh38.p13.fa", "acc.p13.fa"),
        ("{data}/yeast/hic.cool", "acc.cool"),
    ],
)
def test_raw_paths(url: str, name: str) -> None:
    row = {"portal": "p", "accession": "acc", "url": url}
    assert raw_path(row) == Path("results/raw/p") / name
    assert raw_path(row, "/other") == Path("/other/raw/p") / name


def test_listing_fills_in_what_the_files_tell(tmp_path: Path) -> None:
    (tmp_path / "mine.bw").write_bytes(b"signal")
    own = {"accession": "mine", "output_type": "atac", "organism": "human", "url": "mine.bw"}
    data = {**own, "accession": "again", "url": "{data}/mine.bw", "portal": "lab"}
    table = write(tmp_path / "sources.tsv", own, data, GOOD)
    listed = list_sources([table], tmp_path / "out" / "r.tsv", data=tmp_path)
    assert read_manifest(tmp_path / "out" / "r.tsv").equals(listed)
    first, second, third = listed.to_dicts()
    assert (first["size"], first["md5"]) == (6, hashlib.md5(b"signal").hexdigest())
    assert first["url"] == f"file:{tmp_path}/mine.bw" and first["portal"] == "files"
    assert first["retrieved_utc"].endswith("Z") and first["status"] == "released"
    assert second["md5"] == first["md5"] and second["url"] == "{data}/mine.bw" and second["portal"] == "lab"
    assert third["md5"] == GOOD["md5"] and third["retrieved_utc"] is None


def test_listing_refuses_what_it_cannot_stand_for(tmp_path: Path) -> None:
    (tmp_path / "mine.bw").write_bytes(b"signal")
    own = {"accession": "mine", "output_type": "atac", "organism": "human", "url": "mine.bw"}
    for change, message in (
        ({"url": "none.bw"}, "line 2: .*none.bw not found"),
        ({"size": "7"}, "line 2: .*mine.bw has size 6, the table says 7"),
        ({"output_type": "ataq"}, "nearest: atac"),
    ):
        table = write(tmp_path / "sources.tsv", own | change)
        with pytest.raises(FileError, match=message):
            list_sources([table], tmp_path / "r.tsv")
        assert not (tmp_path / "r.tsv").exists()


def test_optional_columns_are_read_and_written_only_where_they_are_filled(tmp_path: Path) -> None:
    plain, full = tmp_path / "plain.tsv", tmp_path / "full.tsv"
    write_manifest([GOOD | {"supersedes": None}], plain)
    assert plain.read_text().splitlines()[0].split("\t") == list(MANIFEST_COLUMNS)
    write_manifest([GOOD, GOOD | {"accession": "other", "supersedes": "ENCFF000OLD"}], full)
    assert full.read_text().splitlines()[0].split("\t") == [*MANIFEST_COLUMNS, "supersedes"]
    assert read_manifest(full)["supersedes"].to_list() == [None, "ENCFF000OLD"]
    assert read_manifest(plain).columns == list(MANIFEST_COLUMNS)
