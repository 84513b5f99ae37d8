"""A published table as one that benchmarks and scorers read, checked against the genome."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megabase.files import Stamp, hash_inputs, hash_json, write_tsv
from megabase.genome import Genes, Genome
from megabase.logs import LOGGER
from megabase.sources.tables.reference import check_reference
from megabase.sources.tables.registry import read_published

KIND, REJECTED_KIND = "published_table", "rejected"


def convert_table(
    name: str,
    files: Sequence[str | Path],
    output: str | Path,
    *,
    genome_folder: str | Path | None = None,
    genes_folder: str | Path | None = None,
    tissue: str = "",
    exchange: bool = False,
    min_pip: float = 0.0,
) -> None:
    """Write the table `name` of TABLES, made of `files`, to `output` (TSV), and beside it what was rejected.

    Variants get QTL_COLUMNS, which benchmarks read; element-gene pairs and polyadenylation sites the columns
    that scorers read. genome_folder: variants are checked against it, and get its chromosomes' names
    (`exchange`: alleles in the other order are turned). genes_folder: gene models that name the genes of
    polyadenylation sites. min_pip: rows of a smaller posterior are left out while reading. The rejected rows
    are in `{output stem}.rejected.tsv`, each with its reason.
    """
    options: dict[str, Any] = {"min_pip": min_pip} if min_pip > 0 else {}
    if name == "polya_db" and genes_folder is not None:
        genes = Genes.open(genes_folder).genes.drop_nulls("gene_name").unique("gene_name", keep="none")
        options["genes"] = dict(genes.select("gene_name", "gene_id").iter_rows())
    table = read_published(name, files, tissue, **options)
    if genome_folder is not None and "ref" in table.rows.columns:
        table = check_reference(table, Genome.open(genome_folder), exchange=exchange)
    output = Path(output)
    stamp = {"config_hash": hash_json([name, tissue, exchange, min_pip]), "inputs": hash_inputs(files)}
    write_tsv(table.rejected, output.with_name(f"{output.stem}.rejected.tsv"), Stamp(REJECTED_KIND, **stamp))
    write_tsv(table.rows, output, Stamp(KIND, **stamp))
    reasons = dict(table.rejected["reason"].value_counts().sort("reason").iter_rows())
    LOGGER.info("%s: %d rows, %d rejected %s", name, table.rows.height, table.rejected.height, reasons or "")
