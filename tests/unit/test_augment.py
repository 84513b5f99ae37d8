"""The other strand and mutated sequences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from megabase.augment import (
    mutate,
    reverse_complement_batch,
    reverse_complement_predictions,
    reverse_junctions,
    reverse_positions,
    reverse_sites,
    reverse_tracks,
    reverse_usage,
    swap_halves,
)
from megabase.model import AlphaGenome, Sizes
from megabase.seeds import generator
from megabase.sequence import decode, encode, one_hot
from megabase.spec import OUTPUTS, TRACK_OUTPUTS, OutputType, SiteClass

S, Q, K = 4096, 2, 4
CHANNELS = {
    "rna_seq": 4, "cage": 4, "procap": 2, "dnase": 3, "atac": 3, "chip_histone": 2, "chip_tf": 2,
    "contact_maps": 2, "splice_sites": 5, "splice_site_usage": 4, "splice_junctions": 4,
}  # fmt: skip
ORGANISM = torch.tensor([0, 1])
PARTNERS = {o: torch.arange(CHANNELS[o]).expand(2, -1).clone() for o in TRACK_OUTPUTS}
PARTNERS[OutputType.RNA_SEQ] = torch.tensor([[1, 0, 2, 3], [0, 1, 3, 2]])  # differs by organism
PARTNERS[OutputType.CAGE] = torch.tensor([[1, 0, 3, 2]]).expand(2, -1).clone()
POSITIONS = torch.tensor(
    [
        [[5, 90, 400, -1], [7, 1000, -1, -1], [11, -1, -1, -1], [30, 60, -1, -1]],
        [[-1, -1, -1, -1], [0, 4095, -1, -1], [1, 2, 3, 4], [-1, -1, -1, -1]],
    ]
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def make_batch() -> dict:
    targets: dict = {}
    for i, output_type in enumerate(TRACK_OUTPUTS):
        n = S // OUTPUTS[output_type].resolutions[0]
        targets[output_type] = noise(2, n, CHANNELS[output_type], seed=i)
    targets[OutputType.CONTACT_MAPS] = noise(2, Q, Q, 2)
    targets[OutputType.SPLICE_SITES] = torch.arange(2 * S).view(2, S) % 6 - 1
    targets[OutputType.SPLICE_SITE_USAGE] = noise(2, S, 4)
    targets["splice_positions"] = POSITIONS
    real = POSITIONS >= 0
    plus, minus = real[:, 0, :, None] & real[:, 1, None], real[:, 2, :, None] & real[:, 3, None]
    counts = noise(2, K, K, 4)
    targets[OutputType.SPLICE_JUNCTIONS] = counts * torch.stack([plus, plus, minus, minus], -1)
    masks = {OutputType(o): noise(2, p, seed=7) < 0.7 for o, p in CHANNELS.items()}
    codes = torch.randint(0, 5, (2, S), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    genes = {"bodies": noise(2, 3, S) < 0.5, "channels": noise(2, 3, 4) < 0.5}
    return {"sequence": codes, "organism": ORGANISM, "targets": targets, "masks": masks, "gene_masks": genes}


def leaves(value: object, name: str = "") -> dict[str, Tensor]:
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in leaves(part, f"{name}/{key}").items()}
    return {name: value}


def test_twice_is_the_identity_for_every_output() -> None:
    batch = make_batch()
    once = reverse_complement_batch(batch, PARTNERS)
    back, first, wanted = leaves(reverse_complement_batch(once, PARTNERS)), leaves(once), leaves(batch)
    assert set(back) == set(wanted)
    for name, value in wanted.items():
        if name == "/targets/dnase":  # the base that has no counterpart is missing afterwards
            assert torch.isnan(back[name][:, 0]).all()
            assert torch.equal(back[name][:, 1:], value[:, 1:])
        else:
            assert torch.equal(back[name], value), name
        if name not in ("/organism", "/masks/contact_maps", "/masks/splice_sites"):
            assert first[name].shape == value.shape
    changed = {k for k in first if not torch.equal(first[k], wanted[k])}
    assert {f"/targets/{o}" for o in OutputType} <= changed
    assert {"/sequence", "/gene_masks/bodies", "/gene_masks/channels"} <= changed


def test_only_chosen_examples_are_turned() -> None:
    batch = make_batch()
    turned, all_turned = (
        leaves(reverse_complement_batch(batch, PARTNERS, where=where))
        for where in (torch.tensor([False, True]), None)
    )
    for name, value in leaves(batch).items():
        torch.testing.assert_close(turned[name][0], value[0], equal_nan=True)
        torch.testing.assert_close(turned[name][1], all_turned[name][1], equal_nan=True)


def test_the_input_batch_is_left_as_it_was() -> None:
    batch, untouched = make_batch(), leaves(make_batch())
    reverse_complement_batch(batch, PARTNERS)
    assert all(torch.equal(v, untouched[k]) for k, v in leaves(batch).items())


def test_strand_partners_are_those_of_the_organism() -> None:
    x = torch.arange(8.0).view(1, 2, 4).repeat(2, 1, 1)
    turned = reverse_tracks(x, PARTNERS[OutputType.RNA_SEQ][ORGANISM])
    assert turned[0, 0].tolist() == [5, 4, 6, 7] and turned[1, 0].tolist() == [4, 5, 7, 6]


def test_a_cut_between_two_bases_is_the_same_cut_from_both_strands() -> None:
    """A cut counted at base i is left of i; seen from the other strand the same gap is left of S - i."""
    x = torch.zeros(1, 8, 1)
    x[0, 3] = 1
    turned = reverse_tracks(x, torch.zeros(1, 1, dtype=torch.long), shift=1)
    assert torch.isnan(turned[0, 0, 0]) and turned[0, 5, 0] == 1 and turned[0, 1:].sum() == 1


def test_sites_swap_strand_and_keep_what_is_unknown() -> None:
    classes = torch.tensor([[0, 1, 2, 3, 4, -1]])
    assert reverse_sites(classes).tolist() == [[-1, 4, 1, 0, 3, 2]]
    one = torch.nn.functional.one_hot(classes.clamp_min(0), 5).float()
    assert torch.equal(reverse_sites(one).argmax(-1)[0, 1:], reverse_sites(classes)[0, 1:])


def test_usage_swaps_halves() -> None:
    x = torch.arange(8.0).view(1, 2, 4)
    assert reverse_usage(x).tolist() == [[[6, 7, 4, 5], [2, 3, 0, 1]]]
    assert torch.equal(swap_halves(swap_halves(x)), x)


def test_positions_are_mirrored_sorted_and_padded_last() -> None:
    found, _ = reverse_positions(POSITIONS, S)
    assert found[0].tolist() == [
        [4084, -1, -1, -1], [4035, 4065, -1, -1], [3695, 4005, 4090, -1], [3095, 4088, -1, -1],
    ]  # fmt: skip
    assert found[1].tolist() == [[4091, 4092, 4093, 4094], [-1] * 4, [-1] * 4, [0, 4095, -1, -1]]


def test_every_junction_keeps_its_count_under_its_new_name() -> None:
    counts = make_batch()["targets"][OutputType.SPLICE_JUNCTIONS]

    def table(values: Tensor, positions: Tensor, b: int) -> dict[tuple[int, int, int, int], float]:
        found = {}
        for strand, donor in enumerate((SiteClass.DONOR_PLUS, SiteClass.DONOR_MINUS)):
            for i, d in enumerate(positions[b, donor].tolist()):
                for j, a in enumerate(positions[b, donor + 1].tolist()):
                    for t in range(2):
                        if d >= 0 and a >= 0:
                            found[(strand, d, a, t)] = values[b, i, j, 2 * strand + t].item()
        return found

    turned, positions = reverse_junctions(counts, POSITIONS, S)
    for b in range(2):
        before = table(counts, POSITIONS, b)
        mirrored = {(1 - s, S - 1 - d, S - 1 - a, t): v for (s, d, a, t), v in before.items()}
        assert table(turned, positions, b) == mirrored
        assert (len(before) > 0) == (b == 0)


@torch.no_grad()
def test_predictions_of_the_other_strand_come_back() -> None:
    """Turned twice, a model's predictions are themselves (but for the base a cut track loses)."""
    sizes = Sizes.preset("tiny", CHANNELS, channels_step=4, max_sites=K, site_threshold=0.0)
    model = AlphaGenome(sizes).eval()
    predictions = model.unscale(model(one_hot(make_batch()["sequence"]), ORGANISM), ORGANISM)
    once = reverse_complement_predictions(predictions, ORGANISM, PARTNERS, S)
    twice = reverse_complement_predictions(once, ORGANISM, PARTNERS, S)
    for output_type, values in predictions.items():
        assert set(once[output_type]) == set(values)
        for key, value in values.items():
            back = twice[output_type][key]
            if output_type is OutputType.DNASE and key.endswith("1bp"):
                assert (back[:, 0] == 0).all()
                back, value = back[:, 1:], value[:, 1:]
            assert torch.equal(back, value), (output_type, key)


def codes(length: int = 5000) -> np.ndarray:
    return generator(0, "test").integers(0, 4, length, dtype=np.uint8)


def test_substitution_rate_counts_draws_that_change_nothing() -> None:
    x = codes(200_000)
    y = mutate(x, generator(1, "a"), rate=0.04)
    assert (x != y).mean() == pytest.approx(0.03, abs=0.002) and y.max() < 4
    assert np.array_equal(x, codes(200_000))
    assert np.array_equal(mutate(x, generator(1, "a"), rate=0.0), x)


def test_mutation_is_a_function_of_the_generator() -> None:
    settings = {"rate": 0.04, "structural_rate": 2000.0}
    first, again, other = (mutate(codes(), generator(1, n), **settings) for n in ("a", "a", "b"))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_unknown_bases_stay_unknown() -> None:
    x = codes()
    x[1000:1400] = 4
    y = mutate(x, generator(2, "n"), rate=1.0)
    assert np.array_equal(y == 4, x == 4)


@pytest.mark.parametrize("kind", ["insertion", "deletion", "inversion"])
def test_one_structural_edit_keeps_the_flanks(kind: str) -> None:
    """Drawn until there is exactly one edit; the text left and right of it is found again."""
    x = codes()
    following = generator(3, "right").integers(0, 4, 50, dtype=np.uint8)
    settings = {"rate": 0.0, "structural_rate": 100.0, "structural_types": [kind], "structural_max": 20}
    edited = [mutate(x, generator(i, kind), following=following, **settings) for i in range(20)]
    single = [i for i in range(20) if generator(i, kind).poisson(100 * 5000 / (1 << 20)) == 1]
    assert single
    for i in single:
        y = edited[i]
        assert len(y) == len(x) and not np.array_equal(x, y)
        start = int(np.flatnonzero(x != y)[0])
        text, after = decode(np.concatenate([x, following])), decode(y)
        tail = after[start + 20 :]
        assert text[:start] == after[:start]
        shifts = {"insertion": range(-20, 0), "deletion": range(1, 21), "inversion": range(1)}[kind]
        assert any(text[start + 20 + d :].startswith(tail) for d in shifts)


def test_edits_come_at_the_rate_and_length_that_are_asked() -> None:
    x = np.zeros(1 << 18, dtype=np.uint8)
    lost = [
        int(
            (
                mutate(x, generator(i, "d"), rate=0.0, structural_rate=8.0, structural_types=["deletion"])
                == 4
            ).sum()
        )
        for i in range(200)
    ]  # two deletions of 10.5 bases each, on average, refilled with N
    assert np.mean(lost) == pytest.approx(21, abs=3)
    assert min(lost) == 0


def test_inversion_is_the_reverse_complement_in_place() -> None:
    x = encode("A" * 4096)
    y = mutate(
        x,
        generator(5, "i"),
        rate=0.0,
        structural_rate=2000.0,
        structural_types=["inversion"],
        structural_max=9,
    )
    assert set(decode(y)) == {"A", "T"}
    assert all(1 <= len(run) for run in decode(y).replace("A", " ").split())


def test_unknown_edits_are_refused() -> None:
    with pytest.raises(ValueError, match="translocation"):
        mutate(codes(), generator(0), rate=0.1, structural_types=["translocation"])
    with pytest.raises(ValueError, match="known are"):
        mutate(codes(), generator(0), rate=0.1, structural_rate=1.0, structural_types=[])
