"""Does an element regulate a gene? The share of the gene's gradient that lies at the element.

The window is centred on the gene. The objective is the mean, over the RNA-seq tracks of a biosample on the
gene's strand or unstranded, of the log of the coverage summed over its exons; its gradient with respect to
the sequence is made a size per base, averaged around the element with Gaussian weights, and divided by the
mean size of the window. An element outside the window scores 0. Source: AlphaGenome Methods (ENCODE-rE2G,
zero-shot).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import torch
from torch import Tensor

from megabase.files import FileError, Stamp, hash_json, write_table
from megabase.logs import LOGGER, progress
from megabase.predictors.gradients import input_gradient, networks_of, on_the_simplex
from megabase.scoring.annotation import Annotation, GeneModel
from megabase.scoring.chunks import input_hashes
from megabase.scoring.masks import span_mask
from megabase.spec import UNKNOWN_BASE, OutputType

if TYPE_CHECKING:
    from megabase.settings.scoring import EnhancerScoring, ScoringSettings

KIND = "enhancer_scores"
PAIR_COLUMNS = ("chrom", "start", "end", "gene", "biosample")
OUTPUT = OutputType.RNA_SEQ
_ADDED = {
    "gene_id": pl.String, "tss_distance": pl.Int64, "tracks": pl.Int64, "score": pl.Float64,
    "reason": pl.String,
}  # fmt: skip


def score_enhancers(
    pairs: str | Path,
    model_dir: str | Path,
    genome_folder: str | Path,
    genes_folder: str | Path,
    output: str | Path,
    settings: EnhancerScoring,
    scoring: ScoringSettings,
    *,
    device: str = "cpu",
) -> None:
    """Score a table of element-gene pairs (TSV or Parquet with `PAIR_COLUMNS`) and write it with its scores.

    Added columns: gene_id, tss_distance (from the element to the nearest transcript start), tracks (how many
    were averaged), score, and reason where there is no score. ValueError for a model without gradients.
    """
    from megabase.genome import Genes, Genome
    from megabase.predictors.base import load_predictor
    from megabase.predictors.strands import BothStrands

    table = read_pairs(pairs)
    predictor = load_predictor(model_dir, device)
    if scoring.reverse_complement:
        predictor = BothStrands(predictor)
    networks_of(predictor)
    genome = Genome.open(genome_folder)
    annotation = Annotation.from_tables(Genes.open(genes_folder))
    scored = score_pairs(table, predictor, genome, annotation, settings, scoring.window)
    missing = scored.filter(pl.col("score").is_null())
    if missing.height == scored.height:
        raise FileError(
            f"{pairs}: none of its {scored.height} pairs could be scored: {missing['reason'][0]}; "
            "wanted genes and biosamples that the annotation and the model know"
        )
    if missing.height:
        LOGGER.warning("%d of %d pairs have no score, see the column reason", missing.height, scored.height)
    inputs = input_hashes(pairs, model_dir, genome_folder, genes_folder)
    write_table(scored, output, Stamp(KIND, hash_json([settings.hash(), scoring.hash()]), inputs))


def read_pairs(path: str | Path) -> pl.DataFrame:
    """Element-gene pairs of a TSV (header with or without `#`) or Parquet file; FileError for bad rows."""
    path = Path(path)
    try:
        table = (
            pl.read_parquet(path)
            if path.suffix == ".parquet"
            else pl.read_csv(path, separator="\t", infer_schema_length=None)
        )
    except pl.exceptions.PolarsError as error:
        raise FileError(
            f"{path}: is no table ({str(error).splitlines()[0]}); wanted a TSV or Parquet file"
        ) from None
    table = table.rename({c: c.lstrip("#").strip() for c in table.columns})
    missing = [c for c in PAIR_COLUMNS if c not in table.columns]
    if missing:
        raise FileError(
            f"{path}: columns {', '.join(missing)} are missing, found {', '.join(table.columns)}; a table of "
            f"element-gene pairs has {', '.join(PAIR_COLUMNS)}"
        )
    text = [pl.col(c).cast(pl.String).str.strip_chars() for c in ("chrom", "gene", "biosample")]
    table = table.drop(c for c in _ADDED if c in table.columns).with_columns(
        *text, *(pl.col(c).cast(pl.Int64, strict=False) for c in ("start", "end"))
    )
    bad = table.with_row_index("row", 1).filter(
        pl.any_horizontal(pl.col(c).is_null() for c in PAIR_COLUMNS)
        | (pl.col("start") < 0)
        | (pl.col("end") <= pl.col("start"))
    )
    if bad.height:
        row = bad.row(0, named=True)
        raise FileError(
            f"{path}: row {row['row']} is {[row[c] for c in PAIR_COLUMNS]}; wanted a chromosome, 0 <= start "
            "< end, a gene and a biosample in every row"
        )
    return table


def score_pairs(
    table: pl.DataFrame,
    predictor: Any,
    genome: Any,
    annotation: Annotation,
    settings: EnhancerScoring,
    window: int,
) -> pl.DataFrame:
    """The pairs in their order with the columns of `_ADDED`; one gradient a gene and biosample."""
    rows = table.select(PAIR_COLUMNS).to_dicts()
    groups: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault((row["gene"], row["biosample"]), []).append(i)
    added: list[dict[str, Any]] = [dict.fromkeys(_ADDED) for _ in rows]
    with progress(len(groups), "score enhancers", "genes") as bar:
        for (name, biosample), members in groups.items():
            found = annotation.find(name)
            reason, channels = _ready(predictor, genome, found, biosample, window)
            gene = found[0] if len(found) == 1 else None
            sizes = None
            if reason is None:
                sizes = gene_gradient(predictor, genome, gene, channels, settings, window)
                if not (bool(sizes.isfinite().all()) and float(sizes.sum()) > 0):
                    reason, sizes = "no_gradient", None
            for i in members:
                added[i] |= _pair(rows[i], genome, gene, channels, sizes, settings, window) | {
                    "reason": reason
                }
            bar.advance(1)
    return pl.concat([table, pl.DataFrame(added, schema=_ADDED)], how="horizontal")


def _ready(
    predictor: Any, genome: Any, found: list[GeneModel], biosample: str, window: int
) -> tuple[str | None, list[int]]:
    """Why a gene cannot be scored in a biosample (None if it can), and the channels to average."""
    if len(found) != 1:
        return ("ambiguous_gene" if found else "unknown_gene"), []
    gene = found[0]
    channels = expression_channels(predictor.tracks(genome.organism).get(OUTPUT, []), biosample, gene.strand)
    start = gene_window(gene, window)
    if not channels:
        return "no_track", []
    if not any(a < start + window and b > start for a, b in gene.exons.tolist()):
        return "exons_off_window", channels
    return None, channels


def expression_channels(rows: Any, biosample: str, strand: str) -> list[int]:
    """Channels of a biosample (by name or ontology term, whatever the case) that see a strand."""
    wanted = biosample.lower()
    return [
        i
        for i, row in enumerate(rows)
        if wanted in {str(row.get(c) or "").lower() for c in ("biosample_name", "ontology_curie")}
        and (row.get("strand") or ".") in (".", strand)
    ]


def gene_window(gene: GeneModel, window: int) -> int:
    """First base (may be negative) of the window centred on a gene's midpoint."""
    return (gene.start + gene.end) // 2 - window // 2


def gene_gradient(
    predictor: Any,
    genome: Any,
    gene: GeneModel,
    channels: list[int],
    settings: EnhancerScoring,
    window: int,
) -> Tensor:
    """Size float32 [S] of the gradient of a gene's log coverage at every base of its window."""
    start = gene_window(gene, window)
    codes = torch.from_numpy(genome.codes(gene.chrom, start, start + window))
    mask = span_mask(torch.from_numpy(gene.exons), start, window)

    def log_coverage(values: Tensor) -> Tensor:
        return values[mask.to(values.device)].float().sum(0).log().mean()

    gradient = input_gradient(predictor, codes, genome.organism, OUTPUT, channels, log_coverage)
    return gradient_sizes(gradient, codes, settings.gradient)


def gradient_sizes(gradient: Tensor, codes: Tensor, kind: str) -> Tensor:
    """Size [S] of a gradient [S, 4] at each base of codes uint8 [S]; 0 where the base is unknown.

    `input`: |gradient at the base that is there|, the gradient times the one-hot sequence. `norm`: its length
    over the four bases. Both of the gradient less its mean over the bases.
    """
    gradient = on_the_simplex(gradient)
    known = codes < UNKNOWN_BASE
    if kind == "norm":
        return gradient.norm(dim=-1) * known
    own = torch.where(known, codes, 0).long().unsqueeze(-1)
    return gradient.gather(-1, own)[:, 0].abs() * known


def element_share(sizes: Tensor, centre: int, settings: EnhancerScoring) -> float:
    """Weighted mean size about base `centre` of the window over the mean size [S]; 0 outside the window.

    Weights are Gaussian over `settings.width` bases and add up to 1, also where the window cuts them.
    """
    if not 0 <= centre < len(sizes):
        return 0.0
    offsets = torch.arange(-(settings.width // 2), settings.width - settings.width // 2, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / settings.sigma) ** 2)
    places = offsets.long() + centre
    inside = (places >= 0) & (places < len(sizes))
    at_element = (weights[inside] * sizes[places[inside]].double()).sum() / weights.sum()
    return float(at_element / sizes.double().mean())


def _pair(
    row: Mapping[str, Any],
    genome: Any,
    gene: GeneModel | None,
    channels: list[int],
    sizes: Tensor | None,
    settings: EnhancerScoring,
    window: int,
) -> dict[str, Any]:
    """Added columns of one pair but the reason."""
    if gene is None:
        return {}
    centre = (row["start"] + row["end"]) // 2
    here = genome.resolve(row["chrom"]) == gene.chrom
    score = None
    if sizes is not None:
        score = element_share(sizes, centre - gene_window(gene, window), settings) if here else 0.0
    distance = min(abs(centre - site) for site in gene.tss) if here else None
    return {"gene_id": gene.gene_id, "tss_distance": distance, "tracks": len(channels), "score": score}
