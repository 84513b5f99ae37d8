"""Parts of a forward pass are the whole pass, cut."""

from __future__ import annotations

import pytest
import torch

from megabase.model import AlphaGenome, Sizes
from megabase.model.partial import (
    ENCODER_MARGIN,
    ENCODER_REACH,
    FinestHeads,
    contact_columns,
    cut_skips,
    decode_part,
    embed_part,
    encode_part,
    plan_decoder,
    predict_contacts,
)
from megabase.model.sizes import PUBLISHED_CHANNELS
from megabase.sequence import one_hot
from megabase.spec import OUTPUTS, OutputType

WINDOW = 8192
SPANS = [(0, 1), (0, 640), (130, 131), (1000, 1501), (3967, 4097), (5000, 8192), (8191, 8192), (0, 8192)]
CHANNELS = {o.value: min(n, 6) for o, n in PUBLISHED_CHANNELS.items()}


def _model(**changes: int) -> AlphaGenome:
    model = AlphaGenome(Sizes.preset("tiny", CHANNELS, **changes), seed=3).eval().requires_grad_(False)
    model.keep_constants()
    return model


@pytest.fixture(scope="module")
def model() -> AlphaGenome:
    return _model()


@pytest.fixture(scope="module")
def codes() -> torch.Tensor:
    found = torch.randint(0, 4, (2, WINDOW), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    found[0, 2000:2300] = 4
    return found


@pytest.fixture(scope="module")
def whole(model, codes):
    with torch.inference_mode():
        tokens, skips = model.encode(one_hot(codes))
        organism = torch.tensor([0, 1])
        tower, pair = model.transform(tokens, organism)
        kept = model.embed_outputs(tower, pair, skips, organism, model.sizes.outputs())
        positions = torch.tensor([[[100, 900]] * 4] * 2)
        raw = model.predict_heads(kept, organism, model.sizes.outputs(), positions)
        return tokens, skips, tower, pair, kept, model.unscale(raw, organism), organism


def _close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert found.shape == wanted.shape
    scale = float(wanted.abs().max()) or 1.0
    assert float((found - wanted).abs().max()) <= 2e-6 * scale


def test_a_token_sees_as_far_as_is_said(model, codes) -> None:
    assert ENCODER_REACH == 513  # facts of the published network
    with torch.inference_mode():
        before = model.encode(one_hot(codes[:1]))[0][0]
        for distance, changes in ((ENCODER_REACH, True), (ENCODER_REACH + 1, False)):
            changed = codes[:1].clone()
            place = 30 * 128 - distance
            changed[0, place] = (changed[0, place] + 1) % 4
            after = model.encode(one_hot(changed))[0][0]
            assert bool((after[:, 30] != before[:, 30]).any()) is changes


@pytest.mark.parametrize(("first", "last"), [(0, 3), (0, 64), (7, 8), (20, 41), (60, 64), (2, 62)])
@torch.inference_mode()
def test_a_part_is_encoded_as_in_the_window(model, codes, whole, first, last) -> None:
    tokens, skips = whole[:2]
    before, after = min(first, ENCODER_MARGIN), min(64 - last, ENCODER_MARGIN)
    part = one_hot(codes[:, (first - before) * 128 : (last + after) * 128])
    found = encode_part(model, part, before, after)
    _close(found.tokens, tokens[..., first:last])
    assert encode_part(model, part, before, after, skips=False).skips == []
    for level, (mine, theirs) in enumerate(
        zip(found.skips, model.sequence_decoder.adapt(skips), strict=True)
    ):
        _close(mine, theirs[..., first * (128 >> level) : last * (128 >> level)])


@pytest.mark.parametrize("span", SPANS)
@torch.inference_mode()
def test_a_span_is_decoded_and_embedded_as_in_the_window(model, whole, span) -> None:
    _, skips, tower, _, kept, _, organism = whole
    plan = plan_decoder(model.sizes, *span, WINDOW)
    first, last = plan.tokens
    part = cut_skips(model.sequence_decoder.adapt(skips), first, last)
    found = embed_part(model, plan, tower[:, first:last], part, organism)
    _close(found, kept.bp1[:, span[0] : span[1]])
    computed = sum(b - a for a, b in plan.ranges[-1:])
    assert computed <= span[1] - span[0] + 8  # no more of the finest level than it needs


@pytest.mark.parametrize("resolution", [2, 16, 128])
@torch.inference_mode()
def test_coarser_decoders_too(codes, resolution) -> None:
    model = _model(resolution=resolution)
    organism = torch.tensor([0, 1])
    tokens, skips = model.encode(one_hot(codes))
    tower, pair = model.transform(tokens, organism)
    wanted = model.embed_outputs(tower, pair, skips, organism, [OutputType.DNASE]).bp1
    for span in SPANS:
        plan = plan_decoder(model.sizes, *span, WINDOW)
        first, last = plan.tokens
        part = cut_skips(model.sequence_decoder.adapt(skips), first, last)
        found = embed_part(model, plan, tower[:, first:last], part, organism)
        _close(found, wanted[:, span[0] : span[1]])
        assert decode_part(model, plan, tower[:, first:last], part).shape[-1] == (
            plan.ranges[-1][1] - plan.ranges[-1][0]
        )


@torch.inference_mode()
def test_the_last_block_of_the_tower_for_some_bins(model, whole) -> None:
    """The tokens of these bins are those of the whole pass, the pair tensor too; the others are unknown."""
    tokens, _, tower, pair, *_, organism = whole
    bins = torch.tensor([[0, 2], [1, 3]])
    found, same = model.transform(tokens, organism, bins)
    _close(same, pair)
    for row in range(2):
        for b in range(4):
            part = found[row, 16 * b : 16 * b + 16]
            if b in bins[row]:
                _close(part, tower[row, 16 * b : 16 * b + 16])
            else:
                assert bool(part.isnan().all())


@torch.inference_mode()
def test_heads_at_their_finest_resolution(model, whole) -> None:
    *_, kept, predictions, organism = whole
    some = {OutputType.DNASE: torch.tensor([1, 4]), OutputType.CHIP_TF: torch.tensor([0, 5])}
    for resolution, x in ((1, kept.bp1[:, 500:900]), (128, kept.bp128[:, 3:9])):
        skipped = (OutputType.SPLICE_JUNCTIONS, OutputType.CONTACT_MAPS)
        outputs = [o for o in OUTPUTS if OUTPUTS[o].resolutions[0] == resolution and o not in skipped]
        alone = [FinestHeads(model, int(i), some).predict(x[i : i + 1], outputs) for i in organism]
        found = {output: torch.cat([one[output] for one in alone]) for output in outputs}
        for output, values in found.items():
            key = f"{resolution}bp" if f"{resolution}bp" in predictions[output] else "probabilities"
            wanted = (
                predictions[output][key][:, 500:900] if resolution == 1 else predictions[output][key][:, 3:9]
            )
            _close(values, wanted[..., some[output]] if output in some else wanted)


@torch.inference_mode()
def test_columns_of_a_contact_map(model, whole) -> None:
    pair, predictions, organism = whole[3], whole[5], whole[6]
    for row in range(2):
        columns = contact_columns(model, pair[row], [0, 2])
        found = predict_contacts(model, columns, organism[row : row + 1])
        wanted = predictions[OutputType.CONTACT_MAPS]["values"][row][:, [0, 2]].transpose(0, 1)
        _close(found, wanted)


def test_a_span_outside_the_window_is_refused(model) -> None:
    with pytest.raises(ValueError, match="not in a window"):
        plan_decoder(model.sizes, 8000, 8200, WINDOW)


def test_shapes_of_plans_tell_what_makes_a_batch(model) -> None:
    a = plan_decoder(model.sizes, 3000, 3501, WINDOW)
    assert a.shape == plan_decoder(model.sizes, 3128, 3629, WINDOW).shape
    assert a.shape != plan_decoder(model.sizes, 3001, 3502, WINDOW).shape
