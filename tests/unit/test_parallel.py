"""Collectives and their adjoints, and the places of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from parallel_stand_ins import run_ranks
from torch import Tensor, nn

from megabase.parallel import Layout, check_sizes, sum_gradients
from megabase.parallel.processes import place


def _whole() -> Tensor:
    return torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _weights(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _pair() -> Tensor:
    return torch.randn(1, 8, 8, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def _collectives(layout: Layout) -> dict[str, Any]:
    """Values and gradients, of each rank's part, of functions of the whole that every rank sees a part of."""
    part = layout.part(16)
    out: dict[str, Any] = {"place": (layout.data_rank, layout.sequence_rank, layout.rank)}

    def record(name: str, x: Tensor, y: Tensor, weights: Tensor) -> None:
        (y * weights).sum().backward()
        out[name], out[f"{name}/gradient"] = y.detach(), x.grad

    x = _whole()[..., part].requires_grad_()
    record("halo", x, layout.halo(x, 3), _weights(layout.sequence_ranks, 2, 3, 10)[layout.sequence_rank])
    x = _whole()[..., part].requires_grad_()
    record("gather", x, layout.gather(x, 2), _weights(layout.sequence_ranks, 2, 3, 16)[layout.sequence_rank])
    x = _whole()[..., part].requires_grad_()
    record("total", x, layout.row_total(x), _weights(layout.sequence_ranks, 2, 3, 4)[layout.sequence_rank])
    x = _pair()[:, layout.part(8)].requires_grad_()
    record("transpose", x, layout.transpose(x), _weights(1, 8, 8, 2)[:, layout.part(8)])
    out["maximum"] = layout.maximum(torch.tensor(float(layout.rank)))
    weight = nn.Parameter(torch.zeros(5))
    weight.grad = torch.full((5,), 1.0 + layout.rank)
    sum_gradients([weight, nn.Parameter(torch.zeros(2))], layout)
    out["summed"] = weight.grad
    return out


def test_collectives_and_their_adjoints_on_four_parts(tmp_path: Path) -> None:
    found = run_ranks(_collectives, 4, 4, tmp_path)
    whole = _whole().requires_grad_()
    padded = torch.nn.functional.pad(whole, (3, 3))
    halos = torch.stack([padded[..., 4 * r : 4 * r + 10] for r in range(4)])
    (halos * _weights(4, 2, 3, 10)).sum().backward()
    for r, one in enumerate(found):
        part = slice(4 * r, 4 * r + 4)
        assert one["place"] == (0, r, r)
        torch.testing.assert_close(one["halo"], halos[r].detach())
        torch.testing.assert_close(one["halo/gradient"], whole.grad[..., part])
        torch.testing.assert_close(one["gather"], _whole())
        torch.testing.assert_close(one["gather/gradient"], _weights(4, 2, 3, 16).sum(0)[..., part])
        torch.testing.assert_close(one["total"], _whole().unflatten(-1, (4, 4)).sum(2))
        torch.testing.assert_close(one["total/gradient"], _weights(4, 2, 3, 4).sum(0))
        rows = slice(2 * r, 2 * r + 2)
        torch.testing.assert_close(one["transpose"], _pair().transpose(1, 2)[:, rows])
        torch.testing.assert_close(one["transpose/gradient"], _weights(1, 8, 8, 2).transpose(1, 2)[:, rows])
        assert one["maximum"] == 3
        assert one["summed"].tolist() == [10.0] * 5


def test_ranks_of_a_window_are_neighbours() -> None:
    places = [place(6, rank, 2) for rank in range(6)]
    assert [(p.data_rank, p.sequence_rank) for p in places] == [(d, s) for d in range(3) for s in range(2)]
    assert [p.rank for p in places] == list(range(6)) and [p.leader for p in places] == [True] + [False] * 5
    assert places[3].rows(12) == slice(4, 8) and places[3].part(8192) == slice(4096, 8192)
    assert Layout().single and Layout().window == Layout()


def test_sizes_that_do_not_split_are_one_clear_error() -> None:
    with pytest.raises(
        ValueError, match=r"6 processes do not split .*sequence_ranks 4; start a multiple of 4"
    ):
        place(6, 0, 4)
    layout = Layout(data_ranks=3, sequence_ranks=2)
    check_sizes(layout, batch_size=6, window=8192)
    with pytest.raises(ValueError, match=r"batch_size 8 does not split over 3 data ranks \(6 processes"):
        check_sizes(layout, batch_size=8, window=8192)
    with pytest.raises(ValueError, match=r"window of 6144 bp .* 2048-bp bins .* multiple of 4096"):
        check_sizes(layout, batch_size=6, window=6144)
