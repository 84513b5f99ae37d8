"""The closed formula of operations is what torch counts on the network, part by part and in training."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from megabase.model import AlphaGenome, Sizes
from megabase.model.flops import forward_flop, forward_parts, read_flop, training_flop
from megabase.model.partial import FinestHeads, embed_part, plan_decoder
from megabase.predictors.windows import decoded_bases
from megabase.spec import OutputType

CHANNELS = {
    "rna_seq": 4, "cage": 4, "procap": 2, "dnase": 3, "atac": 3, "chip_histone": 2, "chip_tf": 2,
    "contact_maps": 2, "splice_sites": 5, "splice_site_usage": 4, "splice_junctions": 6,
}  # fmt: skip


def counted(sizes: Sizes, bases: int, sites: int, outputs: list[OutputType] | None = None) -> int:
    """What torch counts in a forward pass over one sequence, without computing it."""
    with torch.device("meta"):
        model = AlphaGenome(sizes, seed=None).eval()
        sequence, organism = torch.empty(1, bases, 4), torch.zeros(1, dtype=torch.int64)
    positions = torch.arange(sites, device="meta").expand(1, 4, sites)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(sequence, organism, outputs=outputs, splice_positions=positions)
    return counter.get_total_flops()


@pytest.fixture(autouse=True)
def all_sites_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network looks at the sites' values to leave out columns without any; the meta device has none."""
    monkeypatch.setattr("megabase.model.heads.without_padding", lambda positions: positions)


@pytest.mark.parametrize(("bases", "sites"), [(2048, 8), (16_384, 64), (131_072, 512)])
@pytest.mark.parametrize("preset", ["tiny", "small", "alphagenome"])
def test_the_formula_is_what_torch_counts(preset: str, bases: int, sites: int) -> None:
    sizes = Sizes.preset(preset, None if preset == "alphagenome" else CHANNELS)
    assert forward_flop(sizes, bases, sites=sites) == counted(sizes, bases, sites)


@pytest.mark.parametrize("resolution", [2, 64, 128])
def test_a_coarser_decoder_is_what_torch_counts(resolution: int) -> None:
    sizes = Sizes.preset("tiny", CHANNELS, resolution=resolution)
    assert forward_flop(sizes, 4096, sites=8) == counted(sizes, 4096, 8)


@pytest.mark.parametrize(
    "outputs",
    [["chip_tf"], ["contact_maps"], ["dnase", "contact_maps"], ["splice_sites", "splice_junctions"]],
)
def test_chosen_outputs_are_what_torch_counts(outputs: list[str]) -> None:
    chosen = [OutputType(o) for o in outputs]
    sizes = Sizes.preset("tiny", CHANNELS, tower_blocks=4, pair_mlp_ratio=3, mlp_ratio=5)
    assert forward_flop(sizes, 4096, chosen, 16) == counted(sizes, 4096, 16, chosen)


def test_the_published_network_needs_what_is_known_of_it() -> None:
    sizes = Sizes.preset("alphagenome")
    assert forward_flop(sizes, 1_048_576) == counted(sizes, 1_048_576, 512) == pytest.approx(77e12, rel=0.03)
    assert forward_flop(sizes, 131_072, sites=0) == pytest.approx(8.9e12, rel=0.01)


def test_a_training_step_is_three_passes_and_what_is_computed_again() -> None:
    sizes = Sizes.preset("tiny", CHANNELS, dropout=0.0)
    once = forward_flop(sizes, 4096, sites=8)
    assert training_flop(sizes, 4096, 8) == 3 * once
    levels = {part.level for part in forward_parts(sizes, 4096)}
    assert {0, 1, 2, 4, 8, 16, 32, 64, 128} <= levels
    steps = [training_flop(sizes, 4096, 8, recompute_bases=r) for r in (0, 1, 2, 64, 128)]
    assert steps == sorted(set(steps)) and steps[-1] > 3.99 * once


@pytest.mark.parametrize("recompute", [0, 1, 16, 128])
def test_a_step_is_what_torch_counts(recompute: int) -> None:
    sizes = Sizes.preset("tiny", {"chip_tf": 2, "atac": 3}, dropout=0.0)
    model = AlphaGenome(sizes).train()
    model.recompute(recompute)
    sequence, organism = torch.rand(1, 2048, 4, requires_grad=True), torch.zeros(1, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        found = model(sequence, organism)
        sum(v.sum() for values in found.values() for v in values.values()).backward()
    once, told = forward_flop(sizes, 2048), training_flop(sizes, 2048, recompute_bases=recompute)
    count = counter.get_total_flops()  # row attention repeats a little of itself for its gradient
    if recompute:  # and torch may stop the repetition of a block before its last product, which nothing needs
        assert 3 * once < count <= 1.005 * told
    else:
        assert told == 3 * once
        assert count == pytest.approx(told, rel=0.005)


def test_a_window_that_no_network_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="1000 bases; wanted a multiple of 2048"):
        forward_flop(Sizes.preset("tiny", CHANNELS), 1000)


def test_no_torch_is_needed() -> None:
    code = "import sys; import megabase.model.flops; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_work_of_a_whole_window_is_a_forward_pass_less_what_is_not_read() -> None:
    """Reading everything everywhere costs what a pass costs, less the coarse half of heads with two."""
    sizes, bases = Sizes.preset("tiny", {"dnase": 3, "chip_tf": 2, "contact_maps": 2}), 8192
    whole = {part.name: part.flop for part in forward_parts(sizes, bases)}
    work = {name: bases for name in whole if name.startswith(("decoder", "output", "head"))}
    found = read_flop(
        sizes, bases, work | {"encoder": bases, "skips": bases, "tower": 1, "last block": bases}
    )
    coarse = 2 * (bases // 128) * sizes.embedding_128bp * 3
    assert found == pytest.approx(sum(whole.values()) - coarse, rel=1e-6)
    assert read_flop(sizes, bases, {"tower": 3}) == 3 * read_flop(sizes, bases, {"tower": 1})
    with pytest.raises(ValueError, match="no part"):
        read_flop(sizes, bases, {"decoder": 1})


@pytest.mark.parametrize("span", [(1000, 1501), (0, 8192)])
def test_counted_work_is_what_torch_multiplies(span) -> None:
    """The decoder, embedders and heads of a span, against torch's own count."""
    sizes, window = Sizes.preset("tiny", {"dnase": 3, "cage": 5}), 8192
    model = AlphaGenome(sizes).eval().requires_grad_(False)
    plan = plan_decoder(sizes, *span, window)
    tokens = torch.zeros(1, plan.tokens[1] - plan.tokens[0], sizes.trunk)
    seen = [torch.zeros(1, sizes.stage_channels(i), tokens.shape[1] * (128 >> i)) for i in range(7)]
    index = torch.zeros(1, dtype=torch.int64)
    outputs = [OutputType.DNASE, OutputType.CAGE]
    with FlopCounterMode(display=False) as counter:
        skips = model.sequence_decoder.adapt(seen)
        x = embed_part(model, plan, tokens, skips, index)
        FinestHeads(model, 0, {}).predict(x, outputs)
    work = (
        {"skips": tokens.shape[1] * 128}
        | decoded_bases(sizes, plan)
        | {f"head {o}": span[1] - span[0] for o in outputs}
    )
    assert read_flop(sizes, window, work) == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("bins", [[[0, 2], [1, 3]], [[0, 1, 2, 3]]])
def test_counted_towers_are_what_torch_multiplies(bins) -> None:
    """Also where the last block computes some tokens only."""
    sizes, window = Sizes.preset("tiny", {"dnase": 3}), 8192
    model = AlphaGenome(sizes).eval().requires_grad_(False)
    chosen = torch.tensor(bins)
    index = torch.zeros(len(chosen), dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model.transform(torch.zeros(len(chosen), sizes.trunk, window // 128), index, chosen)
    work = {"tower": len(chosen), "last block": chosen.numel() * 2048}
    assert read_flop(sizes, window, work) == pytest.approx(counter.get_total_flops(), rel=0.01)
