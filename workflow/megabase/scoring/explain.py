"""One variant explained: predictions on both alleles, what was observed, which bases matter, and words.

The variant is the one of the largest effect in a set of scores. What is written is listed under
`explanation` in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from megabase.files import FileError, Stamp, atomic_path, hash_path, read_json, write_json
from megabase.logs import LOGGER
from megabase.predictors.junctions import Reader, unstack_junctions
from megabase.scoring.annotation import Annotation, GeneModel
from megabase.scoring.engine import Case, Engine, Predictions
from megabase.scoring.mutagenesis import Question, contributions
from megabase.scoring.observed import observed_tracks
from megabase.scoring.scorers import RECOMMENDED, Scorer, parse_scorer, scorer_tracks
from megabase.scoring.store import SCORES, scorer_parts
from megabase.scoring.summary import largest_effects
from megabase.scoring.words import describe
from megabase.sequence import decode
from megabase.spec import OUTPUTS, Kind, OutputType

if TYPE_CHECKING:
    from megabase.settings.run import ReportSettings
    from megabase.settings.scoring import ScoringSettings

CHANNELS = 3  # of each output type, the most changed
MAX_JUNCTIONS = 40
PREFERRED = ("rna_seq", "dnase", "atac")  # scorers whose largest effect is explained if they exist


@dataclass(frozen=True)
class Choice:
    """The score that is explained: which variant, scorer, track (channel) and gene, and how large.

    background: variants that the quantile compares with.
    """

    variant_id: str
    scorer: Scorer
    channel: int
    gene_id: str | None
    gene_name: str | None
    raw: float
    quantile: float | None
    background: int = 0


def explain_variant(
    scores: str | Path,
    model_dir: str | Path,
    genome_folder: str | Path,
    genes_folder: str | Path | None,
    store_folder: str | Path | None,
    output: str | Path,
    scoring: ScoringSettings,
    settings: ReportSettings,
    *,
    variant: str | None = None,
    device: str = "cpu",
) -> None:
    """Write `output` (.npz) and the `.json` beside it for the variant of the largest effect in `scores`.

    store_folder: shards with observed tracks, or None. variant: explain this `variant_id` instead. FileError
    if the scores have no effect to explain.
    """
    from megabase.variants import Variant

    choice = choose_effect(Path(scores), variant)
    LOGGER.info("explain %s by %s", choice.variant_id, choice.scorer.name)
    engine = open_engine(choice, model_dir, genome_folder, genes_folder, scoring, device)
    store = open_store(store_folder)
    arrays, info = explain(engine, choice, Variant.parse(choice.variant_id), store, settings.ism_width)
    inputs = {
        "scores": hash_path(Path(scores) / "scores.json"),
        "model": hash_path(Path(model_dir) / "model.json"),
    }
    stamp = Stamp("explanation", settings.hash(), inputs)
    with atomic_path(output) as temporary:
        np.savez_compressed(temporary, **arrays)
    write_json(info, Path(output).with_suffix(".json"), stamp)


def open_engine(
    choice: Choice,
    model_dir: str | Path,
    genome_folder: str | Path,
    genes_folder: str | Path | None,
    scoring: ScoringSettings,
    device: str = "cpu",
) -> Engine:
    """The engine of a chosen effect's scorer, as variants are scored with these settings."""
    from megabase.genome import Genes, Genome
    from megabase.predictors.base import load_predictor
    from megabase.predictors.strands import BothStrands

    genome = Genome.open(genome_folder)
    annotation = Annotation.from_tables(Genes.open(genes_folder)) if genes_folder else None
    predictor = load_predictor(model_dir, device)
    if scoring.reverse_complement:
        predictor = BothStrands(predictor)
    return Engine(predictor, genome, annotation, [choice.scorer], scoring)


def open_store(folder: str | Path | None) -> Any | None:
    """The training store with observed tracks, if one is given."""
    if not folder:
        return None
    from megabase.shards import ShardStore

    return ShardStore.open(folder)


def choose_effect(scores: Path, variant: str | None = None) -> Choice:
    """The largest |quantile| (|raw| among equals) of a signed scorer; expression and accessibility first."""
    card = read_json(scores / "scores.json", SCORES)
    listed = [s for s in card["scorers"] if s["signed"]]
    first = [s for s in listed if s["name"] in PREFERRED]
    for group in (first, listed):
        found = [c for s in group if (c := _largest_of(scores, s["name"], variant)) is not None]
        if found:
            best = max(found, key=lambda c: (abs(c.quantile or 0.0), abs(c.raw)))
            return replace(best, background=card["background"])
    what = f"of {variant}" if variant else "at all"
    raise FileError(
        f"{scores}: no score of a signed scorer {what}; score variants with a signed scorer first"
    )


def _largest_of(scores: Path, name: str, variant: str | None) -> Choice | None:
    best: Choice | None = None
    for part in scorer_parts(scores, name):
        table = pl.read_parquet(part)
        if variant:
            table = table.filter(pl.col("variant_id") == variant)
        effects = largest_effects(table.with_columns(gene_name=pl.col("gene_id")))  # `gene` holds the id
        sized = effects.with_columns(q=pl.col("quantile").abs().fill_null(0.0), r=pl.col("raw").abs())
        for row in sized.sort("q", "r", descending=True, maintain_order=True).head(1).iter_rows(named=True):
            if best is None or (row["q"], row["r"]) > (abs(best.quantile or 0.0), abs(best.raw)):
                names = dict(table.select("gene_id", "gene_name").unique().iter_rows())
                best = Choice(row["variant_id"], parse_scorer(name), row["channel"], row["gene"],
                              names.get(row["gene"]), row["raw"], row["quantile"])  # fmt: skip
    return best


@torch.inference_mode()
def explain(
    engine: Engine, choice: Choice, variant: Any, store: Any | None, ism_width: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and JSON of an explanation."""
    (case,), codes = engine.cases([variant])
    outputs = [o for o in OutputType if engine.tracks.get(o) and o is not OutputType.SPLICE_JUNCTIONS]
    predictions, junctions = engine.predict(codes, outputs)
    kept = {o: _most_changed(o, case, predictions, choice) for o in outputs}
    rows = {o: [engine.tracks[o][i] for i in index] for o, index in kept.items()}
    arrays = _prediction_arrays(case, predictions, kept)
    if store is not None and variant.chrom in store.lengths:
        window = (variant.chrom, case.start, engine.settings.window)
        found = observed_tracks(store, rows, *window)
        arrays |= {f"observed/{o.value}": values for o, values in found.items()}
    span = _ism_span(case, ism_width, engine.settings.window)
    places = variant.chrom, case.start + span[0], case.start + span[1]
    question = Question(*places, choice.scorer, (choice.channel,), choice.gene_id)
    arrays |= contributions(engine, question, case, codes)
    info = _description(engine, choice, variant, case, rows)
    info["ism"] = {"start": question.start, "end": question.end}
    for key, index in (("sequence", case.ref_index), ("sequence_alt", case.alt_index)):
        info["ism"][key] = decode(codes[index, span[0] : span[1]].numpy())
    info["junctions"] = _junctions(engine, case, predictions, junctions)
    return arrays, info


def _ism_span(case: Case, width: int, window: int) -> tuple[int, int]:
    first = max(case.offset - width // 2, 0)
    return first, min(first + width, window)


def _values(output: OutputType, predictions: Predictions) -> torch.Tensor:
    kind = OUTPUTS[output].kind
    if kind is Kind.TRACKS:
        return predictions[output][f"{OUTPUTS[output].resolutions[0]}bp"]
    return predictions[output]["values" if kind is Kind.CONTACTS else "probabilities"]


def _alleles(output: OutputType, case: Case, predictions: Predictions) -> tuple[torch.Tensor, torch.Tensor]:
    """REF and ALT of an output on the CPU; 1-bp outputs of ALT lie on the positions of REF."""
    values = _values(output, predictions)
    ref, alt = values[case.ref_index].float().cpu(), values[case.alt_index].float().cpu()
    fine = OUTPUTS[output].resolutions[0] == 1
    return ref, case.align(alt, output) if fine else alt


def _most_changed(output: OutputType, case: Case, predictions: Predictions, choice: Choice) -> list[int]:
    """Channels that are stored: the explained one first, then the most changed; all five splice classes."""
    ref, alt = _alleles(output, case, predictions)
    if output is OutputType.SPLICE_SITES:
        return list(range(ref.shape[-1]))
    if OUTPUTS[output].kind is Kind.TRACKS:
        ref, alt = torch.log1p(ref), torch.log1p(alt)
    change = (alt - ref).abs().flatten(0, -2).mean(0)
    order = change.argsort(descending=True, stable=True).tolist()
    if output is choice.scorer.output_type:
        order.remove(choice.channel)
        order.insert(0, choice.channel)
    return order[:CHANNELS]


def _prediction_arrays(
    case: Case, predictions: Predictions, kept: Mapping[OutputType, list[int]]
) -> dict[str, np.ndarray]:
    arrays = {}
    for output, index in kept.items():
        for name, values in zip(("ref", "alt"), _alleles(output, case, predictions), strict=True):
            arrays[f"{name}/{output.value}"] = np.ascontiguousarray(values[..., index].numpy())
    return arrays


def _junctions(engine: Engine, case: Case, predictions: Predictions, read: Reader) -> list[dict]:
    """Predicted junctions of the genes at the variant, most used first, in their most changed biosample."""
    if not engine.tracks.get(OutputType.SPLICE_JUNCTIONS) or OutputType.SPLICE_SITES not in predictions:
        return []
    engine.predict_junctions([case], predictions, read)
    if case.junctions is None:
        return []
    ref, alt, positions = case.junctions
    before, after = (unstack_junctions(x.float().cpu(), positions, case.start) for x in (ref, alt))
    if not len(before.spans):
        return []
    names = [r.get("biosample_name") for r in scorer_tracks(RECOMMENDED["splice_junctions"], engine.tracks)]
    best = (after.values - before.values).abs().argmax(1)
    rows = torch.arange(len(best))
    used = torch.maximum(before.values, after.values)[rows, best]
    found = []
    for i in used.argsort(descending=True, stable=True)[:MAX_JUNCTIONS].tolist():
        start, end = before.spans[i].tolist()
        ends = (start - 1, end) if before.strands[i] == "+" else (end, start - 1)
        found.append({
            "donor": ends[0], "acceptor": ends[1], "strand": before.strands[i],
            "biosample": names[int(best[i])],
            "ref": float(before.values[i, best[i]]), "alt": float(after.values[i, best[i]]),
        })  # fmt: skip
    return found


def _description(
    engine: Engine, choice: Choice, variant: Any, case: Case, rows: Mapping[OutputType, Sequence[dict]]
) -> dict[str, Any]:
    """The JSON of an explanation, but for what belongs to the mutagenesis and the junctions."""
    window = engine.settings.window
    track = scorer_tracks(choice.scorer, engine.tracks)[choice.channel]
    near: list[GeneModel] = []
    if engine.annotation is not None:
        near = engine.annotation.overlapping(variant.chrom, case.start, case.start + window)
    return {
        "variant": {"variant_id": variant.variant_id, "chrom": variant.chrom, "position": variant.position,
                    "ref": variant.ref, "alt": variant.alt},
        "model": engine.predictor.name,
        "organism": engine.organism,
        "scorer": choice.scorer.name,
        "track": track["name"],
        "gene_id": choice.gene_id,
        "gene_name": choice.gene_name,
        "score": choice.raw,
        "quantile": choice.quantile,
        "window": {"chrom": variant.chrom, "start": case.start, "end": case.start + window},
        "tracks": {o.value: list(r) for o, r in rows.items()},
        "genes": [_gene(g) for g in near],
        "words": describe(variant, choice, track, near, engine.predictor.name, window),
    }  # fmt: skip


def _gene(gene: GeneModel) -> dict[str, Any]:
    keys = ("gene_id", "gene_name", "strand", "start", "end")
    return {key: getattr(gene, key) for key in keys} | {"exons": gene.exons.tolist()}


def read_explanation(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and JSON of an explanation written by `explain_variant`."""
    info = read_json(Path(path).with_suffix(".json"), "explanation")
    with np.load(Path(path).with_suffix(".npz"), allow_pickle=False) as arrays:
        return dict(arrays), info
