"""A small genome, its genes and a predictor without training, for the tests of scoring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, conv1d, softplus

from megabase.files import Stamp, write_table
from megabase.genes import prepare_genes
from megabase.genome import Genome, prepare_genome
from megabase.model import AlphaGenome, Sizes, save_model
from megabase.scoring.annotation import Annotation, GeneModel
from megabase.sequence import one_hot
from megabase.spec import OUTPUTS, REJECTED_COLUMNS, TRACK_OUTPUTS, OutputType
from megabase.variants import ACCEPTED_SCHEMA, REJECTED_SCHEMA, Variant

LENGTH = 40_000


SMALLEST = {
    "channels_1bp": 4, "channels_step": 2, "tower_blocks": 2, "attention_heads": 2, "query_channels": 4,
    "value_channels": 4, "pair_channels": 4, "pair_heads": 2, "pair_query_channels": 4,
    "pair_position_features": 8, "junction_hidden": 4, "max_sites": 8,
}  # fmt: skip
GTF = """chr1\tx\texon\t9001\t9300\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; gene_biotype "protein_coding";
chr1\tx\texon\t10501\t10700\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; gene_biotype "protein_coding";
chr1\tx\texon\t11801\t12000\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; gene_biotype "protein_coding";
"""


def make_genome(folder: Path) -> Genome:
    """One chromosome of random bases with a run of N."""
    rng = np.random.default_rng(3)
    bases = rng.choice(list("ACGT"), LENGTH)
    bases[30_000:31_000] = "N"
    fasta = folder / "toy.fa"
    fasta.write_text(">chr1\n" + "".join(bases) + "\n>chr2\n" + "".join(bases[:5000]) + "\n")
    return prepare_genome(fasta, folder / "genome", organism="toy", name="toy")


def gene(gene_id: str, start: int, end: int, strand: str, kind: str = "protein_coding") -> GeneModel:
    """A gene of three exons of 200 bases and two introns."""
    middle = (start + end) // 2
    exons = [(start, start + 200), (middle, middle + 200), (end - 200, end)]
    introns = [(start + 200, middle), (middle + 200, end - 200)]
    tss = start if strand == "+" else end - 1
    sites = np.array([start + 900, end - 1]) if strand == "+" else np.array([start, end - 900])
    return GeneModel(
        gene_id, gene_id.upper(), kind, "chr1", start, end, strand, [tss],
        np.array(exons), np.array(introns), sites,
    )  # fmt: skip


def make_annotation() -> Annotation:
    """Two coding genes on both strands that overlap, one non-coding, one far away."""
    return Annotation([
        gene("plus", 9_000, 12_000, "+"), gene("minus", 11_000, 14_000, "-"),
        gene("noncoding", 9_500, 11_500, "+", "lncRNA"), gene("far", 34_000, 36_000, "+"),
    ])  # fmt: skip


class ToyPredictor:
    """Fixed random convolutions: every output depends on 31 bases around it."""

    name, window, organisms = "toy", 4096, ["toy"]

    def __init__(self) -> None:
        self.calls = 0
        generator = torch.Generator().manual_seed(1)
        channels = {o: 3 for o in TRACK_OUTPUTS} | {OutputType.CONTACT_MAPS: 2, OutputType.SPLICE_SITES: 5}
        channels |= {OutputType.SPLICE_SITE_USAGE: 4, OutputType.SPLICE_JUNCTIONS: 4}
        self.weights = {o: torch.randn(n, 4, 31, generator=generator) for o, n in channels.items()}

    def tracks(self, organism: str) -> dict[OutputType, list[dict]]:
        partners = {3: (1, 0, 2), 4: (2, 3, 0, 1), 2: (0, 1), 5: (2, 3, 0, 1, 4)}
        strands = {3: "+-.", 2: "..", 5: "++--.", 4: "++--"}
        return {
            o: [
                {"name": f"{o.value} {i}", "output_type": o.value, "strand": s,
                 "strand_partner": partners[len(w)][i], "biosample_name": f"cell {i % 2}",
                 "ontology_curie": f"CL:{i % 2}", "organism": organism}
                for i, s in enumerate(strands[len(w)])
            ]
            for o, w in self.weights.items()
        }  # fmt: skip

    def predict(self, codes: Tensor, organism: str, *, outputs=None, splice_positions=None) -> dict:
        assert organism == "toy"
        self.calls += 1
        x = one_hot(torch.as_tensor(codes)).transpose(1, 2)
        signals = {o: conv1d(x, self.weights[o], padding=15) for o in outputs or self.weights}
        return {o: self._head(o, y, splice_positions) for o, y in signals.items()}

    def _head(self, output: OutputType, y: Tensor, positions: Tensor | None) -> dict[str, Tensor]:
        if output in TRACK_OUTPUTS:
            fine = softplus(y)
            coarse = {"128bp": (avg_pool1d(fine, 128) * 128).transpose(1, 2)}
            return coarse if OUTPUTS[output].resolutions == (128,) else {"1bp": fine.transpose(1, 2)} | coarse
        if output is OutputType.CONTACT_MAPS:
            pooled = avg_pool1d(y, 2048).transpose(1, 2)
            return {"values": pooled[:, :, None] + pooled[:, None, :]}
        if output is OutputType.SPLICE_SITES:
            return {"probabilities": y.transpose(1, 2).softmax(-1)}
        if output is OutputType.SPLICE_SITE_USAGE:
            return {"probabilities": y.transpose(1, 2).sigmoid()}
        return {"values": self._pairs(y.transpose(1, 2), positions.clamp_min(0)), "positions": positions}

    @staticmethod
    def _pairs(y: Tensor, positions: Tensor) -> Tensor:
        rows = []
        for signal, (donor_p, acceptor_p, donor_m, acceptor_m) in zip(y, positions, strict=True):
            plus = signal[donor_p][:, None, :2] + signal[acceptor_p][None, :, :2]
            minus = signal[donor_m][:, None, 2:] + signal[acceptor_m][None, :, 2:]
            rows.append(softplus(torch.cat([plus, minus], -1)))
        return torch.stack(rows)


def make_world(folder: Path) -> Genome:
    """A genome, genes and an untrained network with every head in `folder`; returns the genome."""
    genome = make_genome(folder)
    (folder / "genes.gtf").write_text(GTF)
    prepare_genes(folder / "genes.gtf", folder / "genome", folder / "genes")
    tracks = ToyPredictor().tracks("toy")
    torch.manual_seed(0)
    model = AlphaGenome(Sizes.preset("tiny", {o: len(r) for o, r in tracks.items()}, **SMALLEST))
    info = {"name": "student-seed0", "predictor": "alphagenome", "window": 2048, "organisms": ["toy"],
            "tracks": {"toy": {o.value: r for o, r in tracks.items()}}}  # fmt: skip
    save_model(folder / "model", model, info)
    return genome


def some_variants(genome: Genome) -> list[Variant]:
    """SNVs, insertions, deletions and an MNV: in genes, off genes, at both ends and in the run of N."""
    places = [
        (10_600, 1, 1), (10_601, 1, 4), (10_602, 5, 1), (11_200, 2, 3), (11_300, 1, 1), (0, 1, 1), (3, 3, 1),
        (LENGTH - 1, 1, 1), (LENGTH - 6, 1, 9), (30_500, 1, 1), (22_000, 1, 1), (22_000, 3, 3),
        (35_000, 1, 2), (9_205, 60, 1), (13_800, 1, 1),
    ]  # fmt: skip
    rng = np.random.default_rng(7)
    found = []
    for position, ref_length, alt_length in places:
        codes = genome.codes("chr1", position, position + ref_length)
        ref = "".join("ACGTA"[c] for c in codes)
        shared = ref[0] if alt_length != ref_length else "ACGT"[(int(codes[0]) + 1) % 4]
        alt = shared + "".join(rng.choice(list("ACGT"), alt_length - 1))
        found.append(Variant("chr1", position, ref, alt))
    return found


def in_order(variants: list[Variant]) -> list[Variant]:
    """Variants in genome order."""
    return sorted(variants, key=lambda v: (v.chrom, v.position))


def write_variants(variants: list[Variant], path: Path) -> Path:
    """A `variants` table, in genome order as `split_variants` writes it."""
    variants = in_order(variants)
    rows = [
        (v.variant_id, v.chrom, v.position, v.ref, v.alt, f"rs{i}", i + 1, 1) for i, v in enumerate(variants)
    ]
    write_table(pl.DataFrame(rows, schema=ACCEPTED_SCHEMA, orient="row"), path, Stamp("variants"))
    return path


def write_rejected(path: Path) -> Path:
    """A `rejected` table of one row."""
    row = (99, "chr9", 5, None, "A", "<DEL>", "symbolic_allele", "made for a test")
    table = pl.DataFrame([row], schema={c: REJECTED_SCHEMA[c] for c in REJECTED_COLUMNS}, orient="row")
    write_table(table, path, Stamp("rejected"))
    return path
