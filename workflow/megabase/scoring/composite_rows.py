"""The composite splicing score over the members of an ensemble: its spread cannot be told from the parts'.

Torch only; part of the numerical core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from megabase.scoring.composite import PARTS
from megabase.scoring.rows import Rows


def tells_composite(scorers: Iterable[str]) -> bool:
    """Whether these scorers are all that the composite needs."""
    return PARTS.keys() <= set(scorers)


def composite_rows(rows: Mapping[str, Rows]) -> Rows:
    """One row a gene of the rows of a variant: the composite of the mean, and its spread over the members.

    rows: by scorer name, with `largest`. A part without a row for a gene counts as zero, as in
    `composite.composite_table`.
    """
    parts = [rows[name] for name in PARTS]
    genes = {gene.gene_id: gene for part in parts for gene in part.genes if gene is not None}
    total = torch.zeros(len(genes), 1 + len(parts[0].largest), dtype=torch.float64)
    for part, weight in zip(parts, PARTS.values(), strict=True):
        values = torch.cat([largest_of(part.raw)[None], part.largest]).double()
        for gene_id, sums in zip(genes, total, strict=True):
            here = [i for i, gene in enumerate(part.genes) if gene is not None and gene.gene_id == gene_id]
            if here:
                sums += weight * values[:, here].amax(1)
    spread = total[:, 1:].std(1, keepdim=True) if genes else total[:, :1]
    return Rows(raw=total[:, :1].float(), genes=list(genes.values()), spread=spread.float())


def largest_of(raw: Tensor) -> Tensor:
    """Largest score [..., N] over the tracks of unsigned scores [..., N, P]; NaN counts as zero."""
    return raw.nan_to_num(nan=0.0).amax(-1).clamp(min=0.0)
