"""Is this device to be trusted? A known sequence is predicted on it and on the CPU, before any work.

A GPU with a broken memory or driver can give numbers that are wrong and look right. The sequence is seeded,
4,096 bases; the CPU's prediction in float32 is the truth. Rounding every layer to bfloat16 moves the outputs
of trained networks by 0.01% (splice sites) to 5% (contact maps) of their size; what is three times further
off, or not finite, is refused.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megabase.logs import LOGGER
from megabase.predictors.base import load_predictor, model_info
from megabase.seeds import generator
from megabase.spec import OutputType

LENGTH = 4096
TOLERANCE = 0.15  # of the root mean square of an output
JUNCTIONS = OutputType.SPLICE_JUNCTIONS  # read at sites chosen by the other outputs: says nothing new


class DeviceError(ValueError):
    """A device that computes something else than the CPU does."""


def check_device(predictor: Any, model_dir: str | Path, organism: str, device: str) -> None:
    """DeviceError if a predictor on an accelerator differs from the same model on the CPU.

    On a CPU nothing is done. Of an ensemble the first member is checked: the device is, not the models.
    """
    if torch.device(device).type == "cpu":
        return
    members, folder = getattr(predictor, "members", None), Path(model_dir)
    if members:
        predictor, folder = members[0], folder / model_info(folder)["members"][0]["folder"]
    check_predictions(predictor, load_predictor(folder, "cpu"), organism, device_name(device))
    LOGGER.info("self-check: %s predicts what the CPU predicts", device_name(device))


def check_predictions(tested: Any, reference: Any, organism: str, where: str) -> None:
    """DeviceError naming `where` if two predictors differ on the known sequence by more than rounding."""
    codes = torch.from_numpy(known_sequence()[None])
    outputs = [output for output in reference.tracks(organism) if output is not JUNCTIONS]
    wanted = reference.predict(codes, organism, outputs=outputs)
    found = tested.predict(codes, organism, outputs=outputs)
    for name, value, truth in _pairs(found, wanted):
        off = difference(value, truth)
        if not off <= TOLERANCE:  # NaN, too, is refused
            raise DeviceError(
                f"{where} gives wrong predictions: {name} of a known sequence differs from the CPU's by "
                f"{off:.2g} of its size, rounding is at most {TOLERANCE}; nothing was scored. Leave the "
                "device out (sbatch --exclude, or another --device) and tell its administrator"
            )


def known_sequence() -> Any:
    """Codes uint8 [4096], the same everywhere."""
    return generator(0, "self_check").integers(0, 4, LENGTH).astype("uint8")


def difference(value: Tensor, truth: Tensor) -> float:
    """Root mean square of the difference, as a share of that of `truth`; NaN if `value` is not finite."""
    value, truth = value.detach().to("cpu", torch.float64), truth.detach().to("cpu", torch.float64)
    size = truth.square().mean().sqrt()
    off = (value - truth).square().mean().sqrt()
    return float(off / size.clamp_min(1e-12))


def device_name(device: str) -> str:
    """Host and device, as a person would look them up: `node7: cuda:0 (NVIDIA H200)`."""
    chosen = torch.device(device)
    kind = ""
    if chosen.type == "cuda" and torch.cuda.is_available():
        kind = f" ({torch.cuda.get_device_name(chosen)})"
    return f"{socket.gethostname()}: {device}{kind}"


def _pairs(
    found: Mapping[OutputType, Mapping[str, Tensor]], wanted: Mapping[OutputType, Mapping[str, Tensor]]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    for output, values in wanted.items():
        for key, truth in values.items():
            if truth.is_floating_point():
                yield f"{output.value} {key}", found[output][key], truth
