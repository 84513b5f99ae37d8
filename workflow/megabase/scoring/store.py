"""The merged scores of a variant set: a Parquet dataset, one directory a scorer, and its views.

One part is written for each chunk, so memory stays that of a chunk whatever the number of variants (the VCF
view keeps one line a variant). The folder appears as a whole; a rerun gives the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from megabase.files import FileError, Stamp, atomic_path, hash_path, read_table, write_json, write_table
from megabase.logs import progress
from megabase.scoring.calibration import Calibration, read_chunk_infos, read_scores
from megabase.scoring.chunks import CHUNK, JUNCTION_KEYS, raw_matrix
from megabase.scoring.composite import has_composite
from megabase.scoring.scorers import COMPOSITE, file_name
from megabase.scoring.summary import Summary
from megabase.spec import OutputType

SCORES = "scores"
COMPOSITE_SCORER: dict[str, Any] = {
    "name": COMPOSITE, "output_type": OutputType.SPLICE_SITES.value, "part": "composite",
    "aggregation": "sum", "width": None, "signed": False, "genes": True,
}  # fmt: skip


def merge_scores(
    chunks: Sequence[str | Path],
    rejected: str | Path,
    calibration: str | Path | None,
    model_dir: str | Path | None,
    output_dir: str | Path,
    *,
    config_hash: str = "",
) -> None:
    """Join chunk folders into the scores of a variant set, with quantiles where they are calibrated.

    chunks: folders of `score_variants` in genome order. rejected: the set's `rejected` table. model_dir: if
    given, `model.json` there must be the model that the chunks were made with. FileError if a variant is
    missing or doubled, or if chunks, model and calibration do not belong together.
    """
    output_dir, folders = Path(output_dir), [Path(c) for c in chunks]
    infos = read_chunk_infos(folders)
    quantiles = Calibration.open(calibration) if calibration else None
    _check_model(infos[0]["model"], model_dir, quantiles)
    inputs = {f"chunk-{i:05d}": hash_path(f / "chunk.json") for i, f in enumerate(folders)}
    inputs |= {"rejected": hash_path(rejected)}
    if calibration:
        inputs |= {"calibration": hash_path(calibration)}
    stamp = Stamp(SCORES, config_hash, inputs)
    for stale in output_dir.parent.glob(f".tmp-????????-{output_dir.name}"):
        shutil.rmtree(stale)  # left by a run that was killed
    with atomic_path(output_dir) as temporary:
        temporary.mkdir()
        _write_merged(temporary, folders, infos, Path(rejected), quantiles, stamp)


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
    folder: Path,
    chunks: Sequence[Path],
    infos: Sequence[dict],
    rejected: Path,
    calibration: Calibration | None,
    stamp: Stamp,
) -> None:
    """Write all files of a scores folder."""
    scorers = merged_scorers(chunks, infos[0])
    tracks = _track_table(chunks[0], scorers)
    write_table(tracks, folder / "tracks.parquet", stamp)
    shutil.copyfile(rejected, folder / "rejected.parquet")
    counts = {s["name"]: {"rows": 0, "variants": 0} for s in scorers}
    summary = Summary(infos[0]["contigs"], scorers, tracks)
    seen: set[str] = set()
    with progress(len(chunks), "merge scores", "chunks") as bar:
        for number, chunk in enumerate(chunks):
            variants = read_table(chunk / "variants.parquet", CHUNK)
            _check_new(variants, seen, chunk)
            summary.add_variants(variants)
            for scorer in scorers:
                name = scorer["name"]
                table = with_quantiles(read_scores(chunk, name), name, calibration)
                _check_complete(table, variants, scorer, chunk)
                write_table(table, folder / file_name(name) / f"part-{number:05d}.parquet", stamp)
                counts[name]["rows"] += table.height
                counts[name]["variants"] += table["variant_id"].n_unique()
                summary.add_scores(table, name)
            bar.advance()
    summary.write(folder / "summary.vcf.gz")
    _write_counts(folder, infos, scorers, counts, len(seen), calibration, stamp)


def _write_counts(
    folder: Path,
    infos: Sequence[dict],
    scorers: Sequence[dict],
    counts: dict[str, dict[str, int]],
    scored: int,
    calibration: Calibration | None,
    stamp: Stamp,
) -> None:
    """Write `scores.json`: what was scored, with which scorers, and how many rows each has."""
    calibrated = calibration.quantiles if calibration else {}
    rejected = read_table(folder / "rejected.parquet", "rejected").height
    entries = [s | counts[s["name"]] | {"calibrated": s["name"] in calibrated} for s in scorers]
    value = {
        "model": infos[0]["model"],
        "organism": infos[0]["organism"],
        "window": infos[0]["window"],
        "contigs": infos[0]["contigs"],
        "alleles_in": scored + rejected,
        "scored": scored,
        "rejected": rejected,
        "background": calibration.variants if calibration else 0,  # variants that quantiles compare with
        "scorers": entries,
    }
    write_json(value, folder / "scores.json", stamp)


def _track_table(chunk: Path, scorers: Sequence[dict]) -> pl.DataFrame:
    tracks = read_table(chunk / "tracks.parquet", CHUNK)
    if not any(s["name"] == COMPOSITE for s in scorers):
        return tracks
    row = {"scorer": COMPOSITE, "channel": 0, "name": COMPOSITE, "strand": ".",
           "output_type": COMPOSITE_SCORER["output_type"]}  # fmt: skip
    return pl.concat([tracks, pl.DataFrame([row])], how="diagonal")


def _check_new(variants: pl.DataFrame, seen: set[str], chunk: Path) -> None:
    """FileError if a variant of a chunk was in an earlier chunk, or is there twice."""
    ids = variants["variant_id"].to_list()
    if len(set(ids)) != len(ids) or not seen.isdisjoint(ids):
        doubled = next((v for v in ids if v in seen), None) or next(v for v in ids if ids.count(v) > 1)
        raise FileError(f"{chunk}: variant {doubled} is there twice; split the variants again")
    seen.update(ids)


def _check_complete(table: pl.DataFrame, variants: pl.DataFrame, scorer: dict, chunk: Path) -> None:
    """FileError unless a scorer without genes has each variant of the chunk exactly once, in order."""
    if scorer["genes"]:
        unknown = set(table["variant_id"].unique()) - set(variants["variant_id"])
        if unknown:
            raise FileError(f"{chunk}: {scorer['name']} has scores of unknown variant {min(unknown)}")
        return
    if table["variant_id"].to_list() != variants["variant_id"].to_list():
        raise FileError(
            f"{chunk}: {scorer['name']} has {table.height} rows for {variants.height} variants, wanted each "
            "variant exactly once; delete the chunk and score it again"
        )


def row_keys(table: pl.DataFrame) -> list[str]:
    """A name for each row: variant, gene and junction."""
    columns = [c for c in ("variant_id", "gene_id", *JUNCTION_KEYS) if c in table.columns]
    joined = pl.concat_str([pl.col(c).cast(pl.String).fill_null("") for c in columns], separator="|")
    return table.select(joined.alias("key"))["key"].to_list()


def with_quantiles(table: pl.DataFrame, scorer: str, calibration: Calibration | None) -> pl.DataFrame:
    """The table with the column `quantile`: fixed-size lists, null where the scorer is not calibrated.

    A track that is not calibrated, or a score that is NaN, has a NaN inside the list.
    """
    width = table.schema["raw"].size
    kind = pl.Array(pl.Float32, width)
    found = None
    if calibration is not None:
        found = calibration.apply(scorer, raw_matrix(table), row_keys(table))
    if found is None:
        return table.with_columns(pl.lit(None, dtype=kind).alias("quantile"))
    values = pl.Series("quantile", np.ascontiguousarray(found), dtype=kind) if len(found) else None
    return table.with_columns(pl.Series("quantile", [], dtype=kind) if values is None else values)


def scorer_parts(scores_dir: str | Path, scorer: str) -> list[Path]:
    """Parts of a scorer in order; FileError if the scores lack it."""
    folder = Path(scores_dir) / file_name(scorer)
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        have = ", ".join(sorted(p.name for p in Path(scores_dir).glob("*") if p.is_dir()))
        raise FileError(f"{folder}: no scores of {scorer}; these are there: {have or 'none'}")
    return parts
