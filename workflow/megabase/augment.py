"""Augmentation of training examples: the other strand of everything, and mutated sequences.

Reverse complement of an output: positions run backwards, a stranded channel changes places with its
partner, splice-site classes swap strand. Signal of cut sites lies between two bases and moves by one.
Source: AlphaGenome preprint, Methods, data augmentation and distillation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megabase.sequence import reverse_complement
from megabase.spec import OUTPUTS, UNKNOWN_BASE, Kind, OutputType, SiteClass

SITE_ORDER = SiteClass.REVERSE_COMPLEMENT
EDIT_SPAN = 1 << 20  # bases to which the rate of structural edits refers
EDITS = ("insertion", "deletion", "inversion")


def permute_channels(x: Tensor, partners: Tensor) -> Tensor:
    """x [B, ..., P] with channel p taken from channel partners[b, p]; partners int64 [B, P]."""
    shape = (partners.shape[0],) + (1,) * (x.ndim - 2) + (partners.shape[1],)
    return x.gather(-1, partners.view(shape).expand_as(x))


def swap_halves(x: Tensor) -> Tensor:
    """x [..., 2 B] with its strand halves swapped: all + biosamples, then all -."""
    return torch.cat(x.chunk(2, -1)[::-1], -1)


def reverse_tracks(x: Tensor, partners: Tensor, *, shift: int = 0, missing: float = float("nan")) -> Tensor:
    """Tracks [B, S, P] of the other strand; shift: bases to roll by, vacated positions are `missing`."""
    y = permute_channels(x.flip(1), partners)
    if shift:
        y = y.roll(shift, 1)
        y[:, :shift] = missing
    return y


def reverse_contacts(x: Tensor) -> Tensor:
    """Contact maps [B, Q, Q, P] of the other strand."""
    return x.flip(1, 2)


def reverse_sites(x: Tensor) -> Tensor:
    """Splice-site classes int [B, S] (-1 stays), or their logits or probabilities [B, S, 5], reversed."""
    if x.is_floating_point():
        return x.flip(1)[..., list(SITE_ORDER)]
    table = torch.tensor([*SITE_ORDER, -1], dtype=x.dtype, device=x.device)
    return table[x.flip(1).long()]


def reverse_usage(x: Tensor) -> Tensor:
    """Splice-site usage [B, S, 2 B] of the other strand."""
    return swap_halves(x.flip(1))


def reverse_positions(positions: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Splice-site positions int [B, 4, K] of the other strand, and where each came from.

    Positions become length - 1 - position, the classes swap strand, and each row is ascending again
    with -1 at its end. The second result int64 [B, 4, K] is the index of each site in its old row.
    """
    old = positions[:, list(SITE_ORDER[:4])]
    mirrored = torch.where(old >= 0, length - 1 - old, length)
    ordered, source = mirrored.sort(dim=-1, stable=True)
    return ordered.masked_fill(ordered == length, -1), source


def reverse_junctions(counts: Tensor, positions: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Junctions [B, K, K, 2 B] (counts or a mask) and positions [B, 4, K] of the other strand."""
    reversed_positions, source = reverse_positions(positions, length)
    halves = []
    donors = (SiteClass.DONOR_PLUS, SiteClass.DONOR_MINUS)
    for donor, half in zip(donors, swap_halves(counts).chunk(2, -1), strict=True):
        rows = source[:, donor, :, None, None].expand_as(half)
        columns = source[:, donor + 1, None, :, None].expand_as(half)
        halves.append(half.gather(1, rows).gather(2, columns))
    return torch.cat(halves, -1), reversed_positions


def reverse_target(output_type: OutputType, target: Any, partners: Tensor | None) -> Any:
    """One output type's target (tensor, or {resolution: tensor}) of the other strand; not junctions."""
    spec = OUTPUTS[output_type]
    if isinstance(target, Mapping):
        return {r: _reverse_at(output_type, x, partners, r) for r, x in target.items()}
    return _reverse_at(output_type, target, partners, spec.resolutions[0])


def _reverse_at(output_type: OutputType, x: Tensor, partners: Tensor | None, resolution: int) -> Tensor:
    spec = OUTPUTS[output_type]
    if spec.kind is Kind.TRACKS:
        return reverse_tracks(x, partners, shift=spec.rc_shift if resolution == 1 else 0)
    if spec.kind is Kind.CONTACTS:
        return reverse_contacts(x)
    return reverse_sites(x) if spec.kind is Kind.SITES else reverse_usage(x)


def reverse_mask(output_type: OutputType, mask: Tensor, partners: Tensor | None) -> Tensor:
    """Channel mask bool [B, P] of the other strand."""
    kind = OUTPUTS[output_type].kind
    if kind is Kind.TRACKS:
        return mask.gather(1, partners)
    return swap_halves(mask) if kind in (Kind.USAGE, Kind.JUNCTIONS) else mask


def reverse_complement_batch(
    batch: Mapping[str, Any], partners: Mapping[OutputType, Tensor], *, where: Tensor | None = None
) -> dict[str, Any]:
    """A batch's other strand.

    batch: `sequence` uint8 [B, S], `organism` int64 [B], `targets` and `masks` by output type (splice
    positions under the key `splice_positions` of `targets`), and optionally `gene_masks` (`bodies`
    [B, G, S], `channels` [B, G, P]); other keys pass unchanged. partners: int64 [n_organisms, P] by track
    output type, the strand partner of every channel within its output type (itself if unstranded or
    padding). where: bool [B], the examples to turn; by default all of them. Returns a new dictionary.
    """
    organism = batch["organism"]
    local = {o: p.to(organism.device)[organism] for o, p in partners.items()}
    turned = dict(batch)
    turned["sequence"] = reverse_complement(batch["sequence"])
    turned["targets"] = _reverse_targets(batch["targets"], local, batch["sequence"].shape[-1])
    turned["masks"] = {o: reverse_mask(o, m, local.get(o)) for o, m in batch["masks"].items()}
    if batch.get("gene_masks"):
        turned["gene_masks"] = {
            "bodies": batch["gene_masks"]["bodies"].flip(-1),
            "channels": permute_channels(batch["gene_masks"]["channels"], local[OutputType.RNA_SEQ]),
        }
    return turned if where is None else _choose(where, turned, batch)


def _reverse_targets(
    targets: Mapping[Any, Any], partners: Mapping[OutputType, Tensor], length: int
) -> dict[Any, Any]:
    out: dict[Any, Any] = {}
    junctions, positions = OutputType.SPLICE_JUNCTIONS, "splice_positions"
    for name, value in targets.items():
        if name == junctions:
            out[name], out[positions] = reverse_junctions(value, targets[positions], length)
        elif name != positions:
            out[name] = reverse_target(OutputType(name), value, partners.get(OutputType(name)))
        elif junctions not in targets:
            out[name] = reverse_positions(value, length)[0]
    return out


def _choose(where: Tensor, turned: Any, original: Any) -> Any:
    if isinstance(turned, Mapping):
        return {k: _choose(where, v, original[k]) for k, v in turned.items()}
    if not isinstance(turned, Tensor):
        return turned
    return torch.where(where.view(-1, *[1] * (turned.ndim - 1)), turned, original)


def reverse_complement_predictions(
    predictions: Mapping[OutputType, Mapping[str, Tensor]],
    organism: Tensor,
    partners: Mapping[OutputType, Tensor],
    length: int,
) -> dict[OutputType, dict[str, Tensor]]:
    """Predictions of the other strand brought to this one, to be averaged with predictions of this one.

    All keys of `AlphaGenome.forward` and `unscale`; organism int64 [B]; length: S. The first base of a
    shifted output (DNase at 1 bp) has no counterpart and becomes 0, as published.
    """
    out: dict[OutputType, dict[str, Tensor]] = {}
    for output_type, values in predictions.items():
        spec = OUTPUTS[output_type]
        if spec.kind is Kind.JUNCTIONS:
            out[output_type] = _reverse_junction_predictions(values, length)
        elif spec.kind is Kind.TRACKS:
            partner = partners[output_type].to(organism.device)[organism]
            out[output_type] = {
                k: reverse_tracks(x, partner, shift=spec.rc_shift if k.endswith("1bp") else 0, missing=0.0)
                for k, x in values.items()
            }
        else:
            out[output_type] = {k: reverse_target(output_type, x, None) for k, x in values.items()}
    return out


def _reverse_junction_predictions(values: Mapping[str, Tensor], length: int) -> dict[str, Tensor]:
    counts, positions = reverse_junctions(values["values"], values["positions"], length)
    mask, _ = reverse_junctions(values["mask"], values["positions"], length)
    return {"values": counts, "positions": positions, "mask": mask}


def mutate(
    codes: np.ndarray,
    generator: np.random.Generator,
    *,
    rate: float,
    structural_rate: float = 0.0,
    structural_max: int = 20,
    structural_types: Sequence[str] = EDITS,
    following: np.ndarray | None = None,
) -> np.ndarray:
    """Perturbed copy of codes uint8 [S], of the same length: what a student learns its teachers' answers on.

    First structural edits, a Poisson number of mean structural_rate per 1,048,576 bases, each of a type
    drawn evenly from structural_types and a length drawn evenly from 1 .. structural_max: a random
    insertion, a deletion, or an inversion (reverse complement in place). What an insertion pushes off the
    end is lost; what deletions leave empty is filled from `following` (codes right of the window), then
    with N. Then a share `rate` of the known bases is replaced by a random base, which may be the same.
    """
    unknown = set(structural_types) - set(EDITS)
    if unknown or (structural_rate > 0 and not structural_types):
        raise ValueError(f"structural types {sorted(structural_types)}; known are {EDITS}")
    length = len(codes)
    n_edits = generator.poisson(structural_rate * length / EDIT_SPAN)
    sequence = codes if following is None else np.concatenate([codes, following])
    for _ in range(n_edits):
        kind = structural_types[int(generator.integers(len(structural_types)))]
        size = int(generator.integers(1, structural_max + 1))
        start = int(generator.integers(max(1, length - size + 1)))
        sequence = _edit(sequence, kind, start, size, generator)
    padding = np.full(max(0, length - len(sequence)), UNKNOWN_BASE, dtype=np.uint8)
    sequence = np.concatenate([sequence[:length], padding])
    hit = (generator.random(length) < rate) & (sequence != UNKNOWN_BASE)
    return np.where(hit, generator.integers(0, 4, length, dtype=np.uint8), sequence)


def _edit(
    sequence: np.ndarray, kind: str, start: int, size: int, generator: np.random.Generator
) -> np.ndarray:
    left, middle, right = np.split(sequence, [start, start + size])
    if kind == "insertion":
        inserted = generator.integers(0, 4, size, dtype=np.uint8)
        return np.concatenate([left, inserted, middle, right])
    if kind == "deletion":
        return np.concatenate([left, right])
    return np.concatenate([left, reverse_complement(middle), right])
