"""Arrays of a published checkpoint, by their published names, from an Orbax folder or an .npz file.

An Orbax folder keeps every array of a tree in zarr form under its path in the tree, either as folders or
inside one key-value store (OCDBT); `tensorstore` reads both. Paths join their parts by dots and begin with
the place of parameters and state in what was saved (`0.alphagenome/embed.embeddings`); what counts here is
the part from `alphagenome` on. Source: Orbax documentation, checkpoint format guide.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from megabase.files import FileError
from megabase.logs import LOGGER
from megabase.model.checkpoint import ROOT

Arrays = dict[str, Callable[[], np.ndarray]]
STORE, TREE = "manifest.ocdbt", "_METADATA"
_DESCRIBED = {".zarray": "zarr", "zarr.json": "zarr3"}  # file that describes an array, and its driver
_AGAIN = "the download may be cut short, fetch it again"
DEEPEST = 3  # folders between what was downloaded and the checkpoint in it


def open_arrays(source: str | Path) -> Arrays:
    """Readers of the arrays by published name, `alphagenome/embed/embeddings` and so on.

    source: an .npz file with these names, an Orbax folder, or a folder that holds one. A name from outside
    the published tree is kept as it is. FileError where there is no array, two have one name, or part of an
    array is absent; readers raise it for an array that cannot be read or is not of floating point.
    """
    source = Path(source)
    if not source.exists():
        raise FileError(f"{source}: not found; wanted a downloaded checkpoint (docs/import.md tells how)")
    if source.is_file():
        return _open_npz(source)
    return _open_orbax(checkpoint_folder(source))


def published_name(path: str) -> str:
    """`alphagenome/embed/embeddings` of `0.alphagenome/embed.embeddings` and the like."""
    parts = path.replace(".", "/").split("/")
    root = ROOT.rstrip("/")
    return "/".join(parts[parts.index(root) :]) if root in parts else path


def checkpoint_folder(source: Path) -> Path:
    """The one Orbax checkpoint in a folder; FileError with those that there are."""
    found = [folder for folder in _folders(source, DEEPEST) if _is_checkpoint(folder)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(folder.relative_to(source)) for folder in found)
        raise FileError(f"{source}: holds {len(found)} checkpoints ({names}); name one of them")
    raise FileError(
        f"{source}: holds no Orbax checkpoint ({STORE}, or {TREE} beside folders of arrays), {DEEPEST} "
        f"folders deep; {_AGAIN}, and unpack it if it is an archive"
    )


def _folders(folder: Path, depth: int) -> Iterable[Path]:
    """The folder and those in it, but nothing inside a checkpoint and no hidden one."""
    yield folder
    if depth and not _is_checkpoint(folder):
        for inner in sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."):
            yield from _folders(inner, depth - 1)


def _is_checkpoint(folder: Path) -> bool:
    """Whether a store, a tree description or (in the oldest ones) a folder `0.alphagenome` is in it."""
    if (folder / STORE).is_file() or (folder / TREE).is_file():
        return True
    return any(path.is_dir() and path.name.endswith(f".{ROOT.rstrip('/')}") for path in folder.iterdir())


def _named(readers: Iterable[tuple[str, Callable[[], np.ndarray]]], source: Path) -> Arrays:
    """Readers by published name; FileError if there is none, or two arrays have one name."""
    arrays: Arrays = {}
    for path, read in readers:
        name = published_name(path)
        if name in arrays:
            raise FileError(f"{source}: holds array {name} twice, as {path} and under another path")
        arrays[name] = read
    if not arrays:
        raise FileError(f"{source}: holds no array; {_AGAIN}")
    return arrays


def _open_npz(source: Path) -> Arrays:
    """Arrays of an .npz file; nothing is unpickled."""
    try:
        archive = np.load(source, allow_pickle=False)
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise FileError(
            f"{source}: not an .npz file ({error}); wanted one, or an Orbax folder; unpack archives first"
        ) from error
    if not hasattr(archive, "files"):
        raise FileError(f"{source}: holds one array without a name; wanted an .npz file (docs/import.md)")
    return _named(
        ((name, partial(_checked, source, name, partial(archive.get, name))) for name in archive.files),
        source,
    )


def _open_orbax(folder: Path) -> Arrays:
    """Arrays of an Orbax folder of either layout; FileError if chunks are absent that must be there."""
    tensorstore = _tensorstore(folder)
    try:
        base, keys = _keys(tensorstore, folder)
        opened = {path: _open(tensorstore, base, path, driver) for path, driver in _described(keys)}
    except (ValueError, OSError) as error:  # what tensorstore raises
        raise FileError(f"{folder}: {_first_line(error)}; {_AGAIN}") from error
    _check_chunks(folder, keys, {path: _chunks(array) for path, array in opened.items()})
    return _named(
        (
            (path, partial(_checked, folder, path, partial(_read, array)))
            for path, array in sorted(opened.items())
        ),
        folder,
    )


def _tensorstore(folder: Path) -> Any:
    try:
        import tensorstore
    except ImportError as error:
        raise FileError(
            f"{folder}: Orbax checkpoints are read with tensorstore, which is not installed; run "
            "`pip install 'megabase[import]'`, or make an .npz file of it as docs/import.md shows"
        ) from error
    return tensorstore


def _keys(tensorstore: Any, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """(key-value store of the folder as tensorstore describes it, keys in it)."""
    place = {"driver": "file", "path": f"{folder.resolve()}/"}
    if not (folder / STORE).is_file():  # listed here, so that links (as in download caches) are followed
        files = (path for path in folder.rglob("*") if path.is_file())
        return place, [path.relative_to(folder).as_posix() for path in files]
    store = {"driver": "ocdbt", "base": place}
    found = tensorstore.KvStore.open(store).result().list().result()
    return store, [key.decode() for key in found]


def _described(keys: Iterable[str]) -> list[tuple[str, str]]:
    """(path, driver) of every array."""
    parts = (key.rpartition("/") for key in keys)
    return [(path, _DESCRIBED[last]) for path, _, last in parts if last in _DESCRIBED]


def _open(tensorstore: Any, base: Mapping[str, Any], path: str, driver: str) -> Any:
    store = {**base, "path": f"{base.get('path', '')}{path}/"}
    return tensorstore.open({"driver": driver, "kvstore": store}, read=True, open=True).result()


def _read(array: Any) -> np.ndarray:
    return np.asarray(array.read().result())


def _chunks(array: Any) -> int:
    """Number of files or keys that hold an array when nothing is left out."""
    shape, chunk = array.shape, array.chunk_layout.write_chunk.shape
    return math.prod(-(-n // c) for n, c in zip(shape, chunk, strict=True)) if shape else 1


def _check_chunks(folder: Path, keys: Iterable[str], wanted: Mapping[str, int]) -> None:
    """FileError for arrays whose chunks are not all there, which would read as zeros.

    Orbax may be set to leave out chunks that are zero; the checkpoint tells. They are then only logged.
    """
    present = dict.fromkeys(wanted, 0)
    for key in keys:
        path = key
        while path and path not in present:
            path = path.rpartition("/")[0]
        if path and key.rpartition("/")[2] not in _DESCRIBED:
            present[path] += 1
    short = [path for path, count in wanted.items() if present[path] < count]
    if not short:
        return
    names = ", ".join(published_name(path) for path in short)
    if _keeps_zeros(folder):
        raise FileError(f"{folder}: parts of {len(short)} arrays are absent ({names}); {_AGAIN}")
    LOGGER.warning("%s: parts of %d arrays are absent and read as zeros: %s", folder, len(short), names)


def _keeps_zeros(folder: Path) -> bool:
    """Whether the checkpoint says that it stores chunks of zeros too (those of recent Orbax do)."""
    try:
        tree = json.loads((folder / TREE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except ValueError as error:
        raise FileError(f"{folder / TREE}: not JSON ({error}); {_AGAIN}") from error
    return bool(tree.get("store_array_data_equal_to_fill_value"))


def _checked(source: Path, path: str, read: Callable[[], np.ndarray]) -> np.ndarray:
    """float32 array of a reader; FileError if it cannot be read, or holds other than finite numbers."""
    name = published_name(path)
    try:
        array = read()
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise FileError(f"{source}: {name} cannot be read ({_first_line(error)}); {_AGAIN}") from error
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise FileError(f"{source}: {name} is of {array.dtype}; wanted floating point, save it as float32")
    array = np.asarray(array, np.float32)
    if not np.isfinite(array).all():
        raise FileError(f"{source}: {name} holds values that are not finite; {_AGAIN}")
    return array


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:300]
