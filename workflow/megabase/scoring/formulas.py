"""The formulas of the scorers, as pure functions of REF and ALT predictions.

Torch only; part of the numerical core. All take float tensors and return float tensors; P is channels.
Source: AlphaGenome Methods (variant scoring) and the published scorer definitions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LFC_PSEUDOCOUNT = 1e-3
JUNCTION_PSEUDOCOUNT = 1e-7
PAS_WINDOW = 400  # bases of RNA coverage upstream of a polyadenylation site


def _diff_mean(ref: Tensor, alt: Tensor) -> Tensor:
    return alt.mean(0) - ref.mean(0)


def _diff_sum(ref: Tensor, alt: Tensor) -> Tensor:
    return alt.sum(0) - ref.sum(0)


def _diff_sum_log2(ref: Tensor, alt: Tensor) -> Tensor:
    return torch.log2(alt + 1).sum(0) - torch.log2(ref + 1).sum(0)


def _diff_log2_sum(ref: Tensor, alt: Tensor) -> Tensor:
    return torch.log2(1 + alt.sum(0)) - torch.log2(1 + ref.sum(0))


def _l2_diff(ref: Tensor, alt: Tensor) -> Tensor:
    return (alt - ref).square().sum(0).sqrt()


def _l2_diff_log1p(ref: Tensor, alt: Tensor) -> Tensor:
    return (torch.log1p(alt) - torch.log1p(ref)).square().sum(0).sqrt()


def _active_mean(ref: Tensor, alt: Tensor) -> Tensor:
    return torch.maximum(alt.mean(0), ref.mean(0))


def _active_sum(ref: Tensor, alt: Tensor) -> Tensor:
    return torch.maximum(alt.sum(0), ref.sum(0))


# Aggregations [N, P] x [N, P] -> [P] of a centre-mask scorer, by name.
AGGREGATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "diff_mean": _diff_mean,
    "diff_sum": _diff_sum,
    "diff_sum_log2": _diff_sum_log2,
    "diff_log2_sum": _diff_log2_sum,
    "l2_diff": _l2_diff,
    "l2_diff_log1p": _l2_diff_log1p,
    "active_mean": _active_mean,
    "active_sum": _active_sum,
}


def centre_score(ref: Tensor, alt: Tensor, span: tuple[int, int], aggregation: str) -> Tensor:
    """Score [P] of the bins `span` of REF and ALT [bins, P]; NaN if the span is empty."""
    first, last = span
    if first >= last:
        return ref.new_full((ref.shape[-1],), torch.nan)
    return AGGREGATIONS[aggregation](ref[first:last].float(), alt[first:last].float())


def _masked_means(values: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(values.dtype)
    return weights.T @ values / weights.sum(0).unsqueeze(-1)


def _masked_sums(values: Tensor, mask: Tensor) -> Tensor:
    sums = mask.to(values.dtype).T @ values
    return sums.masked_fill(~mask.any(0).unsqueeze(-1), torch.nan)


# Summaries of one sequence over gene masks: values [S, P], bool [S, G] -> [G, P]; NaN for an empty mask.
GENE_SUMMARIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": lambda values, mask: _masked_means(values.float(), mask),
    "sum": lambda values, mask: _masked_sums(values.float(), mask),
}


def gene_log_fold_change(ref: Tensor, alt: Tensor, mask: Tensor) -> Tensor:
    """ln((mean ALT + 1e-3) / (mean REF + 1e-3)) over exons: [G, P] of [S, P], aligned [S, P], bool [S, G]."""
    means = [_masked_means(x.float(), mask) for x in (alt, ref)]
    return torch.log(means[0] + LFC_PSEUDOCOUNT) - torch.log(means[1] + LFC_PSEUDOCOUNT)


def gene_active(ref: Tensor, alt: Tensor, mask: Tensor) -> Tensor:
    """max(mean ALT, mean REF) over exons: [G, P] of [S, P], aligned [S, P], bool [S, G]."""
    return torch.maximum(_masked_means(alt.float(), mask), _masked_means(ref.float(), mask))


def gene_splicing(ref: Tensor, alt: Tensor, mask: Tensor) -> Tensor:
    """max |ALT - REF| over the gene body: [G, P] of [S, P], aligned [S, P], bool [S, G]."""
    change = (alt.float() - ref.float()).abs()
    empty = change.new_full((change.shape[-1],), torch.nan)
    rows = [change[column].amax(0) if bool(column.any()) else empty for column in mask.unbind(-1)]
    return torch.stack(rows)


def contact_score(ref: Tensor, alt: Tensor, bin_: int) -> Tensor:
    """mean |ALT - REF| over the contacts of one bin of the maps [Q, Q, P]: [P]."""
    return contact_row_score(ref[:, bin_], alt[:, bin_])


def contact_row_score(ref: Tensor, alt: Tensor) -> Tensor:
    """mean |ALT - REF| over the contacts [Q, P] of one bin: [P]."""
    return (alt.float() - ref.float()).abs().mean(0)


def polyadenylation_windows(sites: Tensor, strand: str) -> Tensor:
    """Spans int64 [N, 2] of the 400 bases that end (on the strand) with each site, the site included."""
    if strand == "-":
        return torch.stack([sites, sites + PAS_WINDOW], -1)
    return torch.stack([sites - PAS_WINDOW + 1, sites + 1], -1)


def polyadenylation_score(ref: Tensor, alt: Tensor, windows: Tensor) -> Tensor:
    """Largest shift between proximal and distal polyadenylation sites of one gene: [P].

    ref [S, P], alt aligned [S, P]; windows int [N, 2]: spans of coverage upstream of the sites, ordered from
    the most proximal to the most distal. r = sum ALT / sum REF of a site; for each split into k proximal and
    N - k distal sites, |log2((N - k) / k * sum r proximal / sum r distal)|; the maximum over splits.
    """
    spans = [(int(a), int(b)) for a, b in windows]
    ratio = torch.stack([alt[a:b].float().sum(0) / ref[a:b].float().sum(0) for a, b in spans])
    n = len(spans)
    k = torch.arange(1, n, dtype=ratio.dtype, device=ratio.device).unsqueeze(-1)
    proximal = ratio.cumsum(0)[:-1]
    distal = ratio.flip(0).cumsum(0).flip(0)[1:]
    return torch.log2((n - k) / k * proximal / distal).abs().amax(0)


def junction_score(ref: Tensor, alt: Tensor) -> Tensor:
    """|ln(ALT + 1e-7) - ln(REF + 1e-7)| of junction predictions of equal shape."""
    return (
        torch.log(alt.float() + JUNCTION_PSEUDOCOUNT) - torch.log(ref.float() + JUNCTION_PSEUDOCOUNT)
    ).abs()
