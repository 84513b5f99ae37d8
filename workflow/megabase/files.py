"""How this project writes and reads files: whole or not at all, with a stamp that says where from.

Every file carries a `Stamp` (format version, package version, config hash, input hashes). It is written to
a temporary name in the same folder and renamed when whole, so that a reader never meets half a file.
A reader refuses a format that it does not know, by name.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megabase import __version__
from megabase.logs import LOGGER

if TYPE_CHECKING:
    import polars as pl

# kind of file -> the version that this package writes and reads, where it is not 1
FORMAT_VERSIONS: dict[str, int] = {"shards": 2, "shard_part": 2}
_STAMP_KEY = "megabase"


class FileError(ValueError):
    """A file that cannot be used: names the file, what was found, what was wanted and what to do."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Provenance of one file: what kind it is, and the hashes of what made it."""

    kind: str
    config_hash: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    format_version: int = 1
    package_version: str = __version__

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionary, keys in a fixed order, so that the same inputs give the same bytes."""
        return asdict(self) | {"inputs": dict(sorted(self.inputs.items()))}


def hash_bytes(data: bytes) -> str:
    """Hex BLAKE2b-128 of `data`."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def hash_json(value: Any) -> str:
    """Hash of a JSON-ready value; equal values give equal hashes whatever their key order."""
    return hash_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode())


def hash_path(path: str | Path) -> str:
    """Hash of a file's bytes, or of a folder's file names and bytes."""
    path = Path(path)
    digest = hashlib.blake2b(digest_size=16)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if file != path:
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def hash_inputs(paths: Iterable[str | Path]) -> dict[str, str]:
    """`{file name: hash}` of the inputs of a file, by base name so that it does not depend on the folder."""
    return {Path(p).name: hash_path(p) for p in paths}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` (file or folder) and rename it into place when the block ends.

    An error or a kill leaves `path` as it was or, for a folder that replaces another, absent, but never in
    part; temporary names are removed on error. The suffix of `path` is kept, because some writers choose
    their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, former = _temporary_name(path), _temporary_name(path)
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            os.replace(path, former)  # removing it where it is would leave half of it to a reader, if killed
        os.replace(temporary, path)
    finally:
        for left in (temporary, former):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{path.name}")


@contextmanager
def sole_writer(path: str | Path) -> Iterator[bool]:
    """Be the only process that makes `path` (file or folder); yields whether another one was waited for.

    SLURM may queue a job again while its first process still runs on a node that it takes for dead. The lock
    file beside `path` goes with the block, or with a process that was killed, whose temporary names of
    `path` are removed. Where the file system keeps no locks, nobody is waited for.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".lock-{path.name}")
    handle, waited = _locked(lock)
    try:
        for left in path.parent.glob(f".tmp-????????-{path.name}"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield waited
    finally:
        lock.unlink(missing_ok=True)  # while it is held: who waits sees that it is gone, and takes a new one
        os.close(handle)


def _locked(lock: Path) -> tuple[int, bool]:
    """(open handle of the lock file, which this process now holds; whether another one held it)."""
    waited = False
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            LOGGER.info("%s: another process makes it; waiting", lock.with_name(lock.name[len(".lock-") :]))
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # no locks on this file system
            return handle, waited
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(lock)):
                return handle, waited
        os.close(handle)  # its last holder removed it


def check_stamp(found: Mapping[str, Any] | None, kind: str, path: str | Path) -> Stamp:
    """The stamp of a file that must be of `kind`; FileError names what was found and wanted."""
    wanted = FORMAT_VERSIONS.get(kind, 1)
    if not found:
        raise FileError(f"{path}: no megabase stamp; wanted a '{kind}' file written by megabase")
    if found.get("kind") != kind:
        raise FileError(f"{path}: is a '{found.get('kind')}' file, wanted '{kind}'")
    if found.get("format_version") != wanted:
        raise FileError(
            f"{path}: '{kind}' format version {found.get('format_version')}, this megabase {__version__} "
            f"reads version {wanted}; rerun the stage that writes it, or install the matching megabase"
        )
    return Stamp(**found)


def write_json(value: Mapping[str, Any], path: str | Path, stamp: Stamp) -> None:
    """Write a JSON object with its stamp under the key `megabase`."""
    text = json.dumps({_STAMP_KEY: stamp.as_dict(), **value}, indent=1, ensure_ascii=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path, kind: str) -> dict[str, Any]:
    """Read a stamped JSON object; the stamp stays under `megabase`."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise FileError(f"{path}: not JSON ({error}); it may be cut short, delete it and rerun") from error
    check_stamp(value.get(_STAMP_KEY), kind, path)
    return value


def write_table(table: pl.DataFrame, path: str | Path, stamp: Stamp) -> None:
    """Write a polars table as Parquet (zstd) with its stamp in the file's key-value metadata."""
    metadata = {_STAMP_KEY: json.dumps(stamp.as_dict())}
    with atomic_path(path) as temporary:
        table.write_parquet(temporary, compression="zstd", metadata=metadata)


def table_stamp(path: str | Path, kind: str) -> Stamp:
    """The stamp of a Parquet table of `kind` written by `write_table`."""
    import polars as pl

    found = pl.read_parquet_metadata(path).get(_STAMP_KEY)
    return check_stamp(json.loads(found) if found else None, kind, path)


def read_table(path: str | Path, kind: str) -> pl.DataFrame:
    """Read a stamped Parquet table written by `write_table`."""
    import polars as pl

    table_stamp(path, kind)
    return pl.read_parquet(path)


def write_tsv(table: pl.DataFrame, path: str | Path, stamp: Stamp) -> None:
    """Write a table as TSV with the stamp as one `#` line above the header."""
    with atomic_path(path) as temporary:
        with temporary.open("wb") as handle:
            handle.write(f"#{_STAMP_KEY} {json.dumps(stamp.as_dict())}\n".encode())
            table.write_csv(handle, separator="\t", float_precision=None)


def tsv_stamp(path: str | Path, kind: str) -> Stamp:
    """The stamp of a TSV of `kind` written by `write_tsv`."""
    with Path(path).open("rb") as handle:
        first = handle.readline().decode()
    prefix = f"#{_STAMP_KEY} "
    return check_stamp(json.loads(first[len(prefix) :]) if first.startswith(prefix) else None, kind, path)


def read_tsv(path: str | Path, kind: str) -> pl.DataFrame:
    """Read a stamped TSV written by `write_tsv`."""
    import polars as pl

    tsv_stamp(path, kind)
    return pl.read_csv(path, separator="\t", comment_prefix="#", infer_schema_length=None)
