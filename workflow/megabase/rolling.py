"""Rolling checkpoints of a training run: a killed run goes on where it was and ends with the same bytes.

A checkpoint is one safetensors file, written whole or not at all, whose name holds the step and the hash of
its bytes; its metadata holds what is not a tensor. The newest two are kept; a reader takes the newest whose
bytes match its name. A file is written by a thread of its own from a copy in memory, while the training goes
on; the next one waits for it. The folder stands beside the output and is no declared output, so that a
workflow engine which clears a failed job's outputs does not clear it. Torch, safetensors and
the standard library.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from megabase.parallel import SINGLE, Layout

LOGGER = logging.getLogger("megabase")
KEPT = 2
Row = tuple[int, str, str, float]  # step, split, quantity, value


@dataclass
class Progressed:
    """How far a run is: steps done, rows of the loss curve, and values not yet averaged into rows."""

    step: int = 0
    rows: list[Row] = field(default_factory=list)
    pending: list[dict[str, float]] = field(default_factory=list)


def _hash(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in state.items()}
    return tensors


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies in the memory of the host, which the next step does not change."""
    copies = {name: torch.empty_like(value, device="cpu") for name, value in tensors.items()}
    return {name: copy.copy_(tensors[name].detach()).contiguous() for name, copy in copies.items()}


class RollingCheckpoint:
    """Checkpoints of one run in `folder`; `fingerprint` names what the run is made from.

    A checkpoint of another fingerprint (other settings, other inputs) is never resumed. ranks: how the run is
    split; one that was split otherwise is resumed with a warning, for its sums are rounded elsewhere.
    """

    def __init__(self, folder: str | Path, fingerprint: str, ranks: str = "1 x 1") -> None:
        self.folder, self.fingerprint, self.ranks = Path(folder), fingerprint, ranks
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def files(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*.safetensors"))

    def save(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, done: Progressed) -> None:
        """Begin to write the state after `done.step` steps; then all but the newest two are dropped.

        Waits for the one before, and raises the OSError that it may have ended with (a full disk).
        """
        self.finish()
        text = json.dumps({"step": done.step, "rows": done.rows, "pending": done.pending})
        about = {"state": text, "fingerprint": self.fingerprint, "ranks": self.ranks}
        tensors = _copied(_tensors(model, optimizer))
        self._writing = self._writer.submit(self._write, done.step, tensors, about)

    def _write(self, step: int, tensors: dict[str, Tensor], about: dict[str, str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / ".writing"
        save_file(tensors, temporary, about)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, self.folder / f"step-{step:09d}-{_hash(temporary)}.safetensors")
        for old in self.files()[:-KEPT]:
            old.unlink()

    def finish(self) -> None:
        """Wait until nothing is being written; raises what the writing ended with."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def newest(self) -> Path | None:
        """The newest sound checkpoint of this run; none for a fresh start."""
        for path in reversed(self.files()):
            if _hash(path) != path.stem.rsplit("-", 1)[1]:
                LOGGER.warning("%s: bytes do not match the name (cut short?); trying an older one", path)
                continue
            with safe_open(path, "pt") as handle:
                about = handle.metadata()
            if about["fingerprint"] == self.fingerprint:
                return path
            LOGGER.warning("%s: belongs to other settings or inputs; not resumed", path)
        return None

    def load(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, layout: Layout = SINGLE
    ) -> Progressed:
        """Put the newest sound checkpoint into model and optimizer; a fresh start where there is none.

        With many ranks the first chooses, so that all load the same file; the folder is one that all see.
        """
        self.finish()
        path = layout.everyone(self.newest() if layout.leader else None)[0]
        if path is None:
            return Progressed()
        with safe_open(path, "pt") as handle:
            about = handle.metadata()
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}
        _restore(model, optimizer, tensors)
        state = json.loads(about["state"])
        rows = [(int(r[0]), r[1], r[2], r[3]) for r in state["rows"]]
        LOGGER.info("resuming after step %d from %s", state["step"], path)
        if layout.leader and about.get("ranks", self.ranks) != self.ranks:
            before, now = about["ranks"], self.ranks
            LOGGER.warning("it was split over %s ranks, now %s: last bits will differ", before, now)
        return Progressed(state["step"], rows, state["pending"])

    def clear(self) -> None:
        """Remove the folder, once the run's outputs are in place."""
        self.finish()
        shutil.rmtree(self.folder, ignore_errors=True)


def _restore(model: torch.nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    weights = {k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")}
    model.load_state_dict(weights)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
