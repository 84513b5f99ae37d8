"""Write the training store of an organism from its normalized tracks.

Every output type's signal is a part: its blocks, their index, and `{output_type}.json`, written last, with
the hash of all that decides its bytes. A rerun keeps the parts whose hash is the same and writes the others;
a killed run goes on within the part that it was writing. `store.json` is written when all parts are whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from megabase.files import (
    FORMAT_VERSIONS,
    FileError,
    Stamp,
    hash_inputs,
    hash_json,
    hash_path,
    read_json,
    read_table,
    sole_writer,
    write_json,
    write_table,
)
from megabase.genome import Genome
from megabase.logs import LOGGER, progress
from megabase.settings.data import ShardSettings
from megabase.shards.blocks import Blocks, BlockWriter
from megabase.shards.contacts import band_blocks, open_maps
from megabase.shards.encoding import ChunkFormat
from megabase.shards.signal import SignalEncoder, encode_all, stretches
from megabase.spec import TRACK_OUTPUTS, OutputType

SPLICE_TABLES = ("sites", "usage", "junctions")
STORE, PART = "shards", "shard_part"
RUNS, BANDS = "runs", "bands"  # suffixes of files of blocks


def write_shards(
    tracks: str | Path,
    track_dirs: Sequence[str | Path],
    genome_folder: str | Path,
    output_dir: str | Path,
    settings: ShardSettings,
    *,
    workers: int = 1,
) -> Path:
    """Write the store of one organism into `output_dir` and return its `store.json` (`shards`).

    tracks: the track table (`tracks`), whose channel order the store keeps. track_dirs: folders with a
    `track.json` and the files that it names (bigWig, contacts.cool, splice tables). workers: processes that
    encode signal; the bytes do not depend on them. Raises FileError if a channel of the table has no file, or
    a file does not fit the genome.
    """
    genome = Genome.open(genome_folder)
    table = read_table(tracks, "tracks")
    files, splicing = _track_files(track_dirs)
    chosen = {output: _files_of(table, output, files) for output in (*TRACK_OUTPUTS, OutputType.CONTACT_MAPS)}
    chosen = {output: found for output, found in chosen.items() if found}
    folder = Path(output_dir)
    with sole_writer(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "store.json").unlink(missing_ok=True)
        parts = {
            output: _write_part(output, found, genome, folder, settings, workers)
            for output, found in chosen.items()
        }
        _remove_others(folder, [str(output) for output in parts])
        if splicing is not None:
            _copy_splicing(splicing, folder, settings)
        inputs = hash_inputs([tracks]) | {"track_dirs": _hash_tracks(track_dirs)}
        return write_store(folder, table, genome, settings, parts, inputs, splicing=splicing is not None)


def write_store(
    folder: Path,
    table: pl.DataFrame,
    genome: Genome,
    settings: ShardSettings,
    parts: Mapping[OutputType, Mapping[str, Any]],
    inputs: Mapping[str, str],
    *,
    splicing: bool,
) -> Path:
    """Write the track table and, last, `store.json` of a store whose parts are whole; returns its path."""
    write_table(table, folder / "tracks.parquet", Stamp("tracks", settings.hash(), inputs))
    signal = {str(o): part["channels"] for o, part in parts.items() if o is not OutputType.CONTACT_MAPS}
    store = {
        "organism": genome.organism, "genome": genome.name, "lengths": genome.lengths,
        "chunk": settings.chunk, "dtype": settings.dtype, "signal": signal,
        "contacts": parts.get(OutputType.CONTACT_MAPS, {"bands": []})["bands"], "splicing": splicing,
    }  # fmt: skip
    stamp = Stamp(STORE, settings.hash(), inputs, format_version=FORMAT_VERSIONS[STORE])
    write_json(store, folder / "store.json", stamp)
    return folder / "store.json"


def _hash_tracks(track_dirs: Sequence[str | Path]) -> str:
    """Hash of all track.json files, which carry the hashes of what made the tracks."""
    return hash_json(sorted(hash_path(Path(d) / "track.json") for d in track_dirs))


File = tuple[Path, str]  # a channel's file, and the hash of the track.json that names it


def _track_files(track_dirs: Sequence[str | Path]) -> tuple[dict[tuple[str, ...], File], Path | None]:
    """File of each track (see `_track_key`), and the folder of splice tables if there is one."""
    files: dict[tuple[str, ...], File] = {}
    splicing = None
    for folder in map(Path, track_dirs):
        found = hash_path(folder / "track.json")
        for channel in read_json(folder / "track.json", "track")["channels"]:
            key = _track_key(channel)
            if key in files:
                raise FileError(
                    f"{folder}: {key} is also in {files[key][0].parent}; an accession makes one track"
                )
            files[key] = folder / channel["file"], found
        if (folder / "sites.parquet").exists():
            if splicing is not None:
                raise FileError(f"{folder}: second folder of splice tables beside {splicing}; wanted one")
            splicing = folder
    return files, splicing


def _track_key(channel: Mapping[str, Any]) -> tuple[str, ...]:
    """What a track is known by in its track.json and in the track table, which may add to its name."""
    return channel["output_type"], channel["strand"], channel["accessions"]


def _files_of(
    table: pl.DataFrame, output_type: OutputType, files: Mapping[tuple[str, ...], File]
) -> list[File]:
    """Files of the channels of one output type, in channel order."""
    rows = table.filter(pl.col("output_type") == output_type).to_dicts()
    missing = [row["name"] for row in rows if _track_key(row) not in files]
    if missing:
        raise FileError(f"no track folder holds {output_type} track {missing[0]!r} ({len(missing)} missing)")
    return [files[_track_key(row)] for row in rows]


def _part_key(files: Sequence[File], genome: Genome, settings: ShardSettings) -> str:
    """Hash of all that decides the bytes of a part: its channels in order, the genome, the format."""
    channels = [(found, path.name, path.stat().st_size) for path, found in files]
    form = settings.model_dump(mode="json", include={"dtype", "chunk", "level"})
    return hash_json([FORMAT_VERSIONS[STORE], channels, list(genome.lengths.items()), form])


def _write_part(
    output: OutputType,
    files: Sequence[File],
    genome: Genome,
    folder: Path,
    settings: ShardSettings,
    workers: int,
) -> dict[str, Any]:
    """Write the part of one output type, or keep it as it is; returns its description."""
    key, stem, paths = _part_key(files, genome, settings), folder / str(output), [path for path, _ in files]
    suffix = BANDS if output is OutputType.CONTACT_MAPS else RUNS
    if (kept := whole_part(stem, suffix, key)) is not None:
        LOGGER.info("%s: nothing that it is made from has changed; kept", output)
        return kept
    stem.with_suffix(".json").unlink(missing_ok=True)
    part: dict[str, Any] = {"output_type": str(output), "channels": len(paths), "key": key}
    if output is OutputType.CONTACT_MAPS:
        maps = open_maps(paths, genome.lengths, settings.dtype)
        part["bands"] = [{"bin_size": band.bin_size, "width": band.width} for _, band in maps]
        writer = BlockWriter(stem, suffix, key)
        _add_all(writer, _rest(band_blocks(maps, genome.lengths, settings), writer.done))
    else:
        form = ChunkFormat(len(paths), settings.chunk, settings.dtype)
        encoder = SignalEncoder.open(paths, genome.lengths, form, settings.level)
        writer = BlockWriter(stem, suffix, key)
        todo = stretches(genome.lengths, form, writer.done)
        count = sum(-(-length // settings.chunk) for length in genome.lengths.values())
        with progress(count, f"shards {output}", "chunks", writer.done) as done:
            _add_all(writer, encode_all(encoder, todo, workers), done.advance)
    stamp = Stamp(PART, settings.hash(), {"key": key}, format_version=FORMAT_VERSIONS[PART])
    write_json(part, stem.with_suffix(".json"), stamp)
    return part


def whole_part(stem: Path, suffix: str, key: str) -> dict[str, Any] | None:
    """Description of a part that is there, whole and made from the same; else none."""
    try:
        part = read_json(stem.with_suffix(".json"), PART)
        Blocks(stem, suffix)
    except (FileError, OSError):
        return None
    return part if part["key"] == key else None


def _rest(blocks: Iterator[bytes], done: int) -> Iterator[list[bytes]]:
    """Blocks after the first `done`, some at a time."""
    rest = islice(blocks, done, None)
    while some := list(islice(rest, 64)):
        yield some


def _add_all(
    writer: BlockWriter, groups: Iterator[list[bytes]], advance: Callable[[int], None] | None = None
) -> None:
    """Write all groups of blocks and finish; an error leaves what is whole for the next run."""
    try:
        for blocks in groups:
            writer.add(blocks)
            if advance is not None:
                advance(len(blocks))
    except BaseException:
        writer.close()
        raise
    writer.finish()


def _remove_others(folder: Path, outputs: Sequence[str]) -> None:
    """Remove what an earlier run wrote of output types and tables that are no longer there."""
    for path in folder.iterdir():
        name = path.name.split(".")[0]
        known = name in outputs and not path.name.startswith(".")
        if not known and path.is_file() and path.suffix != ".parquet":
            path.unlink()
    for kind in SPLICE_TABLES:
        (folder / f"{kind}.parquet").unlink(missing_ok=True)


def _copy_splicing(source: Path, folder: Path, settings: ShardSettings) -> None:
    """Copy the splice tables; FileError if usage stands where no site is."""
    tables = {kind: read_table(source / f"{kind}.parquet", kind) for kind in SPLICE_TABLES}
    site = ("chrom", "position", "strand")
    stray = tables["usage"].join(tables["sites"], on=site, how="anti")
    if len(stray):
        raise FileError(f"{source}/usage.parquet: {stray.row(0, named=True)} is at no site of sites.parquet")
    for kind, table in tables.items():
        stamp = Stamp(kind, settings.hash(), hash_inputs([source / f"{kind}.parquet"]))
        write_table(table, folder / f"{kind}.parquet", stamp)
