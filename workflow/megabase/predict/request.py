"""What may be asked of a model: sequences that it can read, and which of its tracks are wanted."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import numpy as np

from megabase.channels import TrackRows
from megabase.representation import represent
from megabase.sequence import encode
from megabase.spec import OUTPUTS, PAIR, STRANDS, TRACK_COLUMNS, UNKNOWN_BASE, Kind, OutputType

_NOT_DNA = re.compile(r"[^ACGTN]", re.IGNORECASE)
_HALVES = (Kind.USAGE, Kind.JUNCTIONS)
Names = Collection[str] | str | None


def sequence_codes(sequence: str | np.ndarray) -> np.ndarray:
    """Codes uint8 [S] of a text of A, C, G, T and N in either case, or of codes 0..4 (A, C, G, T, N).

    ValueError for anything else, with its 1-based position, and for a length that is no multiple of 2,048.
    """
    if isinstance(sequence, str):
        if wrong := _NOT_DNA.search(sequence):
            raise ValueError(
                f"sequence: letter {wrong[0]!r} at position {wrong.start() + 1} of {len(sequence):,}; wanted "
                "A, C, G, T or N"
            )
        codes = encode(sequence)
    else:
        codes = np.asarray(sequence)
        if codes.ndim != 1 or codes.dtype.kind not in "iu":
            raise ValueError(
                f"sequence: array of shape {codes.shape} and type {codes.dtype}; wanted whole numbers [S], "
                "0..4 = A, C, G, T, N"
            )
        wrong = np.flatnonzero((codes < 0) | (codes > UNKNOWN_BASE))
        if len(wrong):
            raise ValueError(
                f"sequence: code {codes[wrong[0]]} at position {wrong[0] + 1} of {len(codes):,}; wanted 0..4 "
                "= A, C, G, T, N"
            )
        codes = codes.astype(np.uint8)
    check_length(len(codes), "sequence")
    return codes


def check_length(length: int, what: str) -> None:
    """ValueError unless a model can read that many bases; it names the nearest lengths that it can."""
    if length > 0 and length % PAIR == 0:
        return
    lower, upper = length // PAIR * PAIR, (length // PAIR + 1) * PAIR
    near = f"{lower:,} or {upper:,}" if lower else f"{upper:,}"
    raise ValueError(
        f"{what}: {length:,} bases; wanted a multiple of {PAIR:,}, such as {near}: resize it or pad it with N"
    )


@dataclass(frozen=True)
class Selection:
    """Which tracks of a model are asked for.

    channels: by output type, in vocabulary order, the organism's channels, ascending and at least one.
    """

    organism: str
    tracks: TrackRows
    channels: dict[OutputType, list[int]] = field(default_factory=dict)

    @cached_property
    def _represented(self) -> dict[OutputType, list[dict[str, Any]]]:
        return represent(self.tracks)

    def rows(self, output: OutputType) -> list[dict[str, Any]]:
        """`channel`, TRACK_COLUMNS and REPRESENTATION_COLUMNS of the tracks asked for, in channel order."""
        return [
            {"channel": channel} | {c: self.tracks[output][channel].get(c) for c in TRACK_COLUMNS}
            | self._represented[output][channel]
            for channel in self.channels[output]
        ]  # fmt: skip

    def computed(self, *, both_strands: bool) -> dict[OutputType, list[int]]:
        """Channels that a model computes for these, by output type; those that it needs all of are absent.

        Strand partners join where both strands are averaged, and always where halves of the channels are
        strands of the same biosamples.
        """
        found = {}
        for output, asked in self.channels.items():
            if OUTPUTS[output].kind is Kind.SITES or len(asked) == len(self.tracks[output]):
                continue
            if both_strands or OUTPUTS[output].kind in _HALVES:
                rows = self.tracks[output]
                asked = sorted({*asked, *(rows[channel]["strand_partner"] for channel in asked)})
            found[output] = asked
        return found


def select_tracks(
    tracks: Mapping[OutputType, Sequence[Mapping[str, Any]]],
    organism: str,
    *,
    outputs: Names = None,
    ontology_terms: Names = None,
    biosamples: Names = None,
    strand: str | None = None,
) -> Selection:
    """Tracks of `tracks` (rows of TRACK_COLUMNS by output type) that meet all conditions given.

    outputs: output types, by default all. ontology_terms, biosamples: terms and names of biosamples, in
    either case; splice-site classes have none and pass. strand: the strands wanted, of `+`, `-` and `.`
    (unstranded), such as `+` or `+.`. An output type of which nothing is left is left out. ValueError for an
    output type that the model lacks, a term or name that none of its tracks has, and where nothing is left.
    """
    wanted = _known_outputs(tracks, organism, outputs)
    named = {"ontology_curie": _lower(ontology_terms), "biosample_name": _lower(biosamples)}
    for column, names in named.items():
        _check_names(column, names, [row for output in wanted for row in tracks[output]])
    strands = _strands(strand)
    channels = {}
    for output in wanted:
        sites = OUTPUTS[output].kind is Kind.SITES
        chosen = [
            channel
            for channel, row in enumerate(tracks[output])
            if (row.get("strand") or ".") in strands
            and (sites or all(_meets(row, column, names) for column, names in named.items()))
        ]
        if chosen:
            channels[output] = chosen
    if not channels:
        raise ValueError(
            f"no track of {organism} meets all conditions: outputs {', '.join(wanted)}, ontology terms "
            f"{_listed(ontology_terms)}, biosamples {_listed(biosamples)}, strand {strand or 'any'}"
        )
    return Selection(organism, {o: list(rows) for o, rows in tracks.items()}, channels)


def _known_outputs(tracks: Mapping[OutputType, Any], organism: str, outputs: Names) -> list[OutputType]:
    if outputs is None:
        return [o for o in OutputType if tracks.get(o)]
    asked = [outputs] if isinstance(outputs, str) else list(outputs)
    known = [str(o) for o in OutputType if tracks.get(o)]
    if missing := [str(o) for o in asked if str(o) not in known]:
        raise ValueError(
            f"output type {missing[0]!r}: the model has none for {organism}; it has {', '.join(known)}"
        )
    if not asked:
        raise ValueError(f"outputs: none named; the model has {', '.join(known)}")
    return [o for o in OutputType if o in asked]


def _lower(names: Names) -> set[str]:
    return {n.lower() for n in ([names] if isinstance(names, str) else names or ())}


def _listed(names: Names) -> str:
    return ", ".join([names] if isinstance(names, str) else names or ()) or "any"


def _meets(row: Mapping[str, Any], column: str, names: set[str]) -> bool:
    return not names or str(row.get(column) or "").lower() in names


def _check_names(column: str, names: set[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """ValueError for a name that no row has in a column, with the nearest ones that are there."""
    known = {str(row[column]).lower(): str(row[column]) for row in rows if row.get(column)}
    for name in sorted(names - set(known)):
        near = get_close_matches(name, known, 3, 0.5) or sorted(known)[:3]
        hint = f"; near it: {', '.join(known[n] for n in near)}" if near else "; no track names one"
        what = {"ontology_curie": "ontology term", "biosample_name": "biosample"}[column]
        raise ValueError(f"{what} {name!r}: no track asked for has it{hint}")


def _strands(strand: str | None) -> set[str]:
    if strand is not None and (not strand or set(strand) - set(STRANDS)):
        raise ValueError(f"strand {strand!r}; wanted one or more of {', '.join(STRANDS)}")
    return set(strand or STRANDS)
