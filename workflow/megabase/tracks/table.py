"""One row a channel: what a track is called, where it came from, and in which order tracks stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from megabase.files import FileError, Stamp, hash_inputs, read_json, read_tsv, write_table
from megabase.spec import OUTPUTS, STRANDS, TRACK_COLUMNS, Kind, OutputType

STRAND_FILES = {"+": "plus", "-": "minus", ".": "unstranded"}
_SCHEMA: dict[str, Any] = dict.fromkeys(TRACK_COLUMNS, pl.String) | {
    "strand_partner": pl.Int64, "nonzero_mean": pl.Float64, "total": pl.Float64, "n_replicates": pl.Int64,
}  # fmt: skip


def group_name(row: Mapping[str, Any]) -> str:
    """Name of a group: ontology term, assay and, for ChIP, target."""
    parts = (row["ontology_curie"] or row["biosample"] or row["accession"], row["assay"], row["target"])
    return " ".join(str(part) for part in parts if part)


def channel_row(
    rows: Sequence[Mapping[str, Any]], strand: str, *, output_type: str | None = None, **values: Any
) -> dict[str, Any]:
    """A row of TRACK_COLUMNS of one strand of a group of manifest rows; `values` fill in the statistics.

    The name is the group's with the strand behind it (nothing behind an unstranded one). `strand_partner`
    is given by `list_tracks`.
    """
    first = rows[0]
    accessions = dict.fromkeys(str(row["accession"]) for row in rows)
    return dict.fromkeys(TRACK_COLUMNS) | {
        "name": with_strand(group_name(first), strand),
        "output_type": output_type or first["output_type"], "organism": first["organism"],
        "strand": strand, "ontology_curie": first["ontology_curie"] or None,
        "biosample_name": first["biosample"] or None, "life_stage": first["life_stage"] or None,
        "assay": first["assay"] or None, "target": first["target"] or None, "data_source": first["portal"],
        "accessions": ",".join(accessions),
    } | values  # fmt: skip


def list_tracks(
    track_jsons: Iterable[str | Path],
    organism: str,
    output: str | Path,
    quality: str | Path | None = None,
) -> pl.DataFrame:
    """Write the track table of an organism (`tracks`, TRACK_COLUMNS) in channel order and return it.

    track_jsons: `track.json` files, or the folders that hold them. quality: a quality table; tracks that it
    excludes are left out.
    Order: by output type, then name with strand partners side by side; splice tracks keep their halves (all
    + biosamples, then all -). `strand_partner` is the partner's channel number within the output type.
    Tracks of one name from several sources get the source's name behind theirs.
    """
    paths = sorted(track_json(Path(path)) for path in track_jsons)
    excluded = _excluded(quality) if quality else set()
    found = [channel for path in paths for channel in _channels(path, organism)]
    channels = _named_apart([channel for channel in found if _identity(channel) not in excluded])
    rows = [row for kind in OutputType for row in _ordered(kind, channels)]
    table = pl.DataFrame([{c: row[c] for c in TRACK_COLUMNS} for row in rows], schema=_SCHEMA)
    inputs = {f"{path.parent.name}/{k}": v for path in paths for k, v in hash_inputs([path]).items()}
    write_table(table, output, Stamp("tracks", inputs=inputs | hash_inputs([quality] if quality else [])))
    return table


def _identity(channel: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a channel is known by in its `track.json` and in the quality table."""
    return channel["output_type"], channel["name"], channel["accessions"]


def _excluded(quality: str | Path) -> set[tuple[str, str, str]]:
    """Identities of the tracks that a quality table excludes."""
    table = read_tsv(quality, "quality").filter(pl.col("verdict") == "excluded")
    return {_identity(row) for row in table.iter_rows(named=True)}


def track_json(path: Path) -> Path:
    """The `track.json` of a track's folder, or itself."""
    return path / "track.json" if path.is_dir() else path


def _channels(path: Path, organism: str) -> list[dict[str, Any]]:
    channels = read_json(path, "track")["channels"]
    for channel in channels:
        if channel["organism"] != organism:
            raise FileError(f"{path}: track {channel['name']} is of {channel['organism']}, wanted {organism}")
    return channels


def _named_apart(channels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Channels with the source in the names that tracks of several sources share."""
    sources: dict[tuple[str, str], set[str]] = {}
    for channel in channels:
        sources.setdefault((channel["output_type"], base_name(channel)), set()).add(channel["data_source"])
    return [
        channel | {"name": with_strand(f"{base} {channel['data_source']}", channel["strand"])}
        if len(sources[channel["output_type"], base := base_name(channel)]) > 1
        else channel
        for channel in channels
    ]


def with_strand(base: str, strand: str) -> str:
    """Name of a track: that of its group, with the strand behind it unless unstranded."""
    return base if strand == "." else f"{base} {strand}"


def _ordered(output_type: OutputType, channels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Channels of one output type in order, with their partners."""
    chosen = [channel for channel in channels if channel["output_type"] == output_type]
    halves = OUTPUTS[output_type].kind in (Kind.USAGE, Kind.JUNCTIONS)
    chosen.sort(
        key=lambda c: (STRANDS.index(c["strand"]) if halves else 0, base_name(c), STRANDS.index(c["strand"]))
    )
    index = {channel["name"]: number for number, channel in enumerate(chosen)}
    if len(index) < len(chosen):
        names = [channel["name"] for channel in chosen]
        twice = next(name for name in names if names.count(name) > 1)
        raise FileError(
            f"two {output_type} tracks are called {twice!r}; rows of one ontology_curie, assay and target "
            "are one group: give them different assays, or normalize them together"
        )
    return [channel | {"strand_partner": _partner(channel, index)} for channel in chosen]


def base_name(channel: Mapping[str, Any]) -> str:
    """Name of a track without its strand: equal for strand partners."""
    name = str(channel["name"])
    return name if channel["strand"] == "." else name.removesuffix(f" {channel['strand']}")


def _partner(channel: Mapping[str, Any], index: Mapping[str, int]) -> int:
    """Channel number of the strand partner, itself if there is none."""
    other = {"+": "-", "-": "+"}.get(channel["strand"])
    partner = with_strand(base_name(channel), other) if other else channel["name"]
    return index.get(partner, index[channel["name"]])
