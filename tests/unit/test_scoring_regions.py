"""Interval and enhancer scores through their commands, with a tiny network and genes of a GTF."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from predict_stand_ins import make_model
from scoring_stand_ins import make_genome
from typer.testing import CliRunner

from megabase.cli import app
from megabase.genes import prepare_genes
from megabase.predictors.base import load_predictor
from megabase.scoring.chunks import raw_matrix
from megabase.scoring.enhancers import KIND as ENHANCERS
from megabase.scoring.intervals import KIND as INTERVALS
from megabase.spec import OutputType

WINDOW = 4096
GTF = """chr1\tx\texon\t9001\t9300\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; gene_name "ONE";
chr1\tx\texon\t10501\t10700\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; gene_name "ONE";
chr1\tx\texon\t20001\t20400\t.\t-\t.\tgene_id "g2"; transcript_id "t2"; gene_name "TWO";
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regions")
    genome = make_genome(folder)
    (folder / "genes.gtf").write_text(GTF)
    prepare_genes(folder / "genes.gtf", folder / "genome", folder / "genes")
    model = make_model(folder / "student-seed0")
    return SimpleNamespace(folder=folder, genome=genome, model=model)


def _run(world, command: str, *options: str):
    common = ("--model", world.model, "--genome", world.folder / "genome", "--genes", world.folder / "genes")
    scoring = ("--scoring", json.dumps({"window": WINDOW, "batch_size": 2}), "--device", "cpu")
    return CliRunner().invoke(app, [command, *map(str, (*options, *common, *scoring))])


def _coverage(world, start: int) -> torch.Tensor:
    codes = torch.from_numpy(world.genome.codes("chr1", start, start + WINDOW))[None]
    predictor = load_predictor(world.model)
    return predictor.predict(codes, "toy", outputs=[OutputType.RNA_SEQ])[OutputType.RNA_SEQ]["1bp"][0]


def test_every_gene_is_scored_and_one_that_is_not_there_is_told(world):
    listed = world.folder / "listed.txt"
    listed.write_text("ONE\ng2\nTHREE\n")
    output = world.folder / "intervals"
    result = _run(world, "score-intervals", "--regions", listed, "-o", output)
    assert result.exit_code == 0, result.output
    table = pl.read_parquet(output / "rna_seq/part-00000.parquet")
    assert table["gene_name"].to_list() == ["ONE", "TWO"]
    start = (9_000 + 10_700) // 2 - WINDOW // 2
    values = _coverage(world, start)
    exons = torch.cat([values[a - start : b - start] for a, b in ((9_000, 9_300), (10_500, 10_700))])
    seen = raw_matrix(table)[0]
    np.testing.assert_allclose(seen[[0, 2]], exons.mean(0)[[0, 2]], rtol=1e-4)
    assert np.isnan(seen[1])
    rejected = pl.read_parquet(output / "rejected.parquet")
    assert rejected.select("interval_id", "reason").rows() == [("THREE", "unknown_gene")]
    assert json.loads((output / "intervals.json").read_text())["megabase"]["kind"] == INTERVALS


def test_pairs_are_scored_by_the_gradient_and_the_bytes_repeat(world):
    pairs = world.folder / "pairs.tsv"
    pairs.write_text(
        "chrom\tstart\tend\tgene\tbiosample\tlabel\n"
        "chr1\t9700\t9900\tONE\tliver\t1\nchr1\t30000\t30100\tONE\tliver\t0\nchr1\t20100\t20200\tTWO\tspleen\t0\n"
    )
    outputs = [world.folder / f"{name}.parquet" for name in ("first", "second")]
    for output in outputs:
        result = _run(world, "score-enhancers", pairs, "-o", output)
        assert result.exit_code == 0, result.output
    table = pl.read_parquet(outputs[0])
    near, far, unknown = table["score"].to_list()
    assert near > 0 and far == 0 and unknown is None
    assert table["reason"].to_list() == [None, None, "no_track"] and table["label"].to_list() == [1, 0, 0]
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert ENHANCERS in str(pl.read_parquet_metadata(outputs[0]))


def test_pairs_of_unknown_genes_alone_are_an_error(world):
    pairs = world.folder / "unknown.tsv"
    pairs.write_text("chrom\tstart\tend\tgene\tbiosample\nchr1\t1\t2\tnobody\tliver\n")
    result = _run(world, "score-enhancers", pairs, "-o", world.folder / "no.parquet")
    assert result.exit_code == 1 and "none of its 1 pairs could be scored: unknown_gene" in str(
        result.exception
    )
    assert not Path(world.folder / "no.parquet").exists()


def test_a_region_is_mutated_by_its_command(world):
    output = world.folder / "mutated"
    result = _run(
        world, "mutagenize", "--scorer", "rna_seq", "--gene", "ONE", "--track", "brain",
        "--region", "chr1:10,499-10,501", "-o", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with np.load(output / "mutagenesis.npz") as arrays:
        assert arrays["scores"].shape == (3, 4) and np.isnan(arrays["scores"]).sum() == 3
    info = json.loads((output / "mutagenesis.json").read_text())
    assert (info["start"], info["end"], info["gene_id"], info["tracks"]) == (10_498, 10_501, "g1", ["brain"])
