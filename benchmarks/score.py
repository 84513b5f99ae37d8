"""Seconds a variant of the scoring engine, paired against two whole passes of the same model.

    python benchmarks/score.py --length 131072 --variants 64 --span 200000
    python benchmarks/score.py --data FOLDER --variants 64 --span 200000

The model has the published widths and random weights. The variants are spread over a span of a random genome
with genes of the human genome's density and lengths, or of a real one: FOLDER has `genome.fa` of one contig,
`genes.gtf.gz` and `variants.vcf.gz`. The whole passes are timed on a few of the
variants between the engine's runs, so that a busy machine is unfair to none; told is the ratio of seconds a
variant, beside that of the operations by formula. With --count the operations alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import torch

from megabase.genes import prepare_genes
from megabase.genome import Genes, Genome, prepare_genome
from megabase.memory import keep_large_blocks
from megabase.model import AlphaGenome, Sizes
from megabase.model.flops import forward_flop, read_flop
from megabase.predictors.alphagenome import AlphaGenomePredictor
from megabase.scoring.annotation import Annotation, GeneModel
from megabase.scoring.engine import Engine
from megabase.scoring.placement import PLACEMENTS
from megabase.scoring.scorers import RECOMMENDED, Part, Scorer
from megabase.spec import OUTPUTS, OutputType
from megabase.variants import Variant, read_variants

# Published track counts of human, without padding.
HUMAN = {
    "rna_seq": 667, "cage": 546, "procap": 12, "dnase": 305, "atac": 167, "chip_histone": 1116,
    "chip_tf": 1617, "contact_maps": 28, "splice_sites": 5, "splice_site_usage": 734, "splice_junctions": 734,
}  # fmt: skip
PUBLISHED = Sizes.preset("alphagenome")
# With --count: what is computed where does not depend on the widths, so that a narrow network tells it fast.
NARROW = Sizes.preset(
    "tiny", {o: 5 if o == OutputType.SPLICE_SITES else 2 for o in PUBLISHED.channels},
    channels_1bp=4, channels_step=2, tower_blocks=1, pair_heads=1,
)  # fmt: skip
GENES_PER_MB = 20  # GENCODE v46 has 63,086 genes, 20,065 of them coding, on 3.1 Gb
SETS = {
    "centre-mask": lambda s: s.part is Part.CENTRE,
    "recommended": lambda s: True,
}


class RandomGenome:
    """One chromosome of random bases, unknown beyond its ends."""

    organism = "human"

    def __init__(self, length: int, seed: int = 0) -> None:
        self.lengths = {"chr1": length}
        self.sequence = np.random.default_rng(seed).integers(0, 4, length).astype(np.uint8)

    def codes(self, chrom: str, start: int, end: int) -> np.ndarray:
        """uint8 [end - start]."""
        found = np.full(end - start, 4, np.uint8)
        a, b = max(start, 0), min(end, len(self.sequence))
        if a < b:
            found[a - start : b - start] = self.sequence[a:b]
        return found


def random_genes(length: int, rng: np.random.Generator) -> Annotation:
    """Genes whose bodies (median 24 kb), exons (10 of 170 bases) and density are those of human genes."""
    genes = []
    for i in range(round(length * GENES_PER_MB / 1e6)):
        body = int(np.clip(rng.lognormal(np.log(24_000), 1.2), 1_000, length // 2))
        start = int(rng.integers(0, length - body))
        count = int(rng.integers(1, 20))
        edges = np.sort(
            rng.choice(np.arange(start, start + body, 400), min(count, body // 400), replace=False)
        )
        exons = np.stack([edges, np.minimum(edges + 170, start + body)], -1)
        introns = np.stack([exons[:-1, 1], exons[1:, 0]], -1)
        strand = "+-"[i % 2]
        tss = start if strand == "+" else start + body - 1
        sites = np.array([start + body // 2, start + body - 1])
        genes.append(GeneModel(f"gene{i}", f"GENE{i}", "protein_coding" if i % 3 == 0 else "lncRNA", "chr1",
                               start, start + body, strand, [tss], exons, introns, sites))  # fmt: skip
    return Annotation(genes)


def random_model(window: int, device: str, sizes: Sizes) -> AlphaGenomePredictor:
    """A network with random weights."""
    model = AlphaGenome(sizes, seed=0)
    with torch.no_grad():
        for name, value in model.named_parameters():  # untrained heads tell all alleles alike
            if name.startswith("head") and value.ndim > 1:
                torch.nn.init.normal_(value, std=0.02, generator=torch.Generator().manual_seed(1))
        sites = model.head_of(OutputType.SPLICE_SITES).multi_organism_linear
        sites.b[:, -1] = 6.0  # few positions are sites, as in a trained one
    tracks = {
        o: [{"name": f"{o} {i}", "strand": "++--."[i] if o is OutputType.SPLICE_SITES else ".",
             "strand_partner": i} for i in range(min(HUMAN[o], sizes.channels[o]))]
        for o in OUTPUTS
    }  # fmt: skip
    organisms = {name: {o.value: rows for o, rows in tracks.items()} for name in ("human", "mouse")}
    info = {"name": "random", "window": window, "organisms": list(organisms), "tracks": organisms}
    predictor = AlphaGenomePredictor(model.to(device), info, device)
    model.keep_constants()
    return predictor


def some_variants(genome: RandomGenome, count: int, start: int, span: int, indels: float) -> list[Variant]:
    """SNVs, and a share of indels of 1 to 5 bases, at random places of a span, sorted."""
    rng = np.random.default_rng(1)
    found = []
    for position in sorted(rng.choice(span, count, replace=False) + start):
        bases = "".join("ACGT"[c] for c in genome.codes("chr1", position, position + 6))
        own, more = bases[0], int(rng.integers(1, 6))
        kind = rng.random()
        if kind < indels / 2:
            found.append(Variant("chr1", int(position), own, own + "ACGTA"[:more]))
        elif kind < indels:
            found.append(Variant("chr1", int(position), bases[: more + 1], own))
        else:
            found.append(Variant("chr1", int(position), own, "ACGT"[("ACGT".index(own) + 1) % 4]))
    return found


def run(
    args: argparse.Namespace,
    predictor: AlphaGenomePredictor,
    genome: RandomGenome,
    annotation: Annotation,
    variants: Sequence[Variant],
    scorers: Sequence[Scorer],
    name: str,
) -> None:
    """Time the placements and, in turns with them, whole passes; print a row each."""
    common = {"window": args.length, "batch_size": args.batch, "cache": args.cache, "tile": args.tile}

    def engine_of(placement: str, **more: bool) -> Engine:
        settings = SimpleNamespace(**common, placement=placement, **more)
        return Engine(predictor, genome, annotation, scorers, settings)

    whole = engine_of("centered", whole_windows=True)
    sample = variants[:: max(1, len(variants) // args.whole)][: args.whole]
    if not args.count:
        whole.score(sample[:1])  # warm up
    sizes, outputs = PUBLISHED, {o for s in scorers for o in s.needs}
    twice = 2 * forward_flop(sizes, args.length, outputs, sites=64)
    for placement in args.placement:
        half = len(sample) // 2
        plain = [] if args.count else _timed(whole, sample[:half])
        engine = engine_of(placement)
        (seconds,) = _timed(engine, variants, together=True)
        plain += [] if args.count else _timed(whole, sample[half:])
        seconds /= len(variants)
        flop = read_flop(sizes, args.length, engine.members[0].work) / len(variants)
        taken = ["-"] * 3
        if plain:
            ratios = [f"{f(plain) / seconds:.1f}" for f in (statistics.median, min, max)]
            taken = [f"{statistics.median(plain):.2f}", f"{seconds:.2f}", "{} ({} to {})".format(*ratios)]
        row = [name, placement, *taken, f"{twice / 1e12:.2f}", f"{flop / 1e12:.3f}", f"{twice / flop:.1f}"]
        print("| " + " | ".join(row) + " |", flush=True)


def _timed(engine: Engine, variants: Sequence[Variant], *, together: bool = False) -> list[float]:
    """Seconds of each variant, or of all together."""
    found = []
    for some in [variants] if together else [[v] for v in variants]:
        start = time.perf_counter()
        engine.score(some)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return found


def real_world(
    folder: Path, scratch: Path, count: int, span: int
) -> tuple[Genome, Annotation, list[Variant]]:
    """A contig with its genes, and SNVs of a VCF evenly over the middle `span` bases."""
    genome = prepare_genome(folder / "genome.fa", scratch / "genome", organism="human", name="real")
    prepare_genes(folder / "genes.gtf.gz", scratch / "genome", scratch / "genes")
    annotation = Annotation.from_tables(Genes.open(scratch / "genes"))
    tables = [accepted for accepted, _ in read_variants(folder / "variants.vcf.gz", genome, max_allele=1)]
    ((_, length),) = genome.lengths.items()
    rows = [r for t in tables for r in t.select("chrom", "position", "ref", "alt").iter_rows()
            if abs(r[1] - length // 2) <= span // 2]  # fmt: skip
    chosen = np.linspace(0, len(rows) - 1, count).round().astype(int)
    return genome, annotation, [Variant(*rows[i]) for i in chosen]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--length", type=int, default=131_072)
    parser.add_argument("--variants", type=int, default=64)
    parser.add_argument("--span", type=int, default=200_000)
    parser.add_argument("--indels", type=float, default=0.0, help="share of insertions and deletions")
    parser.add_argument("--data", type=Path, help="real sequence, genes and variants")
    parser.add_argument("--tile", type=int, default=16_384)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cache", type=float, default=2.0)
    parser.add_argument("--whole", type=int, default=4, help="variants that whole passes are timed on")
    parser.add_argument("--count", action="store_true", help="operations only, without the time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scorers", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--placement", nargs="+", default=list(PLACEMENTS), choices=PLACEMENTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_large_blocks()
    scratch = TemporaryDirectory()  # holds the genome until the end
    if args.data:
        genome, annotation, variants = real_world(args.data, Path(scratch.name), args.variants, args.span)
    else:
        genome = RandomGenome(args.span + 2 * args.length)
        annotation = random_genes(args.span + 2 * args.length, np.random.default_rng(3))
        variants = some_variants(genome, args.variants, args.length, args.span, args.indels)
    predictor = random_model(args.length, args.device, NARROW if args.count else PUBLISHED)
    print(json.dumps(vars(args), default=str))
    columns = ["scorers", "placement", "two whole passes, s", "engine, s a variant", "ratio (range)",
               "two passes, TFLOP", "engine, TFLOP", "ratio of TFLOP"]  # fmt: skip
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for name in args.scorers:
        chosen = [s for s in RECOMMENDED.values() if SETS[name](s)]
        run(args, predictor, genome, annotation, variants, chosen, name)
