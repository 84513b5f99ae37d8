"""The merged scores of a variant set: a Parquet dataset, one directory a scorer, and its views.

One part is written for each chunk, block by block, and the VCF view record by record, so memory stays that of
a chunk whatever the number of variants; the scorers of a chunk are merged by as many threads as the job has.
The folder appears as a whole; a rerun gives the same bytes, whatever the number of threads.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from megabase.files import (
    FileError,
    Stamp,
    atomic_path,
    hash_path,
    read_table,
    sole_writer,
    write_json,
    write_table,
)
from megabase.logs import progress
from megabase.scoring.accounting import Ledger, RowChecker, Split
from megabase.scoring.calibration import Calibration, read_chunk_infos
from megabase.scoring.composite import COMPOSITE, composite_table, has_composite
from megabase.scoring.keys import matrix_column, raw_matrix, text_keys_of
from megabase.scoring.parts import CHUNK, SCORES, part_name, read_blocks, split_blocks, write_part
from megabase.scoring.parts import scorer_parts as scorer_parts
from megabase.scoring.places import Places, gene_spans
from megabase.scoring.spreads import Spreads
from megabase.scoring.summary import SummaryWriter
from megabase.spec import OutputType, file_name

COMPOSITE_SCORER: dict[str, Any] = {
    "name": COMPOSITE, "output_type": OutputType.SPLICE_SITES.value, "part": "composite",
    "aggregation": "sum", "width": None, "signed": False, "genes": True,
}  # fmt: skip


@dataclass(frozen=True)
class Merge:
    """What the parts of one merge share."""

    scorers: list[dict]
    calibration: Calibration | None
    spreads: Spreads
    stamp: Stamp


def merge_scores(
    chunks: str | Path | Sequence[str | Path],
    rejected: str | Path,
    calibration: str | Path | None,
    model_dir: str | Path | None,
    output_dir: str | Path,
    *,
    split: str | Path | None = None,
    uncertainty: str | Path | None = None,
    config_hash: str = "",
) -> None:
    """Join chunk folders into the scores of a variant set, with quantiles where they are calibrated.

    chunks: folders of `score_variants` in genome order or, with a split, the one folder that holds them.
    rejected: the set's `rejected` table. model_dir: if given, `model.json` there must be the model that the
    chunks were made with. split: `split.json` of `split_variants`, against which every variant is checked.
    uncertainty: folder of the chunks of an ensemble, whose spread of each score is joined. FileError, naming
    the variant, if one is missing, doubled or out of order, or if chunks, model and calibration do not belong
    together.
    """
    output_dir, known = Path(output_dir), Split(split) if split else None
    folders = _chunk_folders(chunks, known)
    infos = read_chunk_infos(folders)
    quantiles = Calibration.open(calibration) if calibration else None
    _check_model(infos[0]["model"], model_dir, quantiles)
    spreads = Spreads(Path(uncertainty) if uncertainty else None, folders, infos)
    files = {"rejected": rejected, "calibration": calibration, "split": split}
    inputs = {f"chunk-{i:05d}": hash_path(f / "chunk.json") for i, f in enumerate(folders)}
    inputs |= {role: hash_path(path) for role, path in files.items() if path} | spreads.hashes()
    stamp = Stamp(SCORES, config_hash, inputs)
    merge = Merge(merged_scorers(folders, infos[0]), quantiles, spreads, stamp)
    with sole_writer(output_dir), atomic_path(output_dir) as temporary:
        temporary.mkdir()
        shutil.copyfile(rejected, temporary / "rejected.parquet")
        ledger = Ledger(infos[0]["contigs"], known)
        counts = _write_merged(temporary, folders, infos[0], merge, ledger)
        _write_counts(temporary, infos[0], merge, counts, ledger)


def _chunk_folders(chunks: str | Path | Sequence[str | Path], split: Split | None) -> list[Path]:
    """Chunk folders in the order of the split, whose names they must have."""
    given = [Path(chunks)] if isinstance(chunks, str | Path) else [Path(c) for c in chunks]
    if split is None:
        return given
    if len(given) == 1 and not (given[0] / "chunk.json").exists():
        given = [folder for name in split.chunks if (folder := given[0] / name).is_dir()]
    split.check_names([folder.name for folder in given])
    return given


def _check_model(model: str, model_dir: str | Path | None, calibration: Calibration | None) -> None:
    if calibration is not None and calibration.model != model:
        raise FileError(f"calibration is of model {calibration.model}, the scores are of {model}")
    if model_dir is not None:
        from megabase.predictors.base import model_info

        found = model_info(model_dir).get("name", model)
        if found != model:
            raise FileError(f"{model_dir}: is model {found}, the chunks were scored with {model}")


def merged_scorers(folders: Sequence[Path], info: dict) -> list[dict]:
    """Descriptions of the scorers of chunk folders, the composite splicing score included if it exists."""
    extra = [COMPOSITE_SCORER] if all(has_composite(f) for f in folders) else []
    return [*info["scorers"], *extra]


def _write_merged(
    folder: Path, chunks: Sequence[Path], info: Mapping, merge: Merge, ledger: Ledger
) -> dict[str, dict[str, int]]:
    """Write the parts, the index of places, the track table and the VCF; rows and variants by scorer."""
    tracks = _track_table(chunks[0], merge.scorers)
    write_table(tracks, folder / "tracks.parquet", merge.stamp)
    counts = {s["name"]: {"rows": 0, "variants": 0} for s in merge.scorers}
    listed = [s | {"calibrated": _is_calibrated(merge, s["name"])} for s in merge.scorers]
    places, known = Places(), [s["name"] for s in merge.scorers if merge.spreads.has(s["name"])]
    about = {"megabase_model": info["model"], "megabase_background": _background(merge)}
    path = folder / "summary.vcf.gz"
    summary = SummaryWriter(path, info["contigs"], listed, tracks, known, about)
    try:
        with progress(len(chunks), "merge scores", "chunks") as bar, ThreadPoolExecutor(_threads()) as pool:
            for number, chunk in enumerate(chunks):
                variants = read_table(chunk / "variants.parquet", CHUNK)
                ledger.add(variants, chunk)
                places.add_variants(number, variants)
                keys = text_keys_of(variants["variant_id"])
                checkers = [RowChecker(s, variants["variant_id"], keys, chunk) for s in merge.scorers]
                parts = [folder / file_name(s["name"]) / part_name(number) for s in merge.scorers]
                merged = pool.map(partial(_write_part, chunk, merge, summary), merge.scorers, parts, checkers)
                for scorer, checker, spans in zip(merge.scorers, checkers, merged, strict=True):
                    checker.close(counts[scorer["name"]])
                    places.add_genes(spans)
                summary.add_variants(variants)
                bar.advance()
    except BaseException:
        summary.abandon()
        raise
    summary.close()
    places.write(folder, merge.stamp)
    return counts


def _write_part(
    chunk: Path, merge: Merge, summary: SummaryWriter, scorer: Mapping, part: Path, checker: RowChecker
) -> list[pl.DataFrame]:
    """Write the part of one scorer and chunk, and tell the summary; `gene_spans` of a scorer of genes."""
    spans = []
    with write_part(part, merge.stamp) as writer:
        for rows in merged_blocks(chunk, scorer["name"], merge, checker):
            writer.write(rows)
            summary.add_scores(rows, scorer["name"])
            if scorer["genes"]:
                spans.append(gene_spans(rows))
    return spans


def _threads() -> int:
    """Threads of this job: those that the workflow gave it, else one a core, four at most."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(given)) if given.isdigit() else min(4, os.cpu_count() or 1)


def merged_blocks(chunk: Path, scorer: str, merge: Merge, checker: RowChecker) -> Iterator[pl.DataFrame]:
    """Rows of one scorer of a chunk, checked, with `quantile` and, where it is known, `spread`."""
    if scorer == COMPOSITE:
        blocks = split_blocks(composite_table(chunk))
    else:
        blocks = read_blocks(chunk / f"{file_name(scorer)}.parquet", CHUNK)
    spread = merge.spreads.open(chunk, scorer)
    for rows in blocks:
        keys = checker.add(rows)
        yield spread.join(with_quantiles(rows, scorer, merge.calibration, keys), keys)


def with_quantiles(
    table: pl.DataFrame, scorer: str, calibration: Calibration | None, keys: np.ndarray
) -> pl.DataFrame:
    """The table, of these `row_keys`, with a column `quantile`: lists, null where it is not calibrated.

    A track that is not calibrated, or a score that is NaN, has a NaN inside the list.
    """
    found = calibration.apply(scorer, raw_matrix(table), keys) if calibration else None
    return table.with_columns(matrix_column("quantile", found, table.schema["raw"].size))


def _write_counts(
    folder: Path, info: Mapping, merge: Merge, counts: Mapping[str, Mapping[str, int]], ledger: Ledger
) -> None:
    """Write `scores.json`: what was scored, with which scorers, and how many rows each has."""
    rejected = read_table(folder / "rejected.parquet", "rejected").height
    ledger.close(rejected)
    known = {s["name"]: merge.spreads.has(s["name"]) for s in merge.scorers}
    value = {
        "model": info["model"],
        "organism": info["organism"],
        "window": info["window"],
        "contigs": info["contigs"],
        "alleles_in": ledger.scored + rejected,
        "scored": ledger.scored,
        "rejected": rejected,
        "background": _background(merge),
        "uncertainty": merge.spreads.model if any(known.values()) else None,
        "scorers": [
            s
            | counts[s["name"]]
            | {"calibrated": _is_calibrated(merge, s["name"]), "spread": known[s["name"]]}
            for s in merge.scorers
        ],
    }
    write_json(value, folder / "scores.json", merge.stamp)


def _is_calibrated(merge: Merge, scorer: str) -> bool:
    return merge.calibration is not None and scorer in merge.calibration.quantiles


def _background(merge: Merge) -> int:
    """Variants that quantiles compare with."""
    return merge.calibration.variants if merge.calibration else 0


def _track_table(chunk: Path, scorers: Sequence[dict]) -> pl.DataFrame:
    tracks = read_table(chunk / "tracks.parquet", CHUNK)
    if not any(s["name"] == COMPOSITE for s in scorers):
        return tracks
    row = {"scorer": COMPOSITE, "channel": 0, "name": COMPOSITE, "strand": ".",
           "output_type": COMPOSITE_SCORER["output_type"]}  # fmt: skip
    return pl.concat([tracks, pl.DataFrame([row])], how="diagonal_relaxed")
