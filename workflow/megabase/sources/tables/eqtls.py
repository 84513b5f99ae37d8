"""Fine-mapped and plain eQTLs and sQTLs: eQTL Catalogue, GTEx (SuSiE, CAVIAR, CaVEMaN, DAP-G), Finucane lab.

All are of GRCh38 and write positions 1-based; the effect is that of ALT. Headers are read by name: the
Catalogue's differs from its documentation, and GTEx names columns otherwise in each release.
"""

from __future__ import annotations

from pathlib import PurePath

import polars as pl

from megabase.files import FileError
from megabase.sources.tables.columns import Table, finish, split_variant
from megabase.sources.tables.reading import Part, column_names, pick, read_headless

_DAPG = ("chrom", "at", "id", "ref", "alt", "signals")
_SIGNAL = (
    r"^(?P<gene_id>[^@:]+)(?::(?P<signal>[^@]+))?@(?P<tissue>[^=]+)=(?P<pip>[^\[]+)(?:\[(?P<size>[^\]]*)\])?"
)


def tissue_of_file(name: str) -> str:
    """`Adipose_Subcutaneous` of `.../Adipose_Subcutaneous.v10.eQTLs.SuSiE_summary.parquet`."""
    return PurePath(name.rpartition(":")[2]).name.split(".")[0]


def _gene(phenotype: str) -> pl.Expr:
    """The gene of a row, or the last part of its phenotype's name (`chr:start:end:clu_N:ENSG`)."""
    return pl.coalesce(pl.col("gene_id"), pl.col(phenotype).str.split(":").list.last())


def read_eqtl_catalogue(part: Part, tissue: str = "", *, min_pip: float = 0.0) -> Table:
    """Credible sets of the eQTL Catalogue (TSV or, from release 8, Parquet); `set_id` is `cs_id`.

    Of leafcutter's tables, `trait` is the intron. A variant with several rsIDs has a row for each: one is
    kept. Rows of a PIP below `min_pip` are no part of the result.
    """
    names = {
        "trait": "molecular_trait_id", "gene_id": "gene_id", "variant": "variant", "source_id": "rsid?",
        "pip": "pip", "effect": "beta", "set_id": "cs_id",
    }  # fmt: skip
    table = pick(part, names, "an eQTL Catalogue credible-set table", least=("pip", min_pip))
    table = split_variant(table, part).with_columns(tissue=pl.lit(tissue or tissue_of_file(part.name)))
    return finish(table, "eqtl_catalogue", part, ["trait"])


def read_gtex_susie(part: Part, tissue: str = "", *, min_pip: float = 0.0) -> Table:
    """GTEx v10 or v11 SuSiE summaries (Parquet): members of credible sets only.

    `phenotype_id` is the gene, or the intron of an sQTL whose gene is `gene_id`. `afc` (log2 allelic fold
    change), where a release has it, is the effect.
    """
    names = {
        "trait": "phenotype_id", "gene_id": "gene_id?", "variant": "variant_id",
        "pip": "pip", "set_id": "cs_id?", "effect": "afc?",
    }  # fmt: skip
    table = pick(part, names, "a GTEx SuSiE summary", least=("pip", min_pip))
    table = split_variant(table, part).with_columns(
        gene_id=_gene("trait"), tissue=pl.lit(tissue or tissue_of_file(part.name)),
        source_id=pl.col("variant"),
        set_id=pl.concat_str([pl.col("trait"), pl.col("set_id").cast(pl.String)], separator=":"),
    )  # fmt: skip
    return finish(table, "gtex_susie", part, ["trait"])


def read_gtex_pairs(part: Part, tissue: str = "") -> Table:
    """Significant pairs, or the gene table, of GTEx v8 to v11 (text or Parquet): effect is the slope.

    An sQTL has `phenotype_id` (`chr:start:end:clu_N:ENSG`) in place of `gene_id`: it is `set_id`, and its
    last part the gene. These are associations: no PIP tells which variant is causal.
    """
    names = {
        "gene_id": "gene_id?", "set_id": "phenotype_id?", "variant": "variant_id", "effect": "slope",
        "p_value": "pval_nominal",
    }  # fmt: skip
    header = column_names(part)
    if not {"gene_id", "phenotype_id"} & set(header):
        raise FileError(f"{part.name}: no column gene_id or phenotype_id; found {', '.join(header)}")
    table = pick(part, names, "GTEx's significant pairs")
    table = split_variant(table, part).with_columns(
        gene_id=_gene("set_id"), tissue=pl.lit(tissue or tissue_of_file(part.name)),
        source_id=pl.col("variant"), p_value=pl.col("p_value").cast(pl.Float64, strict=False),
    )  # fmt: skip
    return finish(table, "gtex_pairs", part, ["p_value"])


def read_gtex_caveman(part: Part, tissue: str = "") -> Table:
    """CaVEMaN's variants (v8), whose `eQTL` names the alleles (`chr_pos_ref_alt`).

    CAVIAR's table has the same columns, but names no alleles (`1_161274374`): a FileError says so, because
    which of several variants of a position was meant cannot be told.
    """
    names = {
        "tissue": ("TISSUE", "Tissue?"), "gene_id": "GENE", "variant": "eQTL", "chrom": "CHROM", "at": "POS",
        "pip": "Probability",
    }  # fmt: skip
    table = pick(part, names, "GTEx's CaVEMaN or CAVIAR variants")
    named = split_variant(table.drop("chrom", "at"), part)
    if named["alt"].is_null().all():
        raise FileError(
            f"{part.name}: names no alleles ({table['variant'][0]}), as CAVIAR does; take CaVEMaN's, DAP-G's "
            "or SuSiE's table, which name them"
        )
    chosen = pl.lit(tissue or tissue_of_file(part.name))
    named = named.with_columns(tissue=pl.coalesce(pl.col("tissue"), chosen), source_id=pl.col("variant"))
    return finish(named, "gtex_caveman", part)


def read_gtex_dapg(part: Part, tissue: str = "") -> Table:
    """DAP-G's 95 % sets (v8): no header, a variant a line, `gene@tissue=PIP[set]` for each of its signals."""
    table = read_headless(part, _DAPG).with_row_index("row", offset=1)
    table = table.with_columns(pl.col("signals").str.split("|")).explode("signals")
    table = table.filter(pl.col("signals").str.len_chars() > 0)
    split = table.with_columns(pl.col("signals").str.extract_groups(_SIGNAL).alias("_")).unnest("_")
    if split["tissue"].is_null().all():
        first = table["signals"][0]
        raise FileError(f"{part.name}: its sixth column is {first!r}, wanted gene@tissue=PIP[...]")
    split = split.with_columns(
        set_id=pl.concat_str(["gene_id", pl.col("signal").fill_null("")], separator=":").str.strip_chars(":"),
        source_id=pl.col("id"),
    )
    if tissue:
        split = split.filter(pl.col("tissue") == tissue)
    return finish(split.drop("signals", "signal", "size"), "gtex_dapg", part)


def read_finucane(part: Part, tissue: str = "", *, min_pip: float = 0.0) -> Table:
    """GTEx v8 fine-mapped by SuSiE and FINEMAP (Finucane lab, Wang 2021): effect is the marginal one.

    The table has a row a method: `set_id` begins with it. Variants outside of a credible set are there, too:
    tens of millions of rows, of which those below `min_pip` are not kept.
    """
    names = {
        "variant": "variant_hg38", "method": "method", "tissue": "tissue", "gene_id": "gene", "pip": "pip",
        "effect": "beta_marginal", "set_id": "cs_id", "posterior": "beta_posterior", "start": "start",
    }  # fmt: skip
    table = pick(part, names, "the Finucane lab's fine-mapping", least=("pip", min_pip))
    table = split_variant(table, part)
    if tissue:
        table = table.filter(pl.col("tissue") == tissue)
    table = table.with_columns(
        set_id=pl.concat_str([pl.col("method"), pl.col("set_id")], separator=":"),
        source_id=pl.col("variant"),
        posterior=pl.col("posterior").cast(pl.Float64, strict=False),
    )  # fmt: skip
    return finish(table, "finucane", part, ["method", "posterior"])
