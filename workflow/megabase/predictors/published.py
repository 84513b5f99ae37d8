"""The published model's checkpoint, as one of our model folders.

The weights are the user's own copy, given by path and never fetched; their terms are their owner's. Tensors
keep their published names and values; the track tables and track means come from the published metadata. The
folder is then opened, scored and evaluated like that of a model which was trained here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megabase.channels import Channels
from megabase.files import FileError, hash_json
from megabase.logs import LOGGER, progress
from megabase.model import AlphaGenome, Sizes, from_haiku, save_model
from megabase.model.checkpoint import OWN, ROOT, load_tensors
from megabase.model.sizes import PRESETS
from megabase.predictors.metadata import PublishedTracks, read_metadata
from megabase.predictors.orbax import open_arrays
from megabase.spec import TRACK_OUTPUTS, OutputType
from megabase.train import track_tables

PRESET = "alphagenome"
WINDOW = 1_048_576
MAX_SHIFT = 1024  # bases by which the published model's training windows were moved
INDEX_OF = {"HOMO_SAPIENS": 0, "MUS_MUSCULUS": 1, "human": 0, "mouse": 1}  # the published organism index


def import_checkpoint(
    source: str | Path,
    output: str | Path,
    *,
    metadata: Mapping[str, str | Path],
    scheme: str,
    name: str | None = None,
    preset: str = PRESET,
    sizes: Sizes | None = None,
    window: int = WINDOW,
    sha256: str | None = None,
) -> Path:
    """Write the model folder `output` of a published checkpoint, a fold model or the distilled one.

    source: Orbax folder as downloaded (or one that holds it), or .npz file of the arrays by published name.
    metadata: track metadata by organism, in model index order (human, then mouse). scheme: the fold scheme
    that the model was trained by, as `folds.schemes` names it (`all` for the distilled model); evaluation
    leaves out what it has seen. name: of the model, by default that of the folder. sizes: the network, by
    default those of `preset`. sha256: what `digest_of(source)` must be. Errors: FileError naming all tensors
    that are missing, unknown or misshapen, a checkpoint of another preset, metadata of other channels.
    """
    source, output = Path(source), Path(output)
    arrays = open_arrays(source)
    tables = _read_tables(metadata)
    sizes = sizes or _sizes_of(preset, tables)
    channels = _channels_of(tables, sizes, metadata)
    files, digest = digest_of(source)
    if sha256 and digest != sha256.lower():
        raise FileError(
            f"{source}: SHA-256 {digest}, wanted {sha256.lower()}; it is another file, or cut short"
        )
    model = _model_of(sizes, _read_tensors(arrays, source), channels, source)
    settings = {"model": _model_settings(sizes, preset), "published": {"max_shift": MAX_SHIFT}}
    info = {
        "name": name or output.name, "predictor": "alphagenome", "scheme": scheme, "seed": None,
        "window": window, "organisms": list(channels.organisms), "settings": settings,
        "config_hash": hash_json(settings), "tracks": track_tables(channels),
        **_provenance(source, files, digest, metadata),
    }  # fmt: skip
    save_model(output, model, info)
    _report(output, model, channels)
    return output


def digest_of(path: str | Path) -> tuple[dict[str, str], str]:
    """(SHA-256 of each file by its path inside, SHA-256 of the whole) of a file or folder.

    The whole of a folder is the digest of the lines `{digest}  {path}`, sorted by path, as `sha256sum` writes
    them. Hidden folders, where download tools keep their notes, do not count.
    """
    path = Path(path)
    if path.is_file():
        digest = _sha256(path)
        return {path.name: digest}, digest
    inside = {
        file.relative_to(path).as_posix(): file
        for file in path.rglob("*")
        if file.is_file() and not any(part[0] == "." for part in file.relative_to(path).parts[:-1])
    }
    files = {name: _sha256(inside[name]) for name in sorted(inside)}
    lines = "".join(f"{digest}  {name}\n" for name, digest in files.items())
    return files, hashlib.sha256(lines.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _read_tables(metadata: Mapping[str, str | Path]) -> dict[str, PublishedTracks]:
    """Track tables by organism; FileError where a file belongs to another organism index."""
    for number, (organism, path) in enumerate(metadata.items()):
        told = {text: index for text, index in INDEX_OF.items() if text in (organism, *_told(path))}
        if wrong := [text for text, index in told.items() if index != number]:
            raise FileError(
                f"{path}: given as organism {organism!r} with model index {number}, but {wrong[0]} has "
                f"{INDEX_OF[wrong[0]]} in the published model; give the human's file first, then the mouse's"
            )
    return {organism: read_metadata(path, organism) for organism, path in metadata.items()}


def _told(path: str | Path) -> list[str]:
    """Organisms that the name of a metadata file tells."""
    return [text for text in INDEX_OF if text.isupper() and text in Path(path).name.upper()]


def _sizes_of(preset: str, tables: Mapping[str, PublishedTracks]) -> Sizes:
    """Sizes of a preset; but for the published one, heads are as wide as the metadata says."""
    if preset == PRESET:
        return Sizes.preset(preset)
    widths = {output: width for table in tables.values() for output, width in table.widths.items()}
    return Sizes.preset(preset, channels=widths, n_organisms=len(tables))


def _channels_of(
    tables: Mapping[str, PublishedTracks], sizes: Sizes, metadata: Mapping[str, str | Path]
) -> Channels:
    """Channel layout of the heads; FileError unless the metadata lists every channel of every head."""
    if len(tables) != sizes.n_organisms:
        raise FileError(
            f"metadata of {len(tables)} organisms ({', '.join(tables)}); the model has {sizes.n_organisms}, "
            "give one file for each, in model index order"
        )
    for organism, table in tables.items():
        wrong = [
            f"{output} {found}, wanted {wanted}"
            for output in OutputType
            if (found := table.widths.get(output, 0)) != (wanted := sizes.channels.get(output, 0))
        ]
        if wrong:
            raise FileError(
                f"{metadata[organism]}: its channels, with padding, are not those of the model's heads: "
                f"{'; '.join(wrong)}"
            )
    tracks = {organism: table.tracks for organism, table in tables.items()}
    return Channels(tuple(tables), tracks, sizes.channels)


def _read_tensors(arrays: Mapping[str, Any], source: Path) -> dict[str, Tensor]:
    """Our state dict of the arrays, one read at a time; names from outside the tree stay as they are."""
    tensors: dict[str, Tensor] = {}
    with progress(len(arrays), f"reading {source.name}", "arrays") as shown:
        for name, read in arrays.items():
            array = read()
            tensors |= from_haiku({name: array}, {}) if name.startswith(ROOT) else {name: torch.tensor(array)}
            shown.advance()
    return tensors


def _model_of(sizes: Sizes, tensors: dict[str, Tensor], channels: Channels, source: Path) -> AlphaGenome:
    """The network with these tensors, and the track means of its channels."""
    _check_preset(sizes, tensors, source)
    with torch.device("meta"):
        model = AlphaGenome(sizes, seed=None)
    means = {
        f"{OWN}{output}": torch.from_numpy(channels.means(output))
        for output in sizes.outputs()
        if output in TRACK_OUTPUTS
    }
    load_tensors(model, tensors | means, source)
    return model.eval()


def _check_preset(sizes: Sizes, tensors: Mapping[str, Tensor], source: Path) -> None:
    """FileError if the tokens of the checkpoint have another width than those of the network."""
    tokens = tensors.get("embed.embeddings")
    found = tokens.shape[-1] if tokens is not None and tokens.ndim else sizes.trunk
    if found != sizes.trunk:
        known = [preset for preset in PRESETS if Sizes.preset(preset).trunk == found]
        raise FileError(
            f"{source}: {ROOT}embed/embeddings has {found} channels, wanted {sizes.trunk}; it is of "
            f"{f'preset {known[0]}' if known else 'other sizes'}, import it as such"
        )


def _model_settings(sizes: Sizes, preset: str) -> dict[str, Any]:
    """Sizes as the section `model` of a config has them; heads and organisms follow from the tracks."""
    plain, own = Sizes.preset(preset).as_dict(), sizes.as_dict()
    follows = ("channels", "n_organisms")
    return {
        "preset": preset,
        "overrides": {k: v for k, v in own.items() if k not in follows and v != plain[k]},
    }


def _provenance(
    source: Path, files: Mapping[str, str], digest: str, metadata: Mapping[str, str | Path]
) -> dict[str, Any]:
    """Names and SHA-256 digests of what the model is made of; for the stamp too (`inputs`)."""
    tables = {o: {"name": Path(path).name, "sha256": _sha256(Path(path))} for o, path in metadata.items()}
    inputs = {"checkpoint": f"sha256:{digest}"}
    inputs |= {f"metadata/{organism}": f"sha256:{table['sha256']}" for organism, table in tables.items()}
    checkpoint = {"name": source.name, "sha256": digest, "files": dict(files)}
    return {"inputs": inputs, "source": {"checkpoint": checkpoint, "metadata": tables}}


def _report(output: Path, model: AlphaGenome, channels: Channels) -> None:
    """Log what was imported, for a person to compare with what they expect."""
    parameters = list(model.parameters())
    tracks = {o: sum(map(len, rows.values())) for o, rows in channels.tracks.items()}
    LOGGER.info(
        "%s: %s parameters in %d tensors; channels %s",
        output, f"{sum(p.numel() for p in parameters):,}", len(parameters),
        ", ".join(f"{organism} {count:,}" for organism, count in tracks.items()),
    )  # fmt: skip
