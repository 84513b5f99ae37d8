"""Write the training store of an organism from its normalized tracks."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cooler
import numpy as np
import polars as pl
import zstandard

from megabase.files import (
    FileError,
    Stamp,
    atomic_path,
    hash_inputs,
    hash_json,
    read_json,
    read_table,
    write_json,
    write_table,
)
from megabase.genome import Genome
from megabase.logs import progress
from megabase.settings.data import ShardSettings
from megabase.shards.bands import ROWS, Band, encode_rows
from megabase.shards.runs import ChunkFormat, encode_chunk, find_runs
from megabase.spec import TRACK_OUTPUTS, OutputType
from megabase.tracks.bigwig import open_bigwig

SPLICE_TABLES = ("sites", "usage", "junctions")
SPARE_FILES = 64  # descriptors that the process needs besides the bigWigs


def write_shards(
    tracks: str | Path,
    track_dirs: Sequence[str | Path],
    genome_folder: str | Path,
    output_dir: str | Path,
    settings: ShardSettings,
) -> Path:
    """Write the store of one organism into `output_dir` and return its `store.json` (`shards`).

    tracks: the track table (`tracks`), whose channel order the store keeps. track_dirs: folders with a
    `track.json` and the files that it names (bigWig, contacts.cool, splice tables). Raises FileError if a
    channel of the table has no file, or a file does not fit the genome.
    """
    genome = Genome.open(genome_folder)
    table = read_table(tracks, "tracks")
    files, splicing = _track_files(track_dirs)
    with atomic_path(output_dir) as folder:
        folder.mkdir()
        signal = _write_signal(table, files, genome, folder, settings)
        contacts = _write_contacts(_files_of(table, OutputType.CONTACT_MAPS, files), genome, folder, settings)
        if splicing is not None:
            _copy_splicing(splicing, folder, settings)
        inputs = hash_inputs([tracks]) | {"track_dirs": _hash_tracks(track_dirs)}
        stamp = Stamp("shards", settings.hash(), inputs)
        write_table(table, folder / "tracks.parquet", Stamp("tracks", settings.hash(), inputs))
        store = {
            "organism": genome.organism, "lengths": genome.lengths, "chunk": settings.chunk,
            "dtype": settings.dtype, "signal": signal, "contacts": contacts,
            "splicing": splicing is not None,
        }  # fmt: skip
        write_json(store, folder / "store.json", stamp)
    return Path(output_dir) / "store.json"


def _hash_tracks(track_dirs: Sequence[str | Path]) -> str:
    """Hash of all track.json files, which carry the hashes of what made the tracks."""
    return hash_json(sorted(hash_inputs([Path(d) / "track.json"])["track.json"] for d in track_dirs))


def _track_files(track_dirs: Sequence[str | Path]) -> tuple[dict[tuple[str, ...], Path], Path | None]:
    """File of each track (see `_track_key`), and the folder of splice tables if there is one."""
    files: dict[tuple[str, ...], Path] = {}
    splicing = None
    for folder in map(Path, track_dirs):
        for channel in read_json(folder / "track.json", "track")["channels"]:
            key = _track_key(channel)
            if key in files:
                raise FileError(
                    f"{folder}: {key} is also in {files[key].parent}; an accession makes one track"
                )
            files[key] = folder / channel["file"]
        if (folder / "sites.parquet").exists():
            if splicing is not None:
                raise FileError(f"{folder}: second folder of splice tables beside {splicing}; wanted one")
            splicing = folder
    return files, splicing


def _track_key(channel: Mapping[str, Any]) -> tuple[str, ...]:
    """What a track is known by in its track.json and in the track table, which may add to its name."""
    return channel["output_type"], channel["strand"], channel["accessions"]


def _files_of(
    table: pl.DataFrame, output_type: OutputType, files: Mapping[tuple[str, ...], Path]
) -> list[Path]:
    """Files of the channels of one output type, in channel order."""
    rows = table.filter(pl.col("output_type") == output_type).to_dicts()
    missing = [row["name"] for row in rows if _track_key(row) not in files]
    if missing:
        raise FileError(f"no track folder holds {output_type} track {missing[0]!r} ({len(missing)} missing)")
    return [files[_track_key(row)] for row in rows]


def _write_signal(
    table: pl.DataFrame,
    files: Mapping[tuple[str, ...], Path],
    genome: Genome,
    folder: Path,
    settings: ShardSettings,
) -> dict[str, int]:
    """Write the runs of every track output type that has channels; returns their numbers."""
    chosen = {output: _files_of(table, output, files) for output in TRACK_OUTPUTS}
    chosen = {output: paths for output, paths in chosen.items() if paths}
    n_chunks = sum(-(-length // settings.chunk) for length in genome.lengths.values())
    with progress(n_chunks * len(chosen), "shards", "chunks") as done:
        for output, paths in chosen.items():
            blocks = _signal_blocks(paths, genome, settings)
            _write_blocks(blocks, folder / str(output), "runs", done)
    return {str(output): len(paths) for output, paths in chosen.items()}


def _write_blocks(blocks: Iterator[bytes], stem: Path, suffix: str, done: Any = None) -> None:
    """Write blocks one after another, and their offsets and sizes uint64 [n, 2] beside them."""
    index = []
    with stem.with_suffix(f".{suffix}").open("wb") as handle:
        for block in blocks:
            index.append((handle.tell(), len(block)))
            handle.write(block)
            if done is not None:
                done.advance()
    np.save(stem.with_suffix(".index.npy"), np.array(index, dtype="<u8").reshape(-1, 2))


def _signal_blocks(paths: Sequence[Path], genome: Genome, settings: ShardSettings) -> Iterator[bytes]:
    """Compressed chunks of all channels, chromosome by chromosome."""
    form = ChunkFormat(len(paths), settings.chunk, settings.dtype)
    compressor = zstandard.ZstdCompressor(level=settings.level)
    _allow_open_files(len(paths) + SPARE_FILES)
    with ExitStack() as stack:
        tracks = [stack.enter_context(open_bigwig(path)) for path in paths]
        for path, track in zip(paths, tracks, strict=True):
            if track.chroms() != genome.lengths:
                raise FileError(f"{path}: chromosomes differ from the genome's; normalize the track again")
        for chrom, length in genome.lengths.items():
            for start in range(0, length, settings.chunk):
                end = min(start + settings.chunk, length)
                dense = (track.values(chrom, start, end, numpy=True) for track in tracks)
                runs = [find_runs(values, settings.dtype) for values in dense]
                yield encode_chunk(runs, form, compressor)


def _allow_open_files(wanted: int) -> None:
    """Raise this process's soft limit of open files; FileError if the system's hard limit is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise FileError(f"{wanted} files must be open at once, the limit is {hard}; raise it (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _write_contacts(
    paths: Sequence[Path], genome: Genome, folder: Path, settings: ShardSettings
) -> list[dict[str, Any]]:
    """Write the bands of every contact map; returns their formats in channel order."""
    if not paths:
        return []
    maps = [cooler.Cooler(str(path)) for path in paths]
    bands = [Band(int(m.binsize), _band_width(m), settings.dtype) for m in maps]
    for path, matrix in zip(paths, maps, strict=True):
        if any(genome.lengths.get(name) != int(n) for name, n in matrix.chromsizes.items()):
            raise FileError(f"{path}: chromosomes differ from the genome's; normalize the map again")
    blocks = (
        block
        for matrix, band in zip(maps, bands, strict=True)
        for block in _band_blocks(matrix, band, genome, settings)
    )
    _write_blocks(blocks, folder / str(OutputType.CONTACT_MAPS), "bands")
    return [{"bin_size": band.bin_size, "width": band.width} for band in bands]


def _band_width(matrix: cooler.Cooler) -> int:
    """1 + largest distance in bins of a pixel."""
    widest = 0
    for low, high in _spans(int(matrix.info["nnz"]), 1 << 22):
        pixels = matrix.pixels()[low:high]
        widest = max(widest, int((pixels["bin2_id"] - pixels["bin1_id"]).max()))
    return widest + 1


def _spans(length: int, step: int) -> Iterator[tuple[int, int]]:
    for low in range(0, length, step):
        yield low, min(low + step, length)


def _band_blocks(
    matrix: cooler.Cooler, band: Band, genome: Genome, settings: ShardSettings
) -> Iterator[bytes]:
    """Compressed rows of one map, chromosome by chromosome of the genome; empty where it has no bins."""
    compressor = zstandard.ZstdCompressor(level=settings.level)
    with matrix.open("r") as handle:
        edges = handle["indexes/bin1_offset"][:]
    for chrom, length in genome.lengths.items():
        offset = matrix.offset(chrom) if chrom in matrix.chromnames else None
        for low, high in _spans(-(-length // band.bin_size), ROWS):
            rows = np.full((high - low, band.width), np.nan, np.float32)
            if offset is not None:
                pixels = matrix.pixels()[int(edges[offset + low]) : int(edges[offset + high])]
                first = pixels["bin1_id"].to_numpy() - offset - low
                distance = (pixels["bin2_id"] - pixels["bin1_id"]).to_numpy()
                rows[first, distance] = pixels["value"].to_numpy()
            yield encode_rows(rows, band, compressor)


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
