"""One optimizer step: schedule, loss, gradient, AdamW. Torch only; part of the numerical core.

Bytes: with the same inputs, settings, seed, thread count and kind of machine, a step gives the same to the
last bit. (A different number of threads may split sums at other places.) Dropout masks are named by the
step (and rank), so that a resumed run draws what it would have drawn. With many ranks (the model's
layout), all compute one loss of the whole batch and take the same step.
Optimiser: AdamW (0.9, 0.999, 1e-8) with decoupled weight decay on every parameter, norms and biases too; the
publication names no exception. Schedule: linear warm-up, optional constant, cosine to 0.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from megabase.memory import give_back_holes
from megabase.model.recompute import again
from megabase.objective import SPREAD, spread_losses, training_loss
from megabase.parallel import SINGLE, Layout, sum_gradients
from megabase.seeds import torch_generator
from megabase.sequence import one_hot
from megabase.spec import TRACK_OUTPUTS, OutputType

if TYPE_CHECKING:
    from megabase.batches import Batch
    from megabase.model import AlphaGenome
    from megabase.model.alphagenome import Embeddings, Predictions
    from megabase.settings.training import TrainSettings


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Rate of `step` (0-based): linear up to the peak, constant, then a half cosine towards 0."""
    warmup, constant = settings.warmup_steps, settings.constant_steps
    if step < warmup:
        return settings.peak_rate * (step + 1) / warmup
    decay = settings.steps - warmup - constant
    done = step - warmup - constant
    if done <= 0 or decay <= 0:
        return settings.peak_rate
    return settings.peak_rate * 0.5 * (1 + math.cos(math.pi * done / decay))


def check_schedule(settings: TrainSettings) -> None:
    """ValueError when warm-up and constant phase do not fit into the steps."""
    phases = settings.warmup_steps + settings.constant_steps
    if phases > settings.steps:
        raise ValueError(
            f"training: warmup_steps {settings.warmup_steps} + constant_steps {settings.constant_steps} "
            f"= {phases} exceed steps {settings.steps}; lower them or train longer"
        )


@contextmanager
def repeatable(threads: int | None = None) -> Iterator[None]:
    """Deterministic kernels, and `threads` intra-operation threads if given, for the time of the block."""
    before, count = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs a twentieth; nothing reads it
    if threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.set_num_threads(count)


def make_optimizer(model: AlphaGenome, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW over all parameters that are trained."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    decay = settings.weight_decay
    return torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay, fused=True)


def dense_genes(batch: Batch, layout: Layout = SINGLE) -> dict[str, Tensor] | None:
    """Gene masks of the objective: `bodies` bool [B, G, S], `channels` bool [B, G, P]; None without genes.

    With many ranks, one without genes gets a gene that is not there if another has some: all ranks must
    take part in the sums of the gene loss, or none.
    """
    genes, device = batch.gene_masks, batch.sequence.device
    if not layout.single and OutputType.RNA_SEQ in batch.masks:
        some = layout.maximum(torch.tensor(int(bool(genes)), device=device))
        if some and not genes:
            none = torch.full((len(batch.sequence), 1, 2), -1, device=device)
            genes = {"spans": none, "channels": torch.zeros_like(batch.masks[OutputType.RNA_SEQ])[:, None]}
    if not genes:
        return None
    place = torch.arange(batch.sequence.shape[1], device=device) + batch.first_base
    start, end = genes["spans"].unbind(-1)
    bodies = (place >= start[..., None]) & (place < end[..., None])
    return {"bodies": bodies, "channels": genes["channels"]}


def shaping_outputs(outputs: list[OutputType], settings: TrainSettings) -> list[OutputType]:
    """Of a model's output types, those whose losses train what comes before the heads.

    ValueError if `trunk_outputs` names some, and the model has none of them: nothing but heads would learn.
    """
    chosen = [o for o in outputs if not settings.trunk_outputs or o in settings.trunk_outputs]
    if not chosen:
        raise ValueError(
            f"train.trunk_outputs names {', '.join(settings.trunk_outputs)}, and the model has heads for "
            f"{', '.join(outputs)} only; name one of these"
        )
    return chosen


def batch_loss(model: AlphaGenome, batch: Batch, settings: TrainSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """Total loss, and the loss of every head, of one batch that is on the model's device.

    With many ranks: of their batches together; every rank gets the same. The losses of a variance output are
    among the parts, in training, and not in the total: it compares with that of a model without one.
    """
    sequence = one_hot(batch.sequence).to(getattr(torch, settings.precision))
    positions = batch.targets.get("splice_positions")
    outputs = model.sizes.outputs()
    loss_of = partial(
        training_loss, targets=batch.targets, masks=batch.masks, organism=batch.organism,
        track_means={o: model.track_mean(o) for o in outputs if o in TRACK_OUTPUTS},
        segment_bases=settings.segment_bases, gene_loss_weight=settings.gene_loss_weight,
        gene_masks=dense_genes(batch, model.layout) if settings.gene_loss_weight > 0 else None,
        weights=settings.loss_weights, layout=model.layout,
    )  # fmt: skip
    spread = model.sizes.spread and model.training
    model.recompute(settings.recompute_bases)
    model.compile_attention(settings.compile)
    shaping = shaping_outputs(outputs, settings)

    def predictions(embeddings: Embeddings, wanted: Iterable[OutputType]) -> Predictions:
        found: Predictions = {}
        for seen, part in (
            (embeddings, [o for o in wanted if o in shaping]),
            (embeddings.detach(), [o for o in wanted if o not in shaping]),
        ):
            found |= model.predict_heads(seen, batch.organism, part, positions)
        return {o: found[o] for o in wanted}

    def head_loss(embeddings: Embeddings, *wanted: OutputType) -> tuple[Tensor, dict[str, Tensor]]:
        found = predictions(embeddings, wanted)
        loss, parts = loss_of(found)
        if spread:
            parts |= _spread_parts(model, embeddings, found, batch)
        return loss, parts

    wanted = [o for o in outputs if o in batch.targets]
    embeddings = model.embeddings(sequence, batch.organism, wanted)
    if not settings.recompute_bases:
        return head_loss(embeddings, *wanted)
    # Head by head, so that the predictions of one only are in memory, forwards and backwards.
    found = [again(head_loss, embeddings, output) for output in wanted]
    parts = {name: part for _, own in found for name, part in own.items()}
    return torch.stack([loss for loss, _ in found]).sum(), parts


def _spread_parts(
    model: AlphaGenome, embeddings: Embeddings, predictions: Predictions, batch: Batch
) -> dict[str, Tensor]:
    """Losses of the variance output for the heads that made the predictions."""
    positions = batch.targets.get("splice_positions")
    found = model.spread(embeddings, predictions, batch.organism, positions)
    means = {o: model.track_mean(o) for o in predictions if o in TRACK_OUTPUTS}
    return spread_losses(
        predictions, found, batch.targets, batch.masks,
        organism=batch.organism, track_means=means, layout=model.layout,
    )  # fmt: skip


def gradient_norm(parameters: Iterable[nn.Parameter], limit: float) -> float:
    """Global gradient norm; gradients are scaled down to `limit` where it is positive and exceeded."""
    parameters = [p for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
    if limit > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return float(norm)


def _require_finite(
    what: str, value: float, parts: dict[str, Tensor], batch: Batch, step: int, layout: Layout
) -> None:
    """ValueError that names the windows of all ranks; the value is the same on each, so all raise it."""
    if math.isfinite(value):
        return
    values = ", ".join(f"{name} {part.item():.4g}" for name, part in parts.items())
    own = [f"{i.chrom}:{i.start}-{i.end}" for i in batch.intervals]
    where = dict.fromkeys(name for names in layout.everyone(own) for name in names)
    raise ValueError(
        f"training step {step}: the {what} is {value} ({values}) on windows {', '.join(where)}; "
        "look at their tracks, or lower train.peak_rate or set train.clip_norm"
    )


def train_step(
    model: AlphaGenome,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    settings: TrainSettings,
    *,
    step: int,
    seed: int,
) -> dict[str, float]:
    """One optimizer step; returns the quantities of the loss curve.

    Dropout masks come from the generator named by seed and step, and rank if there are many. ValueError on
    a loss or gradient that is not finite, before any weight has changed.
    """
    layout = model.layout
    rank = () if layout.single else (layout.rank,)
    torch.manual_seed(torch_generator(seed, "dropout", step, *rank).initial_seed())
    rate = learning_rate(step, settings)
    for group in optimizer.param_groups:
        group["lr"] = rate
    model.train()
    optimizer.zero_grad(set_to_none=True)
    give_back_holes()
    loss, parts = batch_loss(model, batch, settings)
    _require_finite("loss", loss.item(), parts, batch, step, layout)
    spread = [part for name, part in parts.items() if name.startswith(f"{SPREAD}/")]
    if spread:
        _require_finite("loss of the spread", sum(spread).item(), parts, batch, step, layout)
    trained = loss + sum(spread) if spread else loss
    (trained if layout.single else trained / layout.ranks).backward()
    sum_gradients(model.parameters(), layout)
    norms = _gradient_norms(model, settings.clip_norm)
    for norm in norms.values():
        _require_finite("gradient norm", norm, parts, batch, step, layout)
    optimizer.step()
    losses = {f"loss/{name}": float(value.detach()) for name, value in parts.items()}
    return {"loss": float(loss.detach()), **losses, "learning_rate": rate, **norms}


def _gradient_norms(model: AlphaGenome, limit: float) -> dict[str, float]:
    """Gradient norms by quantity; a variance output has its own, so that it never slows what it describes."""
    if not model.sizes.spread:
        return {"gradient_norm": gradient_norm(model.parameters(), limit)}
    own = {id(p) for p in model.spread.parameters()}
    others = [p for p in model.parameters() if id(p) not in own]
    return {
        "gradient_norm": gradient_norm(others, limit),
        f"gradient_norm/{SPREAD}": gradient_norm(model.spread.parameters(), limit),
    }
