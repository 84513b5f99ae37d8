"""GTF to gene, transcript and exon tables: Ensembl, GENCODE and reduced GTFs alike.

The 1-based closed positions of GTF become 0-based half-open here and nowhere else.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from megabase.files import FileError, Stamp, hash_inputs, write_table
from megabase.genome import Genes, Genome, some_of
from megabase.logs import LOGGER
from megabase.spec import EXON_COLUMNS, GENE_COLUMNS, TRANSCRIPT_COLUMNS

FEATURES = ("gene", "transcript", "exon")
_GTF = ("chrom", "source", "feature", "start", "end", "score", "strand", "frame", "attributes")
_TAGS = {"ensembl_tag": "Ensembl_canonical", "mane_tag": "MANE_Select"}
UNKNOWN_TYPE = "unknown"  # gene_type of a GTF that does not tell


def prepare_genes(gtf: str | Path, genome: str | Path, output: str | Path, *, config_hash: str = "") -> Genes:
    """Write `genes`, `transcripts` and `exons` (.parquet) of a GTF, plain or gzip, into the folder `output`.

    `genome` is a folder of `prepare_genome`; rows on contigs that it does not know are counted and left out.
    Missing rows are derived: a gene from its transcripts, a transcript from its exons, a gene without
    transcripts gets one of its own span. A gene has one canonical transcript: tagged Ensembl_canonical, else
    MANE_Select, else the one with most exonic bases. A broken row is reported and left out; FileError for a
    row beyond the end of its chromosome (another assembly), a file of which most rows are broken, and one
    of which no contig is the genome's.
    """
    source, sequence = Path(gtf), Genome.open(genome)
    rows = _on_genome(_read_gtf(source), source, sequence)
    genes, transcripts, exons = _one_locus(*_complete(rows))
    transcripts = _with_canonical(transcripts, exons)
    tables = {
        "genes": _in_order(genes, sequence, "gene_id").select(GENE_COLUMNS),
        "transcripts": _in_order(transcripts, sequence, "transcript_id").select(TRANSCRIPT_COLUMNS),
        "exons": _in_order(_numbered(exons), sequence, "transcript_id").select(EXON_COLUMNS),
    }
    inputs = hash_inputs([source, Path(genome) / "sequence.json"])
    for kind, table in tables.items():
        write_table(table, Path(output) / f"{kind}.parquet", Stamp(kind, config_hash, inputs))
    LOGGER.info("genes: %s", ", ".join(f"{table.height} {kind}" for kind, table in tables.items()))
    return Genes.open(output)


def _read_gtf(path: Path) -> pl.DataFrame:
    """Gene, transcript and exon rows with their attributes; 0-based half-open; FileError with the line."""
    if not path.exists():
        raise FileError(f"{path}: GTF not found")
    try:
        raw = pl.read_csv(
            path,
            separator="\t",
            has_header=False,
            new_columns=list(_GTF),
            schema_overrides=dict.fromkeys(_GTF, pl.String),
            schema=dict.fromkeys(_GTF, pl.String),
            comment_prefix="#",
            quote_char=None,
            infer_schema=False,
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FileError(f"{path}: cannot be read as GTF ({_first_line(error)}){_bad_line(path)}") from error
    rows = raw.with_row_index("row").filter(pl.col("feature").is_in(FEATURES))
    start, end = pl.col("start").cast(pl.Int64, strict=False), pl.col("end").cast(pl.Int64, strict=False)
    rows = rows.with_columns(start=start - 1, end=end, **_attributes())
    return _sound_rows(rows, path).drop("source", "score", "frame", "attributes")


def _attributes() -> dict[str, pl.Expr]:
    """Columns cut out of the attribute text (`key "value";`, quotes optional)."""

    def value(key: str) -> pl.Expr:
        return pl.col("attributes").str.extract(rf'(?:^|;\s*){key}\s+"?([^";]+?)"?\s*(?:;|$)')

    gene_type = pl.coalesce(value("gene_type"), value("gene_biotype"), pl.lit(UNKNOWN_TYPE))
    gene_id = value("gene_id")
    tags = {
        column: pl.col("attributes").str.contains(rf'tag\s+"?{tag}"?\s*(?:;|$)')
        for column, tag in _TAGS.items()
    }
    return {
        "gene_id": gene_id,
        "gene_name": pl.coalesce(value("gene_name"), gene_id),
        "gene_type": gene_type,
        "transcript_id": value("transcript_id"),
        **tags,
    }


_BROKEN = {
    "start and end are not whole numbers with 1 <= start <= end": pl.col("start").is_null()
    | pl.col("end").is_null()
    | (pl.col("start") < 0)
    | (pl.col("end") <= pl.col("start")),
    "strand is not + or -": ~pl.col("strand").is_in(["+", "-"]).fill_null(False),
    "attribute gene_id is missing": pl.col("gene_id").is_null(),
    "attribute transcript_id is missing": (pl.col("feature") != "gene") & pl.col("transcript_id").is_null(),
}


def _sound_rows(rows: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Rows that can be used; broken ones are reported and left out, FileError if most are broken."""
    if rows.is_empty():
        raise FileError(f"{path}: has no gene, transcript or exon rows; wanted a GTF")
    total = rows.height
    for message, condition in _BROKEN.items():
        bad, rows = rows.filter(condition), rows.filter(~condition)
        if bad.is_empty():
            continue
        line, text = _line_of_row(path, int(bad["row"][0]))
        report = f"{path}: line {line}: {message}; found {text!r}; {bad.height} such rows of {total}"
        if 2 * bad.height > total:
            raise FileError(f"{report}: wanted a GTF, fetch it again or use another annotation")
        LOGGER.warning("genes: %s, left out", report)
    return rows


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt") if packed else path.open("rt") as text:
        yield from text


def _line_of_row(path: Path, row: int) -> tuple[int, str]:
    """Line number and text of the `row`-th line that is no comment; only read to explain an error."""
    data = ((n, line) for n, line in enumerate(_lines(path), 1) if line.strip() and not line.startswith("#"))
    return next((n, line.strip()[:120]) for k, (n, line) in enumerate(data) if k == row)


def _bad_line(path: Path) -> str:
    """Where a file that is no GTF goes wrong, if its text can be read at all."""
    try:
        for number, line in enumerate(_lines(path), 1):
            if line.strip() and not line.startswith("#") and line.count("\t") != len(_GTF) - 1:
                return f"; line {number} has {line.count(chr(9)) + 1} columns, wanted {len(_GTF)}"
    except (OSError, EOFError, UnicodeDecodeError) as error:
        return f"; {error}: the file is cut short or not text, fetch it again"
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _on_genome(rows: pl.DataFrame, path: Path, genome: Genome) -> pl.DataFrame:
    """Rows on the genome's chromosomes, under its names."""
    names = genome.resolve_names(rows["chrom"].unique(maintain_order=True))
    known = {name: chrom for name, chrom in names.items() if chrom is not None}
    if not known:
        raise FileError(
            f"{path}: no contig of the GTF ({some_of(names)}) is in genome {genome.name} "
            f"({some_of(genome.lengths)}); use matching files, or name the pairs in the genome's alias table"
        )
    unknown = rows.filter(~pl.col("chrom").is_in(list(known)))
    if unknown.height:
        LOGGER.warning(
            "genes: %d of %d rows left out, their contigs are not in genome %s: %s",
            unknown.height, rows.height, genome.name, some_of(unknown["chrom"].unique(maintain_order=True)),
        )  # fmt: skip
    rows = rows.filter(pl.col("chrom").is_in(list(known))).with_columns(
        pl.col("chrom").replace_strict(known, return_dtype=pl.String)
    )
    length = pl.col("chrom").replace_strict(genome.lengths, return_dtype=pl.Int64)
    if (beyond := rows.filter(pl.col("end") > length)).height:
        line, text = _line_of_row(path, int(beyond["row"][0]))
        raise FileError(
            f"{path}: line {line}: ends beyond {beyond['chrom'][0]} of genome {genome.name} "
            f"({genome.lengths[beyond['chrom'][0]]} bp), so the GTF is of another assembly; found {text!r}"
        )
    return rows


_GENE = ["gene_id", "chrom", "strand"]
_TRANSCRIPT = ["transcript_id", *_GENE]
_ANNOTATION = [pl.col("gene_name").first(), pl.col("gene_type").first()]
_SPAN = [pl.col("start").min(), pl.col("end").max()]


def _complete(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Genes, transcripts and exons in which every gene has a transcript and every transcript an exon."""
    by_feature = {name: rows.filter(pl.col("feature") == name) for name in FEATURES}
    tags = [pl.col(column).any() for column in _TAGS]
    everything = [*_SPAN, *_ANNOTATION]

    exons = by_feature["exon"]
    if exons.is_empty():
        LOGGER.warning(
            "genes: the GTF has no exon rows; each transcript counts as one exon of its whole length"
        )
    given = by_feature["transcript"].group_by(_TRANSCRIPT, maintain_order=True).agg(*everything, *tags)
    derived = exons.group_by(_TRANSCRIPT, maintain_order=True).agg(*everything, *tags)
    transcripts = pl.concat([given, derived.join(given, on=_TRANSCRIPT, how="anti")])

    listed = by_feature["gene"].group_by(_GENE, maintain_order=True).agg(*everything)
    grouped = transcripts.group_by(_GENE, maintain_order=True).agg(*everything)
    genes = pl.concat([listed, grouped.join(listed, on=_GENE, how="anti")])

    alone = genes.join(transcripts, on=_GENE, how="anti").with_columns(transcript_id="gene_id")
    alone = alone.with_columns(pl.lit(False).alias(column) for column in _TAGS)
    transcripts = pl.concat([transcripts, alone.select(transcripts.columns)])
    columns = [*_TRANSCRIPT, "start", "end"]
    bare = transcripts.join(exons, on=_TRANSCRIPT, how="anti")
    exons = pl.concat([exons.select(columns), bare.select(columns)]).unique(maintain_order=True)
    return genes, transcripts, exons


def _one_locus(
    genes: pl.DataFrame, transcripts: pl.DataFrame, exons: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """A gene id that names several loci keeps the first one in the file (PAR copies on Y, placed repeats)."""
    kept = genes.unique("gene_id", keep="first", maintain_order=True)
    if lost := genes.height - kept.height:
        again = genes.join(kept, on=_GENE, how="anti")["gene_id"]
        LOGGER.warning("genes: %d further loci of the same gene id left out: %s", lost, some_of(again))
    transcripts = transcripts.join(kept, on=_GENE, how="semi")
    transcripts = transcripts.unique("transcript_id", keep="first", maintain_order=True)
    return kept, transcripts, exons.join(transcripts, on=_TRANSCRIPT, how="semi")


def _with_canonical(transcripts: pl.DataFrame, exons: pl.DataFrame) -> pl.DataFrame:
    """Add `canonical`: exactly one transcript of each gene; ties go to the smaller transcript id."""
    exonic = exons.group_by("transcript_id").agg(exonic=(pl.col("end") - pl.col("start")).sum())
    ranked = transcripts.join(exonic, on="transcript_id", how="left").sort(
        "gene_id", *_TAGS, "exonic", "transcript_id",
        descending=[False, *[True] * len(_TAGS), True, False],
    )  # fmt: skip
    best = ranked.unique("gene_id", keep="first", maintain_order=True)["transcript_id"]
    return transcripts.with_columns(canonical=pl.col("transcript_id").is_in(best.implode()))


def _numbered(exons: pl.DataFrame) -> pl.DataFrame:
    """Exons with `number` 1, 2, ... in the order of transcription."""
    rank = pl.col("start").rank("ordinal")
    forward = rank.over("transcript_id")
    backward = pl.len().over("transcript_id") + 1 - forward
    number = pl.when(pl.col("strand") == "+").then(forward).otherwise(backward)
    return exons.with_columns(number=number.cast(pl.Int64))


def _in_order(table: pl.DataFrame, genome: Genome, name: str) -> pl.DataFrame:
    """Rows in genome order, with the transcription start: the first base read, 0-based."""
    rank = pl.col("chrom").replace_strict(genome.order, return_dtype=pl.Int64)
    tss = pl.when(pl.col("strand") == "+").then("start").otherwise(pl.col("end") - 1)
    table = table.with_columns(_rank=rank, tss=tss)
    return table.sort("_rank", "start", "end", name, maintain_order=True).drop("_rank")
