"""The report page from made-up results: every section, missing pieces, the same bytes twice."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from megabase.config import Config, load_config
from megabase.evaluation.reliability import LEVELS
from megabase.files import FileError, Stamp, write_json, write_table, write_tsv
from megabase.report import plot_report
from megabase.report.sections_quality import quality_section
from megabase.seeds import generator
from megabase.settings.data import QualitySettings
from megabase.spec import (
    BENCHMARK_COLUMNS,
    EVALUATION_COLUMNS,
    MANIFEST_COLUMNS,
    OUTPUTS,
    QUALITY_COLUMNS,
    UNCERTAINTY_COLUMNS,
    Kind,
    OutputType,
)

WINDOW = 16_384
CELLS = ("hepatic", "neural", "lymphoid")
QUALITY = {
    "teacher-fold0-seed0": 0.62, "teacher-fold1-seed0": 0.6, "teacher-all-seed0": 0.66,
    "student-seed0": 0.7, "baseline-mean": 0.12, "baseline-kmer": 0.34,
}  # fmt: skip
SINGLE = {
    Kind.CONTACTS: "pearson",
    Kind.SITES: "auprc",
    Kind.USAGE: "pearson",
    Kind.JUNCTIONS: "psi5_pearson",
}


def make_config() -> Config:
    """A small run of two organisms and three benchmarks."""
    return load_config(
        {
            "release": "toy",
            "organisms": ["alpha", "beta"],
            "genomes": {n: {"organism": n, "fasta": n} for n in ("alpha", "beta")},
            "folds": {
                "names": ["fold0", "fold1", "fold2"],
                "schemes": {
                    "fold0": {"valid": ["fold0"], "test": ["fold2"]},
                    "fold1": {"valid": ["fold1"], "test": ["fold2"]},
                    "all": {"valid": [], "test": ["fold2"]},
                },
                "reserved": ["fold2"],
            },
            "teachers": {"folds": ["fold0", "fold1"], "all_seeds": 2},
            "student": {"distill": {"spread": "variance"}},
            "uncertainty": {"ensembles": ["all"]},
            "variants": {"background": {"genome": "alpha", "vcf": "common"}},
            "benchmarks": {
                "eqtl_sign": _benchmark("eqtl_sign", ["rna_seq", "cage"]),
                "sqtl_causality": _benchmark("sqtl_causality", ["composite_splicing"]),
                "mpra": _benchmark("mpra", ["dnase"]),
            },
            "report": {"title": "A toy run", "explain": "eqtl_sign"},
        },
        "toy",
    )


def _benchmark(task: str, scorers: list[str]) -> dict:
    return {"task": task, "tables": ["t"], "genome": "alpha", "scorers": scorers}


def make_results(root: Path) -> Path:
    """Write results of the toy run with every file that the report reads; returns the manifest."""
    draws = generator(9, "report")
    _write_models(root, draws)
    _write_evaluations(root, draws)
    _write_uncertainties(root)
    _write_benchmarks(root, draws)
    _write_scores(root)
    _write_explanation(root, draws)
    _write_sources(root)
    return root / "toy.tsv"


def _write_models(root: Path, draws: np.random.Generator) -> None:
    for name, quality in QUALITY.items():
        if name.startswith("baseline"):
            continue
        rows = []
        for step in range(0, 600, 5):
            loss = 1 - quality + 1.5 * np.exp(-step / 90) + 0.06 * draws.normal()
            rows.append((step, "train", "loss", loss))
            for head in ("rna_seq", "dnase", "contact_maps", "splice_sites"):
                rows.append(
                    (step, "train", f"loss/{head}", loss * (1 + 0.1 * len(head)) + 0.03 * draws.normal())
                )
            if step % 100 == 0:
                rows.append((step, "valid", "loss", loss + 0.1))
                rows.append((step, "valid", "loss/dnase", loss * 1.5 + 0.1))
        table = pl.DataFrame(rows, schema=["step", "split", "quantity", "value"], orient="row")
        write_tsv(table, root / "models" / name / "training.tsv", Stamp("training"))


def _write_evaluations(root: Path, draws: np.random.Generator) -> None:
    for model, quality in QUALITY.items():
        for organism, tracks in (("alpha", 6), ("beta", 2)):
            rows: list[tuple] = []
            for i, output in enumerate(OutputType):
                level = quality * (1 - 0.03 * i)
                kind = OUTPUTS[output].kind
                if kind is Kind.TRACKS:
                    for resolution in OUTPUTS[output].resolutions:
                        rows += _metric_rows(
                            draws, model, organism, output, "pearson", level, tracks, resolution
                        )
                else:
                    rows += _metric_rows(draws, model, organism, output, SINGLE[kind], level, tracks, 2048)
            for distance in (0, 2048, 4096, 8192, 16384):
                metric = f"pearson_distance_{distance}"
                level = quality * 0.9 ** np.log2(distance / 1024 + 1)
                rows += _metric_rows(draws, model, organism, OutputType.CONTACT_MAPS, metric, level, 1, 2048)
            for metric in ("gene_pearson", "gene_lfc_pearson"):
                rows += _metric_rows(draws, model, organism, OutputType.RNA_SEQ, metric, quality, 3, 1)
            table = pl.DataFrame(rows, schema=list(EVALUATION_COLUMNS), orient="row")
            write_tsv(table, root / "evaluation" / model / f"{organism}.tsv", Stamp("evaluation"))


def _metric_rows(draws, model, organism, output, metric, level, tracks, resolution) -> list[tuple]:
    values = np.clip(level + 0.06 * draws.normal(size=tracks), -1, 1)
    head = (model, organism, "test", str(output))
    rows = [
        (*head, f"{output}_{i}", resolution, metric, float(v), None, None, 40) for i, v in enumerate(values)
    ]
    mean = float(values.mean())
    return [*rows, (*head, "mean", resolution, metric, mean, mean - 0.03, mean + 0.025, 40)]


def _write_uncertainties(root: Path) -> None:
    """Intervals that are too narrow before calibration and right after it; beta has one output type."""
    for model, narrow in (("ensemble-all", 0.5), ("student-seed0", 0.8)):
        for organism, outputs in (("alpha", list(OutputType)), ("beta", [OutputType.ATAC])):
            rows: list[tuple] = []
            for output in outputs:
                head = (model, organism, str(output))
                for level in LEVELS:
                    after = (level, max(level - 0.04, 0), min(level + 0.05, 1), 900)
                    rows.append((*head, "coverage_raw", level, level * narrow, None, None, 900))
                    rows.append((*head, "coverage", level, *after))
                rows.append((*head, "spearman", None, 0.41, 0.36, 0.47, 900))
                rows.append((*head, "width", 0.9, 1.23, None, None, 900))
                rows.append((*head, "error", None, 0.37, None, None, 900))
            table = pl.DataFrame(rows, schema=list(UNCERTAINTY_COLUMNS), orient="row")
            path = root / "uncertainty" / model / f"{organism}.tsv"
            write_tsv(table, path, Stamp("uncertainty"))


def _write_benchmarks(root: Path, draws: np.random.Generator) -> None:
    plans = {
        "eqtl_sign": ("auroc", 0.85, 0.5, ["rna_seq", "cage"], CELLS),
        "sqtl_causality": ("auprc", 0.79, 0.52, ["composite_splicing"], CELLS),
        "mpra": ("pearson", 0.4, 0.05, ["dnase"], ("LDLR", "SORT1", "TERT-GBM", "F9", "MYCrs6983267")),
    }
    for name, (metric, ours, plain, scorers, groups) in plans.items():
        for model, level, names in (
            ("student-seed0", ours, scorers),
            ("baselines", plain, ["tss_distance", "splice_distance", "gc_change", "kmer_change"]),
        ):
            label = "baseline" if model == "baselines" else model
            rows = []
            for scorer in names:
                positives = None if metric == "pearson" else 60
                rows += [
                    (name, label, scorer, metric, group, at := level + 0.04 * draws.normal(), at - 0.1,
                     at + 0.09, 120, positives)
                    for group in groups
                ]  # fmt: skip
                everything = None if positives is None else 180
                rows.append(
                    (name, label, scorer, metric, "all", level, level - 0.05, level + 0.05, 360, everything)
                )
                rows.append((name, label, scorer, "coverage", "all", 0.98, None, None, 366, None))
            table = pl.DataFrame(rows, schema=list(BENCHMARK_COLUMNS), orient="row", infer_schema_length=None)
            write_tsv(table, root / "benchmarks" / name / f"{model}.tsv", Stamp("result"))
        rejected = pl.DataFrame({"reason": ["ref_mismatch", "gene_unknown", "gene_unknown"]})
        write_tsv(rejected, root / "benchmarks" / name / "rejected.tsv", Stamp("rejected"))


def _write_scores(root: Path) -> None:
    folder = root / "scores" / "background" / "student-seed0"
    info = {
        "model": "student-seed0",
        "scored": 398,
        "rejected": 2,
        "scorers": [{"name": "rna_seq"}, {"name": "dnase"}],
    }
    write_json(info, folder / "scores.json", Stamp("scores"))
    write_table(
        pl.DataFrame({"reason": ["symbolic", "ref_mismatch"]}), folder / "rejected.parquet", Stamp("rejected")
    )


def _signal(draws: np.random.Generator, length: int, channels: int, peaks: int) -> np.ndarray:
    x = np.arange(length)[:, None]
    signal = np.zeros((length, channels))
    for _ in range(peaks):
        at, width = draws.uniform(0, length), draws.uniform(0.002, 0.02) * length
        signal += draws.gamma(2, 2, channels) * np.exp(-(((x - at) / width) ** 2))
    return signal + 0.05


def _write_explanation(root: Path, draws: np.random.Generator) -> None:
    start, at = 100_352, 100_352 + WINDOW // 2 + 57
    arrays, tracks = {}, {}
    for output in OutputType:
        channels = 5 if output is OutputType.SPLICE_SITES else 3
        length = WINDOW // OUTPUTS[output].resolutions[0]
        if output is OutputType.SPLICE_JUNCTIONS:
            continue
        if output is OutputType.CONTACT_MAPS:
            q = np.arange(8)
            ref = (0.8 * np.exp(-np.abs(q[:, None] - q) / 2) - 0.3)[..., None].repeat(channels, 2)
            alt, observed = (
                ref + 0.15 * np.exp(-((q[:, None] - 4) ** 2 + (q - 4) ** 2) / 2)[..., None],
                ref.copy(),
            )
            observed[3] = observed[:, 3] = np.nan
        else:
            ref = _signal(draws, length, channels, 12)
            near = np.exp(-(((np.arange(length) - length / 2) / (0.01 * length)) ** 2))[:, None]
            alt = ref * (1 - 0.7 * near) + near * 1.5 * draws.uniform(0, 1, channels)
            observed = draws.gamma(4, ref / 4)
            observed[: length // 10] = np.nan
        for side, values in (("ref", ref), ("alt", alt), ("observed", observed)):
            arrays[f"{side}/{output}"] = values.astype(np.float32)
        tracks[str(output)] = [
            {
                "name": f"{output}_{c}",
                "biosample_name": c,
                "strand": "+" if "seq" in output else ".",
                "target": "CTCF" if "chip" in output else "",
            }
            for c in CELLS
        ]
    width = 128
    ism = 0.02 * draws.normal(size=(width, 4))
    ism[55:66] += np.array([0.5, 0.1, -0.2, -0.4])[draws.permuted(np.tile(np.arange(4), (11, 1)), axis=1)]
    sequence = "".join("ACGT"[i] for i in ism.argmax(1))
    ism_alt = ism * np.where(np.abs(np.arange(width) - 60) < 8, 0.2, 1)[:, None]
    first = at - width // 2
    genes = [
        {"gene_id": "G1", "gene_name": "GATA1", "strand": "+", "start": start + 3000, "end": start + 9500,
         "exons": [[start + 3000, start + 3400], [start + 5200, start + 5400], [start + 9000, start + 9500]]},
        {"gene_id": "G2", "gene_name": "HDAC6", "strand": "-", "start": start + 8800, "end": start + 15000,
         "exons": [[start + 8800, start + 9100], [start + 14000, start + 15000]]},
    ]  # fmt: skip
    info = {
        "variant": {
            "variant_id": f"chr1:{at + 1}:A:G", "chrom": "chr1", "position": at, "ref": "A", "alt": "G",
        },
        "model": "student-seed0", "organism": "alpha", "scorer": "rna_seq", "track": "rna_seq_hepatic",
        "gene_id": "G1",
        "gene_name": "GATA1", "score": -0.9, "quantile": -0.998,
        "window": {"chrom": "chr1", "start": start, "end": start + WINDOW}, "tracks": tracks, "genes": genes,
        "ism": {"start": first, "end": first + width, "sequence": sequence, "sequence_alt": sequence},
        "junctions": [
            {"donor": start + a, "acceptor": start + b, "strand": "+", "biosample": "hepatic"}
            | {"ref": r, "alt": s}
            for a, b, r, s in ((3399, 5200, 9.0, 4.0), (5399, 9000, 8.0, 1.0), (3399, 9000, 0.5, 5.0))
        ],
        "words": ["Expression of GATA1 in hepatic cells falls to 0.41 of the reference.", "Less is open."],
    }  # fmt: skip
    folder = root / "explanations" / "eqtl_sign"
    folder.mkdir(parents=True)
    np.savez_compressed(
        folder / "student-seed0.npz", ism=ism.astype(np.float32), ism_alt=ism_alt.astype(np.float32), **arrays
    )
    write_json(info, folder / "student-seed0.json", Stamp("explanation"))


def write_quality_table(path: Path, organism: str) -> None:
    """A quality table of three tracks an output type; one is flagged, and one group failed."""
    rows = []
    for output in OutputType:
        for n, cell in enumerate(CELLS):
            low = output == OutputType.ATAC and n == 1
            rows.append(
                dict.fromkeys(QUALITY_COLUMNS)
                | {
                    "organism": organism, "output_type": str(output), "name": f"{cell} {output}",
                    "covered": 0.01 * (n + 1), "replicate_correlation": 0.9,
                    "worst_correlation": 0.3 if low else 0.9,
                    "verdict": "flag" if low else "pass", "reason": "replicate a1 <is> unlike" if low else "",
                }
            )  # fmt: skip
    failed = {"organism": organism, "output_type": "dnase", "name": "lost", "verdict": "failed"}
    rows.append(dict.fromkeys(QUALITY_COLUMNS) | failed | {"reason": "x.bw: damaged; fetch it again"})
    write_tsv(pl.DataFrame(rows, infer_schema_length=None), path, Stamp("quality"))


def _write_sources(root: Path) -> None:
    rows = [
        dict.fromkeys(MANIFEST_COLUMNS, "")
        | {"portal": "toy", "organism": o, "assay": a, "licence": "CC0-1.0"}
        for o in ("alpha", "beta")
        for a in ("DNase-seq", "DNase-seq", "RNA-seq")
    ]
    pl.DataFrame(rows).write_csv(root / "toy.tsv", separator="\t")
    for organism in ("alpha", "beta"):
        tracks = [{"output_type": str(o), "biosample_name": c} for o in OutputType for c in CELLS]
        write_table(pl.DataFrame(tracks), root / "tracks" / organism / "tracks.parquet", Stamp("tracks"))
        write_quality_table(root / "tracks" / organism / "quality.tsv", organism)
    folds = [{"fold": f"fold{i}", "bases": 2_000_000 + i, "gc": 0.41} for i in range(3)]
    write_json({"folds": folds}, root / "folds" / "folds.json", Stamp("folds"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    plot_report(root, make_results(root), make_config(), root / "report/index.html")
    return root / "report"


def test_page_has_every_section_and_figure(page: Path) -> None:
    text = (page / "index.html").read_text()
    for anchor in (
        "glance",
        "run",
        "quality",
        "training",
        "tracks",
        "trust",
        "variant",
        "benchmarks",
        "scores",
        "methods",
    ):
        assert f'<section id="{anchor}">' in text
    figures = {p.stem for p in (page / "figures").glob("*.png")}
    assert figures == {
        "loss_curves", "loss_by_head", "tracks", "genes_and_splicing", "contacts_by_distance", "locus",
        "locus_zoom", "mutagenesis", "benchmarks", "benchmark_eqtl_sign", "benchmark_sqtl_causality",
        "benchmark_mpra", "reliability", "track_quality",
    }  # fmt: skip
    assert text.count("data:image/png;base64,") == len(figures)


def test_tracks_that_fail_are_named_with_the_reason(page: Path, tmp_path: Path) -> None:
    text = (page / "index.html").read_text()
    section = text.split('<section id="quality">')[1].split("</section>")[0]
    assert section.count("x.bw: damaged; fetch it again") == 2  # in either organism
    assert section.count("hepatic") == 0, "tracks that pass are counted, not listed"
    assert "neural atac" in section and "replicate a1 &lt;is&gt; unlike" in section
    assert "flagged, and kept" in section


def test_many_failing_tracks_are_cut_short_aloud(tmp_path: Path) -> None:
    rows = [
        dict.fromkeys(QUALITY_COLUMNS)
        | {"organism": "a", "output_type": "dnase", "name": f"t{n}", "verdict": "failed", "reason": "r"}
        for n in range(203)
    ]
    write_tsv(pl.DataFrame(rows, infer_schema_length=None), tmp_path / "q.tsv", Stamp("quality"))
    section = quality_section({"a": tmp_path / "q.tsv"}, QualitySettings())
    listed = section.blocks[-1]
    assert len(listed.rows) == 200 and "3 more tracks in results/tracks/*/quality.tsv" in listed.caption
    assert quality_section({}, QualitySettings()) is None


def test_page_is_self_contained(page: Path) -> None:
    text = (page / "index.html").read_text()
    assert "<script" not in text and "<link" not in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)


def test_page_tells_the_numbers(page: Path) -> None:
    text = (page / "index.html").read_text()
    assert "0.850 [0.800, 0.900]" in text  # eQTL sign with its interval
    assert "98.0%" in text  # rows scored
    assert "2 gene unknown, 1 ref mismatch" in text
    assert "falls to 0.41 of the reference" in text
    assert make_config().hash() in text
    trust = text.split('<section id="trust">')[1].split("</section>")[0]
    assert "0.41 [0.36, 0.47]" in trust and "72%" in trust and "90%" in trust  # 0.9 x 0.8; after
    assert trust.count(">hepatic<") == 2  # every biosample of either organism
    assert "0.50" in trust  # a replicate in every output type


def test_same_results_same_bytes(page: Path, tmp_path: Path) -> None:
    plot_report(page.parent, page.parent / "toy.tsv", make_config(), tmp_path / "index.html")
    assert (tmp_path / "index.html").read_bytes() == (page / "index.html").read_bytes()
    for figure in (page / "figures").glob("*.png"):
        assert (tmp_path / "figures" / figure.name).read_bytes() == figure.read_bytes()


def test_missing_pieces_are_told_not_fatal(tmp_path: Path) -> None:
    plot_report(tmp_path / "nothing", None, make_config(), tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    for sentence in (
        "No evaluation and no benchmark", "No track tables", "No loss curves", "No track evaluation",
        "No spread was calibrated",
        "No variant was explained", "No benchmark was found", "No variants were scored",
    ):  # fmt: skip
        assert sentence in text
    assert list((tmp_path / "figures").iterdir()) == []


def test_a_broken_file_stops(tmp_path: Path) -> None:
    make_results(tmp_path)
    (tmp_path / "explanations/eqtl_sign/student-seed0.npz").unlink()
    with pytest.raises(FileError, match="explain the variant again"):
        plot_report(tmp_path, None, make_config(), tmp_path / "report/index.html")
    assert not (tmp_path / "report/index.html").exists()
