"""Every SNV of a BED or of a genome: each once, in order, dealt to even chunks; bad BEDs are told."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scoring_stand_ins import LENGTH, make_genome

from megabase import saturation
from megabase.files import FileError, read_json, read_table
from megabase.packing import Packing
from megabase.scoring.accounting import Split
from megabase.settings.scoring import ChunkSettings, ScoringSettings
from megabase.spec import VARIANT_COLUMNS
from megabase.split import split_variants
from megabase.variants import ACCEPTED_SCHEMA

ANY_SIZE = ChunkSettings(load_seconds=0)
NAMES = [f"{i}-of-4" for i in range(1, 5)]


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    return make_genome(tmp_path_factory.mktemp("genome"))


def _split(genome, folder: Path, bed: str | None, placement: str = "binned", tile: int = 128) -> pl.DataFrame:
    """Chunks of a BED's text, or of the genome, as one table with `chunk`."""
    source = genome.folder / "sequence.json"
    if bed is not None:
        source = folder / "some.bed"
        source.write_text(bed)
    outputs = [folder / f"{name}.parquet" for name in NAMES]
    packing = Packing(ANY_SIZE, ScoringSettings(window=4096, placement=placement, tile=tile))
    written = split_variants(
        source, genome.folder, outputs, folder / "rejected.parquet", max_allele=100,
        saturate="genome" if bed is None else str(source), packing=packing,
    )  # fmt: skip
    tables = [read_table(path, "variants").with_columns(chunk=i) for i, path in enumerate(outputs)]
    found = pl.concat(tables)
    assert found.drop("chunk").schema == ACCEPTED_SCHEMA and written == (found.height, 0)
    assert read_table(folder / "rejected.parquet", "rejected").height == 0
    return found


def _expected(genome, places) -> list[tuple[str, int, str, str]]:
    found = []
    for chrom, start, end in places:
        for position, code in enumerate(genome.codes(chrom, start, end), start):
            if code < 4:
                found += [(chrom, position, "ACGT"[code], alt) for alt in "ACGT" if alt != "ACGT"[code]]
    return found


def test_every_snv_of_a_genome_once_in_order_without_n(genome, tmp_path, monkeypatch):
    monkeypatch.setattr(saturation, "BLOCK", 1000)  # no multiple of a stretch: blocks are cut to one
    found = _split(genome, tmp_path, None)
    wanted = _expected(genome, [("chr1", 0, LENGTH), ("chr2", 0, 5000)])
    assert found.select("chrom", "position", "ref", "alt").rows() == wanted
    assert found["variant_id"][0] == f"chr1:1:{wanted[0][2]}:{wanted[0][3]}"
    assert found["variant_id"].n_unique() == found.height and found["source_id"].is_null().all()
    assert found["allele"].to_list()[:6] == [1, 2, 3, 1, 2, 3]
    assert found.group_by("chrom", maintain_order=True).first()["record"].to_list() == [1, 2]
    counts = read_json(tmp_path / "split.json", "split")
    assert counts["saturated"] == {"regions": 2, "bases": 45_000, "unknown_bases": 1000}
    split = Split(tmp_path / "split.json")  # the reader of the merge finds its sum right, and its tables
    assert split.alleles == found.height == sum(split.chunks.values())
    assert [split.table(name).height for name in split.chunks] == list(split.chunks.values())


def test_regions_that_overlap_are_one_and_keep_the_line_of_the_first(genome, tmp_path):
    bed = "track x\nchr2\t10\t20\n1\t29990\t30005\tname\n# x\n"
    bed += "chr1\t29995\t30010\nchr1\t30020\t30030\nchr1\t100\t101\n"
    found = _split(genome, tmp_path, bed)
    wanted = _expected(genome, [("chr1", 100, 101), ("chr1", 29_990, 30_030), ("chr2", 10, 20)])
    assert found.select("chrom", "position", "ref", "alt").rows() == wanted
    assert found.unique("record", maintain_order=True)["record"].to_list() == [7, 3, 2]
    counts = read_json(tmp_path / "split.json", "split")["saturated"]
    assert counts == {"regions": 4, "bases": 41, "unknown_bases": 20}


@pytest.mark.parametrize(
    ("placement", "tile", "shared"), [("binned", 128, 128), ("tiled", 1000, 1000), ("centered", 128, 1)]
)
def test_chunks_are_even_and_part_no_window(genome, tmp_path, placement, tile, shared):
    bed = "chr1\t500\t9500\nchr1\t9600\t9700\nchr1\t9701\t9705\nchr2\t0\t5000\n"
    found = _split(genome, tmp_path, bed, placement, tile)
    windows = found.with_columns(window=pl.col("position") // shared).group_by("chrom", "window")
    assert windows.agg(pl.col("chunk").n_unique())["chunk"].max() == 1
    sizes = [found.filter(pl.col("chunk") == i).height for i in range(4)]
    assert max(sizes) - min(sizes) <= 2 * 3 * max(shared, 128)
    last = found.group_by("chunk", maintain_order=True).agg(
        pl.first("position").alias("at"), pl.first("chrom")
    )
    assert [r["at"] % shared == 0 for r in last.rows(named=True)[1:]] == [True] * 3


def test_genes_in_reach_cost_time(genome):
    """Bases whose window overlaps genes are dealt to more chunks, each of fewer bases."""
    genes = pl.DataFrame({"chrom": ["chr1"] * 50, "start": [1000] * 50, "end": [2000] * 50})
    packing = Packing(ChunkSettings(load_seconds=0, gene_cost=0.1), ScoringSettings(window=4096), genes)
    found = saturation.count_stretches([saturation.Region("chr1", 0, 20_480, 1)], genome, 128)
    bounds = saturation.chunk_stretches(found, genome, 2, packing)
    assert bounds[0] == 0 and bounds[2] == len(found.known) == 160
    near = np.arange(160) * 128 + 64 < 2000 + 2048  # each variant costs 1, and 0.1 for each of 50 genes
    costs = 384 * np.where(near, 6.0, 1.0) + 1
    assert abs(costs[: bounds[1]].sum() - costs.sum() / 2) <= costs.max()


def test_few_bases_leave_the_last_chunks_empty(genome, tmp_path):
    found = _split(genome, tmp_path, "chr1\t0\t10\n")
    assert found["chunk"].unique().to_list() == [0] and found.height == 30
    nothing = _split(genome, tmp_path, "chr1\t30100\t30200\n")
    assert nothing.is_empty() and set(VARIANT_COLUMNS) <= set(nothing.columns)
    assert read_json(tmp_path / "split.json", "split")["saturated"]["unknown_bases"] == 100


def test_the_same_bed_gives_the_same_bytes_gzip_too(genome, tmp_path):
    text = "chr1\t5\t300\nchr2\t7\t9\n"
    first = _split(genome, tmp_path, text)
    before = (tmp_path / "1-of-4.parquet").read_bytes()
    _split(genome, tmp_path, text)
    assert (tmp_path / "1-of-4.parquet").read_bytes() == before
    (tmp_path / "some.bed.gz").write_bytes(gzip.compress(text.encode()))
    regions = saturation.read_regions(tmp_path / "some.bed.gz", genome)
    assert saturation.every_snv(regions, genome).equals(first.drop("chunk"))


@pytest.mark.parametrize(
    ("bed", "words"),
    [
        ("chr1\t1\t5\nchr1 5 9\n", "line 2 is 'chr1 5 9'; wanted chrom, start and end, parted by tabs"),
        ("chr1\t-1\t5\n", "line 1 is 'chr1.t-1.t5'; wanted chrom, start"),
        ("# x\nchr9\t1\t5\n", "line 2 is on 'chr9', wanted a chromosome of genome toy"),
        ("chr1\t9\t9\n", "line 1 is 9-9, wanted start < end <= 40000, the length of chr1; correct it"),
        ("chr2\t4000\t5001\n", "line 1 is 4000-5001, wanted start < end <= 5000"),
        ("# nothing\n", "holds no region; wanted lines of chrom, start, end"),
    ],
)  # fmt: skip
def test_bad_bed(genome, tmp_path, bed, words):
    with pytest.raises(FileError, match=words.replace("\\t", ".t")):
        _split(genome, tmp_path, bed)
    assert not list(tmp_path.glob("*.parquet"))


def test_a_bed_that_is_missing_or_cut_short(genome, tmp_path):
    with pytest.raises(FileError, match=r"none\.bed: BED not found"):
        saturation.read_regions(tmp_path / "none.bed", genome)
    path = tmp_path / "cut.bed.gz"
    path.write_bytes(gzip.compress(b"chr1\t1\t5\n" * 1000)[:-12])
    with pytest.raises(FileError, match="cannot be read to its end"):
        saturation.read_regions(path, genome)


def test_a_chunk_needs_no_more_than_its_own_part_of_the_regions(genome):
    """Stretches between any two bounds join to all variants, whatever regions share a stretch."""
    regions = [saturation.Region("chr1", a, a + 50, 1) for a in range(0, 3000, 70)]
    regions.append(saturation.Region("chr2", 130, 140, 2))
    found = saturation.count_stretches(regions, genome, 128)
    assert int(found.known.sum()) == sum(r.end - r.start for r in regions)
    everything = saturation.every_snv(regions, genome)
    for step in (1, 3, 7):
        edges = [*range(0, len(found.known), step), len(found.known)]
        parts = [
            saturation.every_snv(saturation.regions_between(regions, found, genome, pair, 128), genome)
            for pair in itertools.pairwise(edges)
        ]
        assert pl.concat(parts).equals(everything)
