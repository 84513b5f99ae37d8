"""A manifest before its files are listed: its size, its names, and that it is never fetched."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from published_stand_ins import published_text

from megabase.cost import channels
from megabase.files import FileError
from megabase.planned import plan_sources
from megabase.sources.download import fetch_source
from megabase.sources.groups import Sheet
from megabase.sources.manifest import is_planned, raw_path, read_manifest
from megabase.spec import OutputType

METADATA = "portals/benchmarks/alphagenome/OutputMetadataResponse_ORGANISM_{}.textproto.gz"
CONFIG = {
    "release": "r", "organisms": ["human"],
    "genomes": {"human": {"organism": "human", "fasta": "hg.p1", "genes": "g"}},
    "folds": {"source": "manifest", "names": ["a"], "schemes": {"all": {"valid": [], "test": []}}},
    "teachers": {"folds": []}, "variants": {"background": {"genome": "human", "vcf": "common"}},
    "benchmarks": {"sign": {"task": "eqtl_sign", "tables": ["q"], "genome": "human", "scorers": ["atac"]},
                   "reporters": {"task": "mpra", "tables": ["m"], "genome": "human", "scorers": ["atac"]}},
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """A config of one organism, and its metadata."""
    config, metadata = tmp_path / "c.yaml", tmp_path / "m.textproto"
    config.write_text(yaml.safe_dump(CONFIG))
    metadata.write_text(published_text("human"))
    return config, {"human": metadata}


def test_rows_are_planned_and_say_so(small: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    config, metadata = small
    plan_sources(config, tmp_path / "r.tsv", metadata=metadata)
    rows = read_manifest(tmp_path / "r.tsv").to_dicts()
    assert all(is_planned(row) and row["status"] == "planned" for row in rows)
    assert all(row["md5"] is row["size"] is row["retrieved_utc"] is None for row in rows)
    single = [row for row in rows if not row["accession"].startswith("planned-")]
    named = {row["accession"]: row["output_type"] for row in single}
    assert named == {"hg.p1": "genome", "g": "genes", "common": "variants", "q": "qtl", "m": "mpra"}
    assert [row["accession"] for row in rows if row["output_type"] == "splits"] == ["planned-human-splits"]
    assert str(raw_path(rows[0])) == "results/raw/planned/hg.p1.fa.gz"


def test_saturated_beds_are_planned_once(small: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    config, metadata = small
    beds = {"a": "exons", "b": "exons", "c": "measured", "d": "own.bed", "e": "genome"}
    sets = {name: {"genome": "human", "saturate": bed} for name, bed in beds.items()}
    human = CONFIG["genomes"]["human"] | {"regions": "measured"}
    given = CONFIG | {"genomes": {"human": human}, "variants": CONFIG["variants"] | sets}
    config.write_text(yaml.safe_dump(given))
    plan_sources(config, tmp_path / "r.tsv", metadata=metadata)
    rows = read_manifest(tmp_path / "r.tsv").to_dicts()
    regions = [row["accession"] for row in rows if row["output_type"] == "regions"]
    assert sorted(regions) == ["exons", "measured"]


def test_the_same_metadata_give_the_same_bytes(small: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    config, metadata = small
    for name in ("a.tsv", "b.tsv"):
        plan_sources(config, tmp_path / name, metadata=metadata)
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()
    plan_sources(config, tmp_path / "a.tsv", metadata=metadata)  # over a planned one: as often as one likes


def test_files_that_exist_are_not_forgotten(small: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    config, metadata = small
    path = tmp_path / "r.tsv"
    plan_sources(config, path, metadata=metadata)
    path.write_text(path.read_text().replace("planned:genome.fa.gz", "https://example.org/hg.fa.gz"))
    before = path.read_bytes()
    with pytest.raises(FileError, match=r"r\.tsv: lists 1 files that exist"):
        plan_sources(config, path, metadata=metadata)
    assert path.read_bytes() == before


def test_an_organism_without_metadata(small: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no metadata for human; give --metadata human=PATH"):
        plan_sources(small[0], tmp_path / "r.tsv", metadata={"mouse": "x"})
    assert not (tmp_path / "r.tsv").exists()


def test_a_planned_file_is_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"planned:a\.bw: is planned, nobody has found the file yet"):
        fetch_source("planned:a.bw", tmp_path / "a.bw")
    assert not (tmp_path / "a.bw").exists()


def test_the_published_size(root: Path, real_data: Path, tmp_path: Path) -> None:
    names = {"human": "HOMO_SAPIENS", "mouse": "MUS_MUSCULUS"}
    metadata = {o: real_data / METADATA.format(name) for o, name in names.items()}
    plan_sources(root / "config/alphagenome.yaml", tmp_path / "r.tsv", metadata=metadata)
    rows = read_manifest(tmp_path / "r.tsv").to_dicts()
    gtex = [row for row in rows if row["portal"] == "gtex" and row["output_type"] == "rna_seq"]
    assert len(gtex) == pytest.approx(17_382, rel=0.01)  # one bigWig a sample of GTEx v8
    sheet = Sheet(rows, "r.tsv")
    published = {"human": (667, 546, 12, 305, 167, 1116, 1617, 28, 5, 734, 734),
                 "mouse": (173, 188, 0, 67, 18, 183, 127, 8, 5, 180, 180)}  # fmt: skip
    for organism, counts in published.items():
        found = channels(sheet, [organism])
        assert tuple(found.get(output, 0) for output in OutputType) == counts
