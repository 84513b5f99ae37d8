"""Batches: what they hold, that they repeat, and that both strands tell the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_stand_ins import LENGTH, ORGANISMS, TRACKS, WINDOW, fold_settings, make_world

from megabase.batches import Plan, Windows, collate, reverse_example
from megabase.channels import Channels, rows_by_output
from megabase.examples import read_example
from megabase.genome import Interval
from megabase.loading import read_ahead
from megabase.sequence import reverse_complement
from megabase.shards import PackedSignal
from megabase.spec import OutputType, SiteClass
from megabase.train import Setup, set_up

RNA, ATAC, CHIP = OutputType.RNA_SEQ, OutputType.ATAC, OutputType.CHIP_TF
USAGE, JUNCTIONS = OutputType.SPLICE_SITE_USAGE, OutputType.SPLICE_JUNCTIONS
PLAN = Plan(seed=3, batch_size=4, max_shift=128, reverse_complement=0.5, max_sites=16)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_world(tmp_path_factory.mktemp("batches"))


@pytest.fixture(scope="module")
def setup(world: dict[str, Any]) -> Setup:
    return set_up(**world, organisms=ORGANISMS, scheme="fold0", folds=fold_settings(), max_shift=128)


def _windows(setup: Setup, **changes: Any) -> Windows:
    return setup.windows("train", Plan(**{**vars(PLAN), **changes}))


def _same(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0, equal_nan=True)


def test_splits_share_no_base(setup: Setup) -> None:
    for organism in ORGANISMS:
        chroms = {split: {i.chrom for i in found[organism]} for split, found in setup.splits.items()}
        assert chroms == {"train": {"chr4"}, "valid": {"chr1"}, "test": {"chr3"}, "scheme": {"chr2"}}


def test_a_batch_depends_on_seed_and_step_alone(setup: Setup) -> None:
    a, b = _windows(setup), _windows(setup)
    b.batch(0)
    one, other = a.batch(7), b.batch(7)
    assert one.intervals == other.intervals
    torch.testing.assert_close(one.sequence, other.sequence)
    for part in ("targets", "masks", "gene_masks"):
        _same(getattr(one, part), getattr(other, part))
    assert a.draw(8) != a.draw(7)
    assert _windows(setup, seed=4).draw(7) != a.draw(7)


def test_draws_cover_shifts_strands_and_organisms(setup: Setup) -> None:
    rows = [row for step in range(200) for row in _windows(setup).draw(step)]
    shifts = {row[1].start % WINDOW for row in rows}
    assert {(s + 128) % WINDOW for s in shifts} <= set(range(257)) and len(shifts) > 200
    assert 0.4 < np.mean([row[2] for row in rows]) < 0.6
    assert 0.4 < np.mean([row[0] == "human" for row in rows]) < 0.6
    only = [row[0] for step in range(20) for row in _windows(setup, weights={"mouse": 1.0}).draw(step)]
    assert set(only) == {"mouse"}
    with pytest.raises(ValueError, match=r"organism_weights names \['rat'\]; organisms are"):
        _windows(setup, weights={"rat": 1.0})


def test_targets_are_the_store_in_padded_channels(setup: Setup) -> None:
    batch = _windows(setup, max_shift=0, reverse_complement=0.0, batch_size=6).batch(0)
    assert {int(o) for o in batch.organism} == {0, 1}
    for row, interval in enumerate(batch.intervals):
        source = setup.sources[int(batch.organism[row])]
        example = read_example(source, interval, max_sites=16)
        torch.testing.assert_close(batch.sequence[row], example.sequence)
        for output, width in setup.channels.widths.items():
            mask = batch.masks[output][row]
            assert mask.shape == (width,) and int(mask.sum()) == len(source.tracks.get(output, []))
            value = batch.targets[output][row]
            if output == OutputType.SPLICE_SITES:
                expected = example.targets.get(output, torch.full((WINDOW,), -1))
                torch.testing.assert_close(value, expected)
            elif output != JUNCTIONS and mask.any():
                torch.testing.assert_close(value[..., mask], example.targets[output], equal_nan=True)
                assert value[..., ~mask].isnan().all()
            elif output != JUNCTIONS:
                assert value.isnan().all()
    assert batch.targets[CHIP].shape[1] == WINDOW // 128


def test_missing_signal_is_nan_never_zero(world: dict[str, Any], setup: Setup) -> None:
    example = read_example(setup.sources[0], Interval("chr1", -512, WINDOW - 512), max_sites=16)
    signal = example.targets[RNA]
    missing = torch.zeros(WINDOW, dtype=torch.bool)
    missing[:512] = missing[612:1412] = True  # before the chromosome; the gap of the tracks at 100..900
    assert signal[missing].isnan().all() and not signal[~missing].isnan().any()
    assert example.targets[OutputType.SPLICE_SITES][:512].eq(-1).all()
    assert example.targets[USAGE][:512].isnan().all()
    assert example.sequence[:512].eq(4).all()
    assert example.targets[CHIP][:4].isnan().all() and not example.targets[CHIP][-1].isnan().any()


def test_genes_tell_their_strand(setup: Setup) -> None:
    source = setup.sources[0]
    example = read_example(source, Interval("chr4", 1000, 1000 + 3 * WINDOW), max_sites=16)
    assert example.genes.tolist()[0] == [1300, 2100, 1]  # [2300, 3100) on -; the + gene ends at 1000
    batch = collate([example], ["human"], setup.channels)
    channels = batch.gene_masks["channels"][0]
    strands = [row["strand"] for row in source.tracks[RNA]]
    assert channels[0].tolist() == [s in "-." for s in strands]
    assert channels[1].tolist() == [s in "+." for s in strands]
    spans = batch.gene_masks["spans"][0]
    assert spans.tolist()[1] == [4096 + 200 - 1000, 4096 + 1000 - 1000]


def test_twice_reversed_is_the_same(setup: Setup) -> None:
    source = setup.sources[0]
    example = read_example(source, Interval("chr4", 0, 2 * WINDOW), max_sites=16)
    turned = reverse_example(example, source.tracks)
    back = reverse_example(turned, source.tracks)
    expected = {**example.targets, OutputType.DNASE: example.targets[OutputType.DNASE].clone()}
    # a cut-site signal moves by a base each way, so that the two ends are lost
    for name, value in back.targets.items():
        if name == OutputType.DNASE:
            torch.testing.assert_close(value[1:], expected[name][1:], equal_nan=True)
        else:
            torch.testing.assert_close(value, expected[name], equal_nan=True)
    torch.testing.assert_close(back.genes, example.genes)


def test_reverse_complement_swaps_strands(setup: Setup) -> None:
    source = setup.sources[0]
    example = read_example(source, Interval("chr4", 0, 2 * WINDOW), max_sites=16)
    turned = reverse_example(example, source.tracks)
    np.testing.assert_array_equal(turned.sequence.numpy(), reverse_complement(example.sequence.numpy()))
    names = [row["name"] for row in source.tracks[RNA]]
    plus, minus = names.index("liver rna +"), names.index("liver rna -")
    torch.testing.assert_close(turned.targets[RNA][:, plus], example.targets[RNA][:, minus].flip(0))
    was, now = example.targets[OutputType.SPLICE_SITES], turned.targets[OutputType.SPLICE_SITES].flip(0)
    torch.testing.assert_close(now == SiteClass.DONOR_MINUS, was == SiteClass.DONOR_PLUS)
    assert sorted(map(tuple, turned.genes.tolist())) == sorted(
        (2 * WINDOW - end, 2 * WINDOW - start, 1 - strand) for start, end, strand in example.genes.tolist()
    )
    # every junction keeps its count, now between the mirrored sites of the other strand
    was, now = example.targets[JUNCTIONS], turned.targets[JUNCTIONS]
    assert was.sum() > 0
    torch.testing.assert_close(now[..., :2].sum((0, 1)), was[..., 2:].sum((0, 1)))


def test_validation_order_is_plain(setup: Setup) -> None:
    windows = setup.windows("valid", PLAN)
    batches = list(windows.in_order())
    found = [i for batch in batches for i in batch.intervals]
    assert found == [i for name in ORGANISMS for i in setup.splits["valid"][name]]
    some = [[i for batch in windows.in_order(5) for i in batch.intervals] for _ in range(2)]
    assert some[0] == some[1] and len(some[0]) == 5 and set(some[0]) <= set(found)


def test_reading_ahead_keeps_order_and_errors(setup: Setup) -> None:
    windows = _windows(setup, batch_size=1)
    for threads in (1, 4):
        with read_ahead(windows.packed, 6, threads) as take:
            for step in range(2, 6):
                found, wanted = take(step).to("cpu"), windows.batch(step)
                assert found.intervals == wanted.intervals
                _same(found.targets, wanted.targets)
            with pytest.raises(ValueError, match="batch 6 was asked for, the next in order is None"):
                take(6)

    def broken(step: int) -> Any:
        raise ValueError(f"batch {step} is broken")

    with read_ahead(broken, 6) as take, pytest.raises(ValueError, match="batch 0 is broken"):
        take(0)


def test_blocks_that_unfold_on_the_device_give_the_same_batches(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = _windows(setup, batch_size=2)
    plan = windows.plan
    opened = setup.windows("train", plan, opened=True)
    monkeypatch.setattr(PackedSignal, "dense", PackedSignal.spread)  # as on an accelerator
    for step in range(4):
        found, wanted = opened.packed(step).to("cpu"), windows.batch(step)
        assert any(isinstance(v, PackedSignal) for v in opened.packed(step).rows[0].example.targets.values())
        _same(found.targets, wanted.targets)


def test_halves_are_padded_apart() -> None:
    def rows(output: str, biosamples: int) -> list[dict]:
        return [
            {"name": f"{b}{s}", "output_type": output, "strand": s, "nonzero_mean": None, "strand_partner": 0}
            for s in "+-" for b in range(biosamples)
        ]  # fmt: skip

    tables = {o: rows_by_output(rows(USAGE, n), sites=False) for o, n in (("human", 3), ("mouse", 2))}
    channels = Channels(("human", "mouse"), tables)
    assert channels.widths == {USAGE: 6}
    assert channels.index(USAGE, "mouse").tolist() == [0, 1, 3, 4]
    assert channels.mask(USAGE, "mouse").tolist() == [True, True, False, True, True, False]
    assert channels.strands(USAGE, "mouse").tolist() == [0, 0, -1, 1, 1, -1]
    wide = Channels(("human", "mouse"), tables, {USAGE: 8})
    assert wide.widths == {USAGE: 8} and wide.index(USAGE, "human").tolist() == [0, 1, 2, 4, 5, 6]
    for heads in ({USAGE: 4}, {RNA: 6}):
        with pytest.raises(ValueError, match=r"splice_site_usage: 6 tracks, but the model's head has [40]"):
            Channels(("human", "mouse"), tables, heads)


def test_means_and_widths(setup: Setup) -> None:
    channels = setup.channels
    assert (
        channels.widths[RNA] == 3
        and channels.widths[ATAC] == 2
        and channels.widths[OutputType.SPLICE_SITES] == 5
    )
    means = channels.means(ATAC)
    assert means.shape == (2, 2) and means[0, 1] == 1  # human has one ATAC track, the other is padding
    assert means[1] == pytest.approx([row["nonzero_mean"] for row in setup.sources[1].tracks[ATAC]])
    assert len(setup.sources[1].tracks[RNA]) == sum(t[0] == "rna_seq" for t in TRACKS["mouse"])


def test_windows_of_two_lengths_are_refused(setup: Setup) -> None:
    mixed = {"human": [Interval("chr1", 0, WINDOW), Interval("chr1", 0, LENGTH)]}
    with pytest.raises(ValueError, match="windows have lengths"):
        Windows(setup.sources, mixed, PLAN, setup.channels)


def test_missing_organism_is_named(world: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="organism rat: shards are given for"):
        set_up(**world, organisms=["human", "rat"], scheme="fold0", folds=fold_settings(), max_shift=0)
    with pytest.raises(ValueError, match=r"scheme 'fold9' is not in folds\.schemes: fold0, all"):
        set_up(**world, organisms=ORGANISMS, scheme="fold9", folds=fold_settings(), max_shift=0)
