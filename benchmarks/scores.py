"""From a VCF to a store of scores without a model: time, memory, bytes a variant, and how fast a query is.

    python benchmarks/scores.py --variants 1000000 --chunks 20 --tracks 4
    python benchmarks/scores.py --variants 2000 --chunks 2 --published

A random genome, a VCF of single-nucleotide variants, `split-variants`, chunks filled with random scores of
every recommended scorer, `merge-scores` and `query`, each command in a process of its own. `--tracks` is
the number of tracks of every scorer; with `--published` those of the human track tables of AlphaGenome, and
as many gene rows a variant as a window of 1 Mb has. Seconds are of the wall and of all cores.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from megabase.files import Stamp, read_json, read_table, write_json, write_table
from megabase.genome import prepare_genome
from megabase.scoring.calibration import calibrate_scores
from megabase.scoring.chunk_files import track_table
from megabase.scoring.keys import matrix_column
from megabase.scoring.parts import write_part
from megabase.scoring.scorers import RECOMMENDED, Part, Scorer
from megabase.settings.scoring import ScoringSettings
from megabase.spec import OutputType

MB = 1e6
PUBLISHED = {
    OutputType.RNA_SEQ: 667, OutputType.CAGE: 546, OutputType.PROCAP: 12, OutputType.DNASE: 305,
    OutputType.ATAC: 167, OutputType.CHIP_HISTONE: 1116, OutputType.CHIP_TF: 1617,
    OutputType.CONTACT_MAPS: 28, OutputType.SPLICE_SITES: 4, OutputType.SPLICE_SITE_USAGE: 734,
    OutputType.SPLICE_JUNCTIONS: 367,
}  # fmt: skip
SPACING = 40_000  # bases between the starts of genes


@dataclass(frozen=True)
class Size:
    """What is made: rows of exon scorers and of scorers of gene bodies a variant, tracks by output type."""

    variants: int
    chunks: int
    exon_genes: int
    body_genes: int
    tracks: dict[OutputType, int]


def make_vcf(folder: Path, variants: int, rng: np.random.Generator) -> None:
    """A genome of two chromosomes, some 100 bases a variant, and a VCF of single-nucleotide variants."""
    length = max(100 * variants, 100_000)
    lines, codes = [], {}
    with (folder / "genome.fa").open("w") as fasta:
        for chrom, bases in (("chr1", length // 2), ("chr2", length - length // 2)):
            codes[chrom] = rng.integers(0, 4, bases, np.uint8)
            fasta.write(f">{chrom}\n{np.frombuffer(b'ACGT', np.uint8)[codes[chrom]].tobytes().decode()}\n")
    for chrom, code in codes.items():
        wanted = variants // 2 if chrom == "chr1" else variants - variants // 2
        for position in np.sort(rng.choice(len(code), wanted, replace=False)):
            base = code[position]
            ref, alt = "ACGT"[base], "ACGT"[(base + 1) % 4]
            lines.append(f"{chrom}\t{position + 1}\t.\t{ref}\t{alt}\t.\tPASS\t.\n")
    prepare_genome(folder / "genome.fa", folder / "genome", organism="toy", name="toy")
    contigs = "".join(f"##contig=<ID={chrom},length={len(code)}>\n" for chrom, code in codes.items())
    head = f"##fileformat=VCFv4.2\n{contigs}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (folder / "in.vcf").write_text(head + "".join(lines))


def rows_of(scorer: Scorer, variants: pl.DataFrame, size: Size) -> pl.DataFrame:
    """Keys of the rows of a scorer: one a variant, or one a variant and gene about it."""
    keys = variants.select("variant_id", "chrom", "position", "ref", "alt")
    missing = [pl.lit(None, dtype=pl.String).alias(c) for c in ("gene_id", "gene_name", "strand")]
    if not scorer.has_genes:
        return keys.with_columns(missing)
    genes = size.exon_genes if scorer.part is Part.EXONS else size.body_genes
    index = np.repeat(np.arange(keys.height), genes)
    number = pl.col("position") // SPACING + pl.Series(np.tile(np.arange(genes), keys.height))
    rows = keys[index].with_columns(number.alias("number"))
    name = pl.col("number").cast(pl.String)
    rows = rows.with_columns(
        gene_id=pl.concat_str(pl.lit("ENSG"), pl.col("chrom"), name.str.zfill(8)),
        gene_name=pl.concat_str(pl.lit("GENE"), name), strand=pl.when(pl.col("number") % 2 == 0)
        .then(pl.lit("+")).otherwise(pl.lit("-")),
    ).drop("number")  # fmt: skip
    if scorer.name == "splice_junctions":
        start = pl.col("position") - 500
        rows = rows.with_columns(junction_start=start, junction_end=start + 1000)
    return rows


def raw_scores(scorer: Scorer, rows: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Scores with long tails; half of the tracks of a gene are of the other strand, some scores are zero."""
    raw = (rng.standard_normal((rows, width), np.float32) * 0.02) * np.exp(rng.standard_normal((rows, 1)))
    if not scorer.signed:
        raw = np.abs(raw)
    if scorer.output_type is OutputType.RNA_SEQ:
        raw[:, : width // 3] = np.nan
    if scorer.part is Part.BODY:
        raw[rng.random(rows) < 0.3] = 0
    return raw.astype(np.float32)


def make_chunk(
    table: Path, output: Path, size: Size, contigs: dict[str, int], rng: np.random.Generator
) -> None:
    """A chunk folder as `score_variants` writes it."""
    variants, stamp = read_table(table, "variants"), Stamp("chunk")
    output.mkdir(parents=True)
    scorers = list(RECOMMENDED.values())
    for scorer in scorers:
        keys, width = rows_of(scorer, variants, size), size.tracks[scorer.output_type]
        with write_part(output / f"{scorer.name}.parquet", stamp) as writer:
            for start in range(0, max(keys.height, 1), 20_000):
                part = keys[start : start + 20_000]
                raw = raw_scores(scorer, part.height, width, rng)
                writer.write(part.with_columns(matrix_column("raw", raw, width)))
    write_table(variants, output / "variants.parquet", stamp)
    channels: dict[str, list[dict[str, Any]]] = {
        s.name: [
            {"name": f"{s.output_type.value} {i}", "output_type": s.output_type.value, "strand": ".",
             "biosample_name": f"cell {i % 40}", "ontology_curie": f"CL:{i % 40:07d}"}
            for i in range(size.tracks[s.output_type])
        ]
        for s in scorers
    }  # fmt: skip
    write_table(track_table(scorers, channels, "toy"), output / "tracks.parquet", stamp)
    info = {"model": "student-seed0", "organism": "toy", "window": 1 << 20, "variants": variants.height,
            "contigs": contigs, "scorers": [s.as_dict() for s in scorers]}  # fmt: skip
    write_json(info, output / "chunk.json", stamp)


def measured(*command: str | Path) -> tuple[float, float, float]:
    """Seconds of the wall and of all cores, and peak memory (MB), of a command of megabase."""
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", "megabase", *map(str, command)], stdout=subprocess.DEVNULL
    )
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        with contextlib.suppress(OSError, TypeError):  # it may end just now
            text = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, int(re.search(r"VmHWM:\s+(\d+)", text)[1]))  # kB; of it alone, since it began
        time.sleep(0.005)
    if status:
        raise SystemExit(f"{command[0]} failed")
    busy = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - start, busy, peak * 1024 / MB


def folder_bytes(folder: Path) -> int:
    """Bytes of the files of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def make_and_merge(folder: Path, size: Size) -> None:
    """Split, fill the chunks, merge; prints time and memory."""
    rng = np.random.default_rng(0)
    make_vcf(folder, size.variants, rng)
    names = [f"{i + 1}-of-{size.chunks}" for i in range(size.chunks)]
    tables = [folder / "variants" / f"{name}.parquet" for name in names]
    rejected = folder / "variants/rejected.parquet"
    genome = folder / "genome"
    settings = '{"genome": "toy", "vcf": "in.vcf"}'
    found = measured(
        "split-variants", folder / "in.vcf", *tables, "--genome", genome, "--rejected", rejected,
        "--settings", settings,
    )  # fmt: skip
    print("split-variants  {:7.1f} s {:7.1f} s of cores {:7.0f} MB".format(*found))
    contigs = {c["name"]: c["length"] for c in read_json(genome / "sequence.json", "genome")["chromosomes"]}
    for name, table in zip(names, tables, strict=True):
        make_chunk(table, folder / "chunks" / name, size, contigs, rng)
    calibrate_scores([folder / "chunks" / names[0]], folder / "model", ScoringSettings())
    write_json(
        {"info": {"name": "student-seed0"}, "weights": ""}, folder / "model/model.json", Stamp("model")
    )
    found = measured(
        "merge-scores", folder / "chunks", "--rejected", rejected, "--split", folder / "variants/split.json",
        "--model", folder / "model", "--calibration", folder / "model/calibration.json",
        "-o", folder / "scores",
    )  # fmt: skip
    print("merge-scores    {:7.1f} s {:7.1f} s of cores {:7.0f} MB".format(*found))


def print_sizes(scores: Path, variants: int) -> None:
    """Bytes a variant by scorer, and of the views."""
    info = read_json(scores / "scores.json", "scores")
    for scorer in info["scorers"]:
        size = folder_bytes(scores / scorer["name"])
        rows = f"{scorer['rows'] / variants:.1f} rows"
        print(f"{scorer['name']:24s} {size / variants:10.1f} bytes a variant, {rows}")
    print(f"{'summary.vcf.gz':24s} {(scores / 'summary.vcf.gz').stat().st_size / variants:10.1f}")
    print(f"{'all':24s} {folder_bytes(scores) / variants:10.1f}")


def time_queries(scores: Path, table: Path, rounds: int) -> None:
    """Wall seconds of the command, imports and all; the median of some runs."""
    variants = read_table(table, "variants")
    chosen = variants.row(variants.height // 3, named=True)
    gene = pl.read_parquet(scores / "genes.parquet")["gene_name"][7]
    region = f"{chosen['chrom']}:{chosen['position'] + 1}-{chosen['position'] + 2000}"
    questions = {
        "variant": [chosen["variant_id"]],
        "region of 2 kb": [region],
        "region, tissue": [region, "--tissue", "cell 3"],
        "region, scorer": [region, "--scorer", "dnase"],
        "gene, scorer, tissue": ["--gene", gene, "--scorer", "rna_seq", "--tissue", "cell 3"],
        "scorer, tissue, first 100 rows": ["--scorer", "dnase", "--tissue", "cell 3", "--limit", "100"],
    }
    for name, options in questions.items():
        runs = [measured("query", scores, *options) for _ in range(rounds)]
        seconds, busy, memory = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"query by {name:32s} {seconds:5.2f} s {busy:5.2f} s of cores {memory:5.0f} MB")


def main() -> None:
    """Parse, make, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--variants", type=int, default=100_000)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--tracks", type=int, default=4, help="tracks of every scorer")
    parser.add_argument("--published", action="store_true", help="tracks and genes of the published set")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each query")
    parser.add_argument("--folder", type=Path, help="keep everything here; default: a temporary folder")
    given = parser.parse_args()
    tracks = PUBLISHED if given.published else dict.fromkeys(OutputType, given.tracks)
    genes = (14, 2) if given.published else (2, 1)
    size = Size(given.variants, given.chunks, *genes, tracks)
    folder = given.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        make_and_merge(folder, size)
        print_sizes(folder / "scores", size.variants)
        time_queries(folder / "scores", folder / "variants" / f"1-of-{size.chunks}.parquet", given.rounds)
    finally:
        if given.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
