"""Windows by fold: published splits, or new ones balanced by an integer program, and what a scheme holds out.

Homologous stretches go to one fold whole (`homology`), folds get equal shares of length, G and C bases and
genes of every organism (`balance`), and a held-out window that shares a base with anything a training window
may reach is dropped (AlphaGenome, bioRxiv 2025.06.25.661532, Methods, intervals and folds).
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from megabase.balance import deal
from megabase.files import FileError, Stamp, hash_path, write_json, write_table
from megabase.genome import Genes, Genome
from megabase.homology import clusters, similar_pairs, sketch, sketch_scale
from megabase.logs import LOGGER, progress
from megabase.settings.data import FoldScheme, FoldSettings, HomologyPairs
from megabase.spec import UNKNOWN_BASE
from megabase.synteny import aligned_pairs, read_pairs

QUANTITIES = ("bases", "gc", "genes")
WEIGHTS = (1.0, 0.5, 0.5)  # what a relative deviation of each quantity costs
_STRETCH = {"organism": pl.String, "chrom": pl.String, "start": pl.Int64, "end": pl.Int64, "label": pl.String}
_INTERVALS = ["organism", "chrom", "start", "end", "fold"]


def assign_folds(
    genomes: Sequence[str | Path],
    output: str | Path,
    settings: FoldSettings,
    *,
    splits: Sequence[str | Path] = (),
    genes: Sequence[str | Path | None] | None = None,
    seed: int = 0,
    config_hash: str = "",
) -> pl.DataFrame:
    """Write `intervals.parquet` and `folds.json` into the folder `output`; returns the intervals.

    `genomes` are folders of `prepare_genome`, one an organism; `genes` their gene tables in the same order
    (default: each genome's own `genes` folder where there is one). With `settings.source` `manifest`,
    `splits` are BEDs (chrom, start, end, fold), one a genome in the same order; a label of
    `settings.divide` is dealt over its folds. Otherwise stretches of `unit` bases, or whole chromosomes, are
    dealt over `settings.names`. FileError for a BED that does not fit its genome and for folds that cannot
    be filled.
    """
    stores = [Genome.open(path) for path in genomes]
    tables = _gene_tables(genomes, genes)
    if settings.source == "manifest":
        if len(splits) != len(stores):
            raise FileError(
                f"folds: {len(splits)} splits BEDs for {len(stores)} genomes; wanted one for each"
            )
        pairs = zip(splits, stores, strict=True)
        stretches = pl.concat([read_splits(bed, store, settings) for bed, store in pairs])
    else:
        stretches = pl.concat([cut_stretches(store, settings) for store in stores])
    measured = _measure(stretches, stores, tables)
    dealt, found = _deal_labels(measured, stores, settings, seed)
    intervals = _known_windows(
        window_table(dealt, settings.window, join=settings.source == "balanced"), stores, settings
    )
    inputs = {store.name: hash_path(store.folder / "sequence.json") for store in stores}
    inputs |= {f"splits of {s.name}": hash_path(bed) for s, bed in zip(stores, splits, strict=False)}
    inputs |= {f"homology {Path(p.path).name}": hash_path(p.path) for p in settings.homology_pairs}
    stamp = Stamp("intervals", config_hash or settings.hash(), inputs)
    write_table(intervals, Path(output) / "intervals.parquet", stamp)
    summary = _summary(dealt, intervals, settings) | found
    write_json(summary, Path(output) / "folds.json", Stamp("folds", stamp.config_hash, inputs))
    return intervals


def _gene_tables(
    genomes: Sequence[str | Path], genes: Sequence[str | Path | None] | None
) -> list[Genes | None]:
    if genes is None:
        own = [Path(folder) / "genes" for folder in genomes]
        genes = [folder if folder.is_dir() else None for folder in own]
    if len(genes) != len(genomes):
        raise FileError(
            f"folds: {len(genes)} gene tables for {len(genomes)} genomes; wanted one or none each"
        )
    return [None if folder is None else Genes.open(folder) for folder in genes]


def read_splits(bed: str | Path, genome: Genome, settings: FoldSettings) -> pl.DataFrame:
    """Stretches of a BED, plain or gzip: organism, chrom, start, end, label (column 4).

    FileError with the line for a contig that the genome lacks, a stretch beyond its end, and a label that is
    neither a fold nor divided over folds.
    """
    path = Path(bed)
    rows: list[tuple[str, str, int, int, str]] = []
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith(("#", "track", "browser")):
                rows.append((genome.organism, *_split(line, f"{path}: line {number}", genome, settings)))
    if not rows:
        raise FileError(f"{path}: has no intervals; wanted BED lines: chrom, start, end, fold")
    return pl.DataFrame(rows, schema=_STRETCH, orient="row")


def _split(line: str, where: str, genome: Genome, settings: FoldSettings) -> tuple[str, int, int, str]:
    """One BED line as chrom (the genome's name), start, end, label."""
    parts = line.rstrip("\n").split("\t") if "\t" in line else line.split()
    if len(parts) < 4 or not (parts[1].isdigit() and parts[2].isdigit()):
        raise FileError(f"{where}: found {line.strip()[:80]!r}, wanted chrom, start, end, fold")
    start, end, label = int(parts[1]), int(parts[2]), parts[3].strip()
    chrom = genome.resolve(parts[0])
    if chrom is None:
        raise FileError(f"{where}: contig {parts[0]!r} is not in genome {genome.name}")
    if not start < end <= genome.lengths[chrom]:
        length = genome.lengths[chrom]
        raise FileError(f"{where}: {start}-{end} is not a stretch of {chrom} of {genome.name} ({length} bp)")
    if label not in settings.divide and label not in settings.names:
        wanted = [*settings.names, *settings.divide]
        raise FileError(
            f"{where}: fold {label!r} is not one of {wanted}; correct folds.names or folds.divide"
        )
    return chrom, start, end, label


def cut_stretches(genome: Genome, settings: FoldSettings) -> pl.DataFrame:
    """Chromosomes cut into stretches of `unit` bases (the last one up to half longer or shorter), or whole.

    Chromosomes shorter than a window hold none and are left out.
    """
    if settings.unit < settings.window:
        raise FileError(
            f"folds: unit {settings.unit} is shorter than window {settings.window}; raise folds.unit"
        )
    rows = []
    short = [chrom for chrom, length in genome.lengths.items() if length < settings.window]
    for chrom, length in genome.lengths.items():
        if chrom in short:
            continue
        count = 1 if settings.whole_chromosomes else max(1, (length + settings.unit // 2) // settings.unit)
        bounds = [*(k * settings.unit for k in range(count)), length]
        rows += [(genome.organism, chrom, a, b, "") for a, b in itertools.pairwise(bounds)]
    if short:
        LOGGER.warning("folds: %d chromosomes of %s are shorter than a window", len(short), genome.name)
    if not rows:
        raise FileError(f"folds: no chromosome of {genome.name} holds a window of {settings.window} bp")
    return pl.DataFrame(rows, schema=_STRETCH, orient="row")


def _measure(
    stretches: pl.DataFrame, stores: Sequence[Genome], tables: Sequence[Genes | None]
) -> pl.DataFrame:
    """Add what is balanced: `bases` that are known, `gc` bases, `genes` that start in each stretch."""
    genomes = {store.organism: store for store in stores}
    starts = {
        (store.organism, chrom): np.sort(part["tss"].to_numpy())
        for store, table in zip(stores, tables, strict=True)
        if table is not None
        for (chrom,), part in table.genes.partition_by("chrom", as_dict=True).items()
    }
    rows = []
    for organism, chrom, start, end in stretches.select(list(_STRETCH)[:4]).iter_rows():
        counts = np.bincount(genomes[organism].codes(chrom, start, end), minlength=5)
        tss = starts.get((organism, chrom), np.zeros(0, np.int64))
        inside = int(np.searchsorted(tss, end) - np.searchsorted(tss, start))
        rows.append((int(counts[:4].sum()), int(counts[1] + counts[2]), inside))
    return stretches.hstack(pl.DataFrame(rows, schema=dict.fromkeys(QUANTITIES, pl.Int64), orient="row"))


def _deal_labels(
    stretches: pl.DataFrame, stores: Sequence[Genome], settings: FoldSettings, seed: int
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Add `fold`: the label itself, or where a label is divided (or new), what the deal gives."""
    folds: dict[int, str] = {}
    figures = []
    genomes = {store.organism: store for store in stores}
    aligned = [(pairs, read_pairs(pairs, genomes)) for pairs in settings.homology_pairs]
    divided = settings.divide if settings.source == "manifest" else {"": settings.names}
    indexed = stretches.with_row_index("row")
    for label, names in divided.items():
        part = indexed.filter(pl.col("label") == label)
        if part.is_empty():
            raise FileError(f"folds: no stretch of the splits has label {label!r} of folds.divide")
        cluster = _homology(part, stores, settings, aligned)
        loads = _loads(part, cluster)
        weights = np.tile(WEIGHTS, loads.shape[1] // len(WEIGHTS))
        dealt = deal(loads, len(names), weights=weights, seed=seed, time_limit=settings.time_limit)
        folds.update(zip(part["row"].to_list(), (names[f] for f in dealt[cluster]), strict=True))
        sizes = np.bincount(cluster, weights=(part["end"] - part["start"]).to_numpy())
        figures.append({"label": label, "folds": names, "stretches": part.height,
                        "clusters": len(sizes), "largest_cluster": int(sizes.max())})  # fmt: skip
    labels = stretches["label"].to_list()
    column = pl.Series("fold", [folds.get(row, label) for row, label in enumerate(labels)], dtype=pl.String)
    return stretches.with_columns(column), {"dealt": figures}


def _homology(
    part: pl.DataFrame,
    stores: Sequence[Genome],
    settings: FoldSettings,
    aligned: Sequence[tuple[HomologyPairs, list]],
) -> np.ndarray:
    """Cluster number of each stretch: joined by shared k-mers, or by a table of aligned intervals."""
    genomes = {store.organism: store for store in stores}
    scale = sketch_scale((part["end"] - part["start"]).to_list())
    sketches = []
    with progress(part.height, "homology", "stretches") as done:
        for organism, chrom, start, end in part.select("organism", "chrom", "start", "end").iter_rows():
            codes = genomes[organism].codes(chrom, start, end)
            sketches.append(sketch(codes, settings.homology_kmer, scale))
            done.advance()
    threshold = settings.homology_threshold
    told = [aligned_pairs(part.drop("row"), pairs, rows, threshold) for pairs, rows in aligned]
    return clusters(part.height, np.concatenate([similar_pairs(sketches, threshold), *told]))


def _loads(part: pl.DataFrame, cluster: np.ndarray) -> np.ndarray:
    """Amounts float [clusters, organisms x QUANTITIES] of each cluster."""
    columns = []
    for organism in part["organism"].unique(maintain_order=True):
        own = (part["organism"] == organism).to_numpy()
        for quantity in QUANTITIES:
            columns.append(np.bincount(cluster, weights=part[quantity].to_numpy() * own))
    return np.stack(columns, axis=1)


def window_table(stretches: pl.DataFrame, window: int, *, join: bool = False) -> pl.DataFrame:
    """Windows of `window` bases of stretches (organism, chrom, start, end, fold), in the given order.

    A run is one stretch, or with `join` all neighbouring stretches of a fold. It holds as many windows side
    by side as fit, in its middle; a run shorter than a window gives one window around its middle, as the
    published 1 Mb windows around 196,608 bp intervals, which may reach beyond the chromosome.
    """
    same = [pl.col(c) == pl.col(c).shift(1) for c in ("organism", "chrom", "fold")]
    touches = pl.col("start") == pl.col("end").shift(1)
    joined = pl.all_horizontal(*same, touches).fill_null(False) & join
    runs = (
        stretches.with_columns(run=(~joined).cum_sum())
        .group_by("run", "organism", "chrom", "fold", maintain_order=True)
        .agg(pl.col("start").min(), pl.col("end").max())
    )
    length = pl.col("end") - pl.col("start")
    count = pl.max_horizontal(length // window, pl.lit(1))
    first = pl.col("start") + (length - count * window).floordiv(2)
    starts = pl.int_ranges(first, first + count * window, window).alias("first")
    return (
        runs.with_columns(starts)
        .explode("first")
        .select("organism", "chrom", start="first", end=pl.col("first") + window, fold="fold")
        .select(_INTERVALS)
    )


def _known_windows(windows: pl.DataFrame, stores: Sequence[Genome], settings: FoldSettings) -> pl.DataFrame:
    """Windows of which at most `max_unknown` is N or beyond the chromosome, in genome order."""
    genomes = {store.organism: store for store in stores}
    rank = {(o, c): (k, g.order[c]) for k, (o, g) in enumerate(genomes.items()) for c in g.lengths}
    kept = []
    for row in windows.iter_rows():
        codes = genomes[row[0]].codes(*row[1:4])
        if np.count_nonzero(codes == UNKNOWN_BASE) <= settings.max_unknown * settings.window:
            kept.append(row)
    if lost := windows.height - len(kept):
        LOGGER.info("folds: %d of %d windows left out, they are mostly N", lost, windows.height)
    kept.sort(key=lambda row: (*rank[row[0], row[1]], row[2]))
    return pl.DataFrame(kept, schema=windows.schema, orient="row")


def _summary(dealt: pl.DataFrame, intervals: pl.DataFrame, settings: FoldSettings) -> dict[str, Any]:
    """Figures of each fold and organism: stretches, windows and the quantities that are balanced."""
    amounts = dealt.group_by("organism", "fold", maintain_order=True).agg(
        pl.len().alias("stretches"), *(pl.col(q).sum() for q in QUANTITIES)
    )
    windows = intervals.group_by("organism", "fold").agg(pl.len().alias("windows"))
    rows = amounts.join(windows, on=["organism", "fold"], how="left").with_columns(
        pl.col("windows").fill_null(0), gc_share=(pl.col("gc") / pl.col("bases").clip(1)).round(4)
    )
    rows = rows.sort("organism", "fold")
    if empty := sorted(set(settings.names) - set(rows.filter(pl.col("windows") > 0)["fold"])):
        LOGGER.warning("folds: no windows in %s", ", ".join(empty))
    return {"source": settings.source, "window": settings.window, "folds": rows.to_dicts()}


def held_out(
    intervals: pl.DataFrame,
    scheme: FoldScheme,
    reserved: Iterable[str],
    organism: str,
    max_shift: int = 0,
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(train, valid, test) windows of an organism under a fold scheme.

    Training takes every fold that the scheme does not list and that is not reserved. Validation and test
    windows that share a base with a training window moved by up to `max_shift` bases either way are dropped.
    """
    own = intervals.filter(pl.col("organism") == organism)
    out = {*scheme.valid, *scheme.test, *reserved}
    train = own.filter(~pl.col("fold").is_in(list(out)))
    parts = [own.filter(pl.col("fold").is_in(list(folds))) for folds in (scheme.valid, scheme.test)]
    return train, *(part.filter(~_touches(part, train, max_shift)) for part in parts)


def _touches(windows: pl.DataFrame, train: pl.DataFrame, margin: int) -> pl.Series:
    """Whether each window shares a base with a training window extended by `margin` on both sides."""
    touched = np.zeros(windows.height, dtype=bool)
    chroms = windows["chrom"].to_numpy()
    for (chrom,), part in train.partition_by("chrom", as_dict=True).items():
        here = np.flatnonzero(chroms == chrom)
        # windows may differ in length: sorted starts and sorted ends count those that overlap
        starts = np.sort(part["start"].to_numpy()) - margin
        ends = np.sort(part["end"].to_numpy()) + margin
        begun = np.searchsorted(starts, windows["end"].to_numpy()[here], side="left")
        over = np.searchsorted(ends, windows["start"].to_numpy()[here], side="right")
        touched[here] = begun > over
    return pl.Series(touched, dtype=pl.Boolean)
