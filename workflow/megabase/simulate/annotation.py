"""Text files of the demo portal: FASTA, GTF, junction and site usage tables, VCF and credible sets."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np

from megabase.files import atomic_path
from megabase.seeds import generator
from megabase.sequence import decode
from megabase.simulate import signals
from megabase.simulate.alleles import Allele
from megabase.simulate.catalogue import DemoFile
from megabase.simulate.genomes import DemoGene, DemoGenome
from megabase.simulate.measure import JUNCTION_READS, write_bgzip
from megabase.simulate.qtls import Association
from megabase.simulate.state import State

FASTA_WIDTH = 60
OVERHANG = 40  # maximum spliced overhang that the junction table reports (bp)
CREDIBLE_COLUMNS = (
    "molecular_trait_id", "gene_id", "cs_id", "variant", "rsid", "cs_size", "pip", "pvalue", "beta", "se",
    "z", "cs_min_r2", "region",
)  # fmt: skip
_VCF_HEADER = """##fileformat=VCFv4.2
##source=megabase simulate-demo
##reference={organism}
{contigs}
##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency of the ALT allele">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
"""


def write_fasta(path: Path, genome: DemoGenome) -> None:
    """FASTA, bgzipped."""
    parts = []
    for chrom, codes in genome.chromosomes.items():
        text = decode(codes)
        lines = [text[i : i + FASTA_WIDTH] for i in range(0, len(text), FASTA_WIDTH)]
        parts.append(f">{chrom} {genome.organism}\n" + "\n".join(lines) + "\n")
    write_bgzip(path, "".join(parts))


def _gtf_line(gene: DemoGene, feature: str, start: int, end: int, extra: str) -> str:
    name = gene.gene_id.replace("G0", "_")
    attributes = f'gene_id "{gene.gene_id}"; gene_name "{name}"; gene_type "protein_coding";'
    return f"{gene.chrom}\tdemo\t{feature}\t{start + 1}\t{end}\t.\t{gene.strand}\t.\t{attributes}{extra}"


def _transcripts(gene: DemoGene) -> list[tuple[tuple[int, int], ...]]:
    """Exons of the canonical transcript and, where exons are alternative, of the one without them."""
    exons, skipped = gene.model.exons, set(gene.model.alternative)
    order = range(len(exons)) if gene.model.strand > 0 else range(len(exons) - 1, -1, -1)
    kept = tuple(exon for exon, number in zip(exons, order, strict=True) if number not in skipped)
    return [exons] if not skipped else [exons, kept]


def _gene_lines(gene: DemoGene) -> list[str]:
    lines = [_gtf_line(gene, "gene", gene.model.start, gene.model.end, "")]
    for number, exons in enumerate(_transcripts(gene), 1):
        transcript = gene.gene_id.replace("G", "T", 1) + f".{number}"
        tag = ' tag "Ensembl_canonical";' if number == 1 else ""
        extra = f' transcript_id "{transcript}"; transcript_type "protein_coding";{tag}'
        lines.append(_gtf_line(gene, "transcript", exons[0][0], exons[-1][1], extra))
        for rank, (start, end) in enumerate(exons if gene.model.strand > 0 else exons[::-1], 1):
            lines.append(_gtf_line(gene, "exon", start, end, f"{extra} exon_number {rank};"))
    return lines


def write_gtf(path: Path, genome: DemoGenome) -> None:
    """Gene models in GENCODE style, bgzipped."""
    lines = [f"##description: demo organism {genome.organism}", "##format: gtf"]
    for gene in genome.genes:
        lines += _gene_lines(gene)
    write_bgzip(path, "\n".join(lines) + "\n")


def draw_junctions(state: State, file: DemoFile, depths: Iterable[float], seed: int) -> list[tuple]:
    """Junctions with reads: chrom, intron start, end (0-based half-open), strand (1, -1), reads over the
    depths.
    """
    rows = signals.junctions(state, file.cell.index)
    rates = np.array([row[-1] for row in rows]) * JUNCTION_READS
    total = np.zeros(len(rows), dtype=np.int64)
    for replicate, depth in enumerate(depths, 1):
        rng = generator(seed, "simulate", "junctions", file.organism, file.cell.name, replicate)
        counts = rng.poisson(rates * depth)
        if file.output_type == "splice_site_usage" or replicate == file.replicate:
            total += counts
    return [(*row[:4], int(count)) for row, count in zip(rows, total, strict=True) if count]


def write_junctions(path: Path, genome: DemoGenome, rows: list[tuple]) -> None:
    """STAR SJ.out.tab: first and last base of the intron 1-based, strand 1 or 2, motif GT/AG 1 or CT/AC 2."""
    annotated = {
        (gene.chrom, left[1], right[0])
        for gene in genome.genes
        for exons in _transcripts(gene)
        for left, right in pairwise(exons)
    }
    lines = []
    for chrom, start, end, strand, count in rows:
        code = 1 if strand > 0 else 2
        known = int((chrom, start, end) in annotated)
        lines.append(
            f"{chrom}\t{start + 1}\t{end}\t{code}\t{code}\t{known}\t{count}\t0\t{min(OVERHANG, 10 + count)}"
        )
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def site_usage(rows: list[tuple]) -> list[tuple[str, int, str, str, int, int]]:
    """chrom, position (0-based), strand, kind, using and skipping reads of every site of the junctions.

    A donor is the last base of its exon, an acceptor the first; a junction skips the sites inside its intron.
    """
    sites: dict[tuple[str, int, int, str], int] = {}
    for chrom, start, end, strand, count in rows:
        left, right = ("donor", "acceptor") if strand > 0 else ("acceptor", "donor")
        for position, kind in ((start - 1, left), (end, right)):
            key = chrom, position, strand, kind
            sites[key] = sites.get(key, 0) + count
    skipping = dict.fromkeys(sites, 0)
    keys = sorted(sites)
    for chrom, start, end, strand, count in rows:
        for key in _between(keys, chrom, start, end):
            if key[2] == strand:
                skipping[key] += count
    return [
        (c, p, "+" if s > 0 else "-", kind, sites[c, p, s, kind], skipping[c, p, s, kind])
        for c, p, s, kind in keys
    ]


def _between(keys: list[tuple], chrom: str, start: int, end: int) -> list[tuple]:
    return keys[bisect_left(keys, (chrom, start, -2, "")) : bisect_left(keys, (chrom, end, -2, ""))]


def write_usage(path: Path, rows: list[tuple]) -> None:
    """Splice-site usage as TSV; position is 1-based, usage = using / (using + skipping)."""
    lines = ["chrom\tposition\tstrand\tkind\tusing\tskipping\tusage"]
    for chrom, position, strand, kind, using, skipping in site_usage(rows):
        usage = using / (using + skipping)
        lines.append(f"{chrom}\t{position + 1}\t{strand}\t{kind}\t{using}\t{skipping}\t{usage:.6g}")
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def write_vcf(
    path: Path, genome: DemoGenome, names: dict[Allele, str], frequencies: dict[Allele, float]
) -> None:
    """VCF 4.2, bgzipped, sorted; names: rsID of each variant."""
    contigs = "\n".join(f"##contig=<ID={c},length={len(s)}>" for c, s in genome.chromosomes.items())
    text = _VCF_HEADER.format(organism=genome.organism, contigs=contigs)
    for allele in sorted(names):
        text += (
            f"{allele.chrom}\t{allele.position + 1}\t{names[allele]}\t{allele.ref}\t{allele.alt}\t.\tPASS\t"
        )
        text += f"AF={frequencies[allele]:.4f}\n"
    write_bgzip(path, text)


def _trait(association: Association, genome: DemoGenome) -> str:
    """The gene, or LeafCutter's name of an intron: exonic bases on both sides, 1-based."""
    gene = genome.genes[association.gene]
    if association.intron is None:
        return gene.gene_id
    start, end = association.intron
    return f"{gene.chrom}:{start}:{end + 1}:clu_{association.gene + 1}_{gene.strand}"


def credible_row(
    association: Association, cell: int, genome: DemoGenome, rsid: str, rng: np.random.Generator
) -> list[str]:
    """One row of a credible-set table: noise on the known effect, PIP above 0.9 or below 0.01."""
    gene, effect = genome.genes[association.gene], association.effect[cell]
    pip = rng.uniform(0.9, 1.0) if association.causal else rng.uniform(0.0, 0.0099)
    error = float(rng.uniform(0.03, 0.06)) * (1.0 if association.kind == "eqtl" else 0.5)
    beta = effect + float(rng.normal(0, error))
    z = beta / error
    trait = _trait(association, genome)
    low, high = max(gene.model.tss - 100_000, 1), gene.model.tss + 100_000
    pvalue = math.erfc(abs(z) / math.sqrt(2))
    return [
        trait, gene.gene_id, f"{trait}_L1", association.allele.name, rsid, str(int(rng.integers(1, 40))),
        f"{pip:.6f}", f"{pvalue:.4g}", f"{beta:.6f}", f"{error:.6f}", f"{z:.6f}",
        f"{rng.uniform(0.6, 1.0):.4f}", f"{gene.chrom}:{low}-{high}",
    ]  # fmt: skip


def write_credible_sets(path: Path, rows: list[list[str]]) -> None:
    """SuSiE credible sets as the eQTL Catalogue publishes them (TSV, gzip)."""
    lines = ["\t".join(CREDIBLE_COLUMNS)] + ["\t".join(row) for row in rows]
    write_bgzip(path, "\n".join(lines) + "\n")
