"""Scores of intervals: how much signal a model predicts over the exons of genes, without any variant.

One window a region, centred on its midpoint. A row is a region and a gene; a gene's score on a track is
the mean or the sum over those of its exons' bases that lie in the central `width` bases. A BED region has the
genes of which a transcript starts in that stretch, a region that names a gene has that gene. Source:
AlphaGenome, the published interval scorer (gene mask; recommended: RNA-seq, 200,001 bases, mean).
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from megabase.files import Stamp, atomic_path, hash_json, write_json, write_table
from megabase.logs import LOGGER, progress
from megabase.scoring.annotation import Annotation, GeneModel
from megabase.scoring.chunk_files import track_table
from megabase.scoring.chunks import input_hashes
from megabase.scoring.formulas import GENE_SUMMARIES
from megabase.scoring.masks import centre_span, gene_masks
from megabase.scoring.regions import Region, Rejected, read_regions
from megabase.scoring.scorers import file_name, parse_width
from megabase.spec import OUTPUTS, Kind, OutputType

if TYPE_CHECKING:
    from megabase.settings.scoring import IntervalScoring, ScoringSettings

KIND = "interval_scores"
PIECE = 64  # regions of a part, which a killed run need not repeat
_SCHEMA = {
    "interval_id": pl.String, "chrom": pl.String, "start": pl.Int64, "end": pl.Int64,
    "gene_id": pl.String, "gene_name": pl.String, "strand": pl.String,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class IntervalScorer:
    """Mean or sum of an output type over exons in the central `width` bases (None: the whole window)."""

    name: str
    output_type: OutputType
    aggregation: str
    width: int | None


RECOMMENDED = {"rna_seq": IntervalScorer("rna_seq", OutputType.RNA_SEQ, "mean", 200_001)}


def parse_interval_scorer(text: str, tracks: Mapping[OutputType, Sequence[Any]]) -> IntervalScorer:
    """A scorer `rna_seq` or `output_type:(mean|sum)[:width]`; ValueError if it cannot run on `tracks`."""
    fields = text.split(":")
    if text in RECOMMENDED:
        scorer = RECOMMENDED[text]
    elif len(fields) not in (2, 3) or fields[1] not in GENE_SUMMARIES:
        raise ValueError(f"interval scorer {text!r}: wanted rna_seq, or output_type:(mean|sum)[:width]")
    elif fields[0] not in {o.value for o in OutputType}:
        near = difflib.get_close_matches(fields[0], [o.value for o in OutputType], n=1, cutoff=0.0)[0]
        raise ValueError(f"interval scorer {text!r}: unknown output type {fields[0]!r}; nearest name: {near}")
    else:
        width = parse_width(text, fields[2]) if len(fields) == 3 else None
        scorer = IntervalScorer(text, OutputType(fields[0]), fields[1], width)
    spec = OUTPUTS[scorer.output_type]
    if spec.kind not in (Kind.TRACKS, Kind.USAGE) or spec.resolutions[0] != 1:
        raise ValueError(
            f"interval scorer {text!r}: needs a 1-bp output type, not {scorer.output_type.value}"
        )
    if not tracks.get(scorer.output_type):
        raise ValueError(
            f"interval scorer {text!r} cannot run: the model has no tracks of {scorer.output_type}"
        )
    return scorer


def score_intervals(
    regions: str | Path | None,
    model_dir: str | Path,
    genome_folder: str | Path,
    genes_folder: str | Path,
    output_dir: str | Path,
    settings: IntervalScoring,
    scoring: ScoringSettings,
    *,
    device: str = "cpu",
) -> None:
    """Score regions (a BED, a list of genes, None: every gene) with a model; write the folder `output_dir`.

    It holds `{scorer}/part-*.parquet`, `tracks.parquet`, `rejected.parquet` and `intervals.json`. A run that
    was killed goes on after its last finished part. scoring: window, batch size, both strands or one.
    """
    from megabase.genome import Genes, Genome
    from megabase.predictors.base import load_predictor
    from megabase.predictors.strands import BothStrands

    predictor = load_predictor(model_dir, device)
    if scoring.reverse_complement:
        predictor = BothStrands(predictor)
    genome = Genome.open(genome_folder)
    annotation = Annotation.from_tables(Genes.open(genes_folder))
    tracks = predictor.tracks(genome.organism)
    scorers = [parse_interval_scorer(name, tracks) for name in dict.fromkeys(settings.scorers)]
    inputs = input_hashes(regions or genes_folder, model_dir, genome_folder, genes_folder)
    stamp = Stamp(KIND, hash_json([settings.hash(), scoring.hash()]), inputs)
    found, rejected = read_regions(regions, genome, annotation)
    scoring_of = IntervalEngine(predictor, genome, annotation, scorers, scoring.window, scoring.batch_size)
    rejected += [r for region in found if (r := scoring_of.why_not(region)) is not None]
    known = {one.name for one in rejected}
    score_regions(scoring_of, [r for r in found if r.name not in known], rejected, Path(output_dir), stamp)


class IntervalEngine:
    """Predicts windows of regions and aggregates them over the exons of their genes."""

    def __init__(
        self,
        predictor: Any,
        genome: Any,
        annotation: Annotation,
        scorers: Sequence[IntervalScorer],
        window: int,
        batch_size: int,
    ) -> None:
        self.predictor, self.genome, self.annotation = predictor, genome, annotation
        self.scorers, self.window, self.batch_size = list(scorers), window, batch_size
        self.tracks = {s.name: predictor.tracks(genome.organism)[s.output_type] for s in scorers}
        self._outputs = [o for o in OutputType if o in {s.output_type for s in scorers}]

    def genes(self, region: Region, width: int | None) -> list[GeneModel]:
        """Genes of a region's rows: the one it names, or those that start in its central `width` bases."""
        if region.gene is not None:
            return [region.gene]
        start = region.window_start(self.window)
        first, last = centre_span(self.window // 2, self.window, width)
        return self.annotation.starting_in(region.chrom, start + first, start + last)

    def why_not(self, region: Region) -> Rejected | None:
        """A gene's region has no score where its window, about its midpoint, holds none of its exons."""
        gene, start = region.gene, region.window_start(self.window)
        if gene is None or any(a < start + self.window and b > start for a, b in gene.exons.tolist()):
            return None
        detail = f"no exon lies in the {self.window:,} bases about its midpoint"
        return Rejected(region.name, "exons_off_window", detail)

    @torch.inference_mode()
    def score(self, regions: Sequence[Region]) -> dict[str, tuple[list[tuple], np.ndarray]]:
        """Keys (columns of the table) and raw float32 [N, P] of the rows of regions, by scorer name."""
        keys: dict[str, list[tuple]] = {s.name: [] for s in self.scorers}
        raw: dict[str, list[Tensor]] = {s.name: [] for s in self.scorers}
        for first in range(0, len(regions), self.batch_size):
            batch = regions[first : first + self.batch_size]
            starts = [region.window_start(self.window) for region in batch]
            codes = [
                self.genome.codes(r.chrom, s, s + self.window) for r, s in zip(batch, starts, strict=True)
            ]
            found = self.predictor.predict(
                torch.from_numpy(np.stack(codes)), self.genome.organism, outputs=self._outputs
            )
            for scorer in self.scorers:
                values = found[scorer.output_type]
                fine = values["1bp" if "1bp" in values else "probabilities"]
                for region, start, track_values in zip(batch, starts, fine, strict=True):
                    genes = self.genes(region, scorer.width)
                    keys[scorer.name] += [_keys(region, gene) for gene in genes]
                    raw[scorer.name] += list(self._rows(scorer, genes, start, track_values))
        widths = {s.name: len(self.tracks[s.name]) for s in self.scorers}
        return {
            n: (keys[n], torch.stack(raw[n]).numpy() if raw[n] else np.zeros((0, widths[n]), np.float32))
            for n in keys
        }

    def _rows(self, scorer: IntervalScorer, genes: list[GeneModel], start: int, values: Tensor) -> Tensor:
        """float32 [genes, P] of predictions [S, P]; NaN on tracks of the other strand."""
        if not genes:
            return torch.zeros(0, values.shape[-1])
        near = centre_span(self.window // 2, self.window, scorer.width)
        mask = gene_masks([torch.from_numpy(g.exons) for g in genes], start, self.window, near)
        raw = GENE_SUMMARIES[scorer.aggregation](values, mask.to(values.device)).float().cpu()
        strands = np.array([row.get("strand") or "." for row in self.tracks[scorer.name]])
        for row, gene in zip(raw, genes, strict=True):
            row[torch.from_numpy((strands != ".") & (strands != gene.strand))] = torch.nan
        return raw


def _keys(region: Region, gene: GeneModel) -> tuple:
    place = (region.name, region.chrom, region.start, region.end)
    return (*place, gene.gene_id, gene.gene_name, gene.strand)


def score_regions(
    engine: IntervalEngine,
    regions: Sequence[Region],
    rejected: Sequence[Rejected],
    output_dir: Path,
    stamp: Stamp,
) -> None:
    """Write the folder of scores of regions, part by part; finished parts of a killed run are kept."""
    parts = _part_folder(output_dir, stamp)
    with progress(len(regions), f"score {output_dir.name}", "intervals") as bar:
        for number, first in enumerate(range(0, max(len(regions), 1), PIECE)):
            piece = regions[first : first + PIECE]
            paths = {s.name: parts / file_name(s.name) / f"part-{number:05d}.parquet" for s in engine.scorers}
            if not all(path.is_file() for path in paths.values()):
                for name, (keys, raw) in engine.score(piece).items():
                    write_table(_table(keys, raw), paths[name], stamp)
            bar.advance(len(piece))
    write_table(
        track_table(engine.scorers, engine.tracks, engine.genome.organism), parts / "tracks.parquet", stamp
    )
    rows = [(r.name, r.reason, r.detail) for r in rejected]
    schema = dict.fromkeys(("interval_id", "reason", "detail"), pl.String)
    write_table(pl.DataFrame(rows, schema=schema, orient="row"), parts / "rejected.parquet", stamp)
    scorers = [
        {"name": s.name, "output_type": s.output_type.value, "aggregation": s.aggregation, "width": s.width}
        for s in engine.scorers
    ]
    info = {
        "model": engine.predictor.name, "organism": engine.genome.organism, "window": engine.window,
        "scored": len(regions), "rejected": len(rejected), "scorers": scorers,
    }  # fmt: skip
    write_json(info, parts / "intervals.json", stamp)
    with atomic_path(output_dir) as temporary:
        shutil.copytree(parts, temporary)
    shutil.rmtree(parts)
    if rejected:
        LOGGER.warning("%d of the listed regions were not scored, see rejected.parquet", len(rejected))


def _part_folder(output_dir: Path, stamp: Stamp) -> Path:
    """Folder of finished parts; those of other inputs or settings are removed."""
    folder = output_dir.parent / f".parts-{output_dir.name}-{hash_json(stamp.as_dict())[:16]}"
    for old in _hidden(output_dir):
        if old != folder:
            shutil.rmtree(old)
    folder.mkdir(parents=True, exist_ok=True)
    for broken in folder.rglob(".tmp-*"):
        broken.unlink()
    return folder


def _hidden(output_dir: Path) -> Iterator[Path]:
    yield from output_dir.parent.glob(f".parts-{output_dir.name}-*")


def _table(keys: list[tuple], raw: np.ndarray) -> pl.DataFrame:
    values = pl.Series("raw", raw, dtype=pl.Array(pl.Float32, raw.shape[1]))
    return pl.DataFrame(keys, schema=_SCHEMA, orient="row").with_columns(values)
