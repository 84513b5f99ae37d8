"""The published training records of AlphaGenome as a training store.

Records hold windows of 1 Mb around intervals that begin 49,173 bp apart, so a base is in 21 of them. The
store has every base once: any window, shift and fold scheme can be trained on, and a run goes on exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from megabase.files import FileError, read_table, sole_writer
from megabase.genome import Genome
from megabase.logs import LOGGER
from megabase.settings.data import ShardSettings
from megabase.shards.import_contacts import import_contacts
from megabase.shards.import_signal import import_signal
from megabase.shards.import_splicing import JUNCTIONS, POSITIONS, SITES, USAGE, import_splicing
from megabase.shards.writer import write_store
from megabase.spec import TRACK_OUTPUTS, OutputType

BUNDLES = (*map(str, TRACK_OUTPUTS), str(OutputType.CONTACT_MAPS), SITES, USAGE, JUNCTIONS, POSITIONS)
_SPLICING = (SITES, USAGE, JUNCTIONS)


def import_tfrecords(
    folder: str | Path,
    tracks: str | Path | pl.DataFrame,
    genome_folder: str | Path,
    output_dir: str | Path,
    settings: ShardSettings,
) -> Path:
    """Write a store from the records of one organism and fold split; returns its `store.json`.

    folder: `.../{FOLD_SPLIT}/{ORGANISM}`, with `{SUBSET}/{BUNDLE}/data_*.tfrecord` below; all subsets are
    read, since folds are a matter of intervals. tracks: the track table (`tracks`, or its rows), whose rows
    of an output type are the channels of its bundle, in order; a bundle without rows is left out, as is
    splicing where one of its bundles is missing. FileError for damaged records, for another genome or number
    of channels, and where two records differ about a base, a site or a junction.
    """
    genome = Genome.open(genome_folder)
    table = tracks if isinstance(tracks, pl.DataFrame) else read_table(tracks, "tracks")
    output_dir = Path(output_dir)
    files = {name: sorted(Path(folder).glob(f"*/{name.upper()}/data_*.tfrecord")) for name in BUNDLES}
    channels = {name: table.filter(pl.col("output_type") == name).height for name in BUNDLES}
    parts: dict[OutputType, Mapping[str, Any]] = {}
    with sole_writer(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / "store.json").unlink(missing_ok=True)
        for output in (*TRACK_OUTPUTS, OutputType.CONTACT_MAPS):
            found, count = files[output], channels[output]
            if found and count and output is OutputType.CONTACT_MAPS:
                parts[output] = import_contacts(found, count, genome, output_dir, settings)
            elif found and count:
                parts[output] = import_signal(output, found, count, genome, output_dir, settings)
            elif found:
                LOGGER.warning(
                    "%s: %d files, the track table has no such track; left out", output, len(found)
                )
        inputs = {str(output): str(part["key"]) for output, part in parts.items()}
        splicing = _has_splicing(files, channels)
        if splicing:
            found = {name: files[name] for name in (*_SPLICING, POSITIONS)}
            inputs["splicing"] = import_splicing(found, table, genome, output_dir, settings)
        if not inputs:
            raise FileError(
                f"{folder}: no */BUNDLE/data_*.tfrecord of a track of the table; wanted that of an organism"
            )
        kept = {*map(str, parts), *(_SPLICING if splicing else ())}
        chosen = table.filter(pl.col("output_type").is_in(kept))
        return write_store(output_dir, chosen, genome, settings, parts, inputs, splicing=splicing)


def _has_splicing(files: Mapping[str, list[Path]], channels: Mapping[str, int]) -> bool:
    """Whether all of splicing is there; a warning says what is not, where some is."""
    missing = [name for name in _SPLICING if not files[name]]
    missing += [f"{name} in the track table" for name in (USAGE, JUNCTIONS) if not channels[name]]
    if missing and any(files[name] for name in _SPLICING):
        LOGGER.warning("splicing is left out: no %s", ", ".join(missing))
    return not missing
