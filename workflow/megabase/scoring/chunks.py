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

import numpy as np
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
    write_json,
    write_table,
)
from megabase.logs import LOGGER, progress
from megabase.predictors.card import ModelCard, open_card
from megabase.representation import represented
from megabase.scoring.annotation import Annotation
from megabase.scoring.belonging import check_belonging
from megabase.scoring.engine import Engine, Rows
from megabase.scoring.fitting import score_fitting
from megabase.scoring.keys import GENE_KEYS, JUNCTION_KEYS, SPREAD, VARIANT_KEYS
from megabase.scoring.keys import raw_matrix as raw_matrix
from megabase.scoring.parts import CHUNK, write_part
from megabase.scoring.personal_engine import make_engine
from megabase.scoring.scorers import Part, Scorer, file_name, parse_scorers, scorer_tracks
from megabase.scoring.selfcheck import check_device
from megabase.spec import REPRESENTATION_COLUMNS, TRACK_COLUMNS, VARIANT_COLUMNS

if TYPE_CHECKING:
    from megabase.settings.scoring import ScoringSettings

_ROW_SCHEMA = {
    "variant_id": pl.String, "chrom": pl.String, "position": pl.Int64, "ref": pl.String, "alt": pl.String,
    "gene_id": pl.String, "gene_name": pl.String, "strand": pl.String,
    "junction_start": pl.Int64, "junction_end": pl.Int64,
}  # fmt: skip


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
            rows = _batch_table(table[batch], score_fitting(engine, variants[batch]))
            write_table(rows, parts / f"{batch.start:09d}.parquet", stamp)
            bar.advance(batch.stop - batch.start)
    with atomic_path(output_dir) as temporary:
        temporary.mkdir()
        _write_chunk(temporary, engine, table, [parts / f"{b.start:09d}.parquet" for b in batches], stamp)
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


def _batch_table(variants: pl.DataFrame, scored: list[dict[str, Rows]]) -> pl.DataFrame:
    """All rows of a batch, of all scorers: `scorer`, the keys, `raw` and `spread` as lists of any length."""
    keys = list(variants.select(VARIANT_KEYS).iter_rows())
    rows, raw, spread = [], [], []
    for key, by_scorer in zip(keys, scored, strict=True):
        for name, result in by_scorer.items():
            spans = result.junctions.tolist() if result.junctions is not None else None
            for i, gene in enumerate(result.genes):
                who = (gene.gene_id, gene.gene_name, gene.strand) if gene else (None, None, None)
                rows.append((name, *key, *who, *(spans[i] if spans else (None, None))))
            raw += list(result.raw.numpy())
            known = getattr(result, SPREAD, None)
            spread += [None] * len(result.genes) if known is None else list(known.numpy())
    schema = {"scorer": pl.String, **_ROW_SCHEMA}
    values = [_lists("raw", raw), _lists(SPREAD, spread)]
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(values)


def _lists(name: str, values: Sequence[np.ndarray | None]) -> pl.Series:
    lists = [None if v is None else pl.Series(v, dtype=pl.Float32) for v in values]
    return pl.Series(name, lists, dtype=pl.List(pl.Float32))


def _write_chunk(
    folder: Path, engine: Engine, table: pl.DataFrame, parts: Sequence[Path], stamp: Stamp
) -> None:
    """Write the files of a chunk folder from its finished batches."""
    tables = [read_table(part, CHUNK) for part in parts]
    tracks = represented(engine.tracks)
    channels = {s.name: scorer_tracks(s, tracks) for s in engine.scorers}
    with_spread = []
    for scorer in engine.scorers:
        rows = [t.filter(pl.col("scorer") == scorer.name) for t in tables]
        one = pl.concat(rows) if rows else empty_rows()
        shaped = shape_rows(one, scorer, len(channels[scorer.name]))
        with_spread += [scorer.name] if SPREAD in shaped.columns else []
        with write_part(folder / f"{file_name(scorer.name)}.parquet", stamp) as writer:
            writer.write(shaped)
    write_table(table, folder / "variants.parquet", stamp)
    write_table(track_table(engine.scorers, channels, engine.organism), folder / "tracks.parquet", stamp)
    info = {
        "model": engine.predictor.name,
        "organism": engine.organism,
        "window": engine.settings.window,
        "variants": table.height,
        "contigs": engine.genome.lengths,
        "scorers": [s.as_dict() for s in engine.scorers],
    }
    if with_spread:
        info["spread"] = with_spread  # scorers whose rows tell how far the members of an ensemble differ
    write_json(info, folder / "chunk.json", stamp)


def empty_rows() -> pl.DataFrame:
    """A batch table without rows."""
    lists = dict.fromkeys(("raw", SPREAD), pl.List(pl.Float32))
    return pl.DataFrame(schema={"scorer": pl.String, **_ROW_SCHEMA, **lists})


def shape_rows(rows: pl.DataFrame, scorer: Scorer, channels: int) -> pl.DataFrame:
    """Rows of one scorer in the columns of its file: `raw` becomes a fixed-size list of its channels.

    So does `spread` where there is one.
    """
    keys = [*VARIANT_KEYS, *GENE_KEYS, *(JUNCTION_KEYS if scorer.part is Part.JUNCTIONS else ())]
    lists = ["raw", SPREAD] if rows[SPREAD].count() else ["raw"]
    return rows.select(*keys, *(pl.col(name).list.to_array(channels) for name in lists))


def track_table(scorers: Sequence[Scorer], channels: dict[str, list[dict]], organism: str) -> pl.DataFrame:
    """Rows of all scorers in channel order: `scorer`, `channel`, TRACK_COLUMNS, REPRESENTATION_COLUMNS."""
    rows = [
        row | {"scorer": s.name, "channel": i, "organism": organism}
        for s in scorers
        for i, row in enumerate(channels[s.name])
    ]
    columns = ["scorer", "channel", *TRACK_COLUMNS, *REPRESENTATION_COLUMNS]
    frame = pl.DataFrame([{c: row.get(c) for c in columns} for row in rows], infer_schema_length=None)
    kinds = dict.fromkeys(["channel", *REPRESENTATION_COLUMNS], pl.Int64) | {"representation": pl.Float64}
    return frame.select(columns).cast(kinds)
