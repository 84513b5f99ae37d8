"""A tiny network with every head, in a model folder, for the tests of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from training_stand_ins import model_settings

from megabase.channels import Channels, rows_by_output
from megabase.genome import Interval
from megabase.model import AlphaGenome, Sizes, save_model
from megabase.sequence import one_hot
from megabase.spec import OUTPUTS, TRACK_COLUMNS, TRACK_OUTPUTS, Kind, OutputType

WINDOW = 4096
PLACE = Interval("chr1", 6144, 6144 + WINDOW)  # on the grid of contact bins
CURIES = {"liver": "UBERON:0002107", "brain": "UBERON:0000955"}


def _row(output: str, name: str, strand: str, partner: int, biosample: str) -> dict[str, Any]:
    row = dict.fromkeys(TRACK_COLUMNS) | {"name": name, "output_type": output, "strand": strand}
    mean = 1.0 + len(name) % 5
    return row | {"strand_partner": partner, "biosample_name": biosample, "nonzero_mean": mean,
                  "ontology_curie": CURIES[biosample], "organism": "toy"}  # fmt: skip


def toy_rows() -> list[dict[str, Any]]:
    """Tracks of the organism `toy`: every output type, stranded and unstranded, two biosamples."""
    rows = []
    for output in TRACK_OUTPUTS:
        rows += [_row(output, "liver +", "+", 1, "liver"), _row(output, "liver -", "-", 0, "liver"),
                 _row(output, "brain", ".", 2, "brain")]  # fmt: skip
    rows += [_row("contact_maps", f"{b} hic", ".", i, b) for i, b in enumerate(("brain", "liver"))]
    for output in ("splice_site_usage", "splice_junctions"):
        halves = [("+", "brain"), ("+", "liver"), ("-", "brain"), ("-", "liver")]
        rows += [_row(output, f"{b} {s}", s, (i + 2) % 4, b) for i, (s, b) in enumerate(halves)]
    return rows


def make_model(folder: Path, seed: int = 3, **more: Any) -> Path:
    """Write a model of two organisms: `toy` with all of `toy_rows`, `other` with two RNA-seq tracks.

    more: of the `info` of its `model.json`.
    """
    other = [row | {"organism": "other"} for row in toy_rows()[:2]]
    tracks = {"toy": rows_by_output(toy_rows()), "other": rows_by_output(other, sites=False)}
    channels = Channels(("toy", "other"), tracks)
    sizes = model_settings().overrides | {"site_threshold": 0.2}
    model = AlphaGenome(Sizes.preset("tiny", channels.widths, dropout=0.0, **sizes), seed=seed)
    for output in TRACK_OUTPUTS:
        model.set_track_means(output, torch.from_numpy(channels.means(output)))
    _spread_sites(model.eval())
    info = {"name": folder.name, "predictor": "alphagenome", "window": WINDOW, "tracks": tracks,
            "organisms": ["toy", "other"], "settings": {}} | more  # fmt: skip
    save_model(folder, model, info)
    return folder


@torch.no_grad()
def _spread_sites(model: AlphaGenome) -> None:
    """Give every splice-site class its likely places: logits of mean 0 and deviation 2."""
    codes = torch.from_numpy(np.random.default_rng(5).integers(0, 4, (2, 2048)).astype(np.uint8))
    head = model.head_of(OutputType.SPLICE_SITES).multi_organism_linear
    logits = model(one_hot(codes), torch.tensor([0, 1]), outputs=["splice_sites"])["splice_sites"]["logits"]
    scale = 2 / logits.std(1)
    head.b.copy_(-logits.mean(1) * scale)
    head.w.mul_(scale[:, None])


def finest(output: OutputType) -> str:
    """Key of the finest values of an output type among a predictor's."""
    kind = OUTPUTS[output].kind
    if kind is Kind.TRACKS:
        return f"{OUTPUTS[output].resolutions[0]}bp"
    return "values" if kind in (Kind.CONTACTS, Kind.JUNCTIONS) else "probabilities"


def close(got: np.ndarray, wanted: np.ndarray | torch.Tensor) -> None:
    """Equal but for the order of float additions in a deep network."""
    wanted = np.asarray(wanted)
    scale = float(np.nanmax(np.abs(wanted), initial=0))
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4 * scale)
