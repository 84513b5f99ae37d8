"""Genes as the engine wants them: exon unions, start sites, splice sites and polyadenylation sites a gene.

Built once a run from the gene tables; looked up by chromosome and span. Coordinates 0-based half-open.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from megabase.files import FileError

if TYPE_CHECKING:
    import polars as pl

PROTEIN_CODING = "protein_coding"
POLYA_COLUMNS = ("gene_id", "chrom", "position", "strand")


def _no_spans() -> np.ndarray:
    return np.zeros((0, 2), np.int64)


@dataclass(slots=True)
class GeneModel:
    """One gene: exons int64 [N, 2] of all its transcripts, TSS of each transcript, introns int64 [N, 2]."""

    gene_id: str
    gene_name: str | None
    gene_type: str | None
    chrom: str
    start: int
    end: int
    strand: str
    tss: list[int]
    exons: np.ndarray = field(default_factory=_no_spans)
    introns: np.ndarray = field(default_factory=_no_spans)
    polya_sites: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def splice_sites(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of donors (last exonic base) and acceptors (first exonic base) of the annotation."""
        left, right = self.introns[:, 0] - 1, self.introns[:, 1]
        return (left, right) if self.strand != "-" else (right, left)


class Annotation:
    """Genes of one genome, looked up by chromosome and span."""

    def __init__(self, genes: list[GeneModel]) -> None:
        self.genes = genes
        self.has_gene_types = any(gene.gene_type == PROTEIN_CODING for gene in genes)
        self.has_polya_sites = any(len(gene.polya_sites) > 0 for gene in genes)
        self._by_name: dict[str, list[GeneModel]] | None = None
        self._by_chrom: dict[str, tuple[list[GeneModel], np.ndarray, np.ndarray]] = {}
        for chrom in {gene.chrom for gene in genes}:
            members = [gene for gene in genes if gene.chrom == chrom]
            members.sort(key=lambda g: (g.start, g.end, g.gene_id))
            bounds = np.array([(g.start, g.end) for g in members], np.int64)
            starts = np.array([(min(g.tss), max(g.tss)) for g in members], np.int64)
            self._by_chrom[chrom] = (members, bounds, starts)

    @classmethod
    def from_tables(cls, tables: Any, polya_sites: str | Path | None = None) -> Annotation:
        """From gene tables (`.genes`, `.transcripts`, `.exons`) and, if given, a TSV or Parquet of sites."""
        tss = _lists(tables.transcripts, "tss")
        exons, introns = _spans(tables.exons), _spans(_introns(tables.exons))
        sites = _read_polya_sites(polya_sites) if polya_sites else {}
        genes = []
        for row in tables.genes.iter_rows(named=True):
            key = row["gene_id"]
            genes.append(GeneModel(
                key, row["gene_name"], row["gene_type"], row["chrom"], row["start"], row["end"],
                row["strand"], tss.get(key) or [row["tss"]],
                exons.get(key, np.array([[row["start"], row["end"]]], np.int64)),
                introns.get(key, _no_spans()), sites.get(key, np.zeros(0, np.int64)),
            ))  # fmt: skip
        return cls(genes)

    def overlapping(self, chrom: str, start: int, end: int) -> list[GeneModel]:
        """Genes with a base in `[start, end)`, by start."""
        if chrom not in self._by_chrom:
            return []
        genes, bounds, _ = self._by_chrom[chrom]
        return [genes[i] for i in np.flatnonzero((bounds[:, 0] < end) & (bounds[:, 1] > start))]

    def starting_in(self, chrom: str, start: int, end: int) -> list[GeneModel]:
        """Genes with the start site of some transcript in `[start, end)`, by start."""
        if chrom not in self._by_chrom:
            return []
        genes, _, starts = self._by_chrom[chrom]
        near = np.flatnonzero((starts[:, 0] < end) & (starts[:, 1] >= start))
        return [genes[i] for i in near if any(start <= site < end for site in genes[i].tss)]

    def find(self, name: str) -> list[GeneModel]:
        """Genes of an id (with or without its version), or else of a name, in the order of the annotation."""
        if self._by_name is None:
            self._by_name = {}
            for gene in self.genes:
                own = {gene.gene_id, gene.gene_id.split(".")[0]}
                for key in own | ({gene.gene_name} if gene.gene_name else set()):
                    self._by_name.setdefault(key, []).append(gene)
        found = self._by_name.get(name, [])
        return [gene for gene in found if gene.gene_id == name] or found

    def coding(self, genes: list[GeneModel]) -> list[GeneModel]:
        """The protein-coding ones; all of them where the annotation has no gene types."""
        return [g for g in genes if g.gene_type == PROTEIN_CODING] if self.has_gene_types else genes


def _lists(table: pl.DataFrame, column: str) -> dict[str, list[int]]:
    grouped = table.group_by("gene_id", maintain_order=True).agg(column)
    return dict(zip(grouped["gene_id"].to_list(), grouped[column].to_list(), strict=True))


def _spans(table: pl.DataFrame) -> dict[str, np.ndarray]:
    """Distinct sorted spans int64 [N, 2] by gene."""
    grouped = (
        table.select("gene_id", "start", "end").unique().sort("gene_id", "start", "end")
        .group_by("gene_id", maintain_order=True).agg("start", "end")
    )  # fmt: skip
    return {
        gene: np.stack([np.asarray(a, np.int64), np.asarray(b, np.int64)], -1)
        for gene, a, b in grouped.select("gene_id", "start", "end").iter_rows()
    }


def _introns(exons: pl.DataFrame) -> pl.DataFrame:
    """Introns of all transcripts: gene_id, start, end (between neighbouring exons of a transcript)."""
    import polars as pl

    from megabase.genome import MIN_INTRON

    ordered = exons.sort("transcript_id", "start")
    following = pl.col("start").shift(-1).over("transcript_id")
    gaps = ordered.select("gene_id", pl.col("end").alias("start"), following.alias("end"))
    return gaps.filter(pl.col("end") - pl.col("start") >= MIN_INTRON)


def _read_polya_sites(path: str | Path) -> dict[str, np.ndarray]:
    """Sites (0-based positions, ascending) by gene of a TSV or Parquet with `POLYA_COLUMNS`."""
    import polars as pl

    path = Path(path)
    table = pl.read_parquet(path) if path.suffix == ".parquet" else _read_tsv(path)
    missing = [c for c in POLYA_COLUMNS if c not in table.columns]
    if missing:
        raise FileError(
            f"{path}: columns {', '.join(missing)} are missing, found {', '.join(table.columns)}; "
            f"a table of polyadenylation sites has {', '.join(POLYA_COLUMNS)}"
        )
    grouped = table.unique(["gene_id", "position"]).sort("gene_id", "position")
    return {key: np.asarray(v, np.int64) for key, v in _lists(grouped, "position").items()}


def _read_tsv(path: Path) -> pl.DataFrame:
    import polars as pl

    return pl.read_csv(path, separator="\t", comment_prefix="#", infer_schema_length=None)
