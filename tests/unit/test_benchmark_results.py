"""From scores to benchmark results: which tracks speak, what is missing, and that good scores win."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from megabase.benchmark import evaluate_baselines, evaluate_benchmark
from megabase.benchmark.features import kmer_change, kmer_log_frequencies
from megabase.benchmark.predictions import predict_rows, read_scores, reduce_tracks, tissue_tracks
from megabase.benchmark.tasks import TABLE_SCHEMA
from megabase.benchmark.truth import truth_agreement
from megabase.files import FileError, Stamp, read_tsv, write_table
from megabase.genome import Genome, prepare_genome
from megabase.scoring.scorers import file_name
from megabase.seeds import generator
from megabase.settings.scoring import BenchmarkSettings
from megabase.spec import BENCHMARK_COLUMNS

TRACKS = [("UBERON:1", "Liver"), ("UBERON:2", "brain"), ("", "lung tissue")]


def _write_scores(folder: Path, scorer: str, keys: list[tuple[str, str | None]], raw: np.ndarray) -> None:
    table = pl.DataFrame(keys, schema={"variant_id": pl.String, "gene_id": pl.String}, orient="row")
    table = table.with_columns(pl.Series("raw", raw.tolist(), dtype=pl.Array(pl.Float32, raw.shape[1])))
    write_table(table, folder / file_name(scorer) / "part-0.parquet", Stamp("scores"))


def _write_tracks(folder: Path, scorers: dict[str, str]) -> None:
    rows = [
        {"scorer": s, "name": f"{o}{i}", "output_type": o, "ontology_curie": curie, "biosample_name": name}
        for s, o in scorers.items()
        for i, (curie, name) in enumerate(TRACKS)
    ]
    write_table(pl.DataFrame(rows), folder / "tracks.parquet", Stamp("scores"))


def _table(path: Path, rows: list[dict]) -> pl.DataFrame:
    full = [{c: row.get(c) for c in TABLE_SCHEMA} for row in rows]
    table = pl.DataFrame(full, schema=TABLE_SCHEMA)
    write_table(table, path, Stamp("benchmark"))
    return table


def _settings(task: str, scorers: list[str]) -> BenchmarkSettings:
    return BenchmarkSettings(task=task, tables=["t"], genome="g", scorers=scorers, bootstrap=50)


def _rows(n: int, tissue: str = "liver", curie: str = "UBERON:1") -> list[dict]:
    """n variants of genes, effects evenly from -1 to 1."""
    return [
        {
            "variant_id": f"chr1:{i + 1}:A:C", "chrom": "chr1", "position": i, "ref": "A", "alt": "C",
            "gene_id": "ENSG00000000001.7", "tissue": tissue, "ontology_curie": curie, "group": tissue,
            "effect": 2 * i / (n - 1) - 1, "label": int(i >= n / 2), "tss_distance": 10 * i,
        }
        for i in range(n)
    ]  # fmt: skip


def test_tracks_are_chosen_by_ontology_then_name_then_all() -> None:
    tracks = pl.DataFrame(TRACKS, schema=["ontology_curie", "biosample_name"], orient="row")
    assert tissue_tracks(tracks, "liver", "UBERON:2") == ([1], True)
    assert tissue_tracks(tracks, "Lung_Tissue", "UBERON:9") == ([2], True)
    assert tissue_tracks(tracks, "kidney", "") == ([0, 1, 2], False)
    assert tissue_tracks(tracks, None, None) == ([0, 1, 2], False)


def test_track_reduction_leaves_nan_out() -> None:
    values = np.array([[1.0, np.nan, 3.0], [np.nan] * 3])
    assert reduce_tracks(values, "rna_seq").tolist()[0] == 2
    assert np.isnan(reduce_tracks(values, "rna_seq")[1])
    assert reduce_tracks(values, "splice_sites")[0] == 3
    assert np.isnan(reduce_tracks(values, "splice_sites")[1])


def test_gene_rows_match_across_versions_and_junctions_collapse(tmp_path: Path) -> None:
    table = _table(tmp_path / "t.parquet", _rows(3))
    gene = "ENSG00000000001.12"
    keys = [
        ("chr1:1:A:C", gene),
        ("chr1:1:A:C", gene),
        ("chr1:2:A:C", "ENSG00000000009"),
        ("chr1:3:A:C", None),
    ]
    raw = np.array([[1, 9, 9], [4, 0, 0], [5, 5, 5], [6, 6, 6]], dtype=float)
    _write_scores(tmp_path, "splice_junctions", keys, raw)
    _write_tracks(tmp_path, {"splice_junctions": "splice_junctions"})
    found = predict_rows(table, read_scores(tmp_path, "splice_junctions"))
    assert found[0] == 4  # the larger of two junctions in the liver track
    assert np.isnan(found[1:]).all()  # another gene's score is not this gene's; nor is a row without gene


def test_variant_scorer_ignores_genes(tmp_path: Path) -> None:
    table = _table(tmp_path / "t.parquet", _rows(2))
    _write_scores(tmp_path, "dnase", [("chr1:1:A:C", None), ("chr1:2:A:C", None)], np.eye(3)[:2] + 1)
    _write_tracks(tmp_path, {"dnase": "dnase"})
    assert predict_rows(table, read_scores(tmp_path, "dnase")).tolist() == [2, 1]
    assert predict_rows(table, read_scores(tmp_path, "dnase"), agnostic=True) == pytest.approx([4 / 3] * 2)


@pytest.mark.parametrize(("task", "metric"), [("eqtl_sign", "auroc"), ("eqtl_effect", "spearman")])
def test_true_scores_win_and_missing_ones_are_counted(tmp_path: Path, task: str, metric: str) -> None:
    rows = _rows(40) + _rows(20, "brain", "UBERON:2")
    table = _table(tmp_path / "t.parquet", rows)
    effects = dict(table.filter(pl.col("tissue") == "liver").select("variant_id", "effect").rows())
    scored = list(effects)[:-4]  # four variants have no score
    raw = np.array([[effects[v], 3 * effects[v] - 1, 0] for v in scored])
    _write_scores(tmp_path, "rna_seq", [(v, "ENSG00000000001") for v in scored], raw)
    _write_tracks(tmp_path, {"rna_seq": "rna_seq"})
    evaluate_benchmark(
        tmp_path / "t.parquet",
        tmp_path,
        "student-seed0",
        tmp_path / "r.tsv",
        _settings(task, ["rna_seq"]),
        "b",
        0,
    )
    result = read_tsv(tmp_path / "r.tsv", "result")
    assert result.columns == list(BENCHMARK_COLUMNS)
    values = {(r["metric"], r["group"]): r for r in result.iter_rows(named=True)}
    assert values[metric, "liver"]["value"] == pytest.approx(1)
    assert values[metric, "brain"]["value"] == pytest.approx(1)
    assert values[metric, "all"]["n"] == 56 and values[metric, "liver"]["n"] == 36
    assert values[metric, "all"]["low"] == pytest.approx(1)
    assert values["coverage", "all"]["value"] == pytest.approx(56 / 60)
    assert values["coverage", "all"]["n"] == 60


def test_causality_takes_the_size_of_a_score(tmp_path: Path) -> None:
    table = _table(tmp_path / "t.parquet", _rows(20))
    sign = np.where(np.arange(20) % 2, -1, 1)
    raw = ((table["label"].to_numpy() * 5 + 1) * sign)[:, None].repeat(3, 1).astype(float)
    _write_scores(tmp_path, "rna_seq", [(v, "ENSG00000000001") for v in table["variant_id"]], raw)
    _write_tracks(tmp_path, {"rna_seq": "rna_seq"})
    settings = _settings("eqtl_causality", ["rna_seq"])
    evaluate_benchmark(tmp_path / "t.parquet", tmp_path, "m", tmp_path / "r.tsv", settings, "b", 0)
    found = read_tsv(tmp_path / "r.tsv", "result").filter(metric="auprc", group="all")
    assert found["value"][0] == pytest.approx(1)
    assert found["n_positive"][0] == 10


def test_mpra_gives_all_tracks_and_the_cell_lines_own(tmp_path: Path) -> None:
    bare = {"gene_id": None, "ontology_curie": None, "label": None}
    own, other = bare | {"tissue": "liver", "group": "E1"}, bare | {"tissue": "", "group": "E2"}
    rows = [row | (own if i % 2 else other) for i, row in enumerate(_rows(40))]
    table = _table(tmp_path / "t.parquet", rows)
    effect = table["effect"].to_numpy()
    raw = np.stack([effect, -2 * effect, -2 * effect], 1)  # only the liver track knows
    _write_scores(tmp_path, "dnase", [(v, None) for v in table["variant_id"]], raw)
    _write_tracks(tmp_path, {"dnase": "dnase"})
    evaluate_benchmark(
        tmp_path / "t.parquet", tmp_path, "m", tmp_path / "r.tsv", _settings("mpra", ["dnase"]), "b", 0
    )
    result = read_tsv(tmp_path / "r.tsv", "result").filter(pl.col("metric") == "pearson")
    values = {(r[0], r[1]): r[2] for r in result.select("scorer", "group", "value").rows()}
    assert values["dnase", "all"] == pytest.approx(-1)
    assert values["dnase:matched", "E1"] == pytest.approx(1)
    assert values["dnase:matched", "E2"] is None


def test_results_are_the_same_bytes_twice(tmp_path: Path) -> None:
    table = _table(tmp_path / "t.parquet", _rows(30))
    raw = generator(7, "raw").normal(size=(30, 3))
    _write_scores(tmp_path, "rna_seq", [(v, "ENSG00000000001") for v in table["variant_id"]], raw)
    _write_tracks(tmp_path, {"rna_seq": "rna_seq"})
    for name in ("one", "two"):
        settings = _settings("eqtl_effect", ["rna_seq"])
        evaluate_benchmark(tmp_path / "t.parquet", tmp_path, "m", tmp_path / name, settings, "b", 0)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_unknown_scorer_names_those_that_exist(tmp_path: Path) -> None:
    _table(tmp_path / "t.parquet", _rows(2))
    _write_scores(tmp_path, "dnase", [("chr1:1:A:C", None)], np.ones((1, 3)))
    with pytest.raises(FileError, match="no scores of atac; these are there: dnase"):
        read_scores(tmp_path, "atac")


def test_scores_of_another_track_table_stop(tmp_path: Path) -> None:
    _write_scores(tmp_path, "dnase", [("chr1:1:A:C", None)], np.ones((1, 5)))
    _write_tracks(tmp_path, {"dnase": "dnase"})
    with pytest.raises(FileError, match="other than the 3 scores that its track table lists"):
        read_scores(tmp_path, "dnase")


def test_baselines_know_distance_and_sequence(tmp_path: Path) -> None:
    text = "".join("ACGT"[c] for c in generator(8, "s").integers(0, 2, 3000))  # A and C only
    (tmp_path / "g.fa").write_text(f">chr1\n{text}\n")
    prepare_genome(tmp_path / "g.fa", tmp_path / "g", organism="human", name="g")
    rows = _rows(40)
    for i, row in enumerate(rows):
        row["label"] = int(i < 20)  # near the TSS
        row["ref"], row["alt"] = ("A", "G") if i < 20 else ("A", "T")
    _table(tmp_path / "t.parquet", rows)
    settings = _settings("eqtl_causality", ["rna_seq"])
    evaluate_baselines(tmp_path / "t.parquet", tmp_path / "g", tmp_path / "r.tsv", settings, "b", 0)
    result = read_tsv(tmp_path / "r.tsv", "result").filter(group="all", metric="auprc")
    values = dict(zip(result["scorer"], result["value"], strict=True))
    assert values.keys() == {"tss_distance", "gc_change", "kmer_change"}  # no gene has introns
    assert values["tss_distance"] == pytest.approx(1)  # the causal half is nearer
    assert values["gc_change"] == pytest.approx(1)  # A>G against A>T


def test_kmer_change_rewards_common_kmers(tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_text(">chr1\n" + "A" * 500 + "C" + "A" * 500 + "\n")
    prepare_genome(tmp_path / "g.fa", tmp_path / "g", organism="human", name="g")
    genome = Genome.open(tmp_path / "g")
    frequencies = kmer_log_frequencies(genome)
    assert np.exp(frequencies).sum() == pytest.approx(1)
    assert kmer_change(genome, frequencies, "chr1", 500, "C", "A") > 1  # AAAAA is what this genome is made of
    assert kmer_change(genome, frequencies, "chr1", 100, "A", "G") < -1
    assert kmer_change(genome, frequencies, "chr1", 100, "A", "AA") == pytest.approx(0)


def test_truth_agreement_reads_tissue_and_gene(tmp_path: Path) -> None:
    table = _table(tmp_path / "t.parquet", _rows(9))
    truth = table.select(
        "variant_id", "gene_id", "effect", cell="tissue", kind=pl.lit("eqtl"), causal=pl.lit(True)
    )
    wrong = truth.with_columns(effect=-pl.col("effect"), causal=pl.lit(False))
    pl.concat([truth, wrong, wrong.with_columns(kind=pl.lit("sqtl"))]).write_parquet(
        tmp_path / "truth.parquet"
    )
    effect = table["effect"].to_numpy()
    keys = [(v, "ENSG00000000001") for v in table["variant_id"]]
    _write_scores(tmp_path, "rna_seq", keys, np.stack([effect**3, -effect, -effect], 1))
    _write_tracks(tmp_path, {"rna_seq": "rna_seq"})
    assert truth_agreement(tmp_path / "truth.parquet", tmp_path) == pytest.approx(1)
