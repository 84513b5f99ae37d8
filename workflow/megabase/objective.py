"""What training minimises: the sum of all heads' losses, for teachers and students alike.

Targets come in the units of the tracks, measured or predicted by a teacher; predictions in scaled space.
Missing data is NaN in the targets and reaches neither a sum nor a gradient.
Source: AlphaGenome preprint, Methods, loss functions; heads are summed without further weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from megabase import losses
from megabase.model.alphagenome import Predictions
from megabase.model.even import even, even_key
from megabase.model.scaling import scale_targets, soft_clip, soft_unclip, unscale_predictions
from megabase.parallel import SINGLE, Layout
from megabase.spec import OUTPUTS, TOKEN, Kind, OutputType, SiteClass

__all__ = [
    "scale_targets", "soft_clip", "soft_unclip", "sum_tokens", "track_loss", "training_loss",
    "unscale_predictions",
]  # fmt: skip

JUNCTION_WEIGHT = 0.2
GENES = "genes"  # name of the gene loss among the parts
SPREAD = "spread"  # first part of the names of the losses of a variance output

Target = Tensor | Mapping[int, Tensor]


def sum_tokens(x: Tensor) -> Tensor:
    """[B, S, P] -> [B, T, P]: sums over 128 bases; a token with a missing base is missing."""
    return x.unflatten(1, (-1, TOKEN)).sum(2)


def target_at(target: Target, resolution: int, n: int) -> Tensor:
    """Target of n values a window at a resolution.

    A mapping {resolution: Tensor} is looked up; a tensor per base is summed to 128 bp if it must be.
    """
    found = target[resolution] if isinstance(target, Mapping) else target
    if found.shape[1] == n * resolution and resolution > 1:
        found = sum_tokens(found)
    if found.shape[1] != n:
        raise ValueError(f"target has {found.shape[1]} positions, predictions at {resolution} bp have {n}")
    return found


def track_loss(
    prediction: Mapping[str, Tensor],
    target: Target,
    channels: Tensor,
    *,
    output_type: OutputType,
    track_mean: Tensor,
    segment_bases: int,
    layout: Layout = SINGLE,
) -> Tensor:
    """Loss of one track output type over its resolutions.

    prediction: `scaled_{r}bp` [B, S / r, P]; channels bool [B, P]; track_mean [B, P]. A segment longer
    than the window is the window.
    """
    spec = OUTPUTS[output_type]
    total = channels.new_zeros((), dtype=torch.float32)
    for r in spec.resolutions:
        y_pred = prediction[f"scaled_{r}bp"]
        raw = target_at(target, r, y_pred.shape[1])
        y_true = scale_targets(raw.float(), track_mean[:, None], r, squash=spec.squash)
        mask = ~torch.isnan(raw) & channels[:, None]
        segment = min(segment_bases // r, y_pred.shape[1] * layout.sequence_ranks)
        total = total + losses.multinomial(
            y_true=y_true, y_pred=y_pred, mask=mask, segment=segment, layout=layout
        )
    return total


def gene_loss(
    prediction: Mapping[str, Tensor],
    target: Target,
    channels: Tensor,
    gene_masks: Mapping[str, Tensor],
    track_mean: Tensor,
    layout: Layout = SINGLE,
) -> Tensor:
    """RNA-seq over gene bodies at 1 bp (`losses.gene_tracks`).

    gene_masks: `bodies` bool [B, G, S] and `channels` bool [B, G, P], the tracks of each gene's strand.
    """
    y_pred = prediction["scaled_1bp"]
    raw = target_at(target, 1, y_pred.shape[1])
    return losses.gene_tracks(
        y_true=scale_targets(raw.float(), track_mean[:, None], 1, squash=True),
        y_pred=y_pred,
        mask=~torch.isnan(raw) & channels[:, None],
        bodies=gene_masks["bodies"],
        channels=gene_masks["channels"] & channels[:, None],
        layout=layout,
    )


def site_loss(
    prediction: Mapping[str, Tensor], target: Tensor, channels: Tensor, layout: Layout = SINGLE
) -> Tensor:
    """Splice-site classes: int64 [B, S] with -1 = unknown, or a teacher's probabilities [B, S, 5].

    channels: bool [B, 5], all False for an organism without annotated sites: what a teacher says of it
    was never trained, and is not learned.
    """
    logits = prediction["logits"]
    annotated = channels.all(-1)[:, None, None]
    if target.is_floating_point():
        mask = ~torch.isnan(target).any(-1, keepdim=True) & annotated
        return losses.cross_entropy_from_logits(y_true=target, y_pred=logits, mask=mask, layout=layout)
    known = target >= 0
    classes = F.one_hot(target.clamp_min(0).long(), len(SiteClass.NAMES)).float()
    mask = known[..., None] & annotated
    return losses.cross_entropy_from_logits(y_true=classes, y_pred=logits, mask=mask, layout=layout)


def dense_loss(
    kind: Kind,
    prediction: Mapping[str, Tensor],
    target: Tensor,
    channels: Tensor,
    layout: Layout = SINGLE,
) -> Tensor:
    """Contact maps, splice-site usage or junctions; channels bool [B, P], NaN = missing."""
    mask = ~torch.isnan(target)
    if kind is Kind.USAGE:
        mask = mask & channels[:, None]
        logits = prediction["logits"]
        return losses.binary_cross_entropy_from_logits(y_true=target, y_pred=logits, mask=mask, layout=layout)
    mask = mask & channels[:, None, None]
    y_pred = prediction["values"]
    if kind is Kind.CONTACTS:
        return losses.mse(y_true=target, y_pred=y_pred, mask=mask, layout=layout)
    mask = mask & prediction["mask"]
    return JUNCTION_WEIGHT * losses.junctions(y_true=target, y_pred=y_pred, mask=mask, layout=layout)


def spread_losses(
    predictions: Predictions,
    log_variances: Mapping[OutputType, Tensor],
    targets: Mapping[OutputType, Target],
    masks: Mapping[OutputType, Tensor],
    *,
    organism: Tensor,
    track_means: Mapping[OutputType, Tensor],
    layout: Layout = SINGLE,
) -> dict[str, Tensor]:
    """Parts `spread/{output type}`: what a variance output is trained by, float32 scalars.

    The Gaussian negative log likelihood of a teacher's prediction about the student's, both in the even
    space; the student's is detached, so that the variance alone is learned. log_variances: as
    `SpreadHeads.forward` gives them; the other arguments are those of `training_loss`.
    """
    parts: dict[str, Tensor] = {}
    for output, log_variance in log_variances.items():
        if output not in targets:
            continue
        spec, found = OUTPUTS[output], predictions[output]
        target, channels, mean = targets[output], masks[output], None
        if spec.kind is Kind.TRACKS:
            scaled = found[f"scaled_{TOKEN}bp"].detach().float()
            mean = track_means[output][organism][:, None]
            pred = unscale_predictions(scaled, mean, TOKEN, squash=spec.squash)
            target = target_at(target, TOKEN, scaled.shape[1])
        else:
            pred = found[even_key(output)].detach()
        mask = ~torch.isnan(target)
        if spec.kind is Kind.SITES:
            mask = mask & channels.all(-1)[:, None, None]
        else:
            mask = mask & channels.view(len(channels), *[1] * (target.ndim - 2), -1)
        if spec.kind is Kind.JUNCTIONS:
            mask = mask & found["mask"]
        parts[f"{SPREAD}/{output}"] = losses.gaussian(
            y_true=even(output, target, mean), y_pred=even(output, pred, mean), log_variance=log_variance,
            mask=mask, layout=layout,
        )  # fmt: skip
    return parts


def training_loss(
    predictions: Predictions,
    targets: Mapping[OutputType, Target],
    masks: Mapping[OutputType, Tensor],
    *,
    organism: Tensor,
    track_means: Mapping[OutputType, Tensor],
    segment_bases: int = 131_072,
    gene_loss_weight: float = 0.0,
    gene_masks: Mapping[str, Tensor] | None = None,
    weights: Mapping[str, float] | None = None,
    layout: Layout = SINGLE,
) -> tuple[Tensor, dict[str, Tensor]]:
    """(loss, its parts by output type, and `genes`), float32 scalars; the loss is the sum of the parts.

    predictions: as `AlphaGenome.forward` gives them. targets: in the units of the tracks. Track outputs
    are [B, S, P] per base (ChIP: [B, T, P] sums over 128), or {1: [B, S, P], 128: [B, T, P]} where the
    resolutions have targets of their own (a teacher's). Contact maps [B, Q, Q, P]; splice sites int64
    [B, S] (-1 unknown) or probabilities [B, S, 5]; usage [B, S, P]; junctions [B, K, K, P] at the positions
    of the prediction. masks: bool [B, P], channels that the example's organism has. organism: int64 [B].
    track_means: [n_organisms, P] by track output type. gene_masks: see `gene_loss`; without them, or with
    weight 0, there is no gene loss. Output types without a target are left out. weights: by output type,
    1 where not given (as published); the parts are returned without them. layout: with many ranks, tensors
    are this rank's rows and its part of the window (S, T and the first Q; junctions whole), and the loss is
    that of all of them together; either every rank has gene_masks or none has.
    """
    parts: dict[str, Tensor] = {}
    for output_type, prediction in predictions.items():
        if output_type not in targets:
            continue
        target, kind = targets[output_type], OUTPUTS[output_type].kind
        channels = masks.get(output_type)
        if kind is Kind.SITES:
            parts[str(output_type)] = site_loss(prediction, target, channels, layout)
        elif kind is not Kind.TRACKS:
            parts[str(output_type)] = dense_loss(kind, prediction, target, channels, layout)
        else:
            mean = track_means[output_type][organism]
            parts[str(output_type)] = track_loss(
                prediction, target, channels,
                output_type=output_type, track_mean=mean, segment_bases=segment_bases, layout=layout,
            )  # fmt: skip
            if output_type is OutputType.RNA_SEQ and gene_masks is not None and gene_loss_weight > 0:
                genes = gene_loss(prediction, target, channels, gene_masks, mean, layout)
                parts[GENES] = gene_loss_weight * genes
    if not parts:
        raise ValueError(f"no target for any of the predictions {[str(o) for o in predictions]}")
    weighted = [part * (weights or {}).get(name, 1.0) for name, part in parts.items()]
    return torch.stack(weighted).sum(), parts
