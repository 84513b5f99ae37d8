"""Every published table that is read: where it is, whose it is, on which terms, and by which reader."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from megabase.files import FileError
from megabase.sources.portals import Listing, Release
from megabase.sources.resources import manifest_row
from megabase.sources.tables import chromatin, elements, eqtls, evaluations, splicing
from megabase.sources.tables.columns import Table, joined
from megabase.sources.tables.reading import parts_of

GTEX = "https://storage.googleapis.com/adult-gtex/bulk-qtl"
SYNAPSE = (
    "Synapse needs a login: make an account, accept the terms, `synapse get {}`, and name the file in a "
    "table of sources as `file:...`"
)


@dataclass(frozen=True)
class TableSource:
    """One published table. `login`: how to bring a file that cannot be fetched without one, else empty.

    role: of the manifest (`qtl`, `mpra`, `polya_sites`, `variants`). suffix: of the members of an archive
    that hold the table. kind: what was measured. listed: whether its own portal does not pin it.
    """

    name: str
    kind: str
    portal: str
    urls: tuple[str, ...]
    licence: str
    citation: str
    reader: Callable[..., Table]
    role: str = "qtl"
    login: str = ""
    suffix: str = ""
    assembly: str = "GRCh38"
    note: str = ""
    listed: bool = True


_CATALOGUE = TableSource(
    "eqtl_catalogue", "eqtl, sqtl", "eqtl_catalogue",
    ("https://ftp.ebi.ac.uk/pub/databases/spot/eQTL/susie/{study}/{dataset}/{dataset}.credible_sets.tsv.gz",),
    "CC BY 4.0", "Kerimov 2021, 2023", eqtls.read_eqtl_catalogue,
    note="`megabase list-sources --portal eqtl-catalogue` names the files", listed=False,
)  # fmt: skip
_GTEX_TERMS = ("GTEx open access", "GTEx Consortium 2020")


def _gtex(
    name: str, kind: str, paths: Sequence[str], reader: Callable[..., Table], suffix: str
) -> TableSource:
    urls = tuple(f"{GTEX}/{path}" for path in paths)
    return TableSource(name, kind, "gtex", urls, *_GTEX_TERMS, reader, suffix=suffix)


def _synapse(name: str, kind: str, identifier: str, note: str) -> TableSource:
    return TableSource(
        name, kind, "synapse", (f"https://www.synapse.org/#!Synapse:{identifier}",),
        "as the depositors state on Synapse", "Pampari 2024 (ChromBPNet) and the study named there",
        chromatin.read_chromatin_qtls, login=SYNAPSE.format(identifier), note=note,
    )  # fmt: skip


_ALL = [
    _CATALOGUE,
    _gtex("gtex_v10_susie_eqtl", "eqtl", ["v10/susie-qtl/GTEx_v10_SuSiE_eQTL.tar"], eqtls.read_gtex_susie,
          ".parquet"),
    _gtex("gtex_v11_susie_eqtl", "eqtl", ["v11/susie-qtl/GTEx_Analysis_v11_eQTL_SuSiE.tar"],
          eqtls.read_gtex_susie, ".parquet"),
    _gtex("gtex_v11_susie_sqtl", "sqtl", ["v11/susie-qtl/GTEx_Analysis_v11_sQTL_SuSiE.tar"],
          eqtls.read_gtex_susie, ".parquet"),
    _gtex("gtex_v8_pairs_eqtl", "eqtl", ["v8/single-tissue-cis-qtl/GTEx_Analysis_v8_eQTL.tar"],
          eqtls.read_gtex_pairs, "signif_variant_gene_pairs.txt.gz"),
    _gtex("gtex_v8_pairs_sqtl", "sqtl", ["v8/single-tissue-cis-qtl/GTEx_Analysis_v8_sQTL.tar"],
          eqtls.read_gtex_pairs, "sqtl_signifpairs.txt.gz"),
    _gtex("gtex_v10_pairs_eqtl", "eqtl", ["v10/single-tissue-cis-qtl/GTEx_Analysis_v10_eQTL.tar"],
          eqtls.read_gtex_pairs, "signif_pairs.parquet"),
    _gtex("gtex_v10_pairs_sqtl", "sqtl", ["v10/single-tissue-cis-qtl/GTEx_Analysis_v10_sQTL.tar"],
          eqtls.read_gtex_pairs, "signif_pairs.parquet"),
    _gtex("gtex_v8_caveman", "eqtl", ["v8/fine-mapping-cis-eqtl/GTEx_v8_finemapping_CaVEMaN.tar"],
          eqtls.read_gtex_caveman, "CaVEMaN.txt.gz"),
    _gtex("gtex_v8_caviar", "eqtl", ["v8/fine-mapping-cis-eqtl/GTEx_v8_finemapping_CAVIAR.tar"],
          eqtls.read_gtex_caveman, "HighConfidentVariants.gz"),
    _gtex("gtex_v8_dapg", "eqtl", ["v8/fine-mapping-cis-eqtl/GTEx_v8_finemapping_DAPG.tar"],
          eqtls.read_gtex_dapg, "CS95.txt.gz"),
    TableSource(
        "finucane", "eqtl", "finucanelab", ("https://www.finucanelab.org/data",), "as stated there",
        "Wang 2021", eqtls.read_finucane,
        login="the page leads to a shared folder: download `GTEx_49tissues_release1.tsv.bgz` by hand and "
        "name it in a table of sources as `file:...`",
    ),
    _synapse("caqtl_african", "caqtl", "syn64126781", "caqtls.african.lcls.benchmarking.all.tsv.gz"),
    _synapse("chromatin_qtls", "caqtl, dsqtl, bqtl", "syn59449898", "tables of the other cohorts"),
    TableSource(
        "mpra", "mpra", "kircherlab",
        ("https://raw.githubusercontent.com/kircherlab/MPRA_SaturationMutagenesis/02c522ede208a6b8243f52764705583e074a04bd/data/elements.tsv.gz",),
        "not stated; CAGI's terms apply to the challenge", "Kircher 2019", elements.read_mpra_variants,
        role="mpra", note="the split of CAGI5 into train and test is not published in it",
    ),
    TableSource(
        "mfass", "splicing", "kosurilab",
        ("https://raw.githubusercontent.com/KosuriLab/MFASS/master/processed_data/snv/snv_data_clean.txt",),
        "not stated", "Cheung 2019", splicing.read_mfass,
    ),
    TableSource(
        "clinvar", "clinvar", "clinvar", ("https://ftp.ncbi.nlm.nih.gov/pub/clinvar/vcf_GRCh38/clinvar.vcf.gz",),
        "public domain", "Landrum 2018", splicing.read_clinvar, role="variants",
        note="changes weekly: `megabase list-sources --portal clinvar` pins a week", listed=False,
    ),
    TableSource(
        "encode_re2g", "enhancer-gene", "engreitzlab",
        ("https://raw.githubusercontent.com/EngreitzLab/CRISPR_comparison/main/resources/crispr_data/"
         "EPCrisprBenchmark_ensemble_data_GRCh38.tsv.gz",),
        "MIT (repository)", "Gschwind 2023", elements.read_enhancer_pairs,
    ),
    TableSource(
        "polya_db", "polyadenylation", "polya_db",
        ("https://storage.googleapis.com/seqnn-share/helper/polyadb_human_v3.csv.gz",),
        "not stated", "Wang 2018 (PolyA_DB 3)", elements.read_polya_db, role="polya_sites",
    ),
    *(
        TableSource(
            f"alphagenome:{name}", "evaluation", "alphagenome", (evaluations.URL.format(name),),
            "targets: terms of each source; the predictions in the file are CC BY-NC 4.0 and are never read",
            "Avsec 2025 (AlphaGenome, bioRxiv 2025.06.25.661532) and the source of the set",
            evaluations.reader_of(name),
        )
        for name in evaluations.NAMES
    ),
]  # fmt: skip
TABLES: dict[str, TableSource] = {source.name: source for source in _ALL}


def read_published(name: str, paths: Iterable[str | Path], tissue: str = "", **options: Any) -> Table:
    """All files of a source of TABLES as one table (archives: each member); `options` of its reader.

    FileError for a name that is not known, with the nearest one, and whatever the reader finds.
    """
    if name not in TABLES:
        near = difflib.get_close_matches(name, TABLES, n=1, cutoff=0.0)[0]
        raise FileError(f"table {name!r} is not known; nearest: {near} (known: {', '.join(TABLES)})")
    source = TABLES[name]
    unknown = set(options) - set(signature(source.reader).parameters)
    if unknown:
        raise FileError(f"table {name}: takes no {', '.join(sorted(unknown))}; its reader has no such column")
    tables = [
        source.reader(part, tissue, **options) for path in paths for part in parts_of(path, source.suffix)
    ]  # an archive's members one by one: only one of them is in memory
    if not tables:
        raise FileError(f"table {name}: no file; it is at {source.urls[0]} {source.login}".rstrip())
    return joined(tables)


def list_tables(ask: Any, release: Release) -> Listing:
    """A row of each table that can be fetched as it is; those behind a login are refused, and told how."""
    listing = Listing()
    for source in TABLES.values():
        what = {"portal": source.portal, "accession": source.name.replace(":", "."), "assay": source.kind}
        if not source.listed:
            continue
        if source.login:
            listing.refuse("needs login", source.login, **what, organism="human", output_type=source.role)
            continue
        if release.wants("human", source.kind):
            listing.rows.append(
                manifest_row(
                    **what, organism="human", output_type=source.role, assembly=source.assembly,
                    target=source.kind if source.kind in ("eqtl", "sqtl") else None, url=source.urls[0],
                    licence=source.licence,
                )
            )  # fmt: skip
    return listing
