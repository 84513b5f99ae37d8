"""The closed vocabulary of the field: output types, strands, alphabets and table columns.

This file is the ground that every stage stands on. It imports nothing but the standard library, so the
numerical core may use it on any machine. Source of the output facts: AlphaGenome (bioRxiv
2025.06.25.661532), Methods, and the published head definitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

TOKEN = 128  # bases a transformer token stands for
PAIR = 2048  # bases a contact-map bin stands for
ALPHABET = "ACGT"  # code 0..3; everything else is code 4 and one-hot encodes to zeros
UNKNOWN_BASE = 4


class OutputType(StrEnum):
    """The eleven kinds of output, in the order in which tables and reports list them."""

    RNA_SEQ = "rna_seq"
    CAGE = "cage"
    PROCAP = "procap"
    DNASE = "dnase"
    ATAC = "atac"
    CHIP_HISTONE = "chip_histone"
    CHIP_TF = "chip_tf"
    CONTACT_MAPS = "contact_maps"
    SPLICE_SITES = "splice_sites"
    SPLICE_SITE_USAGE = "splice_site_usage"
    SPLICE_JUNCTIONS = "splice_junctions"


class Kind(StrEnum):
    """What shape of data an output type has; decides its store, its head and its loss."""

    TRACKS = "tracks"  # one value a base and channel
    CONTACTS = "contacts"  # one value a pair of 2,048-bp bins and channel
    SITES = "sites"  # one of five classes a base
    USAGE = "usage"  # a fraction a base, biosample and strand
    JUNCTIONS = "junctions"  # a count a donor, acceptor, biosample and strand


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """Closed facts of one output type.

    resolutions: bases a value stands for, finest first. squash: targets are raised to the power 0.75
    before the soft clip (RNA-seq only). scale_total: total that a normalized track (or strand pair) sums
    to, None where the signal is left as measured. rc_shift: bases by which the reverse-complement signal
    is rolled (a DNase cut lies between two bases, so the strands see it one base apart). published_head:
    name of the head in the published checkpoint.
    """

    kind: Kind
    resolutions: tuple[int, ...]
    published_head: str
    squash: bool = False
    scale_total: float | None = None
    rc_shift: int = 0


_T = Kind.TRACKS
OUTPUTS: dict[OutputType, OutputSpec] = {
    OutputType.RNA_SEQ: OutputSpec(_T, (1, TOKEN), "rna_seq", squash=True, scale_total=1e8),
    OutputType.CAGE: OutputSpec(_T, (1, TOKEN), "cage", scale_total=1e8),
    OutputType.PROCAP: OutputSpec(_T, (1, TOKEN), "procap", scale_total=1e8),
    OutputType.DNASE: OutputSpec(_T, (1, TOKEN), "dnase", scale_total=1e8, rc_shift=1),
    OutputType.ATAC: OutputSpec(_T, (1, TOKEN), "atac", scale_total=1e8),
    OutputType.CHIP_HISTONE: OutputSpec(_T, (TOKEN,), "chip_histone"),
    OutputType.CHIP_TF: OutputSpec(_T, (TOKEN,), "chip_tf"),
    OutputType.CONTACT_MAPS: OutputSpec(Kind.CONTACTS, (PAIR,), "contact_maps"),
    OutputType.SPLICE_SITES: OutputSpec(Kind.SITES, (1,), "splice_sites_classification"),
    OutputType.SPLICE_SITE_USAGE: OutputSpec(Kind.USAGE, (1,), "splice_sites_usage"),
    OutputType.SPLICE_JUNCTIONS: OutputSpec(Kind.JUNCTIONS, (1,), "splice_sites_junction"),
}
TRACK_OUTPUTS = tuple(o for o, s in OUTPUTS.items() if s.kind is Kind.TRACKS)
SPLICE_OUTPUTS = (OutputType.SPLICE_SITES, OutputType.SPLICE_SITE_USAGE, OutputType.SPLICE_JUNCTIONS)

# Groups of output types that an ablation trains alone or leaves out (AlphaGenome, Fig. 7).
MODALITIES: dict[str, tuple[OutputType, ...]] = {
    "expression": (OutputType.RNA_SEQ, OutputType.CAGE, OutputType.PROCAP),
    "accessibility": (OutputType.DNASE, OutputType.ATAC),
    "histone": (OutputType.CHIP_HISTONE,),
    "tf": (OutputType.CHIP_TF,),
    "contacts": (OutputType.CONTACT_MAPS,),
    "splicing": SPLICE_OUTPUTS,
}


class SiteClass:
    """Classes of the splice-site head, in channel order. Donor = last exonic base, acceptor = first."""

    DONOR_PLUS = 0
    ACCEPTOR_PLUS = 1
    DONOR_MINUS = 2
    ACCEPTOR_MINUS = 3
    NONE = 4
    NAMES = ("donor+", "acceptor+", "donor-", "acceptor-", "none")
    REVERSE_COMPLEMENT = (2, 3, 0, 1, 4)  # class of a site seen from the other strand


STRANDS = ("+", "-", ".")

# One row a number that an ablation compares. level: what is varied; series: which line of the figure.
ABLATION_COLUMNS = (
    "ablation", "kind", "level", "series", "seed", "model", "organism", "output_type", "benchmark", "scorer",
    "resolution", "metric", "value", "low", "high", "n",
)  # fmt: skip

# One row a file that a release is made of. output_type is an OutputType or one of MANIFEST_ROLES.
MANIFEST_COLUMNS = (
    "portal", "accession", "experiment", "assay", "output_type", "organism", "assembly", "ontology_curie",
    "biosample", "life_stage", "strand", "replicate", "target", "url", "md5", "size", "status", "licence",
    "retrieved_utc",
)  # fmt: skip
MANIFEST_OPTIONAL = ("crc32c", "supersedes")  # columns that a manifest has only where a row fills them
MANIFEST_ROLES = (
    "genome", "genes", "regions", "splits", "variants", "qtl", "mpra", "polya_sites", "aliases",
)  # fmt: skip

# One row a channel, in channel order.
TRACK_COLUMNS = (
    "name", "output_type", "organism", "strand", "strand_partner", "ontology_curie", "biosample_name",
    "biosample_type", "life_stage", "assay", "target", "data_source", "nonzero_mean", "total",
    "n_replicates", "accessions",
)  # fmt: skip

# One row a channel, or a group that could not be normalized: what it measured, and a verdict.
QUALITY_COLUMNS = (
    "organism", "output_type", "name", "strand", "assay", "accessions", "n_replicates", "measured", "total",
    "covered", "missing", "masked", "strand_share", "replicate_correlation", "worst_replicate",
    "worst_correlation", "nonzero_mean", "largest", "outlier", "outlier_in", "verdict", "reason",
)  # fmt: skip

# What is told of a track beside them: how well its biosample was represented in training.
REPRESENTATION_COLUMNS = ("biosample_tracks", "biosample_outputs", "assay_tracks", "representation")

GENE_COLUMNS = ("gene_id", "gene_name", "gene_type", "chrom", "start", "end", "strand", "tss")
TRANSCRIPT_COLUMNS = ("transcript_id", "gene_id", "chrom", "start", "end", "strand", "tss", "canonical")
EXON_COLUMNS = ("transcript_id", "gene_id", "chrom", "start", "end", "strand", "number")
VARIANT_COLUMNS = ("variant_id", "chrom", "position", "ref", "alt", "source_id", "record", "allele")
# One row a variant, gene and tissue of a published table. position: 0-based; row: 1-based data row of the
# file; effect: of ALT against REF; label: 1/0 of a classification; set_id: credible set or intron;
# source_id: the variant's or element's own name there.
QTL_COLUMNS = (
    "source", "row", "chrom", "position", "ref", "alt", "gene_id", "tissue", "ontology_curie", "effect",
    "pip", "label", "set_id", "source_id",
)  # fmt: skip
REJECTED_COLUMNS = ("record", "chrom", "position", "source_id", "ref", "alt", "reason", "detail")
EVALUATION_COLUMNS = (
    "model", "organism", "split", "output_type", "track", "resolution", "metric", "value", "low", "high", "n",
)  # fmt: skip
UNCERTAINTY_COLUMNS = (
    "model", "organism", "output_type", "quantity", "level", "value", "low", "high", "n",
)  # fmt: skip
BENCHMARK_COLUMNS = (
    "benchmark", "model", "scorer", "metric", "group", "value", "low", "high", "n", "n_positive",
)  # fmt: skip


def file_name(scorer: str) -> str:
    """Name of a scorer in paths: `:` of the custom grammar becomes `.`, which every file system takes."""
    return scorer.replace(":", ".")
