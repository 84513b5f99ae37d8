"""The scorers' formulas against arrays computed with the published functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from megabase import alignment
from megabase.predictors.junctions import unstack_junctions
from megabase.scoring import formulas, masks

VARIANTS = ("snv", "ins3", "del2", "mnv_ins")
WIDTHS = (None, 501, 2001, 10001)


@pytest.fixture(scope="module")
def arrays(references):
    return np.load(references / "alphagenome_functions.npz")


@pytest.fixture(scope="module")
def ref(arrays):
    return torch.from_numpy(arrays["ref"])


@pytest.fixture(scope="module")
def alt(arrays):
    return torch.from_numpy(arrays["alt"])


def _offset(arrays, name: str) -> int:
    return int(arrays[f"{name}/variant"][0]) - 1 - int(arrays["interval_start"])


def _aligned(arrays, alt, name):
    _, before, after = arrays[f"{name}/variant"]
    return alignment.align_alternate(alt, _offset(arrays, name), len(before), len(after))


def _close(got: torch.Tensor, wanted: np.ndarray, **tolerance: float) -> None:
    np.testing.assert_allclose(got.numpy(), wanted, **({"rtol": 1e-5, "atol": 1e-5} | tolerance))


@pytest.mark.parametrize("name", VARIANTS)
def test_alternate_alignment_is_exact(arrays, alt, name):
    assert np.array_equal(_aligned(arrays, alt, name).numpy(), arrays[f"{name}/aligned_alt"])


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("width", WIDTHS)
def test_centre_spans_are_exact(arrays, name, width):
    got = masks.centre_span(_offset(arrays, name), 4096, width)
    assert list(got) == arrays[f"{name}/center_{width}/span"].tolist()


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("width", (501, 2001))
def test_centre_bins_are_exact(arrays, name, width):
    first, last = masks.centre_span(_offset(arrays, name), 4096 // 128, width, 128)
    assert list(range(first, last)) == arrays[f"{name}/center128_{width}/bins"].tolist()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("aggregation", sorted(formulas.AGGREGATIONS))
def test_centre_aggregations(arrays, ref, alt, width, aggregation):
    span = masks.centre_span(_offset(arrays, "snv"), 4096, width)
    got = formulas.centre_score(ref, alt, span, aggregation)
    # sums over thousands of bases round in float32; their differences are checked relative to the sums
    scale = float(formulas.AGGREGATIONS["active_sum"](ref[slice(*span)], alt[slice(*span)]).max())
    _close(got, arrays[f"snv/center_{width}/{aggregation.upper()}"], atol=1e-5 + 1e-6 * scale)


@pytest.mark.parametrize("name", ("snv", "ins3", "del2"))
@pytest.mark.parametrize(
    ("key", "function"),
    [
        ("gene_lfc", formulas.gene_log_fold_change),
        ("gene_active", formulas.gene_active),
        ("gene_splicing", formulas.gene_splicing),
    ],
)
def test_gene_scores(arrays, ref, alt, name, key, function):
    mask = torch.from_numpy(arrays["gene_mask"])
    _close(function(ref, _aligned(arrays, alt, name), mask), arrays[f"{name}/{key}"])


def test_contact_bins(arrays):
    before, after = torch.from_numpy(arrays["contact/ref"]), torch.from_numpy(arrays["contact/alt"])
    got = torch.stack([formulas.contact_score(before, after, i) for i in range(8)])
    _close(got, arrays["contact/score_per_bin"])


def test_polyadenylation(arrays, ref, alt):
    rows = []
    for gene in (0, 1):
        sites = torch.from_numpy(arrays[f"pas/sites_gene{gene}"])
        windows = formulas.polyadenylation_windows(sites, "+")
        rows.append(formulas.polyadenylation_score(ref, alt, windows))
    _close(torch.stack(rows), arrays["pas/scores"])


def test_junctions(arrays):
    positions, start = torch.from_numpy(arrays["junction/positions"]), int(arrays["interval_start"])
    before, after = (
        unstack_junctions(torch.from_numpy(arrays[f"junction/{k}"]), positions, start) for k in ("ref", "alt")
    )
    assert before.strands == tuple(arrays["junction/strand"])
    assert before.spans[:, 0].tolist() == arrays["junction/start"].tolist()
    assert before.spans[:, 1].tolist() == arrays["junction/end"].tolist()
    _close(formulas.junction_score(before.values, after.values), arrays["junction/abs_delta"])


def test_every_reference_is_compared(arrays):
    """Families of arrays that a test of this file or of test_functions.py reads; a new one must be added."""
    inputs = {"ref", "alt", "interval_start", "gene_mask"}
    scored = {"variant", "aligned_alt", "span", "bins", "gene_lfc", "gene_active", "gene_splicing"}
    scored |= {name.upper() for name in formulas.AGGREGATIONS}
    parts = {"contact", "pas", "junction", "loss", "scaling", "rc"}
    for name in arrays.files:
        family, last = name.split("/")[0], name.split("/")[-1]
        assert name in inputs or family in parts or (family in VARIANTS and last in scored), name
