"""The network on parts of a window: predictions, gradients and running averages of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from parallel_stand_ins import run_ranks, small_model
from torch import Tensor

from megabase.model import AlphaGenome
from megabase.parallel import SINGLE, Layout, attach, sum_gradients
from megabase.seeds import torch_generator
from megabase.sequence import one_hot
from megabase.spec import OUTPUTS, Kind, OutputType

LENGTH = 8192
POSITIONS = torch.tensor([[[10, 2047, 4096], [2048, 5000, -1], [1, 8191, -1], [4095, 6143, 6144]]] * 2)


def _inputs() -> tuple[Tensor, Tensor]:
    codes = torch.randint(0, 5, (2, LENGTH), generator=torch_generator(0, "codes"), dtype=torch.uint8)
    return codes, torch.tensor([0, 1])


def _share(values: Tensor, kind: Kind, layout: Layout) -> Tensor:
    """This rank's share of a weighted sum of all predictions; weights depend on the place in the whole."""
    count = 1 if kind is Kind.JUNCTIONS else layout.sequence_ranks
    shape = (2, values.shape[1] * count, *values.shape[2:])
    weights = torch.randn(shape, generator=torch_generator(0, *map(str, shape)))
    if kind is Kind.JUNCTIONS:  # whole on every rank
        return (values * weights[layout.rows(2)]).sum() / layout.sequence_ranks
    return (values * weights[layout.rows(2)][:, layout.part(shape[1])]).sum()


def _pass(layout: Layout, precision: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Everything that one forward and backward pass in training and one in evaluation leave behind."""
    model = small_model().train()
    attach(model, layout)
    codes, organism = (x[layout.rows(2)] for x in _inputs())
    sequence = one_hot(codes)[:, layout.part(LENGTH)].to(precision)
    found = model(sequence, organism, splice_positions=POSITIONS[layout.rows(2)])
    share = sum(
        _share(v, OUTPUTS[o].kind, layout)
        for o, out in found.items()
        for k, v in out.items()
        if v.requires_grad
    )
    share.backward()
    sum_gradients(model.parameters(), layout)
    left = {f"gradient/{name}": p.grad for name, p in model.named_parameters()}
    left |= {f"state/{name}": b for name, b in model.named_buffers()}
    left["sum"] = layout.total(share.detach().double())
    model.eval()
    attach(model, layout.window)
    with torch.no_grad():
        chosen = model(sequence, organism)
    return left | {f"{o}/{k}": v for o, out in chosen.items() for k, v in out.items()}


@pytest.fixture(scope="module")
def alone() -> dict[str, Tensor]:
    return _pass(SINGLE)


@pytest.mark.parametrize(("ranks", "sequence_ranks"), [(2, 2), (4, 4), (2, 1), (4, 2)])
def test_ranks_do_together_what_one_does(
    ranks: int, sequence_ranks: int, alone: dict[str, Tensor], tmp_path: Path
) -> None:
    found = run_ranks(_pass, ranks, sequence_ranks, tmp_path)
    for name, wanted in alone.items():
        if name.startswith(("gradient/", "state/")):
            for one in found:
                assert torch.equal(one[name], found[0][name]), name
                assert _distance(one[name], wanted) < 1e-4, (name, _distance(one[name], wanted))
    assert float(found[0]["sum"]) == pytest.approx(float(alone["sum"]), rel=1e-5)
    for output in CHOSEN:
        parts = [f[output] for f in found]
        rows = [
            parts[d] if output.startswith("splice_junctions") else torch.cat(parts[d : d + sequence_ranks], 1)
            for d in range(0, ranks, sequence_ranks)
        ]
        assert _distance(torch.cat(rows), alone[output]) < (1e-5 if output in EXACT else 1e-4), output


CHOSEN = (
    "rna_seq/scaled_1bp", "rna_seq/scaled_128bp", "chip_tf/scaled_128bp", "contact_maps/values",
    "splice_sites/probabilities", "splice_site_usage/logits", "splice_junctions/positions",
    "splice_junctions/values",
)  # fmt: skip
EXACT = ("splice_junctions/positions",)


def _distance(a: Tensor, b: Tensor) -> float:
    """Difference relative to the size of b."""
    return float((a - b).float().norm() / b.float().norm().clamp_min(1e-6))


def test_every_part_that_communicates_is_reached() -> None:
    model, layout = small_model(), Layout(data_ranks=2)
    attach(model, layout)
    named = {type(m).__name__ for m in model.modules() if getattr(m, "layout", None) is layout}
    assert named == {
        "AlphaGenome", "RMSBatchNorm", "Conv1D", "StandardizedConv1D", "MHABlock", "SequenceToPairBlock",
        "OutputPair", "JunctionHead",
    }  # fmt: skip
    attach(model, SINGLE)
    assert isinstance(model, AlphaGenome) and model.layout is SINGLE
    assert OutputType.SPLICE_JUNCTIONS in model.sizes.outputs()


def test_bfloat16_passes_between_ranks(tmp_path: Path) -> None:
    wanted = _pass(SINGLE, torch.bfloat16)
    found = run_ranks(_pass, 2, 2, tmp_path, torch.bfloat16)
    assert float(found[0]["sum"]) == pytest.approx(float(wanted["sum"]), rel=0.05)
    norms = [torch.stack([g.norm() for n, g in x.items() if "gradient/" in n]) for x in (wanted, found[0])]
    assert float(norms[1].norm()) == pytest.approx(float(norms[0].norm()), rel=0.05)
    assert found[0]["rna_seq/scaled_1bp"].dtype == torch.bfloat16
