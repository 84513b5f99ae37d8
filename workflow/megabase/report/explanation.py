"""One explained variant as the report reads it: arrays of the window, genes, in-silico mutagenesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megabase.files import FileError, read_json
from megabase.locus import Lane, track_label
from megabase.spec import OUTPUTS, Kind, OutputType, SiteClass

SIDES = ("ref", "alt", "observed")


@dataclass(frozen=True)
class Explanation:
    """An explanation of `megabase explain-variant` (the contract is in docs/architecture.md)."""

    info: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, path: str | Path) -> Explanation:
        """Read `{model}.json` and the `.npz` beside it; FileError if either is not an explanation."""
        path = Path(path).with_suffix(".json")
        info = read_json(path, "explanation")
        arrays = path.with_suffix(".npz")
        if not arrays.is_file():
            raise FileError(f"{arrays}: not found beside {path.name}; explain the variant again")
        with np.load(arrays, allow_pickle=False) as found:
            return cls(info, {name: np.asarray(found[name]) for name in found.files})

    @property
    def variant(self) -> Mapping[str, Any]:
        """`variant_id, chrom, position (0-based), ref, alt`."""
        return self.info["variant"]

    @property
    def start(self) -> int:
        """First base of the window."""
        return int(self.info["window"]["start"])

    @property
    def end(self) -> int:
        """One past the last base of the window."""
        return int(self.info["window"]["end"])

    @property
    def gene_label(self) -> str:
        """Name of the explained gene; empty where the score has none."""
        return self.info.get("gene_name") or self.info.get("gene_id") or ""

    def outputs(self) -> list[str]:
        """Output types with REF and ALT predictions, in their order."""
        return [
            o.value for o in OutputType if all(f"{side}/{o.value}" in self.arrays for side in ("ref", "alt"))
        ]

    def logos(self) -> list[tuple[str, np.ndarray, str]]:
        """(allele, matrix [W, 4], sequence) of each in-silico mutagenesis, REF first."""
        window = self.info.get("ism", {})
        keys = (("REF", "ism", "sequence"), ("ALT", "ism_alt", "sequence_alt"))
        return [
            (n, self.arrays[a].astype(float), window[s])
            for n, a, s in keys
            if a in self.arrays and s in window
        ]

    def lanes(self) -> list[Lane]:
        """The tracks that a locus figure shows: of each output type the one that tells most of this variant.

        That is the explained track itself, else a track of its biosample with the largest change, else the
        track with the largest change near the variant.
        """
        return [self.lane(o) for o in self.outputs() if OUTPUTS[OutputType(o)].kind is not Kind.CONTACTS]

    def lane(self, output: str) -> Lane:
        """The chosen track of one output type."""
        ref, alt = self.arrays[f"ref/{output}"], self.arrays[f"alt/{output}"]
        observed = self.arrays.get(f"observed/{output}")
        bases = max(1, round((self.end - self.start) / len(ref)))
        if OUTPUTS[OutputType(output)].kind is Kind.SITES:
            none = SiteClass.NONE
            sides = [
                None if a is None else np.delete(a, none, axis=1).max(axis=1) for a in (ref, alt, observed)
            ]
            return Lane(output, "any class", bases, *sides)
        channel = self.channel(output, ref, alt)
        sides = [None if a is None else a[:, channel] for a in (ref, alt, observed)]
        return Lane(output, self._label(output, channel), bases, *sides)

    def _label(self, output: str, channel: int) -> str:
        rows = self._rows(output)
        return track_label(rows[channel]) if channel < len(rows) else ""

    def _rows(self, output: str) -> Sequence[Mapping[str, Any]]:
        return self.info.get("tracks", {}).get(output, [])

    def channel(self, output: str, ref: np.ndarray, alt: np.ndarray) -> int:
        """Number of the shown track of ref and alt [N, P]."""
        rows = self._rows(output)
        names = [row.get("name") for row in rows]
        if self.info.get("track") in names:
            return names.index(self.info["track"])
        change = np.abs(alt - ref).max(axis=0)
        own = np.array([row.get("biosample_name") == self._biosample() for row in rows], dtype=bool)
        if len(own) == len(change) and own.any():
            change = np.where(own, change, -1)
        return int(np.argmax(change))

    def _biosample(self) -> str | None:
        """Biosample of the explained track."""
        for rows in self.info.get("tracks", {}).values():
            for row in rows:
                if row.get("name") == self.info.get("track"):
                    return row.get("biosample_name")
        return None
