"""How well a track's biosample was represented in training: how much a model could learn of this tissue.

A biosample is an ontology term, or where there is none a name; both strands of a track are one measurement.

| column | meaning |
|---|---|
| biosample_tracks | measurements of the same biosample, this one included |
| biosample_outputs | output types that have one of them |
| assay_tracks | measurements of the same output type in the organism, this one included |
| representation | 0 to 1, the mean of n / (n + 1) over the organism's output types |

There n is the number of the biosample's replicates, over all its measurements of an output type. So an
output type in which the biosample was not measured counts 0, one with a single replicate 1/2, one with three
3/4: 1 is a biosample measured in every way many times. Splice-site classes belong to no biosample; their
columns are null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from megabase.spec import OUTPUTS, REPRESENTATION_COLUMNS, Kind, OutputType

Rows = Sequence[Mapping[str, Any]]  # of TRACK_COLUMNS, of one output type in channel order


def biosample_of(row: Mapping[str, Any]) -> str | None:
    """What tells biosamples apart: the ontology term, else the name in lower case; None where both lack."""
    return row.get("ontology_curie") or (row.get("biosample_name") or "").lower() or None


def _measurements(rows: Rows) -> Iterator[Mapping[str, Any]]:
    """Rows without the second strand of each pair."""
    for place, row in enumerate(rows):
        partner = row.get("strand_partner")
        if partner is None or partner >= place:
            yield row


def represent(tracks: Mapping[OutputType, Rows]) -> dict[OutputType, list[dict[str, Any]]]:
    """REPRESENTATION_COLUMNS of every track of one organism, by output type in channel order.

    tracks: all rows that the model was trained on, by output type.
    """
    known = [o for o in tracks if OUTPUTS[o].kind is not Kind.SITES]
    counts: Counter[tuple[OutputType, str | None]] = Counter()
    replicates: Counter[tuple[OutputType, str | None]] = Counter()
    for output in known:
        for row in _measurements(tracks[output]):
            counts[output, biosample_of(row)] += 1
            replicates[output, biosample_of(row)] += max(1, row.get("n_replicates") or 1)
    found: dict[OutputType, list[dict[str, Any]]] = {}
    for output, rows in tracks.items():
        assay = sum(n for (o, _), n in counts.items() if o is output)
        found[output] = [
            _columns(biosample_of(row) if output in known else None, known, counts, replicates, assay)
            for row in rows
        ]
    return found


def represented(tracks: Mapping[OutputType, Rows]) -> dict[OutputType, list[dict[str, Any]]]:
    """The rows of `tracks` with their REPRESENTATION_COLUMNS."""
    found = represent(tracks)
    return {
        o: [dict(row) | more for row, more in zip(rows, found[o], strict=True)] for o, rows in tracks.items()
    }


def _columns(
    biosample: str | None,
    known: Sequence[OutputType],
    counts: Mapping[tuple[OutputType, str | None], int],
    replicates: Mapping[tuple[OutputType, str | None], int],
    assay: int,
) -> dict[str, Any]:
    if biosample is None:
        return dict.fromkeys(REPRESENTATION_COLUMNS)
    own = [replicates[output, biosample] for output in known]
    values = (
        sum(counts[output, biosample] for output in known),
        sum(n > 0 for n in own),
        assay,
        sum(n / (n + 1) for n in own) / len(known),
    )
    return dict(zip(REPRESENTATION_COLUMNS, values, strict=True))
