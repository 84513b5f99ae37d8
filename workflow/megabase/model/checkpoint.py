"""Models on disk, and the published checkpoint's naming.

A model is a folder: `model.safetensors` (weights) and `model.json` (sizes, track tables, provenance).
Nothing is unpickled. Parameters keep the published names and shapes; only the separators differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from megabase.files import FileError, Stamp, atomic_path, hash_path, read_json, write_json
from megabase.model.alphagenome import AlphaGenome
from megabase.model.sizes import Sizes

WEIGHTS, CARD = "model.safetensors", "model.json"
ROOT = "alphagenome/"
STATE = "var_ema"  # the only kind of published state
OWN = "track_means."  # buffers that the published checkpoint keeps in its metadata instead
SPREAD = "spread."  # parameters of the variance output, which no published checkpoint has


def save_model(folder: str | Path, model: AlphaGenome, info: Mapping[str, Any]) -> None:
    """Write weights, then the card that names them by hash; a kill between leaves a pair that is refused.

    info: JSON-ready; `name`, track tables by organism, settings. `config_hash` and `inputs` ({name: hash}),
    where present, go into the stamp.
    """
    folder = Path(folder)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    stamp = Stamp("model", info.get("config_hash", ""), info.get("inputs", {}))
    card = {"sizes": model.sizes.as_dict(), "weights": hash_path(folder / WEIGHTS), "info": dict(info)}
    write_json(card, folder / CARD, stamp)


def load_card(folder: str | Path) -> tuple[Sizes, dict[str, Any]]:
    """(sizes, info) of a model, without its weights. FileError where the card is missing."""
    card = _card(Path(folder))
    return Sizes(**card["sizes"]), card["info"]


def _card(folder: Path) -> dict[str, Any]:
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise FileError(f"{folder / name}: not found; a model folder holds {CARD} and {WEIGHTS}")
    return read_json(folder / CARD, "model")


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> tuple[AlphaGenome, dict[str, Any]]:
    """(model in evaluation mode on `device`, info) as `save_model` wrote them.

    FileError where a file is missing, the weights are not those that the card names, or a tensor is
    missing, unknown or misshapen.
    """
    folder = Path(folder)
    card = _card(folder)
    if (found := hash_path(folder / WEIGHTS)) != card["weights"]:
        raise FileError(
            f"{folder / WEIGHTS}: hash {found}, but {CARD} was written with {card['weights']}; the folder "
            "holds halves of two models, rerun the stage that writes it"
        )
    with torch.device("meta"):
        model = AlphaGenome(Sizes(**card["sizes"]), seed=None)
    try:
        tensors = load_file(folder / WEIGHTS, device=str(device))
    except SafetensorError as error:
        raise FileError(f"{folder / WEIGHTS}: not a safetensors file ({error})") from error
    load_tensors(model, tensors, folder / WEIGHTS)
    return model.eval(), card["info"]


def load_tensors(model: AlphaGenome, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Make `tensors` the parameters and buffers of `model` (which may be on the meta device).

    One FileError names every missing, unknown and misshapen tensor. Track means may be absent (as in a
    published checkpoint) if the model already has its own.
    """
    wanted = {k: v for k, v in model.state_dict().items() if not _optional(k, v, tensors)}
    problems = [f"missing {k}" for k in wanted if k not in tensors]
    problems += [f"unknown {k}" for k in tensors if k not in wanted]
    problems += [
        f"{k} has shape {list(tensors[k].shape)}, wanted {list(v.shape)}"
        for k, v in wanted.items()
        if k in tensors and tensors[k].shape != v.shape
    ]
    if problems:
        raise FileError(f"{source}: {len(problems)} tensors do not fit the model: {'; '.join(problems)}")
    model.load_state_dict(dict(tensors), strict=False, assign=True)


def _optional(name: str, value: Tensor, tensors: Mapping[str, Tensor]) -> bool:
    return name.startswith(OWN) and not value.is_meta and name not in tensors


def from_haiku(params: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """State dict of the published flat names (`alphagenome/embed/embeddings`, ...)."""
    wrong = [k for k in (*params, *state) if not k.startswith(ROOT)]
    if wrong:
        raise ValueError(f"names that do not begin with {ROOT}: {wrong[:5]}")
    return {
        k.removeprefix(ROOT).replace("/", "."): torch.from_numpy(np.array(v, dtype=np.float32))
        for k, v in (*params.items(), *state.items())
    }


def to_haiku(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(params, state) by published flat names; inverse of `from_haiku`.

    Track means and the variance output, which is not published, are left out.
    """
    params: dict[str, np.ndarray] = {}
    state: dict[str, np.ndarray] = {}
    for name, value in state_dict.items():
        if not name.startswith((OWN, SPREAD)):
            part = state if name.endswith(STATE) else params
            part[ROOT + name.replace(".", "/")] = value.detach().cpu().numpy()
    return params, state
