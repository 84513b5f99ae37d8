"""Sections of the page that tell what was run: release, data, models, training, scores, and the methods."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl

from megabase import __version__
from megabase.config import Config
from megabase.files import read_json, read_table, read_tsv
from megabase.logs import git_hash
from megabase.report.blocks import PageSection, Table, Text, count, number, picture, plural, text_rows
from megabase.report.figures_training import HEAD, LOSS, head_curves, loss_curves
from megabase.report.inputs import Inputs
from megabase.report.style import family, in_output_order
from megabase.style import label_of

PACKAGES = ("torch", "numpy", "polars", "scikit-learn", "snakemake")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def run_section(inputs: Inputs, config: Config) -> PageSection:
    """What was run, on what and with which versions."""
    facts = [
        ("release", config.release),
        ("organisms", ", ".join(config.organisms)),
        ("network", _network(config)),
        ("models", ", ".join(config.models)),
        ("seed", str(config.seed)),
        ("settings hash", config.hash()),
        ("megabase", f"{__version__} ({git_hash()})"),
        ("versions", ", ".join(f"{p} {_version(p)}" for p in PACKAGES)),
    ]
    blocks: list[Any] = [Table(("", ""), text_rows(facts))]
    blocks += [
        b for b in (_track_block(inputs), _manifest_block(inputs), _fold_block(inputs)) if b is not None
    ]
    return PageSection("run", "What was run", blocks)


def _network(config: Config) -> str:
    changes = ", ".join(f"{k} = {v:g}" for k, v in config.model.overrides.items())
    return f"AlphaGenome architecture, preset {config.model.preset}" + (f" ({changes})" if changes else "")


def _track_block(inputs: Inputs) -> Table | Text:
    """Tracks and biosamples by output type and organism."""
    tables = {o: read_table(path, "tracks") for o, path in inputs.tracks.items()}
    if not tables:
        return Text(["No track tables were found for this run."])
    outputs = in_output_order(output for t in tables.values() for output in t["output_type"])
    rows = []
    for output in outputs:
        row = [label_of(output)]
        for table in tables.values():
            part = table.filter(pl.col("output_type") == output)
            cell = f"{part.height:,} ({plural(part['biosample_name'].n_unique(), 'biosample')})"
            row.append(cell if part.height else "–")
        rows.append(row)
    caption = "Tracks by output type, each organism's normalized channels. Strand pairs count as two."
    return Table(("output type", *tables), rows, caption, frozenset(range(1, 1 + len(tables))))


def _manifest_block(inputs: Inputs) -> Table | None:
    """Files of the release by portal and assay, with their licences."""
    if inputs.manifest is None:
        return None
    table = pl.read_csv(inputs.manifest, separator="\t", infer_schema_length=0)
    assay = pl.coalesce(pl.when(pl.col("assay") != "").then("assay"), "output_type")
    grouped = (
        table.with_columns(what=assay, licence=pl.col("licence").fill_null(""))
        .group_by("portal", "organism", "what", maintain_order=True)
        .agg(files=pl.len(), licence=pl.col("licence").unique().sort().str.join(", "))
    )
    rows = text_rows(grouped.select("portal", "organism", "what", "files", "licence").iter_rows())
    caption = f"Files of release {inputs.manifest.stem}."
    return Table(("portal", "organism", "assay or role", "files", "licence"), rows, caption, frozenset({3}))


def _fold_block(inputs: Inputs) -> Table | None:
    """Balance of the folds, as far as the folds' file lists it."""
    if inputs.folds is None:
        return None
    value = read_json(inputs.folds, "folds")
    listed = next((v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)), None)
    if listed is None:
        return None
    columns = [k for k, v in listed[0].items() if isinstance(v, str | int | float)]
    rows = [[_cell(row.get(c)) for c in columns] for row in listed]
    numeric = frozenset(i for i, c in enumerate(columns) if not isinstance(listed[0][c], str))
    caption = "Folds: whole homology clusters, balanced; a model sees none of its held-out folds."
    return Table([c.replace("_", " ") for c in columns], rows, caption, numeric)


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.3g}"
    return f"{int(value):,}" if isinstance(value, int | float) else str(value)


def training_section(tables: Mapping[str, pl.DataFrame], cards: Mapping[str, Path]) -> PageSection:
    """Loss curves and speed of every model."""
    blocks: list[Any] = []
    if not tables:
        return PageSection("training", "Training", [Text(["No loss curves were found for this run."])])
    blocks.append(_model_table(tables, cards))
    caption = (
        "Loss of each model: thin as logged, thick smoothed, points on validation windows. A teacher learns "
        "measured tracks; the student learns the ensemble's predictions on mutated sequences, so the two "
        "losses are on different targets and not comparable."
    )
    blocks.append(picture("loss_curves", loss_curves(tables), caption))
    shown = next((n for n in reversed(tables) if _has_heads(tables[n])), None)
    if shown:
        caption = f"Loss of each head of {shown}."
        blocks.append(picture("loss_by_head", head_curves(tables[shown]), caption))
    return PageSection("training", "Training", blocks)


def _has_heads(table: pl.DataFrame) -> bool:
    return table["quantity"].str.starts_with(HEAD).any()


def _model_table(tables: Mapping[str, pl.DataFrame], cards: Mapping[str, Path]) -> Table:
    rows = []
    for name, table in tables.items():
        last = {s: _last_loss(table, s) for s in ("train", "valid")}
        rows.append(
            [name, family(name), _size(cards.get(name)), count(table["step"].max()), number(last["train"], 4),
             number(last["valid"], 4)]
        )  # fmt: skip
    columns = ("model", "kind", "weights", "steps", "last training loss", "last validation loss")
    return Table(columns, rows, numeric=frozenset({2, 3, 4, 5}))


def _size(card: Path | None) -> str:
    """Size of a model's weights in MB, from the file beside its card."""
    weights = card.with_name("model.safetensors") if card else None
    return f"{weights.stat().st_size / 1e6:.1f} MB" if weights and weights.exists() else "–"


def _last_loss(table: pl.DataFrame, split: str) -> float | None:
    rows = table.filter((pl.col("quantity") == LOSS) & (pl.col("split") == split)).sort("step")
    return float(rows["value"][-1]) if rows.height else None


def scores_section(inputs: Inputs) -> PageSection:
    """How many variants were scored and rejected, and why."""
    if not inputs.scores:
        return PageSection("scores", "Scores", [Text(["No variants were scored in this run."])])
    rows, reasons = [], []
    for name, folder in inputs.scores.items():
        info = read_json(folder / "scores.json", "scores")
        scorers = [s["name"] for s in info.get("scorers", [])]
        scored, rejected = count(info.get("scored")), count(info.get("rejected"))
        rows.append([name, info.get("model", folder.name), scored, rejected, ", ".join(scorers)])
        reasons += _reasons(name, folder / "rejected.parquet")
    blocks: list[Any] = [
        Table(("variant set", "model", "scored", "rejected", "scorers"), rows, numeric=frozenset({2, 3}))
    ]
    if reasons:
        caption = "Rejected variants by reason; every one is listed in its set's rejected.parquet."
        blocks.append(Table(("variant set", "reason", "variants"), reasons, caption, frozenset({2})))
    else:
        blocks.append(Text(["No variant was rejected: all records of the VCFs are in the scores."]))
    if inputs.placements is not None:
        blocks.append(_placement_table(read_tsv(inputs.placements, "placements")))
    return PageSection("scores", "Scores", blocks)


def _placement_table(table: pl.DataFrame) -> Table:
    """How alike scores are between windows around the variant, its 128-bp bin and its tile."""
    pairs = list(dict.fromkeys(table.select("first", "second").iter_rows()))
    rows = []
    for scorer in table["scorer"].unique(maintain_order=True):
        found = {(r["first"], r["second"]): r for r in table.filter(scorer=scorer).iter_rows(named=True)}
        cells = [number(found[pair]["pearson"]) for pair in pairs]
        apart, size = (_small(found[pairs[0]][key]) for key in ("difference", "size"))
        rows.append([scorer, *cells, apart, size])
    most = table["variants"].max() or 0
    caption = (
        f"How much a score depends on where the window lies, on {most} of the variants: Pearson between "
        "scores in windows that are centred on the variant, on its 128-bp bin, or on its tile. Last: the "
        "median absolute difference between the first two, and the median absolute score."
    )
    columns = ("scorer", *(f"{a} and {b}" for a, b in pairs), "difference", "score")
    return Table(columns, rows, caption, frozenset(range(1, len(columns))))


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _reasons(name: str, path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    counts = (
        read_table(path, "rejected").group_by("reason").len().sort("len", "reason", descending=[True, False])
    )
    return [[name, reason, count(n)] for reason, n in counts.iter_rows()]


METHODS = (
    "Held out: a model is evaluated on windows of folds that it was not trained on, and windows that "
    "overlap a training window are dropped, so that no base is in both. A variant benchmark "
    "is zero-shot: no measured effect was used for training. Unless the config reserves folds, the all-folds "
    "teachers and their student have seen the reference sequence around the benchmark variants.",
    "Track correlations are computed per track over all held-out positions that were measured; missing "
    "signal is left out, never counted as zero. Means are over tracks; intervals are 95% percentile "
    "bootstrap intervals over windows.",
    "A variant's raw score compares predictions for ALT and REF in one window, in the units of the "
    "scorer (log2 ratio of coverage near the variant, natural log ratio of a gene's exonic coverage, "
    "largest absolute change for splicing and contacts). Its quantile places it among common variants "
    "of the background set: 0.99 means stronger than 99% of them (signed scorers run from −1 to 1). A "
    "quantile tells how unusual a prediction is, not that it is right, nor that the variant is harmful.",
    "Benchmark values are means over tissues weighted by their rows (MPRA elements count equally), as "
    "published for AlphaGenome; intervals resample variants within tissues. Negatives of the causality "
    "tasks are matched to the causal variants on log distance, so that distance alone is near chance.",
    "Scores are predictions of molecular effects from sequence. They do not know coding consequences, "
    "trans effects, penetrance or the person's genotype, and are no diagnosis.",
)


def methods_section() -> PageSection:
    """How to read the numbers, and what they do not say."""
    return PageSection("methods", "How to read it", [Text(METHODS, listed=True)])
