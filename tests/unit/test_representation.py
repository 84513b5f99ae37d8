"""How well biosamples were represented in training, on a table that can be counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from megabase.channels import rows_by_output
from megabase.representation import biosample_of, represent
from megabase.spec import REPRESENTATION_COLUMNS, TRACK_COLUMNS, OutputType

RNA, ATAC, TF, SITES = OutputType.RNA_SEQ, OutputType.ATAC, OutputType.CHIP_TF, OutputType.SPLICE_SITES


def _row(output: str, curie: str | None, name: str, replicates: int | None, partner: int, strand: str = "."):
    row: dict[str, Any] = dict.fromkeys(TRACK_COLUMNS) | {"output_type": output, "ontology_curie": curie}
    return row | {"biosample_name": name, "n_replicates": replicates, "strand_partner": partner,
                  "strand": strand}  # fmt: skip


ROWS = [
    _row("rna_seq", "CL:1", "liver", 2, 1, "+"), _row("rna_seq", "CL:1", "liver", 2, 0, "-"),
    _row("rna_seq", "CL:2", "brain", 1, 2), _row("atac", "CL:1", "Liver", 1, 0),
    _row("chip_tf", "CL:1", "liver", 1, 0), _row("chip_tf", "CL:1", "liver", None, 1),
    _row("chip_tf", None, "Eye", 1, 2),
]  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[OutputType, list[dict[str, Any]]]:
    return represent(rows_by_output(ROWS))


def test_counts_and_share_are_those_by_hand(found) -> None:
    liver, other, brain = found[RNA]
    assert liver == other  # both strands
    assert tuple(liver) == REPRESENTATION_COLUMNS
    assert (liver["biosample_tracks"], liver["biosample_outputs"], liver["assay_tracks"]) == (4, 3, 2)
    assert liver["representation"] == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)  # TF: two single replicates
    assert (brain["biosample_tracks"], brain["biosample_outputs"]) == (1, 1)
    assert brain["representation"] == pytest.approx(0.5 / 3)
    assert found[ATAC][0] | {"assay_tracks": 2} == liver  # the name's case does not matter
    assert [row["assay_tracks"] for row in found[TF]] == [3, 3, 3]


def test_a_biosample_without_a_term_is_known_by_its_name(found) -> None:
    assert found[TF][2]["biosample_tracks"] == 1 and found[TF][2]["representation"] == pytest.approx(0.5 / 3)
    assert biosample_of({"biosample_name": "Eye"}) == "eye" and biosample_of({}) is None


def test_more_replicates_and_outputs_raise_it_towards_one() -> None:
    def share(replicates: int, outputs: tuple[str, ...]) -> float:
        rows = [_row(o, "CL:9", "x", replicates, 0) for o in outputs] + ROWS
        tracks = {o: [r for r in rows if r["output_type"] == o] for o in (RNA, ATAC, TF)}
        return represent(tracks)[OutputType(outputs[0])][0]["representation"]

    every = ("rna_seq", "atac", "chip_tf")
    found = [share(1, every[:1]), share(1, every[:2]), share(1, every), share(9, every), share(999, every)]
    assert found == sorted(set(found)) and found[2] == pytest.approx(0.5) and 0.99 < found[-1] < 1


def test_splice_site_classes_have_none(found) -> None:
    assert len(found[SITES]) == 5
    assert all(value is None for row in found[SITES] for value in row.values())
