"""Scoring one chunk of variants to files: resumable inside the chunk, whole or not at all outside it.

A chunk folder holds `{scorer}.parquet` (raw scores), `variants.parquet` (what was scored), `tracks.parquet`
(the channels of each scorer) and `chunk.json` (scorers, contigs, counts). While a chunk is being scored, the
finished batches lie in a hidden folder beside it, named by the hash of everything that they depend on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from megabase.files import (
    FileError,
    Stamp,
    atomic_path,
    hash_json,
    hash_path,
    read_json,
    read_table,
    sole_writer,
    write_table,
)
from megabase.logs import LOGGER, progress
from megabase.predictors.card import ModelCard, open_card
from megabase.scoring.annotation import Annotation
from megabase.scoring.belonging import check_belonging
from megabase.scoring.chunk_files import batch_table, write_chunk
from megabase.scoring.engine import Engine
from megabase.scoring.fitting import score_fitting
from megabase.scoring.keys import raw_matrix as raw_matrix
from megabase.scoring.parts import CHUNK
from megabase.scoring.personal_engine import make_engine
from megabase.scoring.scorers import Scorer, parse_scorers
from megabase.scoring.selfcheck import check_device
from megabase.spec import VARIANT_COLUMNS

if TYPE_CHECKING:
    from megabase.settings.scoring import ScoringSettings


def score_variants(
    chunk: str | Path,
    model_dir: str | Path,
    genome_folder: str | Path,
    genes_folder: str | Path | None,
    output_dir: str | Path,
    settings: ScoringSettings,
    scorers: Sequence[str] | None = None,
    *,
    polya_sites: str | Path | None = None,
    haplotypes: str | Path | None = None,
    device: str = "cpu",
) -> None:
    """Score the variants of a chunk (a `variants` table) with a model; write the folder `output_dir`.

    scorers: names or `recommended` (default: of the settings). A run that was killed goes on after its last
    finished batch and gives the same bytes. haplotypes: table of `list_haplotypes`, where the chunk's
    variants are scored on them. An empty chunk loads no model. ValueError for a scorer that is unknown or
    cannot run, a device that gives wrong answers, or too little memory for one sequence.
    """
    table = read_variant_table(chunk)
    opened = open_scoring(
        chunk, table, model_dir, genome_folder, genes_folder, settings, scorers, polya_sites, device
    )
    if isinstance(opened[0], ModelCard):
        engine = Idle(*opened, settings)
    else:
        engine = make_engine(*opened, settings, haplotypes)
    inputs = input_hashes(chunk, model_dir, genome_folder, genes_folder, polya_sites, haplotypes)
    score_chunk(engine, chunk, output_dir, Stamp(CHUNK, settings.hash(), inputs))


def open_scoring(
    chunk: str | Path,
    variants: pl.DataFrame,
    model_dir: str | Path,
    genome_folder: str | Path,
    genes_folder: str | Path | None,
    settings: ScoringSettings,
    scorers: Sequence[str] | None,
    polya_sites: str | Path | None,
    device: str,
) -> tuple[Any, Any, Annotation | None, list[Scorer]]:
    """(predictor, genome, annotation, scorers) for the `variants` of a chunk, which belong together.

    The predictor is a card where there are no variants. Errors as of `score_variants`.
    """
    from megabase.genome import Genes, Genome

    genome = Genome.open(genome_folder)
    predictor = _open_model(model_dir, device, genome.organism, settings, empty=variants.is_empty())
    check_belonging(chunk, variants, genome, genes_folder, predictor)
    annotation = None
    if genes_folder:
        annotation = Annotation.from_tables(Genes.open(genes_folder), polya_sites)
    chosen = parse_scorers(
        list(scorers or settings.scorers),
        predictor.tracks(genome.organism),
        has_genes=annotation is not None,
        has_polya_sites=annotation is not None and annotation.has_polya_sites,
    )
    return predictor, genome, annotation, chosen


class Idle:
    """An engine for a chunk without variants: it tells what it would score with, and has no model."""

    def __init__(
        self, card: ModelCard, genome: Any, annotation: Any, scorers: Sequence[Scorer], settings: Any
    ) -> None:
        self.predictor, self.genome, self.annotation = card, genome, annotation
        self.scorers, self.settings, self.organism = list(scorers), settings, genome.organism
        self.tracks = card.tracks(self.organism)

    def batches(self, variants: Sequence[Any]) -> list[slice]:
        """No batches; ValueError if there were variants to score."""
        if variants:
            raise ValueError(f"{len(variants)} variants for an engine without a model")
        return []


def _open_model(
    model_dir: str | Path, device: str, organism: str, settings: ScoringSettings, *, empty: bool
) -> Any:
    """The predictor on its device, which was found to compute what a CPU computes; a card if `empty`."""
    from megabase.predictors.base import load_predictor
    from megabase.predictors.strands import BothStrands

    if empty:
        return open_card(model_dir)
    predictor = load_predictor(model_dir, device)
    if hasattr(predictor, "set_precision"):
        predictor.set_precision(settings.precision)
    check_device(predictor, model_dir, organism, device)
    return BothStrands(predictor) if settings.reverse_complement else predictor


def input_hashes(chunk: str | Path, model: str | Path, *others: str | Path | None) -> dict[str, str]:
    """`{role: hash}` of what scores depend on; genomes and genes by their stamped tables."""
    names = ("sequence.json", "genes.parquet", "exons.parquet")
    found = {"variants": hash_path(chunk), "model": hash_path(Path(model) / "model.json")}
    weights = Path(model) / "model.safetensors"
    if weights.is_file():
        found["weights"] = hash_path(weights)
    for path in (Path(p) for p in others if p):
        files = [path] if path.is_file() else [path / n for n in names if (path / n).is_file()]
        found |= {file.name: hash_path(file) for file in files}
    return found


def score_chunk(engine: Engine, chunk: str | Path, output_dir: str | Path, stamp: Stamp) -> None:
    """Score a chunk with an engine, batch by batch, and write the folder `output_dir` as a whole.

    Where another process is at it, it is waited for, and what it made is taken.
    """
    output_dir = Path(output_dir)
    with sole_writer(output_dir) as waited:
        if waited and _is_made(output_dir, engine, stamp):
            LOGGER.info("score %s: another process has just made it", output_dir.name)
        else:
            _score_batches(engine, chunk, output_dir, stamp)


def _is_made(output_dir: Path, engine: Engine, stamp: Stamp) -> bool:
    """Whether the chunk is there, made from the same inputs with the same scorers."""
    path = output_dir / "chunk.json"
    if not path.is_file():
        return False
    info = read_json(path, CHUNK)
    same = info["scorers"] == [s.as_dict() for s in engine.scorers]
    return same and info["megabase"] == json.loads(json.dumps(stamp.as_dict()))


def _score_batches(engine: Engine, chunk: str | Path, output_dir: Path, stamp: Stamp) -> None:
    table = read_variant_table(chunk)
    parts = _part_folder(output_dir, stamp, engine.scorers)
    variants = as_variants(table)
    batches = list(engine.batches(variants))
    finished = {int(p.stem) for p in parts.glob("*.parquet") if p.stem.isdecimal()}
    done = sum(b.stop - b.start for b in batches if b.start in finished)
    if done:
        LOGGER.info("score %s: %d of %d variants were scored before", output_dir.name, done, len(variants))
    with progress(len(variants), f"score {output_dir.name}", "variants", done) as bar:
        for batch in batches:
            if batch.start in finished:
                continue
            rows = batch_table(table[batch], score_fitting(engine, variants[batch]))
            write_table(rows, parts / f"{batch.start:09d}.parquet", stamp)
            bar.advance(batch.stop - batch.start)
    with atomic_path(output_dir) as temporary:
        temporary.mkdir()
        write_chunk(temporary, engine, table, [parts / f"{b.start:09d}.parquet" for b in batches], stamp)
    for old in output_dir.parent.glob(f".parts-{output_dir.name}-*"):
        shutil.rmtree(old)


def read_variant_table(chunk: str | Path) -> pl.DataFrame:
    """The variants of a chunk; FileError if a column is missing."""
    table = read_table(chunk, "variants")
    missing = [c for c in VARIANT_COLUMNS if c not in table.columns]
    if missing:
        raise FileError(f"{chunk}: columns {', '.join(missing)} are missing; split the variants again")
    return table.select(VARIANT_COLUMNS)


def as_variants(table: pl.DataFrame) -> list[Any]:
    """`Variant` of each row of a table with `VARIANT_KEYS`."""
    from megabase.variants import Variant, haplotype_of

    rows = table.select("chrom", "position", "ref", "alt", "variant_id").iter_rows()
    return [Variant(*row[:4], haplotype=haplotype_of(row[4])) for row in rows]


def _part_folder(output_dir: Path, stamp: Stamp, scorers: Sequence[Scorer]) -> Path:
    """Folder of finished batches; those of other inputs or settings are removed."""
    key = hash_json([stamp.as_dict(), [s.as_dict() for s in scorers]])[:16]
    folder = output_dir.parent / f".parts-{output_dir.name}-{key}"
    for old in output_dir.parent.glob(f".parts-{output_dir.name}-*"):
        if old != folder:
            shutil.rmtree(old)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
